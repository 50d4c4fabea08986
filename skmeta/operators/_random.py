"""Random measurements: those of compressed sensing."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmeta.operators._base import RealOperator, positive_int, positive_number


class MatrixOperator(RealOperator):
    """Operator that is a dense matrix."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(*matrix.shape)
        self.matrix = matrix

    def _forward(self, rows: np.ndarray) -> np.ndarray:
        return rows @ self.matrix.T

    def _backward(self, rows: np.ndarray) -> np.ndarray:
        return rows @ self.matrix


class GaussianMeasurements(MatrixOperator):
    """Random projections: a matrix of independent normal entries.

    Parameters
    ----------
    n_measurements : int
        Number of measurements, the rows of the matrix.
    n_features : int
        Number of pixels, its columns.
    scale : float or None, default=None
        Standard deviation of the entries. None is ``1 / sqrt(n_measurements)``: measurements are
        then on average as long as the image.
    random_state : int, Generator, RandomState or None, default=None
        Draws the entries.

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta.operators import GaussianMeasurements
    >>> A = GaussianMeasurements(10, 64, random_state=0)
    >>> (A @ np.ones(64)).shape
    (10,)
    """

    def __init__(
        self,
        n_measurements: int,
        n_features: int,
        *,
        scale: float | None = None,
        random_state: Any = None,
    ) -> None:
        shape = _sizes(n_measurements, n_features)
        if scale is None:
            scale = shape[0] ** -0.5
        super().__init__(positive_number(scale, "scale") * _normal(random_state, shape))


class BernoulliMeasurements(MatrixOperator):
    """Random signs: every entry is plus or minus ``1 / sqrt(n_measurements)``, as a coin falls.

    Parameters
    ----------
    n_measurements : int
        Number of measurements, the rows of the matrix.
    n_features : int
        Number of pixels, its columns.
    random_state : int, Generator, RandomState or None, default=None
        Draws the signs.

    Examples
    --------
    >>> from skmeta.operators import BernoulliMeasurements
    >>> A = BernoulliMeasurements(4, 64, random_state=0)
    >>> sorted(set(A.matrix.ravel().tolist()))
    [-0.5, 0.5]
    """

    def __init__(self, n_measurements: int, n_features: int, *, random_state: Any = None) -> None:
        shape = _sizes(n_measurements, n_features)
        signs = np.where(_normal(random_state, shape) < 0, -1.0, 1.0)
        super().__init__(signs / np.sqrt(shape[0]))


def _sizes(n_measurements: Any, n_features: Any) -> tuple[int, int]:
    return positive_int(n_measurements, "n_measurements"), positive_int(n_features, "n_features")


def _normal(random_state: Any, shape: tuple[int, int]) -> np.ndarray:
    if isinstance(random_state, np.random.RandomState):
        return random_state.normal(size=shape)
    try:
        generator = np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"random_state must be None, a whole number of 0 or more, a numpy Generator or a "
            f"RandomState, got {random_state!r}."
        ) from error
    return generator.normal(size=shape)
