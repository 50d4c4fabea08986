"""Minibatches of the rows of an episode, for Reptile."""

from __future__ import annotations

import torch
from torch import Generator

from skmeta.core.sampling import draw_without_replacement
from skmeta.core.tasks import Episodes, Padded, TaskRows, offsets_of


class Minibatches:
    """Rows of every task for a given step: as many as its support has, going round in all of them.

    Support and query are one: Reptile has no use for the difference. Each task's rows are shuffled
    once; a step takes the next ones.

    Parameters
    ----------
    episodes : Episodes
        A meta-batch.
    generator : Generator
        The source of randomness.
    """

    def __init__(self, episodes: Episodes, generator: Generator) -> None:
        support, query = episodes.support, episodes.query
        assert support.y is not None and query.y is not None
        self._sizes = support.sizes + query.sizes
        order = torch.argsort(torch.cat([support.task_of_row, query.task_of_row]), stable=True)
        x, y = torch.cat([support.x, query.x]), torch.cat([support.y, query.y])
        self._all = TaskRows(x[order], y[order], offsets_of(self._sizes))
        self._batch_sizes = support.sizes
        widest = int(self._sizes.max())
        self._shuffled = draw_without_replacement(self._sizes, widest, generator)

    @property
    def rows(self) -> Padded:
        """All rows of every task."""
        return self._all.padded()

    def __call__(self, step: int) -> Padded:
        """The rows of a step."""
        column = torch.arange(int(self._batch_sizes.max()))
        real = column < self._batch_sizes[:, None]
        place = (step * self._batch_sizes[:, None] + column) % self._sizes[:, None]
        rows = self._shuffled.gather(1, place) + self._all.offsets[:-1, None]
        chosen = rows.to(self._all.x.device)
        assert self._all.y is not None
        mask = None if bool(real.all()) else real.to(chosen.device)
        return Padded(self._all.x[chosen], self._all.y[chosen], mask)
