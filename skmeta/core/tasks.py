"""Ragged tasks: rows of many tasks in one flat array with offsets, and their padded batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Padding to the widest task is fine until it costs more than this many times the real rows.
MAX_PADDING = 2.0


@dataclass(frozen=True)
class TaskRows:
    """Rows of T tasks, stored one task after the other.

    Parameters
    ----------
    x : Tensor of shape (n_rows, ...)
        The features, the rows of task 0 first.
    y : Tensor of shape (n_rows, ...) or None
        The targets, or None for rows to predict.
    offsets : int64 Tensor of shape (T + 1,), on the CPU
        Task t owns the rows ``offsets[t]:offsets[t + 1]``.
    """

    x: Tensor
    y: Tensor | None
    offsets: Tensor

    @classmethod
    def single(cls, x: Tensor, y: Tensor | None = None) -> TaskRows:
        """All rows as one task."""
        return cls(x, y, torch.tensor([0, len(x)]))

    @classmethod
    def from_sizes(cls, x: Tensor, y: Tensor | None, sizes: Tensor) -> TaskRows:
        """Rows already sorted by task, ``sizes[t]`` of them in task t."""
        return cls(x, y, offsets_of(sizes))

    @property
    def n_tasks(self) -> int:
        """Number of tasks, T."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Tensor:
        """Rows of each task, shape (T,)."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def task_of_row(self) -> Tensor:
        """Which task a row belongs to, shape (n_rows,), on the device of the rows."""
        ids = torch.repeat_interleave(torch.arange(self.n_tasks), self.sizes)
        return ids.to(self.x.device)

    def take_tasks(self, tasks: Tensor) -> TaskRows:
        """The rows of the named tasks, in that order; a task may be named more than once."""
        sizes = self.sizes[tasks]
        rows = ranges(self.offsets[:-1][tasks], sizes)
        return TaskRows(*self._gather(rows), offsets_of(sizes))

    def slice_tasks(self, start: int, stop: int) -> TaskRows:
        """Consecutive tasks, without copying a row."""
        offsets = self.offsets[start : stop + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        y = None if self.y is None else self.y[rows]
        return TaskRows(self.x[rows], y, offsets - offsets[0])

    def padded(self) -> Padded:
        """The tasks as one rectangle; no copy and no mask where all tasks have the same size."""
        sizes, n_tasks = self.sizes, self.n_tasks
        widest = int(sizes.max())
        if n_tasks * widest == len(self.x):
            shape = (n_tasks, widest)
            y = None if self.y is None else self.y.reshape(*shape, *self.y.shape[1:])
            return Padded(self.x.reshape(*shape, *self.x.shape[1:]), y, None)
        column = torch.arange(widest)
        mask = column < sizes[:, None]
        # A padded place repeats the task's last row: a finite value, which every loss masks out.
        inside = torch.minimum(column, (sizes - 1).clamp(min=0)[:, None])
        rows = (self.offsets[:-1, None] + inside).clamp(max=len(self.x) - 1)
        x, y = self._gather(rows)
        return Padded(x, y, mask.to(x.device))

    def buckets(self, max_tasks: int) -> Iterator[Tensor]:
        """Task numbers in batches worth padding: alike in size, at most ``max_tasks`` at a time."""
        yield from buckets_of(self.sizes, max_tasks)

    def _gather(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        rows = rows.to(self.x.device)
        return self.x[rows], None if self.y is None else self.y[rows]


def buckets_of(sizes: Tensor, max_tasks: int) -> Iterator[Tensor]:
    """Numbers of tasks of these sizes, in batches worth padding."""
    padded_rows = len(sizes) * int(sizes.max()) if len(sizes) else 0
    if padded_rows <= MAX_PADDING * int(sizes.sum()):
        yield from torch.arange(len(sizes)).split(max_tasks)
        return
    # Sizes between two powers of two share a bucket, so that padding at most doubles the rows.
    level = torch.log2(sizes.clamp(min=1).double()).floor().long()
    for value in torch.unique(level):
        yield from torch.nonzero(level == value).flatten().split(max_tasks)


@dataclass(frozen=True)
class Padded:
    """T tasks as rectangles: x (T, n, ...), y (T, n, ...), mask (T, n) or None when all is real."""

    x: Tensor
    y: Tensor | None
    mask: Tensor | None

    def flat(self, values: Tensor) -> Tensor:
        """Values of shape (T, n, ...) without their padding: (n_rows, ...)."""
        return values.flatten(0, 1) if self.mask is None else values[self.mask]


@dataclass(frozen=True)
class Episodes:
    """One meta-batch: a support and a query set for each of T tasks."""

    support: TaskRows
    query: TaskRows

    @property
    def n_tasks(self) -> int:
        """Number of tasks, T."""
        return self.support.n_tasks

    def split(self, max_tasks: int) -> Iterator[Episodes]:
        """Pieces of at most ``max_tasks`` tasks, without copying a row."""
        for start in range(0, self.n_tasks, max_tasks):
            stop = min(start + max_tasks, self.n_tasks)
            yield Episodes(
                self.support.slice_tasks(start, stop), self.query.slice_tasks(start, stop)
            )


def offsets_of(sizes: Tensor) -> Tensor:
    """Where each task starts, and the end: shape (T + 1,)."""
    offsets = torch.zeros(len(sizes) + 1, dtype=torch.int64)
    torch.cumsum(sizes, 0, out=offsets[1:])
    return offsets


def ranges(starts: Tensor, sizes: Tensor) -> Tensor:
    """``arange(starts[0], starts[0] + sizes[0])`` and so on, joined; no loop."""
    ends = torch.cumsum(sizes, 0)
    total = int(ends[-1]) if len(ends) else 0
    shift = torch.repeat_interleave(starts - (ends - sizes), sizes, output_size=total)
    return torch.arange(total) + shift


@dataclass(frozen=True)
class RealRows:
    """Real rows of T tasks, (T, n, n_features)."""

    x: Tensor

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        return len(self.x)
