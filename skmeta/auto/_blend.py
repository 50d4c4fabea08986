"""Weights of a blend, chosen on tasks that were left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp, softmax

from skmeta.base._width import needed_factor

# The loss over all support sizes counts for so much in the weights of each: they change slowly.
SMOOTHING = 0.5
# Prior of the weights, as strong as so many tasks: equal for members that are equally good.
TASKS_WORTH = 10.0
# That of how sure members are: as they say. Of the sharpness of labels, and of spreads.
SHARPNESS_WORTH = 3.0
# Factors on a member's standard deviations, at least and at most.
SCALES = (1e-3, 1e3)
# Losses count in units of the best member's, but of no less than this share of the worst one's.
FAINT = 1e-4
# A squared error, in units of the variance of y, that is as good as none.
TINY = 1e-12
# A member with less weight is left out.
LEAST_WEIGHT = 0.02
# A member that is more than this factor surer, or less sure, than mostly counts as if it were by
# this factor: far from the training rows a net is as sure as near them.
SUREST = 2.0
# Standard deviations, in units of that of y, below and above which none is told from another.
STD_RANGE = (1e-12, 1e12)


@dataclass(frozen=True)
class Judged(ABC):
    """What every member said of the query rows of tasks left out, at one support size."""

    task: np.ndarray

    @cached_property
    def row_weight(self) -> np.ndarray:
        """Weight of every row: tasks count alike."""
        sizes = np.bincount(self.task)
        return 1.0 / sizes[self.task] / (sizes > 0).sum()

    @cached_property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(np.unique(self.task))

    @property
    def about(self) -> np.ndarray:
        """What else a blend has to know of every member: (n_members, ...)."""
        return np.zeros((len(self.losses()), 0))

    @abstractmethod
    def losses(self) -> np.ndarray:
        """Loss of each member, the mean over tasks: (n_members,)."""

    @abstractmethod
    def loss(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss of a blend, and its gradient."""


