"""Nonlinear measurements: anything that torch can differentiate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skmeta.operators._base import positive_int, positive_number
from skmeta.operators._linear import LinearMap


class ForwardModel:
    """Measurements that are any differentiable function of the image.

    Parameters
    ----------
    function : callable
        From a tensor (n_images, n_features) to a tensor (n_images, n_measurements), each row by
        itself, differentiable by torch. A module or a function that can be imported can be
        pickled; a lambda cannot.
    n_measurements : int
        Numbers that it gives for an image.
    n_features : int
        Pixels that it takes.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skmeta.operators import ForwardModel
    >>> F = ForwardModel(torch.exp, 3, 3)
    >>> F(np.zeros((1, 3))).tolist()
    [[1.0, 1.0, 1.0]]
    >>> F.vjp(np.zeros((1, 3)), np.ones((1, 3))).tolist()
    [[1.0, 1.0, 1.0]]
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], n_measurements: int, n_features: int
    ) -> None:
        if not callable(function):
            raise ValueError(f"function must be callable, got {type(function).__name__}.")
        self.function: Callable[[Tensor], Tensor] = function
        self._set_shape(n_measurements, n_features)

    def _set_shape(self, n_measurements: Any, n_features: Any) -> None:
        self.n_measurements = positive_int(n_measurements, "n_measurements")
        self.n_features = positive_int(n_features, "n_features")

    @property
    def shape(self) -> tuple[int, int]:
        """As of a matrix: (n_measurements, n_features)."""
        return self.n_measurements, self.n_features

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"<{rows}x{columns} {type(self).__name__}>"

    def __call__(self, x: Any) -> Any:
        """Measure images, one a row.

        Parameters
        ----------
        x : Tensor or array-like of shape (n_images, n_features)
            The images.

        Returns
        -------
        y : Tensor or ndarray of shape (n_images, n_measurements)
            A tensor, differentiable, for a tensor; else an array.
        """
        if isinstance(x, Tensor):
            return self._measure(x)
        with torch.no_grad():
            return self._measure(_rows(x)).numpy()

    def vjp(self, x: Any, v: Any) -> np.ndarray:
        """Multiply vectors with the transposed derivative, by automatic differentiation.

        Parameters
        ----------
        x : array-like of shape (n_images, n_features)
            Where the derivative is taken.
        v : array-like of shape (n_images, n_measurements)
            One vector an image.

        Returns
        -------
        product : ndarray of shape (n_images, n_features)
            One an image.
        """
        rows = _rows(x).requires_grad_()
        with torch.enable_grad():
            (product,) = torch.autograd.grad(self._measure(rows), rows, _rows(v))
        return product.numpy()

    def _measure(self, x: Tensor) -> Tensor:
        return self.function(x)


class _AfterLinear(ForwardModel):
    """A function of every number that a linear operator measures."""

    def __init__(self, A: Any) -> None:
        self.A = A
        self._linear = LinearMap(A)
        self._set_shape(*self._linear.shape)

    def _measure(self, x: Tensor) -> Tensor:
        return self._response(self._linear.apply(x))

    def _response(self, z: Tensor) -> Tensor:
        raise NotImplementedError


class PhaseRetrieval(_AfterLinear):
    """Measurements that have lost their sign: ``|A x|``.

    Parameters
    ----------
    A : array-like, sparse matrix or LinearOperator of shape (n_measurements, n_features)
        The linear part, real. The derivative at zero is taken as zero.

    Examples
    --------
    >>> from skmeta.operators import PhaseRetrieval
    >>> PhaseRetrieval([[1.0, -1.0]])([[1.0, 3.0]]).tolist()
    [[2.0]]
    """

    def _response(self, z: Tensor) -> Tensor:
        return z.abs()


class Saturation(_AfterLinear):
    """Measurements of a detector that says ``limit`` for all that is more: ``A x``, cut off.

    Parameters
    ----------
    A : array-like, sparse matrix or LinearOperator of shape (n_measurements, n_features)
        The linear part.
    limit : float
        The largest absolute value that can be measured. Beyond it the derivative is zero.

    Examples
    --------
    >>> from skmeta.operators import Saturation
    >>> Saturation([[1.0, 0.0], [0.0, 1.0]], limit=2)([[1.0, -3.0]]).tolist()
    [[1.0, -2.0]]
    """

    def __init__(self, A: Any, limit: float) -> None:
        super().__init__(A)
        self.limit = positive_number(limit, "limit")

    def _response(self, z: Tensor) -> Tensor:
        return z.clamp(-self.limit, self.limit)


class Quantisation(_AfterLinear):
    """Measurements that are rounded: ``A x`` to the nearest multiple of ``step``.

    Parameters
    ----------
    A : array-like, sparse matrix or LinearOperator of shape (n_measurements, n_features)
        The linear part.
    step : float
        Distance between the values that can be measured.

    Notes
    -----
    The true derivative is zero almost everywhere and leads nowhere. The derivative given is that
    without rounding (a "straight-through" gradient).

    Examples
    --------
    >>> from skmeta.operators import Quantisation
    >>> F = Quantisation([[2.0]], step=0.5)
    >>> F([[0.6]]).tolist(), F.vjp([[0.6]], [[1.0]]).tolist()
    ([[1.0]], [[2.0]])
    """

    def __init__(self, A: Any, step: float) -> None:
        super().__init__(A)
        self.step = positive_number(step, "step")

    def _response(self, z: Tensor) -> Tensor:
        return z + ((z / self.step).round() * self.step - z).detach()


class Gamma(ForwardModel):
    """The response curve of cameras and screens: ``(A x) ** gamma``, zero where negative.

    Parameters
    ----------
    gamma : float
        The exponent.
    A : array-like, sparse matrix, LinearOperator or None, default=None
        The linear part; None measures every pixel of images of any size.

    Notes
    -----
    A power below one is infinitely steep at zero. As in the sRGB standard a straight line stands in
    for the curve there, up to one thousandth.

    Examples
    --------
    >>> from skmeta.operators import Gamma
    >>> Gamma(2.0)([[0.5, 1.0, -1.0]]).tolist()
    [[0.25, 1.0, 0.0]]
    """

    _TOE = 1e-3

    def __init__(self, gamma: float, A: Any = None) -> None:
        self.gamma = positive_number(gamma, "gamma")
        self.A = A
        self._linear = None if A is None else LinearMap(A)
        if self._linear is not None:
            self._set_shape(*self._linear.shape)

    @property
    def shape(self) -> tuple[Any, Any]:
        """As of a matrix; (None, None) where it takes images of any size."""
        return (None, None) if self._linear is None else self._linear.shape

    def _measure(self, x: Tensor) -> Tensor:
        z = x if self._linear is None else self._linear.apply(x)
        z = z.clamp_min(0)
        if self.gamma >= 1:
            return z**self.gamma
        curve = z.clamp_min(self._TOE) ** self.gamma
        return torch.where(z < self._TOE, z * self._TOE ** (self.gamma - 1), curve)


def _rows(values: Any) -> Tensor:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"Expected one image a row, 2-d, got shape {array.shape}.")
    return torch.from_numpy(array)
