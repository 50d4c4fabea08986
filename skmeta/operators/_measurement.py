"""Every kind of operator a user may hand over, as one class."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from skmeta.operators._forward import ForwardModel
from skmeta.operators._linear import LinearMap
from skmeta.operators._trial import try_out

PIPELINE = (
    "In a pipeline before other steps put FrozenEstimator(reconstructor.adapt(operator=A)) in the "
    "place of the reconstructor."
)


class Measurement:
    """What measures images of ``n_features`` pixels, whatever it is made of.

    Parameters
    ----------
    n_measurements, n_features : int
        Its shape.
    linear : LinearMap or None
        The linear map, where it is one that changes something.
    model : ForwardModel or None
        The nonlinear function. With neither, every pixel is measured.
    """

    def __init__(
        self,
        n_measurements: int,
        n_features: int,
        linear: LinearMap | None = None,
        model: ForwardModel | None = None,
    ) -> None:
        self.n_measurements = n_measurements
        self.n_features = n_features
        self.map = linear
        self.model = model

    @property
    def linear(self) -> bool:
        """Whether it is a matrix."""
        return self.model is None

    @property
    def identity(self) -> bool:
        """Whether it measures every pixel as it is."""
        return self.model is None and self.map is None

    def apply(self, x: Tensor) -> Tensor:
        """Images (rows, n_features) to measurements (rows, n_measurements), differentiable."""
        if self.model is not None:
            return self.model(x)
        return x if self.map is None else self.map.apply(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Measurements (rows, n_measurements) through the transpose of a linear operator."""
        self._needs_matrix()
        return y if self.map is None else self.map.adjoint(y)

    def forward(self, rows: np.ndarray) -> np.ndarray:
        """As :meth:`apply`, on arrays; ValueError where a measurement is not finite."""
        if self.model is not None:
            measured = self.model(rows)
            if not np.isfinite(measured).all():
                raise ValueError(
                    "The ForwardModel gives NaN or infinite measurements of these images."
                )
            return measured
        return rows if self.map is None else self.map.forward(rows)

    def backward(self, rows: np.ndarray) -> np.ndarray:
        """As :meth:`adjoint`, on arrays."""
        self._needs_matrix()
        return rows if self.map is None else self.map.backward(rows)

    def dense(self) -> np.ndarray:
        """Return the matrix of a linear operator."""
        self._needs_matrix()
        return np.eye(self.n_features) if self.map is None else self.map.dense()

    def _needs_matrix(self) -> None:
        if self.model is not None:
            raise ValueError("A ForwardModel is not linear: it has no matrix and no transpose.")


def as_measurement(
    operator: Any, n_features: int, image_range: tuple[float, float] | None = None
) -> Measurement:
    """Take any operator for images of ``n_features`` pixels; ValueError for what is none.

    Parameters
    ----------
    operator : None, array-like, sparse matrix, LinearOperator or ForwardModel
        None measures every pixel as it is.
    n_features : int
        Pixels of an image.
    image_range : tuple of (float, float) or None, default=None
        Their smallest and largest value. Given these, a ForwardModel is tried out on such images,
        else only called.
    """
    if operator is None:
        return Measurement(n_features, n_features)
    if isinstance(operator, ForwardModel):
        shape = operator.shape if operator.shape[1] is not None else (n_features, n_features)
        _check_width(shape, n_features)
        try_out(operator, n_features, image_range)
        return Measurement(shape[0], n_features, model=operator)
    linear = LinearMap(operator)
    _check_width(linear.shape, n_features)
    return Measurement(linear.shape[0], n_features, linear=linear)


def _check_width(shape: tuple[int, int], n_features: int) -> None:
    if shape[1] != n_features:
        hint = ""
        if shape[0] == n_features:
            hint = f" Is it transposed? Or did fit get measurements? It takes images. {PIPELINE}"
        raise ValueError(
            f"The operator is of shape {tuple(shape)} and takes images of {shape[1]} pixels, but "
            f"the images have {n_features}.{hint}"
        )
