"""Support and query draws, vectorised over tasks: no Python loop over tasks or rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from skmeta.core.tasks import Episodes, TaskRows, offsets_of


class Sampler(Protocol):
    """Draws meta-batches."""

    @property
    def eligible(self) -> Tensor:
        """Tasks that can give an episode."""
        ...

    def draw(self, tasks: Tensor, generator: Generator) -> Episodes:
        """One episode for each task named; a task may be named more than once."""
        ...


def draw_without_replacement(sizes: Tensor, n: int, generator: Generator) -> Tensor:
    """For every t, draw ``min(n, sizes[t])`` different numbers below ``sizes[t]``.

    They come in random order.

    Parameters
    ----------
    sizes : int64 Tensor of shape (T,)
        How many numbers there are to draw from.
    n : int
        How many to draw.
    generator : Generator
        The source of randomness.

    Returns
    -------
    Tensor of shape (T, n)
        Entries past ``sizes[t]`` are -1.
    """
    # Sorting random keys costs the sum of sizes; Floyd's algorithm costs n steps and T n^2 work,
    # and wins when tasks are much larger than the draw. The factors are measured on one CPU thread.
    if int(sizes.sum()) > 300 * n + len(sizes) * n * n / 16:
        return _floyd(sizes, n, generator)
    return _random_keys(sizes, n, generator)


def _random_keys(sizes: Tensor, n: int, generator: Generator) -> Tensor:
    offsets = offsets_of(sizes)
    total = int(offsets[-1])
    task = torch.repeat_interleave(torch.arange(len(sizes)), sizes, output_size=total)
    keys = torch.rand(total, dtype=torch.float64, generator=generator)
    # Sorting "task + key" shuffles every task's rows at once and keeps the tasks in order.
    order = torch.argsort(task + keys)
    column = torch.arange(n)
    inside = column < sizes[:, None]
    place = (offsets[:-1, None] + column).clamp(max=max(total - 1, 0))
    return torch.where(inside, order[place] - offsets[:-1, None], -1)


def _floyd(sizes: Tensor, n: int, generator: Generator) -> Tensor:
    n_tasks = len(sizes)
    uniform = torch.rand(n_tasks, n, dtype=torch.float64, generator=generator)
    take = sizes.clamp(max=n)
    top = sizes[:, None] - take[:, None] + torch.arange(n)  # the j-th step draws from 0..top
    proposal = (uniform * (top + 1)).long().minimum(top)
    drawn = torch.full((n_tasks, n), -1)
    for j in range(n):
        taken = (drawn[:, :j] == proposal[:, j, None]).any(1)
        drawn[:, j] = torch.where(taken, top[:, j], proposal[:, j])
    drawn[torch.arange(n) >= take[:, None]] = -1
    # Floyd's set is uniform, its order is not: shuffle the columns that hold a draw.
    keys = torch.rand(n_tasks, n, generator=generator)
    keys[drawn < 0] = 2.0
    return drawn.gather(1, keys.argsort(1))


@dataclass(frozen=True)
class RowSampler:
    """Episodes of plain random rows: ``n_support`` to learn from, ``n_query`` to be judged on.

    A task with fewer rows gives what it has: at least one support and one query row, so a task of
    one row never takes part.
    """

    rows: TaskRows
    n_support: int
    n_query: int

    @property
    def eligible(self) -> Tensor:
        """Tasks with a row to learn from and one to be judged on."""
        return torch.nonzero(self.rows.sizes >= 2).flatten()

    def draw(self, tasks: Tensor, generator: Generator) -> Episodes:
        """One episode for each task named."""
        sizes = self.rows.sizes[tasks]
        drawn = draw_without_replacement(sizes, self.n_support + self.n_query, generator)
        n_support = torch.minimum(sizes - 1, torch.tensor(self.n_support))
        column = torch.arange(drawn.shape[1])
        in_support = column < n_support[:, None]
        index = drawn + self.rows.offsets[:-1][tasks][:, None]
        return Episodes(
            _select(self.rows, index, in_support),
            _select(self.rows, index, ~in_support & (drawn >= 0)),
        )


@dataclass(frozen=True)
class WaySampler:
    """N-way K-shot episodes: classes are drawn first, then rows of each class.

    ``rows`` are sorted by task and, inside a task, by class; ``class_sizes`` counts the rows of
    each (task, class) cell in that order and ``classes_per_task`` the cells of each task. Labels in
    an episode are the numbers of its ways, 0 to n_way - 1. A class with a single row is support
    only.
    """

    rows: TaskRows
    class_sizes: Tensor
    classes_per_task: Tensor
    n_way: int
    n_shot: int
    n_query: int

    @property
    def eligible(self) -> Tensor:
        """Tasks with two classes or more, one of which has a row to spare for the query."""
        cell_task = torch.repeat_interleave(
            torch.arange(len(self.classes_per_task)), self.classes_per_task
        )
        spare = torch.zeros(len(self.classes_per_task), dtype=torch.int64)
        spare.index_add_(0, cell_task, (self.class_sizes >= 2).long())
        return torch.nonzero((self.classes_per_task >= 2) & (spare >= 1)).flatten()

    def draw(self, tasks: Tensor, generator: Generator) -> Episodes:
        """One episode for each task named."""
        first_cell = offsets_of(self.classes_per_task)[:-1][tasks]
        ways = draw_without_replacement(self.classes_per_task[tasks], self.n_way, generator)
        real = ways >= 0
        cells = (first_cell[:, None] + ways)[real]
        label = torch.arange(self.n_way).expand_as(ways)[real]
        episode = torch.arange(len(tasks))[:, None].expand_as(ways)[real]

        sizes = self.class_sizes[cells]
        drawn = draw_without_replacement(sizes, self.n_shot + self.n_query, generator)
        n_shot = torch.minimum((sizes - 1).clamp(min=1), torch.tensor(self.n_shot))
        in_support = torch.arange(drawn.shape[1]) < n_shot[:, None]
        index = drawn + offsets_of(self.class_sizes)[:-1][cells][:, None]
        in_query = ~in_support & (drawn >= 0)

        def part(chosen: Tensor) -> TaskRows:
            labels = label[:, None].expand_as(chosen)[chosen]
            sizes = torch.bincount(episode[:, None].expand_as(chosen)[chosen], minlength=len(tasks))
            x = self.rows.x[index[chosen].to(self.rows.x.device)]
            return TaskRows(x, labels.to(x.device), offsets_of(sizes))

        return Episodes(part(in_support), part(in_query))


def _select(rows: TaskRows, index: Tensor, chosen: Tensor) -> TaskRows:
    """The chosen entries of a (T, n) table of row numbers, as ragged tasks."""
    picked = index[chosen].to(rows.x.device)
    y = None if rows.y is None else rows.y[picked]
    return TaskRows(rows.x[picked], y, offsets_of(chosen.sum(1)))


@dataclass(frozen=True)
class LevelSampler:
    """Episodes whose targets (n_rows, n_outputs) have a random level added, one a task.

    So no two episodes of a task are alike: the level is told by the support alone.

    Parameters
    ----------
    sampler : Sampler
        Draws the episodes.
    spread : Tensor of shape (n_outputs,)
        Standard deviation of the levels.
    """

    sampler: Sampler
    spread: Tensor

    @property
    def eligible(self) -> Tensor:
        """Tasks that can give an episode."""
        return self.sampler.eligible

    def draw(self, tasks: Tensor, generator: Generator) -> Episodes:
        """One episode for each task named."""
        episodes = self.sampler.draw(tasks, generator)
        levels = torch.randn((len(tasks), len(self.spread)), generator=generator) * self.spread

        def raised(rows: TaskRows) -> TaskRows:
            assert rows.y is not None
            added = levels.to(rows.y.device, rows.y.dtype)[rows.task_of_row]
            return TaskRows(rows.x, rows.y + added, rows.offsets)

        return Episodes(raised(episodes.support), raised(episodes.query))
