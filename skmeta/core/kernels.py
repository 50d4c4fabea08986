"""Kernels of the hierarchical Gaussian processes, with slopes that write few large matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Hyper:
    """Hyperparameters of one output: variances and length scales, all positive.

    Parameters
    ----------
    noise, constant, rbf : Tensors of shape ()
        Variances of the noise, and of the task's constant and RBF part.
    linear, length : Tensors of shape (d,)
        Variances of the task's slopes, and the length scales of its RBF part.
    shared_linear, shared_rbf : Tensors of shape ()
        Variances of the shared slopes and RBF part.
    shared_length : Tensor of shape (d,)
        Length scales of the shared RBF part.
    """

    noise: Tensor
    constant: Tensor
    rbf: Tensor
    linear: Tensor
    length: Tensor
    shared_linear: Tensor
    shared_rbf: Tensor
    shared_length: Tensor


def rbf_kernel(
    a: Tensor,
    b: Tensor,
    length: Tensor,
    scale: Tensor | None = None,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
) -> Tensor:
    """An RBF kernel, ``scale exp(-|a - b|^2 / 2)`` in units of the lengths: (..., n, m).

    It is 0 in the rows and columns that are masked out.
    """
    one = length.new_ones(()) if scale is None else scale
    return _RBF.apply(a, b, length, one, mask_a, mask_b)


class _RBF(torch.autograd.Function):
    """The kernel with slopes in the length scales and the scale alone, by matrix products.

    Automatic differentiation would write half a dozen matrices of the kernel's size.
    """

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        length: Tensor,
        scale: Tensor,
        mask_a: Tensor | None,
        mask_b: Tensor | None,
    ) -> Tensor:
        a, b = a / length, b / length
        # About the centre of b: differences of large numbers would lose the small ones.
        if b.shape[-2]:
            centre = b.mean(-2, keepdim=True)
            a, b = a - centre, b - centre
        kernel = a @ b.mT
        kernel.sub_(_half_norm(a, mask_a).unsqueeze(-1)).sub_(_half_norm(b, mask_b).unsqueeze(-2))
        kernel.clamp_(max=0.0).exp_().mul_(scale)
        ctx.save_for_backward(a, b, length, scale, kernel)
        return kernel

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[None, None, Tensor, Tensor, None, None]:
        a, b, length, scale, kernel = ctx.saved_tensors
        w = slopes[0] * kernel
        by_row = w.sum(-1)
        # The sum over pairs of w (a - b)^2, a column at a time.
        square = (
            (by_row.unsqueeze(-1) * a.square()).flatten(0, -2).sum(0)
            + (w.sum(-2).unsqueeze(-1) * b.square()).flatten(0, -2).sum(0)
            - 2 * (a * (w @ b)).flatten(0, -2).sum(0)
        )
        # A scale that underflowed has no slope.
        positive = scale.clamp(min=torch.finfo(scale.dtype).tiny)
        return None, None, square / length, by_row.sum() / positive, None, None


def _half_norm(a: Tensor, mask: Tensor | None) -> Tensor:
    """Half the squared length of rows; a masked one is infinitely far from all."""
    half = 0.5 * a.square().sum(-1)
    return half if mask is None else half.masked_fill(~mask, math.inf)


class _AddDiagonal(torch.autograd.Function):
    """In place, with slopes that copy nothing."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, diagonal: Tensor) -> Tensor:
        ctx.mark_dirty(matrix)
        matrix.diagonal(dim1=-2, dim2=-1).add_(diagonal)
        return matrix

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        return slopes[0], slopes[0].diagonal(dim1=-2, dim2=-1)


def add_diagonal(matrix: Tensor, diagonal: Tensor) -> Tensor:
    """``matrix`` (..., n, n) with ``diagonal`` (..., n) added in place."""
    return _AddDiagonal.apply(matrix, diagonal)


def task_kernel(h: Hyper, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Covariance of a task's own part between rows a (..., n, d) and b (..., m, d).

    ``mask`` is for a task's rows with themselves: what it leaves out has a covariance of 0.
    """
    curve = rbf_kernel(a, b, h.length, h.rbf, mask, mask)
    a, b = _with_ones(a, mask), _with_ones(b, mask)
    line = a * torch.cat([h.linear, h.constant.reshape(1)])
    if a.ndim == b.ndim == 3 and len(a) == len(b):
        return torch.baddbmm(curve, line, b.mT)
    return curve + line @ b.mT


def _with_ones(x: Tensor, mask: Tensor | None) -> Tensor:
    """A column of ones beside x; 0 in all columns where masked out."""
    x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
    return x if mask is None else x * mask.unsqueeze(-1)


def task_variance(h: Hyper, x: Tensor) -> Tensor:
    """Diagonal of :func:`task_kernel`: (..., n)."""
    return h.constant + x.square() @ h.linear + h.rbf
