"""Weights of a blend, chosen on tasks that were left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

# The loss over all support sizes counts for so much in the weights of each: they change slowly.
SMOOTHING = 0.5
# Prior of the weights, as strong as so many tasks: equal for members that are equally good.
TASKS_WORTH = 3.0
# A squared error, in units of the variance of y, that is as good as none.
TINY = 1e-12
# A member with less weight is left out.
LEAST_WEIGHT = 0.02


@dataclass(frozen=True)
class LeftOut:
    """What every member predicted for the query rows of tasks left out, at one support size.

    Parameters
    ----------
    mean, std : arrays of shape (n_rows, n_members, n_outputs)
        Predictions and their standard deviations, in units of the scale of y.
    y : array of shape (n_rows, n_outputs)
        Targets, in the same units.
    task : array of shape (n_rows,)
        Number of the task.
    """

    mean: np.ndarray
    std: np.ndarray
    y: np.ndarray
    task: np.ndarray

    @property
    def row_weight(self) -> np.ndarray:
        """Weight of every row: tasks count alike."""
        sizes = np.bincount(self.task)
        return 1.0 / sizes[self.task] / (sizes > 0).sum()

    def losses(self) -> np.ndarray:
        """Mean squared error of each member, the mean over tasks: (n_members,)."""
        square = ((self.mean - self.y[:, None]) ** 2).mean(axis=2)
        return self.row_weight @ square

    def products(self) -> np.ndarray:
        """Mean products of the members' errors: (n_members, n_members)."""
        error = self.mean - self.y[:, None]
        n_outputs = self.y.shape[1]
        return np.einsum("r,rmo,rno->mn", self.row_weight, error, error) / n_outputs


def blend_weights(parts: list[LeftOut]) -> np.ndarray:
    """Weights of the members at every support size: (n_sizes, n_members), rows sum to 1.

    They minimise the squared error of the blend over the tasks left out; that of all support sizes
    counts too. The fewer tasks, the closer they stay to weights that fall with a member's loss.
    """
    products = [part.products() for part in parts]
    overall = np.mean([q / (np.trace(q) / len(q) + TINY) for q in products], axis=0)
    losses = np.diag(overall) + TINY  # a member may be perfect
    excess = losses / losses.min() - 1
    n_most = max(len(np.unique(part.task)) for part in parts)
    prior = softmax(-n_most * excess)
    weights = []
    for part, q in zip(parts, products, strict=True):
        n_tasks = len(np.unique(part.task))
        scale = np.trace(q) / len(q) + TINY
        pull = TASKS_WORTH / (TASKS_WORTH + n_tasks)
        total = q / scale + SMOOTHING * overall
        found = _on_simplex(total + pull * np.eye(len(q)), pull * prior)
        found = np.where(found < LEAST_WEIGHT, 0.0, found)
        weights.append(found / found.sum())
    return np.array(weights)


def _on_simplex(q: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Minimise w'Qw / 2 - b'w over weights that are not negative and sum to 1."""
    m = len(q)
    found = minimize(
        lambda w: (w @ q @ w / 2 - b @ w, q @ w - b),
        np.full(m, 1.0 / m),
        jac=True,
        bounds=[(0.0, 1.0)] * m,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(m)},
        method="SLSQP",
        options={"maxiter": 200, "ftol": 1e-12},
    )
    return found.x.clip(0.0) / found.x.clip(0.0).sum()


def spread_of(mean: np.ndarray, std: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Standard deviation of a blend (rows, members, outputs): the members' own, and their dispute.

    ``weights`` is (rows, members).
    """
    w = weights[:, :, None]
    centre = (w * mean).sum(axis=1, keepdims=True)
    return np.sqrt((w * (std**2 + (mean - centre) ** 2)).sum(axis=1))


def calibration(part: LeftOut, weights: np.ndarray, level: float = 0.9) -> float:
    """Factor on the spread of the blend that gives intervals of ``level`` their share of rows."""
    rows = np.broadcast_to(weights, part.mean.shape[:2])
    centre = (rows[:, :, None] * part.mean).sum(axis=1)
    z = np.abs(part.y - centre) / np.maximum(spread_of(part.mean, part.std, rows), 1e-12)
    order = np.argsort(z, axis=0)
    share = np.cumsum(part.row_weight[order], axis=0)
    place = (share < level).sum(axis=0).clip(max=len(z) - 1)
    found = np.take_along_axis(np.take_along_axis(z, order, 0), place[None], 0)[0]
    return float(np.clip(found.mean() / 1.6449, 0.5, 3.0))
