"""Gaussian processes over many tasks: a sparse part that all share, an exact part for each.

A target is ``y = phi(x) w + f_task(x) + noise``. The shared part ``phi(x) w`` has the kernel
constant + linear + RBF; the RBF is carried by inducing points. ``f_task`` has the kernel constant +
ARD-linear + ARD-RBF and is drawn anew for every task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Added to a covariance of standardised values before its Cholesky factor is taken.
JITTER = 1e-8


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


def rbf_kernel(a: Tensor, b: Tensor, length: Tensor) -> Tensor:
    """exp(-|a - b|^2 / 2), in units of the length scales: (..., n, m)."""
    a, b = a / length, b / length
    # About the centre of b: differences of large numbers would lose the small ones.
    centre = b.mean(-2, keepdim=True) if b.shape[-2] else 0.0
    a, b = a - centre, b - centre
    square = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2) - 2 * a @ b.mT
    return torch.exp(-0.5 * square.clamp(min=0.0))


def task_kernel(h: Hyper, a: Tensor, b: Tensor) -> Tensor:
    """Covariance of a task's own part between rows a (..., n, d) and b (..., m, d)."""
    return h.constant + (a * h.linear) @ b.mT + h.rbf * rbf_kernel(a, b, h.length)


def task_variance(h: Hyper, x: Tensor) -> Tensor:
    """Diagonal of :func:`task_kernel`: (..., n)."""
    return h.constant + x.square() @ h.linear + h.rbf


def shared_features(h: Hyper, x: Tensor, inducing: Tensor) -> Tensor:
    """phi(x) of shape (..., n, 1 + d + m), whose weights are standard normal a priori.

    The constant's wide prior: it is the level of all tasks.
    """
    parts = [torch.full_like(x[..., :1], WIDE), x * h.shared_linear.sqrt()]
    if len(inducing):
        among = rbf_kernel(inducing, inducing, h.shared_length)
        eye = torch.eye(len(inducing), dtype=x.dtype, device=x.device)
        chol = torch.linalg.cholesky(among + 1e-6 * eye)
        cross = rbf_kernel(x, inducing, h.shared_length)
        # solve_triangular from the right: cross @ chol^-T.
        whitened = torch.linalg.solve_triangular(chol.mT, cross, upper=True, left=False)
        parts.append(whitened * h.shared_rbf.sqrt())
    return torch.cat(parts, dim=-1)


# Prior standard deviation of the common level, in units of that of y.
WIDE = 3.0


@dataclass(frozen=True)
class Evidence:
    """Sums over tasks that the marginal likelihood and the posterior of the weights are made of."""

    log_det: Tensor  # of the tasks' covariances
    square: Tensor  # y' K^-1 y
    gram: Tensor  # phi' K^-1 phi
    cross: Tensor  # phi' K^-1 y
    trace: Tensor  # of K^-1 (shared kernel - its low-rank part)


def evidence(
    h: Hyper, x: Tensor, y: Tensor, mask: Tensor | None, inducing: Tensor, *, own_part: bool
) -> Evidence:
    """Sums of T padded tasks: x (T, n, d), y (T, n), mask (T, n).

    Without ``own_part`` a task has no part of its own: the covariance is the noise.
    """
    phi = shared_features(h, x, inducing)
    if mask is not None:
        phi, y = phi * mask.unsqueeze(2), y * mask
    if not own_part:
        real = torch.ones_like(y) if mask is None else mask.to(y)
        low_rank = phi[..., 1 + x.shape[-1] :].square().sum(-1)
        missing = ((h.shared_rbf - low_rank) * real).clamp(min=0).sum() if len(inducing) else 0.0
        flat = phi.flatten(0, 1)
        return Evidence(
            real.sum() * h.noise.log(),
            y.square().sum() / h.noise,
            flat.T @ flat / h.noise,
            flat.T @ y.flatten() / h.noise,
            missing / h.noise + 0.0 * h.noise,
        )
    n = x.shape[1]
    eye = torch.eye(n, dtype=x.dtype, device=x.device)
    own = task_kernel(h, x, x)
    if mask is None:
        covariance = own + (h.noise + JITTER) * eye
    else:
        both = (mask.unsqueeze(1) & mask.unsqueeze(2)).to(x)
        # A padded place is a row of its own with variance 1 and the value 0: it adds nothing.
        padded = (~mask).to(x)
        covariance = own * both + torch.diag_embed((h.noise + JITTER) * mask + padded)
    chol = torch.linalg.cholesky(covariance)
    solved = torch.linalg.solve_triangular(
        chol, torch.cat([phi, y.unsqueeze(2)], dim=2), upper=False
    )
    flat, v = solved[..., :-1].flatten(0, 1), solved[..., -1].flatten()
    trace = x.new_zeros(())
    if len(inducing):
        part = phi[..., 1 + x.shape[-1] :]
        rest = h.shared_rbf * rbf_kernel(x, x, h.shared_length) - part @ part.mT
        if mask is not None:
            rest = rest * both
        trace = torch.cholesky_solve(rest, chol).diagonal(dim1=1, dim2=2).sum()
    return Evidence(
        2 * chol.diagonal(dim1=1, dim2=2).log().sum(), v @ v, flat.T @ flat, flat.T @ v, trace
    )


def negative_bound(e: Evidence, n_rows: float, weight: float = 1.0) -> Tensor:
    """Minus the variational bound on the log marginal likelihood (Titsias, 2009, equation 9).

    ``weight`` is how many times the tasks of ``e`` stand for all tasks.
    """
    eye = torch.eye(len(e.gram), dtype=e.gram.dtype, device=e.gram.device)
    chol = torch.linalg.cholesky(eye + weight * e.gram)
    half = torch.linalg.solve_triangular(chol, weight * e.cross.unsqueeze(1), upper=False)
    value = weight * (e.log_det + e.square + e.trace) + 2 * chol.diagonal().log().sum()
    return 0.5 * (value - half.square().sum() + n_rows * math.log(2 * math.pi))


def weights_posterior(e: Evidence) -> tuple[Tensor, Tensor]:
    """Mean (q,) and a root (q, q) of the covariance of the shared weights."""
    eye = torch.eye(len(e.gram), dtype=e.gram.dtype, device=e.gram.device)
    chol = torch.linalg.cholesky(eye + e.gram)
    mean = torch.cholesky_solve(e.cross.unsqueeze(1), chol).squeeze(1)
    root = torch.linalg.solve_triangular(chol, eye, upper=False).T
    return mean, root


def add(first: Evidence, second: Evidence) -> Evidence:
    """The evidence of the tasks of both."""
    return Evidence(
        *(a + b for a, b in zip(vars(first).values(), vars(second).values(), strict=True))
    )
