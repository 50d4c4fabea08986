"""Linear mixed models from sufficient statistics: marginal likelihood and posteriors.

A task's rows enter only through their moments, so that a fit costs the same for a task of ten rows
and of ten thousand, and an update is a sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skmeta.core.tasks import TaskRows

# Moments are summed over so many padded rows at a time.
ROWS_AT_A_TIME = 2**16
# Share of the variance of y below which noise is no longer told from rounding.
LEAST_NOISE = 1e-10
# Directions of the columns with less than this share of the largest variance are unknown.
RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Moments:
    """Sums over the rows of each of T tasks, with p columns and O outputs.

    Parameters
    ----------
    gram : Tensor of shape (T, p, p)
        Z'Z.
    cross : Tensor of shape (T, p, O)
        Z'y.
    square : Tensor of shape (T, O)
        y'y.
    n_rows : int
        Rows of all tasks.
    """

    gram: Tensor
    cross: Tensor
    square: Tensor
    n_rows: int


def with_constant(x: Tensor) -> Tensor:
    """A column of ones before the features."""
    return torch.cat([torch.ones_like(x[..., :1]), x], dim=-1)


def moments(rows: TaskRows) -> Moments:
    """Sums of every task, bucket by bucket; a column of ones comes before the features."""
    assert rows.y is not None
    p, n_outputs = rows.x.shape[1] + 1, rows.y.shape[1]
    gram = rows.x.new_zeros(rows.n_tasks, p, p)
    cross = rows.x.new_zeros(rows.n_tasks, p, n_outputs)
    square = rows.x.new_zeros(rows.n_tasks, n_outputs)
    at_once = max(1, ROWS_AT_A_TIME // max(1, int(rows.sizes.max())))
    for tasks in rows.buckets(at_once):
        padded = rows.take_tasks(tasks).padded()
        assert padded.y is not None
        z, y = with_constant(padded.x), padded.y
        if padded.mask is not None:
            z, y = z * padded.mask.unsqueeze(2), y * padded.mask.unsqueeze(2)
        where = tasks.to(rows.x.device)
        gram[where], cross[where] = z.mT @ z, z.mT @ y
        square[where] = y.square().sum(1)
    return Moments(gram, cross, square, len(rows.x))


@dataclass(frozen=True)
class MixedFit:
    """What the marginal likelihood says at given covariances, for one output.

    All (co)variances are in units of the noise variance.
    """

    deviance: Tensor  # -2 log-likelihood
    mean: Tensor  # (p,)
    precision: Tensor  # (p, p): of the mean's posterior
    noise: Tensor  # (): variance


def mixed_model(
    factor: Tensor,
    log_alpha: Tensor | None,
    half: Tensor,
    level: Tensor,
    square: Tensor,
    n_rows: float,
    ridge: Tensor,
    *,
    restricted: bool,
) -> MixedFit:
    """Profiled marginal likelihood of a linear mixed model (Bates et al., 2015, equations 33-42).

    Task t has the coefficients ``mean + factor @ u_t`` with standard normal ``u_t``; the mean and
    the noise are profiled out.

    Parameters
    ----------
    factor : Tensor of shape (p, r)
        Root of the between-task covariance.
    log_alpha : Tensor of shape () or None
        Log precision of a zero-mean normal prior on all mean coefficients but the first. None is a
        flat prior.
    half, level, square : Tensors of shape (T, k, p), (T, k) and (T,)
        What :func:`rooted` makes of the moments, for one output, and y'y.
    n_rows : float
        Rows of all tasks, less what a prior of the noise counts for.
    ridge : Tensor of shape (p, p)
        Precision of directions that the data say nothing of.
    restricted : bool
        Integrate over the mean where its prior is flat (REML), instead of maximising.
    """
    p = len(factor)
    # V = I + Z F F' Z' in coordinates of the rows of every task: sums of squares, no differences.
    turned = half @ factor
    eye = torch.eye(half.shape[1], dtype=half.dtype, device=half.device)
    chol = torch.linalg.cholesky(eye + turned @ turned.mT)
    log_det = 2 * chol.diagonal(dim1=1, dim2=2).log().sum()
    # Sums over tasks of Z'V^-1 Z, Z'V^-1 y and y'V^-1 y.
    joint = torch.cat([half, level.unsqueeze(2)], dim=2)
    solved = torch.linalg.solve_triangular(chol, joint, upper=False).flatten(0, 1)
    sums = solved.T @ solved
    precision, shift = sums[:p, :p] + ridge, sums[:p, p]
    total = square.sum() - level.square().sum() + sums[p, p]
    # What the rows say nothing of is held by the ridge: no row is spent on it, and the prior of the
    # slopes is not told of it. (Counted there, every such direction would ask for smaller slopes.)
    n_known = p - int(torch.linalg.matrix_rank(ridge, hermitian=True))
    n_flat, n_prior = (n_known, 0) if log_alpha is None else (1, n_known - 1)
    if log_alpha is not None:
        weight = torch.cat([half.new_zeros(1), log_alpha.exp().expand(p - 1)])
        precision = precision + torch.diag(weight)
        log_det = log_det - n_prior * log_alpha
    root = torch.linalg.cholesky(precision)
    mean = torch.cholesky_solve(shift.unsqueeze(1), root).squeeze(1)
    if restricted:
        log_det = log_det + 2 * root.diagonal().log().sum()
        dof = max(1, n_rows - n_flat)
    else:
        dof = n_rows
        if n_prior:
            log_det = log_det + torch.linalg.cholesky(precision[1:, 1:]).diagonal().log().sum() * 2
    residual = (total - shift @ mean).clamp(min=0) + LEAST_NOISE * n_rows
    noise = residual / dof
    deviance = log_det + dof * (1 + torch.log(2 * torch.pi * noise))
    return MixedFit(deviance, mean, precision, noise)


def rooted(gram: Tensor, cross: Tensor) -> tuple[Tensor, Tensor]:
    """``half`` (T, k, p) and ``level`` (T, k, O): half' half = gram, half' level = cross.

    The rows of k are no more than columns, or than rows of a task.
    """
    values, vectors = torch.linalg.eigh(gram)
    known = values > 1e-14 * values[:, -1:]
    k = int(known.sum(1).max())
    values, vectors, known = values[:, -k:], vectors[..., -k:], known[:, -k:]
    scale = torch.where(known, values, 1.0).sqrt()
    half = (vectors * (scale * known).unsqueeze(1)).mT
    return half, (vectors.mT @ cross) * (known / scale).unsqueeze(2)


def unknown_directions(gram: Tensor) -> Tensor:
    """Precision that holds at zero what the rows say nothing of (collinear, constant columns)."""
    values, vectors = torch.linalg.eigh(gram)
    unknown = values < RANK_TOLERANCE * values[-1]
    null = vectors[:, unknown]
    return values[-1] * null @ null.T


def posterior_mean(
    gram: Tensor, cross: Tensor, mean: Tensor, root: Tensor, noise: Tensor
) -> Tensor:
    """Coefficients of T tasks given their rows: (T, p, O).

    Parameters
    ----------
    gram, cross : Tensors of shape (T, p, p) and (T, p, O)
        The moments of the rows.
    mean, root, noise : Tensors of shape (O, p), (O, p, r) and (O,)
        Prior mean, a root of the prior covariance, and the noise variance.
    """
    chol = posterior_factor(gram, root, noise)
    surprise = cross.mT - (gram.unsqueeze(1) @ mean.unsqueeze(2)).squeeze(3)  # (T, O, p)
    rotated = root.mT @ surprise.unsqueeze(3) / noise[:, None, None]
    step = root @ torch.cholesky_solve(rotated, chol)
    return (mean + step.squeeze(3)).mT


def posterior_factor(gram: Tensor, root: Tensor, noise: Tensor) -> Tensor:
    """Cholesky factor (T, O, r, r) of the posterior precision in the coordinates of ``root``."""
    eye = torch.eye(root.shape[2], dtype=root.dtype, device=root.device)
    inner = eye + root.mT @ gram.unsqueeze(1) @ root / noise[:, None, None]
    return torch.linalg.cholesky(inner)


def posterior_variance(z: Tensor, gram: Tensor, root: Tensor, noise: Tensor) -> Tensor:
    """Variance of ``z @ coefficients`` for rows (T, n, p) of T tasks: (T, n, O)."""
    chol = posterior_factor(gram, root, noise)
    rotated = root.mT @ z.unsqueeze(1).mT  # (T, O, r, n)
    return torch.linalg.solve_triangular(chol, rotated, upper=False).square().sum(2).mT
