"""How sure a classifier may be, and how far it may leave the population, by tasks left out.

Training makes scores large on its own tasks, and adaptation takes one row for a whole class. What
is left out tells by how much scores are too large for a new task with so many labelled rows, and,
where tasks share their classes, which share of the way from the population's scores to its own it
should go.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from skmeta.core.learner import NEVER, Learner
from skmeta.core.numerics import between_sizes
from skmeta.core.sampling import RowSampler, WaySampler
from skmeta.core.tasks import Episodes, TaskRows

# Labelled rows of a class that a new task may have; between them the answer is interpolated.
ROWS_A_CLASS = (1, 2, 5, 10, 20)
# Multiples that are tried, as logarithms. A multiple of 1 is as likely a priori as this many times
# what one task says.
GRID = np.linspace(-5.0, 3.0, 81)
PRIOR = 0.5
# Shares of the way that are tried. Little speaks for all of it a priori: a task that shows one row
# loses more by leaving the population too far than by staying.
SHARES = np.linspace(0.0, 1.0, 6)
PRIOR_SHARE = 0.02
# What a share of nothing counts as when more rows come than could be tried.
LEAST_SHARE = 0.1
# Episodes of each size, and rows of each that are judged.
N_EPISODES, N_JUDGED = 100, 30

# A number of rows a class, how much it counts, and the mean loss at every share and multiple.
Judgement = tuple[float, float, list[list[float]]]


def judge(
    learner: Learner,
    trained: TaskRows,
    left_out: RowSampler | WaySampler,
    n_classes: int | None,
    seed: int,
    *,
    alone: bool = False,
) -> list[Judgement]:
    """Loss on tasks left out at every share and multiple, by their labelled rows a class.

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
    # Where classes are shared, one row in all is a task like any other.
    sizes = [0, 1 / n_classes, *ROWS_A_CLASS] if n_classes else list(ROWS_A_CLASS)
    with torch.no_grad():
        if n_classes:  # also the answer for classes that a support lacks
            learner.set_prior(trained)
        for size in sizes[:1] if alone else sizes:
            generator = torch.Generator().manual_seed(seed)
            drawn = draw_sized(left_out, size, n_classes, generator)
            if drawn is None:
                continue
            n_tasks, episodes = drawn
            query = episodes.query
            ways: list[Tensor] = []
            if n_classes:
                before = learner.predict(learner.prior(), TaskRows.single(query.x)).double()
                ways = [before] * len(SHARES)
            if size:
                state = learner.condition_tasks(episodes.support)
                own = learner.predict_tasks(state, query).double()
                ways = [part_of_way(before, own, share) for share in SHARES] if ways else [own]
            losses = torch.stack([_losses(scores, query) for scores in ways])
            if bool(torch.isfinite(losses).all()):
                found.append((size, len(left_out.rows.x) if alone else n_tasks, losses.tolist()))
    return found


def draw_sized(
    sampler: RowSampler | WaySampler, size: float, n_classes: int | None, generator: Generator
) -> tuple[int, Episodes] | None:
    """Episodes with ``size`` labelled rows a class, and of how many tasks they are."""
    if n_classes is None:
        assert isinstance(sampler, WaySampler)
        if int(sampler.class_sizes.max()) <= size:
            return None
        sampler = replace(sampler, n_shot=round(size), n_query=max(1, N_JUDGED // sampler.n_way))
        tasks = sampler.eligible
    else:
        rows = sampler.rows
        n_support = round(size * n_classes)
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
    own = scores.gather(1, query.y[:, None])
    # A row of a class that is not known at all has nothing to say.
    weight = weight.to(scores.device) * (own[:, 0] > NEVER)
    # How far the other classes are above the row's own; those that are not there never are.
    above = torch.where(scores > NEVER, scores - own, -torch.inf)
    losses = [weight @ torch.logsumexp(power * above, 1) for power in np.exp(GRID)]
    return torch.stack(losses).cpu()


def part_of_way(before: Any, own: Any, share: Any) -> Any:
    """Scores so far from the population's to a task's own; classes that one of them lacks stay."""
    return own + (1.0 - share) * (before - own) * ((before > NEVER) & (own > NEVER))


def best_multiples(trials: list[list]) -> dict[str, np.ndarray] | None:
    """The best multiple, and share of the way, for every number of rows a class, over trials."""
    totals: dict[float, np.ndarray] = {}
    for size, weight, losses in (line for trial in trials for line in trial):
        penalty = PRIOR_SHARE * (1.0 - SHARES[-len(losses) :, None]) ** 2 + PRIOR * GRID**2
        totals[size] = totals.get(size, penalty) + weight * np.array(losses)
    if not totals:
        return None
    sizes = sorted(totals)
    # Of a task's own scores alone, with as many rows as could be tried: where more of them lead to.
    alone = np.exp(GRID[int(np.argmin(totals[sizes[-1]][-1]))])
    multiples, shares = [], []
    for size in sizes:
        total = totals[size]
        share, power = np.unravel_index(int(np.argmin(total)), total.shape)
        multiples.append(np.exp(GRID[power]))
        shares.append(SHARES[-len(total) :][share])
    return {
        "sizes": np.array(sizes, dtype=float),
        "multiples": np.array(multiples),
        "shares": np.array(shares),
        "alone": np.array(alone),
    }


def calibrated_at(found: dict[str, np.ndarray], rows_a_class: Any) -> tuple[Any, Any]:
    """Multiple of the scores, and share of the way, after so many labelled rows of a class.

    Beyond the rows that the tasks left out had, what is left of the way shrinks as the weight of a
    prior does, ``n0 / (n + n0)``: with many rows a task has its own say, as sure as it may be.
    """
    rows, sizes, shares = np.asarray(rows_a_class, dtype=float), found["sizes"], found["shares"]
    last, own = max(sizes[-1], 1.0), max(shares[-1], LEAST_SHARE)
    prior_rows = last * (1.0 - own) / own
    fade = (last + prior_rows) / (np.maximum(rows, last) + prior_rows)
    alone = np.log(found["alone"])
    logs = alone + (between_sizes(rows, sizes, np.log(found["multiples"])) - alone) * fade
    # Before any row there is no way to go: what was found for it is not about the first rows.
    tried = sizes > 0 if len(sizes) > 1 else sizes >= 0
    left = (1.0 - between_sizes(rows, sizes[tried], shares[tried])) * fade
    return np.exp(logs), np.where(rows > 0, 1.0 - left, 1.0)
