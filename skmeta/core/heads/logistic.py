"""Logistic and softmax regression for many tasks at once, under a normal prior.

With C classes a row has C - 1 latent scores, and the logits are ``contrasts @ latent``: no
direction is free, all classes are alike, and the log odds of any two classes vary as a latent score
does. With two classes the latent score is the log odds.

A design says how the latent scores of a row follow from a task's q unknowns. For coefficients they
are (C - 1) p numbers, those of the first latent score first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from skmeta.core.mixed import with_constant
from skmeta.core.sigmoid import expected_log_odds
from skmeta.core.tasks import TaskRows

# A task has converged when a Newton step promises less than this; the error after it is far less.
TOLERANCE = 1e-10
# Share of the promised gain that a step must keep, and how often it is halved until it does.
SUFFICIENT = 1e-4
MOST_HALVINGS = 40
# Added, relative to the largest variance, where rounding has eaten the unit matrix.
JITTER = 1e-10


@dataclass(frozen=True)
class Labelled:
    """Labelled rows of T tasks, as rectangles.

    Parameters
    ----------
    z : Tensor of shape (T, n, p)
        Columns, the first of which is constant; 0 at padded places.
    y : int64 Tensor of shape (T, n)
        Class numbers.
    real : Tensor of shape (T, n)
        1, or 0 at padded places.
    """

    z: Tensor
    y: Tensor
    real: Tensor

    @classmethod
    def of(cls, rows: TaskRows) -> Labelled:
        """Pad the rows and add the constant."""
        padded = rows.padded()
        assert padded.y is not None
        real = padded.x.new_ones(padded.x.shape[:2])
        if padded.mask is not None:
            real = padded.mask.to(real)
        return cls(with_constant(padded.x) * real.unsqueeze(2), padded.y, real)


@dataclass(frozen=True)
class Design:
    """Latent scores of T tasks' rows: ``offset + phi @ u`` for unknowns u.

    Parameters
    ----------
    phi : Tensor of shape (T, n, C - 1, q)
        How they follow from the unknowns; 0 at padded places.
    offset : Tensor of shape (T, n, C - 1)
        What they are where these are 0.
    y, real : Tensors of shape (T, n)
        As in :class:`Labelled`.
    table : Tensor of shape (C, C - 1)
        See :func:`contrasts`.
    """

    phi: Tensor
    offset: Tensor
    y: Tensor
    real: Tensor
    table: Tensor

    def take(self, tasks: Tensor) -> Design:
        """The tasks named."""
        if len(tasks) == len(self.y):
            return self
        parts = (self.phi[tasks], self.offset[tasks], self.y[tasks], self.real[tasks])
        return Design(*parts, self.table)


def contrasts(n_classes: int) -> Tensor:
    """Latent scores to logits, (C, C - 1): orthogonal columns of length 1/sqrt(2) that sum to 0."""
    table = torch.zeros(n_classes, n_classes - 1, dtype=torch.float64)
    for j in range(n_classes - 1):  # Helmert's contrasts
        table[: j + 1, j] = -1.0
        table[j + 1, j] = j + 1.0
    return table / table.square().sum(0).sqrt() / math.sqrt(2)


def spread_out(z: Tensor, n_latent: int) -> Tensor:
    """How latent scores follow from coefficients: (T, n, C - 1, (C - 1) p) from rows (T, n, p)."""
    if n_latent == 1:
        return z.unsqueeze(2)
    eye = torch.eye(n_latent, dtype=z.dtype, device=z.device)
    return (eye.unsqueeze(2) * z[:, :, None, None]).flatten(3)


def design_of_coefficients(rows: Labelled, table: Tensor) -> Design:
    """Unknowns are the coefficients themselves."""
    phi = spread_out(rows.z, table.shape[1])
    return Design(phi, phi.new_zeros(phi.shape[:3]), rows.y, rows.real, table)


def design_under(rows: Labelled, table: Tensor, mean: Tensor, root: Tensor) -> Design:
    """Unknowns are standard normal a priori: the coefficients are ``mean + root @ u``.

    Parameters
    ----------
    rows : Labelled
        Rows of T tasks.
    table : Tensor of shape (C, C - 1)
        Contrasts.
    mean : Tensor of shape (q,) or (T, q)
        Prior mean of the coefficients.
    root : Tensor of shape (q, q) or (T, q, q)
        A root of their prior covariance.
    """
    phi, offset = under(rows.z, table.shape[1], mean, root)
    return Design(phi, offset, rows.y, rows.real, table)


def under(z: Tensor, n_latent: int, mean: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """``phi`` and ``offset`` of rows (T, n, p); see :func:`design_under`."""
    n_tasks, _, p = z.shape
    by_latent = mean.expand(n_tasks, -1).unflatten(1, (n_latent, p))
    blocks = root.expand(n_tasks, -1, -1).unflatten(1, (n_latent, p))  # (T, C - 1, p, q)
    return (z.unsqueeze(1) @ blocks).transpose(1, 2), z @ by_latent.mT


def latent(design: Design, u: Tensor) -> Tensor:
    """Scores (T, n, C - 1) at unknowns (T, q)."""
    return design.offset + (design.phi.flatten(1, 2) @ u.unsqueeze(2)).view_as(design.offset)


def log_likelihood(design: Design, u: Tensor) -> Tensor:
    """Of every task, (T,), at unknowns (T, q)."""
    log_proba = torch.log_softmax(latent(design, u) @ design.table.T, dim=2)
    own = log_proba.gather(2, design.y.unsqueeze(2)).squeeze(2)
    return (own * design.real).sum(1)


def derivatives(design: Design, u: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (T, q) of the log-likelihood, and its negative Hessian (T, q, q)."""
    proba = torch.softmax(latent(design, u) @ design.table.T, dim=2)
    surprise = F.one_hot(design.y, len(design.table)).to(proba) - proba
    slope = (surprise * design.real.unsqueeze(2)) @ design.table
    centred = _centred(proba, design.table)
    # Covariance of the contrasts under the class probabilities.
    weight = (centred * (proba * design.real.unsqueeze(2)).unsqueeze(3)).mT @ centred
    flat = design.phi.flatten(1, 2)
    weighted = weight * design.phi if weight.shape[2] == 1 else weight @ design.phi
    return (slope.flatten(1).unsqueeze(1) @ flat).squeeze(1), flat.mT @ weighted.flatten(1, 2)


