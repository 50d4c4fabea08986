"""A real linear map that torch can differentiate: dense, sparse, or known by its products only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from skmeta.operators._base import COMPLEX, RealOperator, finite_array

# Entries up to which a matrix is held densely: one product is faster than anything cleverer.
DENSE_ENTRIES = 2**23
# Entries of the batch of unit images that a matrix is read off with.
BATCH_ENTRIES = 2**22


# Squares are taken of squares: the largest number that pixels, measurements and entries may be.
LARGEST = 1e60


class LinearMap:
    """An operator of any kind, with the same few verbs for all.

    Parameters
    ----------
    operator : ndarray, sparse matrix or LinearOperator
        Real; of shape (n_measurements, n_features).
    """

    def __init__(self, operator: Any) -> None:
        self.matrix: Any = None
        self.operator: LinearOperator | None = None
        if issparse(operator):
            _refuse_complex(operator.dtype)
            _refuse_shape(operator.shape)
            # A copy: what the user does to the matrix later changes nothing here.
            self.matrix = operator.tocsr(copy=True).astype(np.float64)
            finite_array(self.matrix.data, "operator")
        elif isinstance(operator, LinearOperator):
            _refuse_complex(operator.dtype)
            self.operator = operator
        else:
            self.matrix = finite_array(_numbers(operator), "operator").copy()
        shape = operator.shape if self.matrix is None else self.matrix.shape
        _refuse_shape(shape)
        self.shape = int(shape[0]), int(shape[1])
        if self.shape[0] * self.shape[1] <= DENSE_ENTRIES:
            self.matrix, self.operator = self._read(), None
        self._tensors: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tensors": {}}

    @property
    def entries(self) -> np.ndarray:
        """Those that are stored: none of an operator known by its products only."""
        if self.matrix is None:
            return np.empty(0)
        return self.matrix if isinstance(self.matrix, np.ndarray) else self.matrix.data

    def forward(self, rows: np.ndarray) -> np.ndarray:
        """Images, one a row, to measurements."""
        if self.operator is not None:
            return _products(self.operator.matmat, rows, self.shape[0])
        return np.ascontiguousarray((self.matrix @ rows.T).T)

    def backward(self, rows: np.ndarray) -> np.ndarray:
        """Measurements, one a row, through the transpose."""
        if self.operator is not None:
            return _products(self.operator.rmatmat, rows, self.shape[1])
        return np.ascontiguousarray((self.matrix.T @ rows.T).T)

    def dense(self) -> np.ndarray:
        """Return the matrix of shape (n_measurements, n_features)."""
        if isinstance(self.matrix, np.ndarray):
            return self.matrix
        return self._read()

    def _read(self) -> np.ndarray:
        if isinstance(self.matrix, np.ndarray):
            return self.matrix
        if self.matrix is not None:
            return self.matrix.toarray()
        m, n = self.shape
        if isinstance(self.operator, RealOperator) and hasattr(self.operator, "matrix"):
            # Unit images would take n_features products of the whole matrix.
            held = self.operator.matrix
            return finite_array(held.toarray() if issparse(held) else held.copy(), "operator")
        matrix = np.empty((m, n))
        step = max(1, BATCH_ENTRIES // max(m, n))
        for start in range(0, n, step):
            units = np.eye(n, min(step, n - start), -start).T
            matrix[:, start : start + step] = self.forward(units).T
        return matrix

    def apply(self, x: Tensor) -> Tensor:
        """As :meth:`forward`, in torch."""
        return self._product(x, False)

    def adjoint(self, y: Tensor) -> Tensor:
        """As :meth:`backward`, in torch."""
        return self._product(y, True)

    def _product(self, rows: Tensor, transposed: bool) -> Tensor:
        if not isinstance(self.matrix, np.ndarray):
            return _Product.apply(rows, self, transposed)
        key = rows.device, rows.dtype
        if key not in self._tensors:
            self._tensors[key] = torch.as_tensor(self.matrix).to(*key)
        matrix = self._tensors[key]
        return rows @ (matrix if transposed else matrix.mT)


class _Product(torch.autograd.Function):
    """A product outside torch; its derivative is the product with the transpose."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, linear: LinearMap, transposed: bool) -> Tensor:
        ctx.linear, ctx.transposed = linear, transposed
        values = rows.detach().cpu().double().numpy()
        products = linear.backward(values) if transposed else linear.forward(values)
        return torch.as_tensor(products).to(rows.device, rows.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        # Differentiable again: learned inner steps differentiate through gradients.
        return _Product.apply(grad, ctx.linear, not ctx.transposed), None, None


def _numbers(operator: Any) -> np.ndarray:
    if isinstance(operator, Tensor):
        operator = operator.detach().cpu()
    try:
        array = np.asarray(operator)
    except ValueError as error:  # numpy's word for it is "inhomogeneous"
        raise ValueError("operator must be 2-d, with rows that are equally long.") from error
    if array.dtype.kind not in "biufc":
        kind = type(operator).__name__
        if array.dtype == object and array.ndim:
            kind = "an array of objects in place of numbers"
        raise ValueError(
            "operator must be None, a 2-d array, a sparse matrix, a scipy LinearOperator or a "
            f"ForwardModel, got {kind}."
        )
    return array


def refuse_huge(values: np.ndarray, name: str) -> None:
    """ValueError for numbers whose squares cannot be compared."""
    if values.size and max(values.max(), -values.min()) > LARGEST:
        raise ValueError(
            f"{name} holds values beyond {LARGEST:g}, whose variances cannot be compared. Check "
            "units, and bring them to a scale near 1."
        )


def _refuse_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            "operator must be 2-d, of shape (n_measurements, n_features), and not empty; got "
            f"shape {tuple(shape)}."
        )


def _refuse_complex(dtype: Any) -> None:
    if dtype is not None and np.issubdtype(dtype, np.complexfloating):
        raise ValueError(COMPLEX.format(name="operator"))


def _products(product: Callable, rows: np.ndarray, length: int) -> np.ndarray:
    """Products with a user's operator, one a row."""
    try:
        products = np.asarray(product(rows.T))
    except Exception as error:  # whatever functions of the user's stumble over
        raise ValueError(
            f"The operator failed on a vector of {rows.shape[1]} numbers, of which it must make "
            f"{length} (matvec makes measurements, rmatvec is its transpose): "
            f"{type(error).__name__}: {error}"
        ) from error
    if products.shape != (length, len(rows)):
        raise ValueError(
            f"The operator must make {length} numbers of {rows.shape[1]}, and its products are of "
            f"shape {products.shape} for {len(rows)} vectors."
        )
    return np.ascontiguousarray(finite_array(products, "what the operator gives").T)
