"""Gaussian processes over many tasks: a sparse part that all share, an exact part for each.

A target is ``y = phi(x) w + f_task(x) + noise``. The shared part ``phi(x) w`` has the kernel
constant + linear + RBF; the RBF is carried by inducing points. ``f_task`` has the kernel constant +
ARD-linear + ARD-RBF and is drawn anew for every task.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skmeta.core.kernels import Hyper, add_diagonal, rbf_kernel, task_kernel

# Added to a covariance of standardised values before its Cholesky factor is taken.
JITTER = 1e-8


def careful_cholesky(covariance: Tensor) -> Tensor:
    """Cholesky factors (..., n, n); where rounding spoils one, a share of its size is added first.

    Raises
    ------
    ValueError
        If a covariance is not finite, or no small share helps.
    """
    chol, info = torch.linalg.cholesky_ex(covariance)
    if not bool(info.any()):
        return chol
    size = covariance.diagonal(dim1=-2, dim2=-1).amax(-1)
    for share in (1e-10, 1e-7):
        added = torch.where(info > 0, share * size, 0.0)[..., None]
        covariance = covariance + torch.diag_embed(added.expand(covariance.shape[:-1]))
        chol, info = torch.linalg.cholesky_ex(covariance)
        if not bool(info.any()):
            return chol
    raise ValueError(
        "The support rows lie so far outside the training rows that their covariance overflows. "
        "Check X for huge values, and its units."
    )


def inducing_factor(h: Hyper, inducing: Tensor) -> Tensor:
    """Cholesky factor of the covariance of the inducing points, in units of ``shared_rbf``."""
    among = rbf_kernel(inducing, inducing, h.shared_length)
    eye = torch.eye(len(inducing), dtype=among.dtype, device=among.device)
    return torch.linalg.cholesky(among + 1e-6 * eye)


def shared_features(
    h: Hyper,
    x: Tensor,
    inducing: Tensor,
    mask: Tensor | None = None,
    factor: Tensor | None = None,
) -> Tensor:
    """phi(x) of shape (..., n, 1 + d + m), whose weights are standard normal a priori.

    The constant's wide prior: it is the level of all tasks. Rows that ``mask`` leaves out are 0.
    ``factor`` is :func:`inducing_factor`, if it is known.
    """
    level, slopes = torch.full_like(x[..., :1], WIDE), x * h.shared_linear.sqrt()
    if mask is not None:
        real = mask.unsqueeze(-1)
        level, slopes = level * real, slopes * real
    if not len(inducing):
        return torch.cat([level, slopes], dim=-1)
    factor = inducing_factor(h, inducing) if factor is None else factor
    cross = rbf_kernel(x, inducing, h.shared_length, h.shared_rbf.sqrt(), mask)
    # From the right, cross @ factor^-T, and all rows at once: in a batch every task would have a
    # slope in the factor to itself.
    carried = torch.linalg.solve_triangular(
        factor.mT, cross.reshape(-1, cross.shape[-1]), upper=True, left=False
    )
    return torch.cat([level, slopes, carried.reshape(cross.shape)], dim=-1)


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


@dataclass(frozen=True)
class Parts:
    """The covariances of T padded tasks that the bound is made of.

    Parameters
    ----------
    own : Tensor of shape (T, n, n), or (T, n) where tasks have no part of their own
        Covariance of a task's own part and the noise; padded places have variance 1.
    phi : Tensor of shape (T, n, q)
        Shared features, 0 in padded places.
    curve : Tensor of shape (T, n, n), or (T, n)
        The shared RBF kernel, 0 in padded places; its diagonal alone where ``own`` is diagonal.
    rest : Tensor of the shape of ``curve``
        That less what the inducing points carry of it. It has no graph.
    n_carried : int
        Columns of ``phi``, the last ones, that carry it.
    """

    own: Tensor
    phi: Tensor
    curve: Tensor
    rest: Tensor
    n_carried: int


def parts_of(
    h: Hyper,
    x: Tensor,
    mask: Tensor | None,
    inducing: Tensor,
    *,
    own_part: bool,
    noise: Tensor | None = None,
    factor: Tensor | None = None,
) -> Parts:
    """Covariances of T padded tasks: x (T, n, d), mask (T, n).

    Without ``own_part`` a task's covariance is the noise: that of ``h``, or one a row (T, n).
    ``factor`` is :func:`inducing_factor`, if it is known.
    """
    phi = shared_features(h, x, inducing, mask, factor)
    diagonal = (h.noise if noise is None else noise).expand(x.shape[:2]) + JITTER
    if mask is not None:
        # A padded place is a row of its own with variance 1 and the value 0: it adds nothing.
        diagonal = torch.where(mask, diagonal, 1.0)
    m = len(inducing)
    carried = phi[..., phi.shape[-1] - m :].detach()
    if not own_part:
        curve = h.shared_rbf.expand(x.shape[:2])
        curve = (curve if mask is None else curve * mask) * bool(m)
        return Parts(diagonal, phi, curve, curve.detach() - carried.square().sum(-1), m)
    own = add_diagonal(task_kernel(h, x, x, mask), diagonal)
    if not m:
        none = torch.zeros_like(own)
        return Parts(own, phi, none, none, m)
    curve = rbf_kernel(x, x, h.shared_length, h.shared_rbf, mask, mask)
    rest = torch.baddbmm(curve.detach(), carried, carried.mT, alpha=-1)
    return Parts(own, phi, curve, rest, m)


@dataclass(frozen=True)
class Solved:
    """What a batch of tasks says with its covariances inverted; K is ``Parts.own``."""

    log_det: Tensor  # sum over tasks
    inverse: Tensor  # K^-1
    phi: Tensor  # K^-1 phi
    y: Tensor  # K^-1 y


def solve(parts: Parts, y: Tensor) -> Solved:
    """Invert the covariances; ``y`` of shape (T, n) is 0 in padded places."""
    if parts.own.ndim == 2:
        inverse = 1 / parts.own
        return Solved(parts.own.log().sum(), inverse, parts.phi * inverse.unsqueeze(2), y * inverse)
    chol = torch.linalg.cholesky(parts.own)
    inverse = torch.cholesky_inverse(chol)
    log_det = 2 * chol.diagonal(dim1=1, dim2=2).log().sum()
    return Solved(log_det, inverse, inverse @ parts.phi, (inverse @ y.unsqueeze(2)).squeeze(2))


def evidence(parts: Parts, solved: Solved, y: Tensor) -> Evidence:
    """Sums of T padded tasks; ``y`` of shape (T, n) is 0 in padded places."""
    phi = parts.phi.flatten(0, 1)
    return Evidence(
        solved.log_det,
        (y * solved.y).sum(),
        phi.T @ solved.phi.flatten(0, 1),
        phi.T @ solved.y.flatten(),
        solved.inverse.flatten() @ parts.rest.flatten(),
    )


@dataclass(frozen=True)
class Bound:
    """The bound of :func:`negative_bound` at some hyperparameters, and what it was made of.

    Parameters
    ----------
    value : Tensor of shape ()
        Without a graph.
    slopes : list of (Tensor, Tensor)
        What the bound was made of, and the slope of the bound in it.
    mean, root : Tensors of shape (q,) and (q, q)
        The posterior of the shared weights.
    surprise : list of Tensors of shape (T, n)
        K^-1 (y - phi mean) of every batch.
    """

    value: Tensor
    slopes: list[tuple[Tensor, Tensor]]
    mean: Tensor
    root: Tensor
    surprise: list[Tensor]

    def backward(self) -> None:
        """Add the gradient of the bound to that of the hyperparameters."""
        known = [(part, slope) for part, slope in self.slopes if part.requires_grad]
        torch.autograd.backward([part for part, _ in known], [slope for _, slope in known])


def bound_and_slopes(
    batches: Sequence[tuple[Parts, Tensor]],
    weight: float = 1.0,
    bend: Callable[[int, Tensor], Tensor] | None = None,
) -> Bound:
    """The bound, and its slopes for automatic differentiation to take back from the kernels on.

    Going back through Cholesky factors would take most of a step; the slopes in the covariances
    have a closed form.

    Parameters
    ----------
    batches : sequence of (Parts, y)
        With a graph back to the hyperparameters.
    weight : float
        How many times the batches stand for all tasks.
    bend : callable, optional
        Where targets and noise follow the mode of the process (Laplace's approximation): from the
        number of a batch, and twice the slope of the bound in its noise but for the targets' part
        (T, n), to twice that in the mode, times the noise.
    """
    with torch.no_grad():
        solved = [solve(parts, y) for parts, y in batches]
        sums = [evidence(p, s, y) for (p, y), s in zip(batches, solved, strict=True)]
        total = functools.reduce(add, sums)
        value = negative_bound(total, weight)
        mean, root = weights_posterior(total, weight)
    covariance = root @ root.T
    surprises, own, phi = [], [], []
    with torch.no_grad():
        for (parts, _), s in zip(batches, solved, strict=True):
            surprise = s.y - s.phi @ mean  # K^-1 (y - phi m)
            spread = s.phi @ covariance  # K^-1 phi B^-1
            if parts.own.ndim == 2:
                known = (spread * s.phi).sum(2)
                to_own = s.inverse - surprise.square() - known - s.inverse.square() * parts.rest
            else:
                columns = surprise.unsqueeze(2)
                to_own = torch.baddbmm(s.inverse, columns, columns.mT, alpha=-1)
                to_own.baddbmm_(spread, s.phi.mT, alpha=-1)
                to_own.baddbmm_(s.inverse @ parts.rest, s.inverse, alpha=-1)
            to_phi = spread.sub_(surprise.unsqueeze(2) * mean)
            # What the inducing points carry, the trace is less.
            first = s.phi.shape[-1] - parts.n_carried
            to_phi[..., first:] -= s.phi[..., first:]
            surprises.append(surprise)
            own.append(to_own)
            phi.append(to_phi)
        if bend is not None:
            _follow_mode(solved, surprises, own, phi, mean, weight * covariance, bend)
    slopes: list[tuple[Tensor, Tensor]] = []
    for (parts, _), s, to_own, to_phi in zip(batches, solved, own, phi, strict=True):
        slopes += [
            (parts.own, to_own.mul_(0.5 * weight)),
            (parts.phi, to_phi.mul_(weight)),
            (parts.curve, 0.5 * weight * s.inverse),
        ]
    return Bound(value, slopes, mean, root, surprises)


def _follow_mode(
    solved: list[Solved],
    surprises: list[Tensor],
    own: list[Tensor],
    phi: list[Tensor],
    mean: Tensor,
    covariance: Tensor,
    bend: Callable[[int, Tensor], Tensor],
) -> None:
    """Add what the bound changes by as the mode moves with the covariances K: by K^-1 dK K^-1 y."""
    pulls, total = [], torch.zeros_like(mean)
    for i, (s, surprise, to_own) in enumerate(zip(solved, surprises, own, strict=True)):
        diagonal = to_own if to_own.ndim == 2 else to_own.diagonal(dim1=1, dim2=2)
        pull = bend(i, diagonal + surprise.square())
        total += (s.phi.mT @ pull.unsqueeze(2)).squeeze(2).sum(0)
        alone = s.inverse * pull if s.inverse.ndim == 2 else (s.inverse @ pull.unsqueeze(2))[..., 0]
        pulls.append(alone)
    shared = covariance @ total
    for s, pull, surprise, to_own, to_phi in zip(solved, pulls, surprises, own, phi, strict=True):
        moved = pull - s.phi @ shared  # K^-1 pull, for K with the shared part
        if to_own.ndim == 2:
            to_own += moved * surprise
        else:
            columns = surprise.unsqueeze(2)
            to_own.baddbmm_(moved.unsqueeze(2), columns.mT, alpha=0.5)
            to_own.baddbmm_(columns, moved.unsqueeze(1), alpha=0.5)
        to_phi += (moved.unsqueeze(2) * mean + surprise.unsqueeze(2) * shared) / 2


def negative_bound(e: Evidence, weight: float = 1.0) -> Tensor:
    """Minus the variational bound on the log marginal likelihood (Titsias, 2009, equation 9).

    Less the constant log(2 pi) / 2 a row.

    ``weight`` is how many times the tasks of ``e`` stand for all tasks.
    """
    eye = torch.eye(len(e.gram), dtype=e.gram.dtype, device=e.gram.device)
    chol = torch.linalg.cholesky(eye + weight * e.gram)
    half = torch.linalg.solve_triangular(chol, weight * e.cross.unsqueeze(1), upper=False)
    value = weight * (e.log_det + e.square + e.trace) + 2 * chol.diagonal().log().sum()
    return 0.5 * (value - half.square().sum())


def weights_posterior(e: Evidence, weight: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean (q,) and a root (q, q) of the covariance of the shared weights."""
    eye = torch.eye(len(e.gram), dtype=e.gram.dtype, device=e.gram.device)
    chol = torch.linalg.cholesky(eye + weight * e.gram)
    mean = torch.cholesky_solve(weight * e.cross.unsqueeze(1), chol).squeeze(1)
    root = torch.linalg.solve_triangular(chol, eye, upper=False).T
    return mean, root


def add(first: Evidence, second: Evidence) -> Evidence:
    """The evidence of the tasks of both."""
    return Evidence(
        *(a + b for a, b in zip(vars(first).values(), vars(second).values(), strict=True))
    )
