"""An epoch of ready meta-batches, as skorch's iterators expect it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from skorch.dataset import Dataset
from torch import Generator, Tensor

from skmeta.core.sampling import Sampler
from skmeta.core.tasks import Episodes

# Few tasks would make an epoch of one step: the bookkeeping of an epoch would cost more than it.
MIN_STEPS = 50
# Episodes are drawn for many steps at once, so that drawing costs next to nothing a step; this
# bounds the numbers that such a block may hold.
BLOCK_NUMBERS = 2**24


class EpisodeStream(Dataset):
    """Draws an epoch anew each time it is iterated over: every task once, in random order.

    With fewer than ``MIN_STEPS`` meta-batches to a pass, passes are repeated. It is a skorch
    ``Dataset`` so that scoring callbacks find ``X`` (episodes) and ``y`` (their query targets).

    Parameters
    ----------
    sampler : Sampler
        Draws the episodes.
    tasks_per_batch : int
        Tasks in a meta-batch; a task comes up more than once where there are fewer tasks.
    generator : Generator
        The source of randomness.
    """

    def __init__(self, sampler: Sampler, tasks_per_batch: int, generator: Generator) -> None:
        self._sampler = sampler
        self._tasks_per_batch = tasks_per_batch
        self._generator = generator
        self._eligible = sampler.eligible
        self._fixed: list[Episodes] | None = None

    def __len__(self) -> int:
        return max(MIN_STEPS, -(-len(self._eligible) // self._tasks_per_batch))

    def __iter__(self) -> Iterator[Episodes]:
        n_needed = len(self) * self._tasks_per_batch
        n_passes = -(-n_needed // len(self._eligible))
        order = torch.cat([self._shuffled() for _ in range(n_passes)])[:n_needed]
        per_step = None
        while len(order):
            n_steps = 1 if per_step is None else max(1, BLOCK_NUMBERS // max(per_step, 1))
            n_tasks = n_steps * self._tasks_per_batch
            block = self._sampler.draw(order[:n_tasks], self._generator)
            per_step = (block.support.x.numel() + block.query.x.numel()) // n_steps
            yield from block.split(self._tasks_per_batch)
            order = order[n_tasks:]

    def fix(self, n_draws: int) -> list[Episodes]:
        """Draw ``n_draws`` episodes of every task once and for all, as validation needs them."""
        tasks = self._eligible.repeat(n_draws)
        self._fixed = list(self._sampler.draw(tasks, self._generator).split(self._tasks_per_batch))
        return self._fixed

    @property
    def X(self) -> list[Episodes]:  # noqa: N802 (skorch looks for this name)
        """Fixed episodes, drawn when first asked for: what a scoring callback predicts."""
        return self.fix(1) if self._fixed is None else self._fixed

    @property
    def y(self) -> np.ndarray:
        """Query targets of :attr:`X`, in the units of the loss."""
        targets = [episodes.query.y for episodes in self.X]
        values = torch.cat([y for y in targets if y is not None]).cpu().numpy()
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values

    def _shuffled(self) -> Tensor:
        return self._eligible[torch.randperm(len(self._eligible), generator=self._generator)]