def _centred(proba: Tensor, table: Tensor) -> Tensor:
    """Contrasts of the classes about their mean, (T, n, C, C - 1)."""
    return table - (proba @ table).unsqueeze(2)


def cholesky_of_sum(inner: Tensor) -> Tensor:
    """Cholesky factors of I + inner, for positive semi-definite ``inner`` (T, q, q).

    NaN where there is none: a value of a row overflowed.
    """
    eye = torch.eye(inner.shape[1], dtype=inner.dtype, device=inner.device)
    diagonal = inner.diagonal(dim1=1, dim2=2)
    finite = diagonal.sum(1).isfinite()
    chol, info = torch.linalg.cholesky_ex(eye + inner)
    if bool(info.any()):
        firm = torch.where(info > 0, JITTER * diagonal.amax(1), 0.0)
        chol, info = torch.linalg.cholesky_ex(eye * (1 + firm)[:, None, None] + inner)
    good = finite & (info == 0)
    return chol if bool(good.all()) else torch.where(good[:, None, None], chol, torch.nan)


# ------------------------------------------------------------------- mode and posterior


def find_mode(design: Design, max_iter: int, start: Tensor | None = None) -> Tensor:
    """Most probable unknowns (T, q) under a standard normal prior: Newton with step halving.

    Parameters
    ----------
    design : Design
        Rows of T tasks.
    max_iter : int
        Newton steps, at most.
    start : Tensor of shape (T, q), optional
        Where to start from, instead of 0.
    """
    n_tasks, q = len(design.y), design.phi.shape[3]
    u = design.phi.new_zeros(n_tasks, q) if start is None else start.clone()
    active = torch.arange(n_tasks, device=u.device)
    # Each task stops by itself, so that its answer does not depend on the others.
    for _ in range(max_iter):
        part = design.take(active)
        gradient, hessian = derivatives(part, u[active])
        gradient = gradient - u[active]
        step = torch.cholesky_solve(gradient.unsqueeze(2), cholesky_of_sum(hessian)).squeeze(2)
        gain = (gradient * step).sum(1)
        u[active] = _line_search(part, u[active], step, gain)
        active = active[gain > TOLERANCE]
        if len(active) == 0:
            break
    return u


def _line_search(design: Design, u: Tensor, step: Tensor, gain: Tensor) -> Tensor:
    """Halve the steps of those tasks whose posterior does not rise enough."""

    def height(u: Tensor) -> Tensor:
        return log_likelihood(design, u) - u.square().sum(1) / 2

    now, length = height(u), torch.ones_like(gain)
    slack = 1e-12 * (1 + now.abs())  # close to the top, rounding hides the gain
    short = torch.zeros_like(gain, dtype=torch.bool)
    for _ in range(MOST_HALVINGS):
        new = u + length.unsqueeze(1) * step
        short = height(new) < now + SUFFICIENT * length * gain - slack  # NaN stays NaN
        if not bool(short.any()):
            return new
        length = torch.where(short, length / 2, length)
    return torch.where(short.unsqueeze(1), u, new)


def reduce(design: Design) -> tuple[Design, Tensor | None]:
    """The same rows with fewer unknowns, if they have fewer latent scores than unknowns.

    Under a standard normal prior the rows speak only of as many directions. Also returns these,
    (T, q, r), or None where nothing changes.
    """
    if design.phi.shape[1] * design.phi.shape[2] >= design.phi.shape[3]:
        return design, None
    basis, right = torch.linalg.qr(design.phi.flatten(1, 2).mT)
    return replace(design, phi=right.mT.unflatten(1, design.phi.shape[1:3])), basis


