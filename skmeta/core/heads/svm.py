"""The multi-class support vector machine of Crammer and Singer, many at a time, differentiable.

For the rows ``x_i`` of a task, with classes ``y_i``, kernel ``K`` and offsets ``o`` (scores that a
row has before the task is learned), the machine minimises over W

    |W|^2 / 2 + C sum_i max_c (1 - [c = y_i] + s_ic - s_iy),   s = o + X W,

and ``W = X' alpha`` with ``alpha = C (Y - b)``, where every row of ``b`` is a distribution over the
classes of the task, and b minimises

    C sum_c (y_c - b_c)' K (y_c - b_c) / 2 - sum_ic b_ic (1 - y_ic + o_ic).

The Hessian is the same n x n matrix for every class. So a Newton step factorises one such matrix a
class, and one more that ties the classes together, where a solver that knows nothing of this
factorises one of n times the number of classes.

Newton's method on the active set (the entries of b that are 0) ends after a few steps with the
exact solution, but where the kernel is short of rank it may run in circles. Tasks that it has not
solved go to an interior point method, whose active set is then tried once more. The gradient is
that of the equations that hold at the solution (implicit differentiation); their factors are there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skmeta.core.numerics import FAR_SUPPORT

# Newton steps on the active set: from scratch, and after the interior point method.
ACTIVE_SET_STEPS = 15
POLISHING_STEPS = 4
# Free entries of a class, as a share of the rows, up to which they are picked out.
WORTH_PACKING = 0.75
# Steps of the interior point method; a dozen do on ordinary problems.
INTERIOR_STEPS = 60
# Mean product of a weight and its multiplier, relative to the size of the terms, at the solution.
CLOSE = 1e-13
# How close to the boundary a step may come.
NEAR = 0.995
# Added to the diagonal of the kernel, relative to its mean: duplicated rows share their weight. A
# kernel that comes in single precision is positive to its rounding errors only.
JITTER, ROUGH_JITTER = 1e-8, 1e-5
# Without a gradient there is time to take out what the (smaller) jitter did: solutions are found
# again until the objective is known up to the share SURE, or so often. Where it is not known up to
# the share UNSURE there is no answer.
CAREFUL_JITTER = 1e-10
SURE, UNSURE = 1e-5, 1e-2
CAREFUL_STEPS = 30


def svm_duals(
    kernel: Tensor, labels: Tensor, present: Tensor, C: float, offsets: Tensor | None = None
) -> Tensor:
    """Dual coefficients of T support vector machines.

    Parameters
    ----------
    kernel : Tensor of shape (T, n, n)
        Products of the rows; those of padded rows are not looked at.
    labels : Tensor of shape (T, n, n_classes)
        One-hot classes; a padded row has none.
    present : bool Tensor of shape (T, n_classes)
        The classes that a task has; the machine knows no others.
    C : float
        Largest weight of a row.
    offsets : Tensor of shape (T, n, n_classes), optional
        Scores before the task is learned.

    Returns
    -------
    alpha : Tensor of shape (T, n, n_classes)
        In the dtype of the kernel (better a double one); differentiable in ``kernel`` and
        ``offsets``. A row with a coefficient that is not 0 is a support vector.

    Raises
    ------
    ValueError
        If no gradient is needed, and rows are so long that rounding errors would be the answer.

    References
    ----------
    Crammer and Singer (2001). On the algorithmic implementation of multiclass kernel-based vector
    machines. Equation 7.

    Lee, Maji, Ravichandran and Soatto (2019). Meta-learning with differentiable convex
    optimization. Equation 10.
    """
    if offsets is None:
        offsets = torch.zeros_like(labels)
    if not torch.is_grad_enabled():
        return _careful_duals(kernel, offsets, labels, present, C)
    alpha: Tensor = _Duals.apply(kernel, offsets, labels, present, C)
    return alpha


class _Problem(NamedTuple):
    """Machines in double precision (some systems are close to singular), classes before rows.

    ``kernel`` is multiplied by C, ``margin`` is what a class has to be below the own one, and
    ``size`` (T, 1) is that of the kernel.
    """

    kernel: Tensor
    margin: Tensor
    y: Tensor
    here: Tensor
    real: Tensor
    size: Tensor

    def solve(self, jitter: float, centre: Tensor, share: float | Tensor = 1.0) -> _Solution:
        """Solve with a jitter that pulls to ``centre`` (T, C, n), and with a ``share`` of C."""
        # On padded rows the slope of the objective is the same for all classes.
        pull = torch.where(self.real > 0, jitter * self.size, self.size)
        slope = -self.margin - share * (self.y @ self.kernel + pull[:, None] * centre)
        return _solve(share * (self.kernel + torch.diag_embed(pull)), slope, self.here)

    def duals(self, b: Tensor) -> Tensor:
        """Dual coefficients (T, C, n), in units of C."""
        b = b.clamp(min=0)  # zeros are zero but for rounding
        off = b / b.sum(1, keepdim=True) * (1 - self.y) * self.real[:, None]
        # The own class gives up what the others take: no difference of nearly equal numbers.
        return self.y * off.sum(1, keepdim=True) - off

    def take(self, tasks: Tensor) -> _Problem:
        """Some of the machines."""
        return _Problem(*(part[tasks] for part in self))


def _pose(kernel: Tensor, offsets: Tensor, labels: Tensor, present: Tensor, C: float) -> _Problem:
    y = labels.double().mT
    real = y.sum(1)  # padded rows have no class
    here = present[:, :, None].expand(y.shape)
    K = C * kernel.double() * real[:, :, None] * real[:, None]
    size = K.diagonal(dim1=1, dim2=2).sum(1) / real.sum(1).clamp(min=1)
    margin = (1 - y + offsets.double().mT) * real[:, None]
    return _Problem(K, margin, y, here, real, size.clamp(min=1e-3)[:, None])


def _careful_duals(
    kernel: Tensor, offsets: Tensor, labels: Tensor, present: Tensor, C: float
) -> Tensor:
    """Without a gradient: as exact as the kernel allows, or a ValueError."""
    if kernel.dtype != torch.float64:
        jitter, n_steps = ROUGH_JITTER, 1
    else:
        jitter, n_steps = CAREFUL_JITTER, CAREFUL_STEPS
    few = _pose(kernel, offsets, labels, present, C)
    duals = torch.zeros_like(few.y)
    doubts = few.size.new_full((len(duals),), torch.inf)
    left = torch.arange(len(duals), device=duals.device)
    centre, share = few.y, torch.ones_like(few.size[..., None])
    for step in range(n_steps):
        b = few.solve(jitter, centre, share).b.clamp(min=0)
        found = few.duals(b)
        # With less than C, which is as good where no row takes all of it, long rows are easier.
        short = (found.amax((1, 2), keepdim=True) > 0.9) & (share < 1)
        found = share * found
        doubt = _doubt(few, found)
        better = doubt < doubts[left]
        doubts[left[better]], duals[left[better]] = doubt[better], found[better]
        more = doubt > SURE
        if not bool(more.any()):
            break
        centre = torch.where(short, few.y, b / b.sum(1, keepdim=True))[more]
        share = torch.where(short, 10 * share, share).clamp(max=1)[more]
        left, few = left[more], few.take(more)
        if step == 0:
            centre, share = few.y, (1 / few.size[..., None]).clamp(max=1)
    if n_steps > 1 and not bool((doubts < UNSURE).all()):
        raise ValueError(FAR_SUPPORT)
    return (C * duals).mT.to(kernel.dtype)


def _doubt(problem: _Problem, duals: Tensor) -> Tensor:
    """Largest share of the objective that it may be off by: (T,).

    The gap between primal and dual, and what rounding errors of the kernel may make of either.
    """
    K, margin, y, here, real, _ = problem
    scores = duals @ K
    size = (duals * scores).sum((1, 2)) / 2
    losses = torch.where(here, margin + scores, -torch.inf).amax(1)
    losses = ((losses - (y * (margin + scores)).sum(1)) * real).sum(1)
    # Where no row has the weight C, or half of it, less would do: so much does a loss count.
    cap = (2 * duals.amax((1, 2))).clamp(min=1e-12, max=1)
    gap = 2 * size + cap * losses + (duals * margin).sum((1, 2))
    rough = torch.finfo(K.dtype).eps * K.abs().amax((1, 2)) * duals.abs().sum((1, 2)).square()
    return (gap.abs() + rough) / (size + cap * (losses + SURE))


class _Duals(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: Tensor, offsets: Tensor, labels: Tensor, present: Tensor, C: float
    ) -> Tensor:
        problem = _pose(kernel, offsets, labels, present, C)
        jitter = JITTER if kernel.dtype == torch.float64 else ROUGH_JITTER
        found = problem.solve(jitter, problem.y)
        a = problem.duals(found.b)
        ctx.save_for_backward(found.inverse, found.factor, a, problem.real)
        ctx.C, ctx.dtype = C, kernel.dtype
        return (C * a).mT.to(kernel.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inverse, factor, a, real = ctx.saved_tensors
        # alpha = C (Y - b): what the loss says of b.
        u = _tied(inverse, factor, -ctx.C * gradient.double().mT * real[:, None], 0.0)
        # The kernel is symmetric, and so is its gradient.
        half = 0.5 * ctx.C * (u.mT @ a)
        return (half + half.mT).to(ctx.dtype), u.mT.to(ctx.dtype), None, None, None


class _Solution(NamedTuple):
    """Weights b (T, C, n), and inverse and factor of the system that they solve."""

    b: Tensor
    inverse: Tensor
    factor: Tensor


def _solve(K: Tensor, slope: Tensor, here: Tensor) -> _Solution:
    found, solved = _active_set(K, slope, here, _first_guess(K, slope, here), ACTIVE_SET_STEPS)
    if bool(solved.all()):
        return found
    left = torch.nonzero(~solved).flatten()
    K, slope, here = K[left], slope[left], here[left]
    b, s = _interior_point(K, slope, here)
    polished, solved = _active_set(K, slope, here, (b > s) & here, POLISHING_STEPS)
    inverse, factor = _factorise(K, s / b, here)
    parts = [
        torch.where(solved.reshape(-1, *[1] * (exact.ndim - 1)), exact, near)
        for exact, near in zip(polished, (b * here, inverse, factor), strict=True)
    ]
    pairs = zip(found, parts, strict=True)
    return _Solution(*(whole.index_copy(0, left, part) for whole, part in pairs))


def _tied(inverse: Tensor, factor: Tensor, right: Tensor, total: float | Tensor) -> Tensor:
    """Solve for (T, C, n) with the sum ``total`` over the classes."""
    alone = (inverse @ right[..., None])[..., 0]
    tie = torch.cholesky_solve((alone.sum(1) - total)[..., None], factor)
    return alone - (inverse @ tie[:, None])[..., 0]


def _invert(matrix: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Inverses (T, C, n, n) where entries are free, zero elsewhere; the factor of their sum."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(matrix)[0])
    inverse = inverse.masked_fill(~free, 0.0)
    return inverse, torch.linalg.cholesky_ex(inverse.sum(1))[0]


# ------------------------------------------------------------------- the active set


def _first_guess(K: Tensor, slope: Tensor, here: Tensor) -> Tensor:
    """Entries that are positive in the solution without the constraint b >= 0."""
    share = here / here.sum(1, keepdim=True)
    centred = (share * slope).sum(1, keepdim=True) - slope
    b = share + torch.cholesky_solve(centred.mT, torch.linalg.cholesky_ex(K)[0]).mT
    # Somebody has to be there.
    most = torch.where(here, b, -torch.inf).amax(1, keepdim=True)
    return ((b > 0) | (b >= most)) & here


def _active_set(
    K: Tensor, slope: Tensor, here: Tensor, free: Tensor, n_steps: int
) -> tuple[_Solution, Tensor]:
    """Newton's method on the active set; and which tasks it has solved."""
    solved = torch.zeros(len(K), dtype=torch.bool, device=K.device)
    for _ in range(n_steps):
        used = free  # what b is the solution for
        inverse, factor = _invert_free(K, free)
        b = _tied(inverse, factor, -slope, 1.0)
        # Free entries agree on the slope of a row; the others must have a larger one.
        above = _above(K, slope, b, free)
        wanted = torch.where(free, b > 0, above < 0) & here
        solved = ((wanted == free) & torch.isfinite(b)).all(2).all(1)
        if bool(solved.all()):
            break
        free = torch.where(solved[:, None, None], free, wanted)
    # Once more for the rounding errors: rows that are nearly alike cost digits.
    b = b + _tied(inverse, factor, -_above(K, slope, b, used), 1.0 - b.sum(1))
    return _Solution(b, inverse, factor), solved