@dataclass(frozen=True)
class LeftOut(Judged):
    """Predictions of numbers; a blend of them is :func:`pooled`.

    A weight is the share that a member has in a row of which all are as sure as they mostly are.

    Parameters
    ----------
    task : array of shape (n_rows,)
        Number of the task.
    mean, std : arrays of shape (n_rows, n_members, n_outputs)
        Predictions and their standard deviations, in units of the scale of y.
    y : array of shape (n_rows, n_outputs)
        Targets, in the same units.
    """

    mean: np.ndarray
    std: np.ndarray
    y: np.ndarray

    @cached_property
    def typical(self) -> np.ndarray:
        """Geometric mean of every member's standard deviations: (n_members, n_outputs)."""
        return np.exp(np.einsum("r,rmo->mo", self.row_weight, np.log(self.std.clip(*STD_RANGE))))

    @cached_property
    def scale(self) -> np.ndarray:
        """Factors that make every member's standard deviations right: (n_members, n_outputs).

        The fewer tasks, the closer to 1.
        """
        z = np.abs(self.y[:, None] - self.mean) / self.std.clip(*STD_RANGE)
        needed = needed_factor(z.reshape(len(z), -1), self.row_weight).clip(*SCALES)
        power = self.n_tasks / (self.n_tasks + SHARPNESS_WORTH)
        return needed.reshape(self.typical.shape) ** power

    @property
    def about(self) -> np.ndarray:
        """Logarithms of ``typical`` and ``scale``: (n_members, n_outputs, 2)."""
        return np.log(np.stack([self.typical, self.scale], axis=2))

    @cached_property
    def _precision(self) -> np.ndarray:
        return relative_precision(self.std, self.typical)

    @cached_property
    def _weighted(self) -> np.ndarray:
        return self._precision * self.mean

    def beside(self, other: LeftOut) -> LeftOut:
        """The members of both, on the same rows."""
        mean = np.concatenate([self.mean, other.mean], axis=1)
        return LeftOut(self.task, mean, np.concatenate([self.std, other.std], axis=1), self.y)

    def losses(self) -> np.ndarray:
        error = self.mean - self.y[:, None]
        return np.einsum("r,rmo->m", self.row_weight, error**2) / self.y.shape[1]

    def loss(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        total = np.einsum("m,rmo->ro", weights, self._precision)
        centre = np.einsum("m,rmo->ro", weights, self._weighted) / total
        error = self.row_weight[:, None] * (centre - self.y) / self.y.shape[1]
        # The slope of the centre is that of a weighted mean: precision * (mean - centre) / total.
        slope = np.einsum("ro,rmo->m", error / total, self._weighted)
        slope -= np.einsum("ro,rmo->m", error / total * centre, self._precision)
        return float((error * (centre - self.y)).sum()), 2 * slope


@dataclass(frozen=True)
class LabelsLeftOut(Judged):
    """Predictions of labels; a blend of them is the weighted mean of log probabilities.

    Parameters
    ----------
    task : array of shape (n_rows,)
        Number of the task.
    log_proba : array of shape (n_rows, n_members, n_classes)
        Logarithms of probabilities.
    codes : int array of shape (n_rows,)
        Numbers of the true classes.
    """

    log_proba: np.ndarray
    codes: np.ndarray

    @cached_property
    def _true(self) -> np.ndarray:
        """Log probability of the true class: (n_rows, n_members)."""
        return np.take_along_axis(self.log_proba, self.codes[:, None, None], axis=2)[:, :, 0]

    def losses(self) -> np.ndarray:
        return -self.row_weight @ self._true

    def loss(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.einsum("m,rmc->rc", weights, self.log_proba)
        total = logsumexp(scores, axis=1)
        proba = np.exp(scores - total[:, None])
        value = self.row_weight @ (total - self._true @ weights)
        expected = np.einsum("rc,rmc->rm", proba, self.log_proba)
        return float(value), self.row_weight @ (expected - self._true)


def blend_weights(parts: Sequence[Judged]) -> np.ndarray:
    """Weights of the members at every support size: (n_sizes, n_members), rows sum to 1.

    They minimise the loss of the blend over the tasks left out; that of all support sizes counts
    too. The fewer tasks, the closer they stay to weights that fall with a member's loss. Losses are
    relative to the best: of .9, .010 and .001 the first must not make the others look alike.
    """
    losses = np.array([part.losses() for part in parts]) + TINY  # a member may be perfect
    scales = np.maximum(losses.min(axis=1), FAINT * losses.max(axis=1))
    logs = np.log(losses / scales[:, None])
    n_tasks = max(part.n_tasks for part in parts)
    weights = []
    for i, part in enumerate(parts):
        shares = np.full(len(parts), SMOOTHING / len(parts))
        shares[i] += 1.0
        relative = np.exp(shares @ logs / shares.sum())
        prior = softmax(-n_tasks * (relative / relative.min() - 1))
        pull = TASKS_WORTH / (TASKS_WORTH + part.n_tasks)
        # Half, so that the pull is the curvature of its own term.
        objective = partial(_pulled_loss, parts, shares / (2 * scales), pull, prior)
        found = _on_simplex(objective, prior)
        found = np.where(found < LEAST_WEIGHT, 0.0, found)
        weights.append(found / found.sum())
    return np.array(weights)


def some_adapting(weights: np.ndarray, losses: np.ndarray, adapts: np.ndarray) -> np.ndarray:
    """The same weights with a member that adapts at the last size: the best, if there was none.

    It has the say where a task brings more rows than any that was judged.
    """
    if weights[-1, adapts].any():
        return weights
    best = np.flatnonzero(adapts)[losses[-1, adapts].argmin()]
    weights = weights.copy()
    weights[-1] *= 1 - LEAST_WEIGHT
    weights[-1, best] = LEAST_WEIGHT
    return weights


def _pulled_loss(
    parts: Sequence[Judged], shares: np.ndarray, pull: float, prior: np.ndarray, w: np.ndarray
) -> tuple[float, np.ndarray]:
    value, slope = pull * (w @ w / 2 - prior @ w), pull * (w - prior)
    for part, share in zip(parts, shares, strict=True):
        loss, gradient = part.loss(w)
        value, slope = value + share * loss, slope + share * gradient
    return value, slope


def _on_simplex(objective: Callable, start: np.ndarray) -> np.ndarray:
    """Minimise over weights that are not negative and sum to 1."""
    found = minimize(
        objective,
        start,
        jac=True,
        bounds=[(0.0, 1.0)] * len(start),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"maxiter": 200, "ftol": 1e-12},
    )
    return found.x.clip(0.0) / found.x.clip(0.0).sum()


def relative_precision(std: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """One over the variance, in units of what is typical of a member: (rows, members, outputs).

    It is four times as much at most, and a quarter at least (``SUREST``). ``typical`` has a shape
    that becomes that of ``std``; it is nan where it is not known.
    """
    ratio = np.nan_to_num(std / typical, nan=1.0)
    return ratio.clip(1 / SUREST, SUREST) ** -2


def pooled(
    mean: np.ndarray,
    std: np.ndarray,
    weights: np.ndarray,
    typical: np.ndarray,
    scale: np.ndarray | float,
) -> tuple[np.ndarray, np.ndarray]:
    """Centre and spread of a blend of predictions (rows, members, outputs): (rows, outputs) each.

    As in the product of powers of the members' normal densities, those that are surer of a row than
    they mostly are count more there. The spread is the members' own, times their ``scale``, and
    their dispute. ``weights`` are (rows, members), ``typical`` is as in
    :func:`relative_precision`.
    """
    share = weights[:, :, None] * relative_precision(std, typical)
    share /= share.sum(axis=1, keepdims=True)
    centre = (share * mean).sum(axis=1)
    dispute = (mean - centre[:, None]) ** 2
    return centre, np.sqrt((share * ((scale * std) ** 2 + dispute)).sum(axis=1))


def calibration(part: LeftOut, weights: np.ndarray) -> float:
    """Factor on the spread of the blend that gives its intervals their share of rows."""
    rows = np.broadcast_to(weights, part.mean.shape[:2])
    centre, spread = pooled(part.mean, part.std, rows, part.typical, part.scale)
    z = np.abs(part.y - centre) / np.maximum(spread, 1e-12)
    return float(np.clip(needed_factor(z, part.row_weight).mean(), 0.5, 3.0))


def sharpness(part: LabelsLeftOut, weights: np.ndarray) -> float:
    """Factor on the log probabilities of the blend: above 1 makes them surer, below 1 less sure."""
    scale = part.losses().mean() + TINY
    pull = SHARPNESS_WORTH / (SHARPNESS_WORTH + part.n_tasks)

    def objective(log_factor: float) -> float:
        return part.loss(np.exp(log_factor) * weights)[0] / scale + pull * log_factor**2 / 2

    found = minimize_scalar(objective, bounds=(-np.log(2), np.log(2)), method="bounded")
    return float(np.exp(found.x))