def skewness(design: Design, u: Tensor, half: Tensor) -> Tensor:
    """Third derivatives of the log-likelihood, contracted with a covariance of the latent scores.

    Half of it is the slope of -1/2 log det, Laplace's, in the unknowns.

    Parameters
    ----------
    design : Design
        Rows of T tasks.
    u : Tensor of shape (T, q)
        Unknowns.
    half : Tensor of shape (T, r, n (C - 1))
        ``half.mT @ half`` is the covariance.

    Returns
    -------
    Tensor of shape (T, q)
    """
    proba = torch.softmax(latent(design, u) @ design.table.T, dim=2)
    centred = _centred(proba, design.table)
    half = half.unflatten(2, design.phi.shape[1:3]).permute(0, 2, 1, 3)  # (T, n, r, C - 1)
    square = (half @ centred.mT).square().sum(2)
    third = -((proba * square * design.real.unsqueeze(2)).unsqueeze(2) @ centred).flatten(1)
    return (third.unsqueeze(1) @ design.phi.flatten(1, 2)).squeeze(1)


def posterior(design: Design, mode: Tensor, skew: Tensor | float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the unknowns of every task.

    The covariance is Laplace's. The mean is the mode with the first-order correction for the
    skewness of the posterior (Tierney and Kadane, 1986), of at most a standard deviation.

    Parameters
    ----------
    design : Design
        Rows of T tasks.
    mode : Tensor of shape (T, q)
        Most probable unknowns.
    skew : float
        Share of the correction to make.

    Returns
    -------
    mean : Tensor of shape (T, q)
    chol : Tensor of shape (T, q, q)
        Cholesky factor of the inverse covariance.
    """
    chol = cholesky_of_sum(derivatives(design, mode)[1])
    half = torch.linalg.solve_triangular(chol, design.phi.flatten(1, 2).mT, upper=False)
    pull = torch.linalg.solve_triangular(
        chol, skewness(design, mode, half).unsqueeze(2), upper=False
    )
    shift = 0.5 * skew * pull
    shift = shift / shift.square().sum(1, keepdim=True).sqrt().clamp(min=1.0)
    mean = mode + torch.linalg.solve_triangular(chol.mT, shift, upper=True).squeeze(2)
    return mean, chol


def answer(
    design: Design, mode: Tensor, skew: Tensor | float, phi: Tensor, offset: Tensor
) -> Tensor:
    """Log-probabilities of the classes at other rows of the tasks: (T, n, C).

    Parameters
    ----------
    design : Design
        The rows that the tasks learned from.
    mode : Tensor of shape (T, q)
        Most probable unknowns.
    skew : float
        See :func:`posterior`.
    phi, offset : Tensors of shape (T, n, C - 1, q) and (T, n, C - 1)
        The other rows, as in :class:`Design`.
    """
    design, basis = reduce(design)
    known = phi.flatten(1, 2)
    covariance = phi @ phi.mT
    if basis is not None:
        known, mode = known @ basis, (mode.unsqueeze(1) @ basis).squeeze(1)
    mean, chol = posterior(design, mode, skew)
    # What the rows say nothing of varies as it did before them.
    half = torch.linalg.solve_triangular(chol, known.mT, upper=False).mT
    before, after = known.unflatten(1, phi.shape[1:3]), half.unflatten(1, phi.shape[1:3])
    covariance = covariance - before @ before.mT + after @ after.mT
    center = offset + (known @ mean.unsqueeze(2)).view_as(offset)
    return log_proba(center, covariance, design.table)


def log_proba(mean: Tensor, covariance: Tensor, table: Tensor) -> Tensor:
    """Logarithms of the class probabilities, integrated over normal latent scores.

    For two classes the integral itself. For more, that of all pairs of classes, put together as Lu,
    Ie and Sha (2020) do.

    Parameters
    ----------
    mean : Tensor of shape (..., C - 1)
        Of the latent scores.
    covariance : Tensor of shape (..., C - 1, C - 1)
        Of the latent scores.
    table : Tensor of shape (C, C - 1)
        Contrasts.

    Returns
    -------
    Tensor of shape (..., C)
    """
    logits = mean @ table.T
    full = table @ covariance @ table.T
    own = full.diagonal(dim1=-2, dim2=-1)
    variance = (own.unsqueeze(-1) + own.unsqueeze(-2) - full - full.mT).clamp(min=0.0)
    a, b = torch.triu_indices(len(table), len(table), 1, device=mean.device)
    pairs = expected_log_odds(logits[..., b] - logits[..., a], variance[..., a, b])
    odds = torch.zeros_like(variance)  # odds[..., a, b] is the log odds of b over a
    odds[..., a, b], odds[..., b, a] = pairs, -pairs
    return torch.log_softmax(-odds.logsumexp(-1), dim=-1)
