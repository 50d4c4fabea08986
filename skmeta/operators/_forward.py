"""Nonlinear measurements: anything that torch can differentiate."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skmeta.operators._base import positive_int, positive_number, real_array
from skmeta.operators._linear import LinearMap

NO_GRADIENT = (
    "The ForwardModel has no gradient that torch could follow. Leave out detach, comparisons, "
    "integers, round and sign, or give rounding the gradient of what is rounded: "
    "x + (x.round() - x).detach(). See skmeta.operators.Quantisation."
)


class ForwardModel:
    """Measurements that are any differentiable function of the image.

    Parameters
    ----------
    function : callable
        From a tensor (n_images, n_features) to a tensor (n_images, n_measurements), each row by
        itself, differentiable by torch. A module or a function that can be imported can be
        pickled; a lambda cannot. A module is copied, and the copy put in eval mode. Numbers are
        handed over in the precision of its weights, or else in one that the function takes.
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

    # The precision of a function that failed in another one.
    _dtype: torch.dtype | None = None

    def __init__(
        self, function: Callable[[Tensor], Tensor], n_measurements: int, n_features: int
    ) -> None:
        if not callable(function) or isinstance(function, type):
            found = function.__name__ if isinstance(function, type) else type(function).__name__
            raise ValueError(f"function must be callable, and an instance if a class, got {found}.")
        if isinstance(function, nn.Module):
            # A template: neither its mode nor its gradients are changed.
            function = copy.deepcopy(function).eval().requires_grad_(False)
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
            return self._measured(x)
        with torch.no_grad():
            return self._measured(_rows(x)).numpy()

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
            measured, vectors = self._measured(rows), _rows(v)
            if vectors.shape != measured.shape:
                raise ValueError(
                    f"v holds one vector an image, of shape {tuple(measured.shape)} in all, got "
                    f"{tuple(vectors.shape)}."
                )
            if not measured.requires_grad:
                raise ValueError(NO_GRADIENT)
            (product,) = torch.autograd.grad(measured, rows, vectors, allow_unused=True)
        if product is None:
            raise ValueError(NO_GRADIENT)
        return product.numpy()

    def _measured(self, x: Tensor) -> Tensor:
        """Measurements in the precision of the images; ValueError for what are none."""
        n_features = self.shape[1]
        if x.ndim != 2 or n_features not in (None, x.shape[1]) or x.is_complex():
            kind = "complex" if x.is_complex() else "real"
            raise ValueError(
                f"{self!r} takes real images, one a row of {n_features or 'n'} pixels, got "
                f"{kind} numbers of shape {tuple(x.shape)}."
            )
        return self._checked(self._measure(x), x)

    def _checked(self, measured: Any, x: Tensor) -> Tensor:
        n_measurements, _ = self.shape
        expected = len(x), n_measurements or x.shape[1]
        if not isinstance(measured, Tensor) or tuple(measured.shape) != expected:
            tensor = isinstance(measured, Tensor)
            found = tuple(measured.shape) if tensor else type(measured).__name__
            raise ValueError(
                f"The ForwardModel must give a tensor of shape {expected} for {len(x)} images, got "
                f"{found}."
            )
        if measured.is_complex():
            raise ValueError(
                "The ForwardModel gives complex measurements. Stack real and imaginary parts: "
                "torch.cat([z.real, z.imag], dim=1)."
            )
        return measured.to(x)

    def _measure(self, x: Tensor) -> Tensor:
        """Call the function in a precision that suits it."""
        weights = _first_weights(self.function)
        if weights is not None:
            return self.function(x.to(weights))
        if self._dtype is not None:
            return self.function(x.to(self._dtype))
        try:
            return self.function(x)
        except RuntimeError as error:
            # What holds tensors of its own takes their precision only.
            other = torch.float32 if x.dtype == torch.float64 else torch.float64
            try:
                measured = self.function(x.to(other))
            except Exception:
                raise error from None
            self._dtype = other
            return measured


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


def _first_weights(function: Any) -> Tensor | None:
    """Of a module: a tensor with the precision and the place of its weights."""
    if not isinstance(function, nn.Module):
        return None
    tensors = (*function.parameters(), *function.buffers())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), None)


def _rows(values: Any) -> Tensor:
    array = np.array(real_array(values, "the input"), order="C")
    if array.ndim != 2:
        raise ValueError(f"Expected one image a row, 2-d, got shape {array.shape}.")
    return torch.from_numpy(array)