def _invert_free(K: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`_invert`, of the kernel where entries are free; only these are looked at."""
    n_tasks, n_classes, n = free.shape
    # A class has few free entries: its own rows, and those that it could be taken for.
    most = int(free.sum(2).max())
    if most > WORTH_PACKING * n:
        both = free[..., None] & free[..., None, :]
        eye = torch.eye(n, dtype=K.dtype, device=K.device)
        return _invert(torch.where(both, K[:, None], eye), both)
    place = free.to(torch.uint8).argsort(dim=2, descending=True, stable=True)[..., :most]
    real = free.gather(2, place)
    both = real[..., None] & real[..., None, :]
    task = torch.arange(n_tasks, device=K.device)[:, None, None, None]
    flat = (task * n + place[..., None]) * n + place[..., None, :]
    eye = torch.eye(most, dtype=K.dtype, device=K.device)
    packed = torch.where(both, K.flatten()[flat], eye)
    small = torch.cholesky_inverse(torch.linalg.cholesky_ex(packed)[0]).masked_fill(~both, 0.0)
    cell = torch.arange(n_tasks * n_classes, device=K.device).reshape(n_tasks, n_classes, 1, 1)
    flat = (cell * n + place[..., None]) * n + place[..., None, :]
    inverse = K.new_zeros(n_tasks, n_classes, n, n)
    inverse.view(-1)[flat] = small
    return inverse, torch.linalg.cholesky_ex(inverse.sum(1))[0]


def _above(K: Tensor, slope: Tensor, b: Tensor, free: Tensor) -> Tensor:
    """Slope of the objective, less that of the free entries of the row."""
    full = slope + b @ K
    return full - (full * free).sum(1, keepdim=True) / free.sum(1, keepdim=True)


# ------------------------------------------------------------------- the interior point method


def _factorise(K: Tensor, barrier: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
    return _invert(K[:, None] + torch.diag_embed(barrier), here[..., None])


def _interior_point(K: Tensor, slope: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
    """Weights b (T, C, n) and the multipliers of b >= 0, by Mehrotra's predictor and corrector.

    It starts at the uniform distribution. Both stay positive, and all else holds from the start:
    rows of b sum to 1, and the multipliers are the slope of the objective up to a number a row.
    Every task stops by itself.
    """
    mask = here.to(K.dtype)
    absent = 1 - mask
    n_terms = mask.sum((1, 2))
    b = mask / mask.sum(1, keepdim=True)
    full = slope + b @ K
    above = (full - torch.where(here, full, torch.inf).amin(1, keepdim=True)) * mask
    size = 1 + above.amax((1, 2))
    s = (above + 0.1 * size[:, None, None]) * mask
    for _ in range(INTERIOR_STEPS):
        gap = (b * s).sum((1, 2)) / n_terms
        active = gap > CLOSE * size
        if not bool(active.any()):
            break
        # Absent classes have neither weight nor multiplier: any positive number serves as theirs.
        barrier = s / (b + absent) + absent
        inverse, factor = _factorise(K, barrier, here)
        step = _tied(inverse, factor, -s, 0.0)  # all products to 0
        change = (-s - barrier * step) * mask
        length = torch.minimum(_longest(b, step), _longest(s, change))
        reached = ((b + length * step) * (s + length * change)).sum((1, 2)) / n_terms
        centre = ((reached / gap) ** 3 * gap)[:, None, None]
        # The products after the step: the centre, less what the first step makes of second order.
        aim = ((centre - step * change) / (b + absent) - s) * mask
        step = _tied(inverse, factor, aim, 0.0)
        change = (aim - barrier * step) * mask
        length = NEAR * torch.minimum(_longest(b, step), _longest(s, change))
        active &= torch.isfinite(step + change).all(2).all(1)
        move = torch.where(active[:, None, None], length, 0.0)
        b = b + torch.where(move > 0, move * step, 0.0)
        s = s + torch.where(move > 0, move * change, 0.0)
        if not bool(active.any()):
            break
    return b + absent * (b == 0), s + absent


def _longest(value: Tensor, step: Tensor) -> Tensor:
    """How far one may go until an entry is 0, at most 1: (T, 1, 1)."""
    ratio = torch.where(step < 0, -value / step, torch.inf)
    return ratio.amin((1, 2), keepdim=True).clamp(max=1.0)
