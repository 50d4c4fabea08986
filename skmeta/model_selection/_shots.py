"""The part of a baseline that is fitted to a task's own few rows, for many tasks at once.

Its penalty is tuned by playing the game that is to be won: k rows of a training task are shown, the
others are predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from skmeta.model_selection._draws import draw_repeats
from skmeta.model_selection._metrics import _task_means

# Most repeats of a game with one task, most tasks, and most rows of one. More change nothing.
MOST_REPEATS = 20
MOST_TASKS = 1000
MOST_ROWS = 100
# Numbers that one product may hold.
AT_ONCE = 2**22

# From features (T, k, r), pooled outputs and targets (T, k, m) of T supports: weights (T, r, m),
# one array a penalty.
Solver = Callable[[np.ndarray, np.ndarray, np.ndarray, Sequence[float]], Iterator[np.ndarray]]


def solve_ridge(
    F: np.ndarray, out: np.ndarray, Y: np.ndarray, penalties: Sequence[float]
) -> Iterator[np.ndarray]:
    """Ridge on the residuals; one eigendecomposition a task serves all penalties."""
    turned = F.transpose(0, 2, 1)
    values, vectors = np.linalg.eigh(turned @ F)
    rotated = vectors.transpose(0, 2, 1) @ (turned @ (Y - out))
    for penalty in penalties:
        yield vectors @ (rotated / (values.clip(0) + penalty)[:, :, None])


def solve_logistic(
    F: np.ndarray, out: np.ndarray, Y: np.ndarray, penalties: Sequence[float]
) -> Iterator[np.ndarray]:
    """Penalised logistic regression on top of the pooled log-probabilities.

    Newton's method with a Hessian that is exact for two classes; for more, its blocks of single
    classes, doubled, bound it. A step that does not lower a task's loss is halved.
    """
    turned, eye = F.transpose(0, 2, 1), np.eye(F.shape[2])
    for penalty in penalties:
        weights = np.zeros((len(F), F.shape[2], out.shape[2]))
        loss, log_proba = _penalised(F, out, Y, weights, penalty)
        for _ in range(100):
            proba = np.exp(log_proba)
            gradient = turned @ (proba - Y) + penalty * weights
            curve = (2 * proba * (1 - proba)).transpose(0, 2, 1)[..., None]
            hessian = turned[:, None] @ (curve * F[:, None]) + penalty * eye
            step = np.linalg.solve(hessian, gradient.transpose(0, 2, 1)[..., None])
            step = step[..., 0].transpose(0, 2, 1)
            # What moves all classes alike changes no probability: only the penalty is against it.
            step -= step.mean(axis=2, keepdims=True)
            for _ in range(20):
                new, log_proba = _penalised(F, out, Y, weights - step, penalty)
                worse = new > loss + 1e-12
                if not worse.any():
                    break
                step[worse] /= 2
            weights, loss = weights - step, new
            if np.abs(step).max() < 1e-7:
                break
        yield weights


def _penalised(
    F: np.ndarray, out: np.ndarray, Y: np.ndarray, weights: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    log_proba = log_softmax(out + F @ weights, axis=2)
    size = (weights**2).sum((1, 2))
    return penalty / 2 * size - (Y * log_proba).sum((1, 2)), log_proba


def design(Z: np.ndarray, level: float | None) -> np.ndarray:
    """Return the columns of a task's own part: an offset alone, or an offset and slopes.

    ``level`` is the size of the constant next to standardised columns: 1 shrinks the offset as much
    as a slope, 100 practically leaves it free.
    """
    ones = np.ones((len(Z), 1))
    return ones if level is None else np.hstack([level * ones, Z])


def fit_tasks(
    solve: Solver,
    F: np.ndarray,
    out: np.ndarray,
    Y: np.ndarray,
    rows: np.ndarray,
    penalties: Sequence[float],
) -> Iterator[np.ndarray]:
    """Weights (T, p, m) of T tasks with k rows each, ``rows`` (T, k); one array a penalty."""
    own = F[rows]
    if own.shape[2] <= own.shape[1]:
        yield from solve(own, out[rows], Y[rows], penalties)
        return
    # Fewer rows than columns: a penalised solution lies in the span of the rows.
    values, vectors = np.linalg.eigh(own @ own.transpose(0, 2, 1))
    size = np.sqrt(values.clip(0))
    size[size < 1e-9 * size.max(axis=1, keepdims=True)] = 0
    inverse = np.divide(1, size, out=np.zeros_like(size), where=size > 0)
    basis = own.transpose(0, 2, 1) @ (vectors * inverse[:, None])
    for weights in solve(vectors * size[:, None], out[rows], Y[rows], penalties):
        yield basis @ weights


def apply_weights(F: np.ndarray, weights: np.ndarray, task: np.ndarray) -> np.ndarray:
    """Each row times the weights of its task: (n_rows, m)."""
    n_parts = 1 + F.size * weights.shape[2] // AT_ONCE
    parts = zip(np.array_split(F, n_parts), np.array_split(task, n_parts), strict=True)
    return np.concatenate([np.einsum("np,npm->nm", f, weights[t]) for f, t in parts])


@dataclass(frozen=True)
class Choice:
    """What won the game with ``k`` rows."""

    k: int
    level: float | None
    penalty: float


def play(
    Z: np.ndarray,
    out: np.ndarray,
    Y: np.ndarray,
    numbers: np.ndarray,
    *,
    n_support: Sequence[int],
    shuffle: bool,
    levels: Sequence[float | None],
    penalties: Sequence[float],
    n_draws: int,
    solve: Solver,
    row_loss: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[list[Choice], float]:
    """Tune level and penalty for every k of ``n_support``, with some ``n_draws`` draws of tasks.

    Without ``shuffle`` a task always shows its first rows.

    Also return the mean loss of what won: by it one pooled model is preferred to another.

    ``out`` holds the pooled model's answers for tasks that it has not seen: on its own training
    rows residuals are too small, and tasks look alike.
    """
    choices, won = [], []
    for k in n_support:
        rows, task = _players(numbers, k, shuffle)
        if k == 0 or len(rows) == 0:
            continue
        n_tasks = int(task.max()) + 1
        n_repeats = int(np.clip(n_draws // n_tasks, 1, MOST_REPEATS)) if shuffle else 1
        rng = np.random.RandomState(0) if shuffle else None
        draw = draw_repeats(task, np.full(n_tasks, k), task, n_repeats, rng)
        support = rows[draw.support][np.argsort(draw.support_draw, kind="stable")].reshape(-1, k)
        query = rows[draw.query]
        losses = {}
        for level in levels:
            F = design(Z, level)
            found = fit_tasks(solve, F, out, Y, support, penalties)
            for penalty, weights in zip(penalties, found, strict=True):
                answer = out[query] + apply_weights(F[query], weights, draw.query_draw)
                loss = row_loss(Y[query], answer)[:, None]
                means = _task_means(loss, draw.query_draw, n_tasks * n_repeats)
                losses[level, penalty] = means.mean()
        level, penalty = min(losses, key=losses.__getitem__)
        choices.append(Choice(k, level, penalty))
        won.append(losses[level, penalty])
    if not choices:  # all tasks are smaller than any game: something in the middle
        return [Choice(1, levels[0], 1.0)], float(row_loss(Y, out).mean())
    return choices, float(np.mean(won))


def _players(numbers: np.ndarray, k: int, shuffle: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the tasks that can play: k to show, two to predict; not all where there are many."""
    rng = np.random.RandomState(0)
    sizes = np.bincount(numbers)
    tasks = rng.permutation(np.flatnonzero(sizes >= k + 2))[:MOST_TASKS]
    order = rng.permutation(len(numbers)) if shuffle else np.arange(len(numbers))
    order = order[np.argsort(numbers[order], kind="stable")]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    few = (rank < max(MOST_ROWS, k + 2)) & np.isin(numbers[order], tasks)
    rows = np.sort(order[few])
    return rows, np.unique(numbers[rows], return_inverse=True)[1]
