"""Logistic regression with coefficients that vary between tasks: mode and marginal likelihood.

Task t has the coefficients ``mean + spread * u_t`` with standard normal ``u_t``; the mean has a
normal prior about 0.

How likely spreads are is told from the mode of mean and all ``u_t`` together, which Newton's method
finds: only the mean ties the tasks, so that a step costs a small system a task and one for the
mean. That mode shrinks the mean, by a quarter where tasks have three rows or a label is rare. Once
the spreads are known, :func:`marginal_mean` finds the mean that is most probable when the ``u_t``
are integrated out. (To choose the spreads so as well takes longer, and overstates them where a
label is rare.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skmeta.core.heads.logistic import (
    MOST_HALVINGS,
    SUFFICIENT,
    Design,
    cholesky_of_sum,
    derivatives,
    find_mode,
    log_likelihood,
    skewness,
)

# A search stops when a step promises less.
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
    root = _root(precision)
    change = torch.cholesky_solve(reduced.unsqueeze(1), root).squeeze(1)
    moves = [follow - lean @ change for _, follow, lean in parts]
    gain = float(slope @ change)
    gain += sum(float((own * m).sum()) for (own, _, _), m in zip(parts, moves, strict=True))
    log_det += 2 * float(root.diagonal().log().sum())
    return _Step(change, moves, gain, precision, log_det)


def _root(precision: Tensor) -> Tensor:
    """Cholesky factor, or NaN where there is none."""
    root, info = torch.linalg.cholesky_ex((precision + precision.T) / 2)
    return torch.full_like(root, math.nan) if int(info) else root


# --------------------------------------------------------- the mean, tasks integrated out


@dataclass(frozen=True)
class _View:
    """Log density of a mean, the tasks' own parts integrated out by Laplace's method.

    With its slope, and the root of the mean's precision; ``lean`` tells how the tasks' modes,
    ``effects``, follow a change of the mean: by ``-lean @ change``.
    """

    mean: Tensor
    effects: list[Tensor]
    lean: list[Tensor]
    height: float
    slope: Tensor
    root: Tensor


def marginal_mean(
    batches: list[Design], spread: Tensor, prior: Tensor, max_iter: int, start: Population
) -> Tensor:
    """Most probable mean (q,), the tasks' own parts integrated out.

    Parameters
    ----------
    batches, spread, prior, max_iter
        As for :func:`fit_population`.
    start : Population
        What that found.
    """

    def look(mean: Tensor, effects: list[Tensor]) -> _View:
        return _look(batches, spread, prior, max_iter, mean, effects)

    here = look(start.mean, start.effects)
    # The curvature without that of the determinants, which steps then teach (BFGS).
    inverse = torch.cholesky_inverse(here.root)
    for _ in range(max_iter):
        change = inverse @ here.slope
        gain = float(here.slope @ change)
        if not gain > TOLERANCE:
            break
        length, slack = 1.0, 1e-12 * (1 + abs(here.height))
        for _ in range(MOST_HALVINGS):
            step = length * change
            near = [u - lean @ step for u, lean in zip(here.effects, here.lean, strict=True)]
            there = look(here.mean + step, near)
            if there.height >= here.height + SUFFICIENT * length * gain - slack:
                break
            length /= 2
        else:
            break
        fall = here.slope - there.slope
        if float(step @ fall) > 0:
            turn = torch.eye(len(step)).to(step) - torch.outer(step, fall) / (step @ fall)
            inverse = turn @ inverse @ turn.T + torch.outer(step, step) / (step @ fall)
        here = there
    return here.mean


def _look(
    batches: list[Design],
    spread: Tensor,
    prior: Tensor,
    max_iter: int,
    mean: Tensor,
    effects: list[Tensor],
) -> _View:
    height = -(prior * mean.square()).sum() / 2
    slope, precision = -prior * mean, torch.diag(prior)
    modes, leans = [], []
    for rows, near in zip(batches, effects, strict=True):
        offset = rows.offset + (rows.phi.flatten(1, 2) @ mean).view_as(rows.offset)
        own = replace(rows, phi=rows.phi * spread, offset=offset)
        u = find_mode(own, max_iter, near)
        gradient, hessian = derivatives(rows, mean + u * spread)
        chol = cholesky_of_sum(hessian * spread * spread.unsqueeze(1))
        lean = torch.cholesky_solve(spread.unsqueeze(1) * hessian, chol)
        half = torch.linalg.solve_triangular(chol, own.phi.flatten(1, 2).mT, upper=False)
        # A change of the mean moves the determinant by itself, and with the modes.
        skew = skewness(rows, mean + u * spread, half) / 2
        skew = skew - (lean.mT @ (spread * skew).unsqueeze(2)).squeeze(2)
        slope = slope + (gradient + skew).sum(0)
        precision = precision + (hessian - (hessian * spread) @ lean).sum(0)
        log_det = 2 * chol.diagonal(dim1=1, dim2=2).log().sum()
        height = height + log_likelihood(own, u).sum() - (u.square().sum() + log_det) / 2
        modes.append(u)
        leans.append(lean)
    return _View(mean, modes, leans, float(height), slope, _root(precision))
