"""What the ready-made linear operators share: real, on flattened images, one image a row inside."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

COMPLEX = (
    "{name} is complex, and images and measurements are real. Stack real and imaginary parts; see "
    "skmeta.operators.SubsampledFourier."
)


class RealOperator(LinearOperator):
    """Real linear operator in double precision, written for images that are rows."""

    def __init__(self, n_measurements: int, n_features: int) -> None:
        super().__init__(np.dtype(np.float64), (n_measurements, n_features))

    @abstractmethod
    def _forward(self, rows: np.ndarray) -> np.ndarray:
        """Images (k, n_features) to measurements (k, n_measurements)."""

    @abstractmethod
    def _backward(self, rows: np.ndarray) -> np.ndarray:
        """Measurements (k, n_measurements) to images (k, n_features): the transpose."""

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._forward(real_array(X.T, "the input")).T

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self._backward(real_array(X.T, "the input")).T

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(x.reshape(-1, 1))

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._rmatmat(x.reshape(-1, 1))


def real_array(values: Any, name: str) -> np.ndarray:
    """Values in double precision; ValueError for complex ones and for what are no numbers."""
    try:
        array = np.asarray(values)
        array = array if np.iscomplexobj(array) else array.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers, in rows that are equally long.") from error
    if np.iscomplexobj(array):
        raise ValueError(COMPLEX.format(name=name))
    return array


def finite_array(values: Any, name: str) -> np.ndarray:
    """As :func:`real_array`, refusing NaN and infinity too."""
    array = real_array(values, name)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite entries.")
    return array


def positive_int(value: Any, name: str) -> int:
    """Return a positive whole number; ValueError for anything else."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return int(value)


def positive_number(value: Any, name: str) -> float:
    """Return a positive, finite number; ValueError for anything else."""
    if not isinstance(value, Real) or not 0 < float(value) < np.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}.")
    return float(value)


def image_sides(image_shape: Any) -> tuple[int, int]:
    """Height and width of a grey image; ValueError for anything else."""
    try:
        height, width = image_shape
    except (TypeError, ValueError):
        raise ValueError(f"image_shape must be (height, width), got {image_shape!r}.") from None
    return positive_int(height, "the height"), positive_int(width, "the width")


def boolean_mask(mask: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return a mask of True and False that keeps something, flattened; ValueError otherwise."""
    try:
        array = np.asarray(mask)
    except ValueError as error:
        raise ValueError("mask must have rows that are equally long.") from error
    if array.dtype != bool and not (array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all()):
        raise ValueError("mask must hold True (measured) and False, or 1 and 0.")
    if shape is not None and array.shape != shape:
        raise ValueError(f"mask is of shape {array.shape}, and the images of shape {shape}.")
    if not array.any():
        raise ValueError("mask keeps nothing: there would be no measurement.")
    return array.astype(bool).ravel()
