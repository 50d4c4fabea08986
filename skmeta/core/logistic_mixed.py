"""Logistic regression with coefficients that vary between tasks: mode and marginal likelihood.

Task t has the coefficients ``mean + spread * u_t`` with standard normal ``u_t``; the mean has a
normal prior about 0. Mean and all ``u_t`` are found together by Newton's method: only the mean ties
the tasks, so that a step costs a small system a task and one for the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skmeta.core.heads.logistic import (
    MOST_HALVINGS,
    SUFFICIENT,
    Design,
    cholesky_of_sum,
    derivatives,
    log_likelihood,
)

# Newton's method stops when a step promises less.
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Population:
    """What all tasks say of their common mean.

    Parameters
    ----------
    mean : Tensor of shape (q,)
        Most probable mean.
    effects : list of Tensors of shape (T, q)
        Most probable ``u`` of the tasks of every batch.
    precision : Tensor of shape (q, q)
        Of the mean, the tasks' own parts integrated out.
    log_evidence : float
        Logarithm of the marginal likelihood, by Laplace's method for mean and tasks together.
    """

    mean: Tensor
    effects: list[Tensor]
    precision: Tensor
    log_evidence: float

    def root(self, spread: Tensor) -> Tensor:
        """Root (q, q) of the covariance of a new task's coefficients about ``mean``."""
        # A new task varies about a mean that is itself known only so well.
        covariance = torch.linalg.inv(self.precision) + torch.diag(spread.square())
        return torch.linalg.cholesky((covariance + covariance.T) / 2)


@dataclass(frozen=True)
class _Step:
    """A Newton step for mean and effects, and the curvature where it starts."""

    mean: Tensor
    effects: list[Tensor]
    gain: float
    precision: Tensor
    log_det: float


def fit_population(
    batches: list[Design],
    spread: Tensor,
    prior: Tensor,
    max_iter: int,
    start: Population | None = None,
) -> Population:
    """Mode of the mean and of all tasks' deviations.

    Parameters
    ----------
    batches : list of Design
        The tasks; the unknowns are their coefficients.
    spread : Tensor of shape (q,)
        Standard deviations of the coefficients between tasks.
    prior : Tensor of shape (q,)
        Prior precision of the mean.
    max_iter : int
        Newton steps, at most.
    start : Population, optional
        Where to start from.
    """

    def height(mean: Tensor, effects: list[Tensor]) -> float:
        value = -(prior * mean.square()).sum() / 2
        for rows, u in zip(batches, effects, strict=True):
            value = value + log_likelihood(rows, mean + u * spread).sum() - u.square().sum() / 2
        return float(value)

    if start is None:
        mean = torch.zeros_like(spread)
        effects = [spread.new_zeros(len(batch.y), len(spread)) for batch in batches]
    else:
        mean, effects = start.mean, start.effects
    now = height(mean, effects)
    step = _newton(batches, spread, prior, mean, effects)
    for _ in range(max_iter):
        if not step.gain > TOLERANCE:
            break
        length = 1.0
        slack = 1e-12 * (1 + abs(now))  # close to the top, rounding hides the gain
        for _ in range(MOST_HALVINGS):
            new_mean = mean + length * step.mean
            new_effects = [u + length * s for u, s in zip(effects, step.effects, strict=True)]
            new = height(new_mean, new_effects)
            if new >= now + SUFFICIENT * length * step.gain - slack:
                break
            length /= 2
        else:
            break
        mean, effects, now = new_mean, new_effects, new
        step = _newton(batches, spread, prior, mean, effects)
    return Population(mean, effects, step.precision, now - step.log_det / 2)


def _newton(
    batches: list[Design], spread: Tensor, prior: Tensor, mean: Tensor, effects: list[Tensor]
) -> _Step:
    slope = -prior * mean  # of the mean alone
    reduced = slope  # of the mean, when the effects follow it
    precision = torch.diag(prior)
    log_det, gain = -float(prior.log().sum()), 0.0
    parts = []
    for rows, u in zip(batches, effects, strict=True):
        gradient, hessian = derivatives(rows, mean + u * spread)
        own = gradient * spread - u
        chol = cholesky_of_sum(hessian * spread * spread.unsqueeze(1))
        # How the effects follow their own slope, and how they lean against a change of the mean.
        both = torch.cat([own.unsqueeze(2), spread.unsqueeze(1) * hessian], dim=2)
        solved = torch.cholesky_solve(both, chol)
        follow, lean = solved[..., 0], solved[..., 1:]
        cross = hessian * spread
        precision = precision + (hessian - cross @ lean).sum(0)
        slope = slope + gradient.sum(0)
        reduced = reduced + (gradient - (cross @ follow.unsqueeze(2)).squeeze(2)).sum(0)
        log_det += 2 * float(chol.diagonal(dim1=1, dim2=2).log().sum())
        parts.append((own, follow, lean))
    precision = (precision + precision.T) / 2
    root, info = torch.linalg.cholesky_ex(precision)
    if int(info):
        root = torch.full_like(root, math.nan)
    change = torch.cholesky_solve(reduced.unsqueeze(1), root).squeeze(1)
    moves = [follow - lean @ change for _, follow, lean in parts]
    gain = float(slope @ change)
    gain += sum(float((own * m).sum()) for (own, _, _), m in zip(parts, moves, strict=True))
    log_det += 2 * float(root.diagonal().log().sum())
    return _Step(change, moves, gain, precision, log_det)
