"""How sure a classifier may be: its scores are multiplied by what fits tasks it has not trained on.

Training makes scores large on its own tasks. What is left out tells by how much too large, for a
new task with so many labelled rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from skmeta.core.learner import NEVER, Learner
from skmeta.core.sampling import RowSampler, WaySampler
from skmeta.core.tasks import Episodes, TaskRows

# Labelled rows of a class that a new task may have; between them the answer is interpolated.
ROWS_A_CLASS = (1, 2, 5, 10, 20)
# Multiples that are tried, as logarithms. A multiple of 1 is as likely a priori as this many times
# what one task says.
GRID = np.linspace(-5.0, 3.0, 81)
PRIOR = 0.5
# Episodes of each size, and rows of each that are judged.
N_EPISODES, N_JUDGED = 100, 30

# A number of rows a class, how much it counts, and the mean loss at every multiple.
Judgement = tuple[float, float, list[float]]


def judge(
    learner: Learner,
    trained: TaskRows,
    left_out: RowSampler | WaySampler,
    n_classes: int | None,
    seed: int,
    *,
    alone: bool = False,
) -> list[Judgement]:
    """Loss on tasks left out at every multiple of the scores, by their labelled rows a class.

    Parameters
    ----------
    learner : Learner
        Trained without these tasks.
    trained : TaskRows
        What it was trained on: its answer before any support.
    left_out : RowSampler or WaySampler
        The tasks left out.
    n_classes : int or None
        Classes that all tasks share; None where tasks have classes of their own.
    seed : int
        Seeds the draws.
    alone : bool
        Whether there is one task: what is left out are rows of it.
    """
    found: list[Judgement] = []
    learner.eval()
    sizes = [0, *ROWS_A_CLASS] if n_classes else list(ROWS_A_CLASS)
    with torch.no_grad():
        if n_classes:  # also the answer for classes that a support lacks
            learner.set_prior(trained)
        for size in sizes[:1] if alone else sizes:
            generator = torch.Generator().manual_seed(seed)
            drawn = _episodes(left_out, size, n_classes, generator)
            if drawn is None:
                continue
            n_tasks, episodes = drawn
            query = episodes.query
            if size:
                state = learner.condition_tasks(episodes.support)
                scores = learner.predict_tasks(state, query)
            else:
                scores = learner.predict(learner.prior(), TaskRows.single(query.x))
            losses = _losses(scores.double(), query)
            if bool(torch.isfinite(losses).all()):
                found.append((size, len(left_out.rows.x) if alone else n_tasks, losses.tolist()))
    return found


def _episodes(
    sampler: RowSampler | WaySampler, size: int, n_classes: int | None, generator: Generator
) -> tuple[int, Episodes] | None:
    """Episodes with ``size`` labelled rows a class, and of how many tasks they are."""
    if n_classes is None:
        assert isinstance(sampler, WaySampler)
        if int(sampler.class_sizes.max()) <= size:
            return None
        sampler = replace(sampler, n_shot=size, n_query=max(1, N_JUDGED // sampler.n_way))
        tasks = sampler.eligible
    else:
        rows = sampler.rows
        n_support = size * n_classes
        tasks = torch.nonzero(rows.sizes >= n_support + 2).flatten()
        # Rows as they come: how frequent classes are is part of what a task is.
        sampler = RowSampler(rows, max(1, n_support), N_JUDGED)
    if len(tasks) == 0:
        return None
    n_draws = -(-N_EPISODES // len(tasks))
    order = torch.randperm(len(tasks), generator=generator)
    picked = tasks[order].repeat(n_draws)[:N_EPISODES]
    return min(len(tasks), N_EPISODES), sampler.draw(picked, generator)


def _losses(scores: Tensor, query: TaskRows) -> Tensor:
    """Mean over tasks of the log loss at every multiple of the grid."""
    assert query.y is not None
    weight = (1.0 / (query.n_tasks * query.sizes.double()))[query.task_of_row.cpu()]
    weight = weight.to(scores.device)
    known = scores > NEVER
    own = query.y[:, None]
    losses = []
    for power in np.exp(GRID):
        scaled = torch.where(known, power * scores, NEVER)
        loss = torch.logsumexp(scaled, 1) - scaled.gather(1, own)[:, 0]
        losses.append((weight * loss).sum())
    return torch.stack(losses).cpu()


def best_multiples(trials: list[list]) -> dict[str, np.ndarray] | None:
    """The best multiple for every number of rows a class, from one trial or more."""
    totals: dict[float, np.ndarray] = {}
    for size, weight, losses in (line for trial in trials for line in trial):
        totals[size] = totals.get(size, PRIOR * GRID**2) + weight * np.array(losses)
    if not totals:
        return None
    sizes = sorted(totals)
    best = [GRID[np.argmin(totals[size])] for size in sizes]
    return {"sizes": np.array(sizes, dtype=float), "multiples": np.exp(best)}


def multiple_at(found: dict[str, np.ndarray], rows_a_class: Any) -> Any:
    """What scores are multiplied by after so many labelled rows of a class."""
    logs = np.log(found["multiples"])
    return np.exp(np.interp(np.log1p(rows_a_class), np.log1p(found["sizes"]), logs))
