"""How wide intervals have to be, by tasks left out.

A net knows its training tasks: of a new one it is too sure. What is left out tells by how much, at
every number of support rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skmeta.base._rows import TaskBatch
from skmeta.base._sharpness import draw_sized
from skmeta.base._spread import SpreadMixin
from skmeta.core.numerics import between_sizes
from skmeta.core.sampling import RowSampler
from skmeta.core.tasks import TaskRows

# Support rows that a new task may have; between them the answer is interpolated, beyond it stays.
SUPPORT_ROWS = (0, 1, 2, 5, 10, 20)
# A factor of 1 is as likely a priori as so many tasks make another.
TASKS_WORTH = 3.0
# Factors, at least and at most.
FACTORS = (0.1, 10.0)
# An interval of this share reaches so many standard deviations of a normal distribution.
SHARE, REACH = 0.9, 1.6449
# Shares of the rows left out that such intervals are made to hold: more, where tasks are few.
SHARES = (SHARE, 0.925, 0.95)

# A number of support rows, of how many tasks, and the logarithms of the factors: share, output.
Judgement = tuple[int, int, list[list[float]]]


def needed_factor(z: np.ndarray, row_weight: np.ndarray, share: float = SHARE) -> np.ndarray:
    """Factors on standard deviations, so that 90 % intervals hold this share of rows: (columns,).

    ``z`` (rows, columns) are the errors in units of the standard deviations.
    """
    order = np.argsort(z, axis=0)
    reached = np.cumsum(row_weight[order], axis=0)
    place = (reached < share).sum(axis=0).clip(max=len(z) - 1)
    found = np.take_along_axis(np.take_along_axis(z, order, 0), place[None], 0)[0]
    return found / REACH


def judge_widths(learner: Any, left_out: RowSampler, seed: int) -> list[Judgement]:
    """Logarithms of the factors that tasks left out ask for, by their support rows."""
    found: list[Judgement] = []
    learner.eval()
    with torch.no_grad():
        for size in SUPPORT_ROWS:
            drawn = draw_sized(left_out, size, 1, torch.Generator().manual_seed(seed))
            if drawn is None:
                continue
            n_tasks, episodes = drawn
            if size:
                state, query = learner.condition_tasks(episodes.support), episodes.query
            else:
                state, query = learner.before_any_row(), TaskRows.single(episodes.query.x)
            mean = learner.predict_tasks(state, query)
            std = learner.predict_tasks(state, query, "predict_variance").sqrt()
            assert episodes.query.y is not None
            z = ((episodes.query.y - mean).abs() / std).double().cpu().numpy()
            if not np.isfinite(z).all():
                continue
            task = episodes.query.task_of_row.cpu().numpy()
            weight = 1.0 / np.bincount(task)[task] / episodes.query.n_tasks
            factors = np.array([needed_factor(z, weight, share) for share in SHARES])
            found.append((size, n_tasks, np.log(factors.clip(*FACTORS)).tolist()))
    return found


def widths_of(trials: list[list]) -> dict[str, np.ndarray] | None:
    """Logarithms of the factors, (n_sizes, n_outputs), by number of rows; the mean over trials.

    The fewer tasks there were, the closer to no change. Where some are held out for good they are
    few, and errors in a task are alike: that many of them are held says less of further tasks (of
    errors all alike 90 % of n + 1 tasks would have to be held, as in conformal prediction; this is
    half of it). Trials leave every task out, and their nets have seen fewer: that makes up for it.
    """
    by_size: dict[int, list[tuple[int, list[list[float]]]]] = {}
    for size, n_tasks, logs in (line for trial in trials for line in trial):
        by_size.setdefault(size, []).append((n_tasks, logs))
    if not by_size:
        return None
    sizes, found = sorted(by_size), []
    for size in sizes:
        counts, logs = map(np.array, zip(*by_size[size], strict=True))
        n_tasks = counts.sum()
        share = SHARE * (1 + 0.5 / n_tasks) if len(trials) == 1 else SHARE
        by_share = np.tensordot(counts, logs, 1) / (n_tasks + TASKS_WORTH)
        found.append([np.interp(share, SHARES, column) for column in by_share.T])
    return {"sizes": np.array(sizes, dtype=float), "logs": np.array(found)}


class CalibratedSpread(SpreadMixin):
    """Intervals as wide as tasks left out in training need; for those trained in episodes."""

    # Support rows of the task, or of every task of a batch.
    _n_rows: Any
    # False for the next fit: the automatic choice calibrates by itself.
    _calibrates: bool

    def _fit_targets(
        self: Any, y: np.ndarray, numbers: np.ndarray, n_tasks: int, grouped: bool
    ) -> None:
        super()._fit_targets(y, numbers, n_tasks, grouped)  # type: ignore[misc]
        self._n_rows = len(y) if n_tasks == 1 else 0
        if "learner_" not in self.__dict__:  # what a warm start goes on from keeps what it knew
            self._widths: dict[str, np.ndarray] | None = None

    def _judge(self, learner: Any, trained: Any, left_out: Any, seed: int) -> list:
        calibrates = self.__dict__.get("_calibrates", True)
        return judge_widths(learner, left_out, seed) if calibrates else []

    def _heed(self, judged: list[list]) -> None:
        self.__dict__.pop("_calibrates", None)
        if judged:
            self._widths = widths_of(judged)

    def _adapt_targets(self: Any, y: np.ndarray, batch: TaskBatch) -> dict[str, Any]:
        n_rows = np.bincount(batch.support, minlength=batch.n_tasks)
        return {**super()._adapt_targets(y, batch), "_n_rows": n_rows}  # type: ignore[misc]

    def _join(self: Any, new: Any) -> None:
        super()._join(new)  # type: ignore[misc]
        new._n_rows = self._n_rows + new._n_rows

    def _stretch(self: Any) -> Any:
        if self.__dict__.get("_widths") is None:
            return 1.0
        rows = np.atleast_1d(self._n_rows)
        if self._query_tasks is not None:
            rows = np.where(self._query_tasks < 0, 0, rows[self._query_tasks])
        return np.exp(between_sizes(rows, self._widths["sizes"], self._widths["logs"]))
