"""Which tasks are trained on and which held out, and the samplers of both."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch

from skmeta.base._rows import resolve_device, task_rows
from skmeta.core.sampling import RowSampler, Sampler

# early_stopping="auto" holds out tasks from so many on: below, none can be spared for good. One or
# two tasks would stop training by chance.
TASKS_TO_HOLD_OUT = 10
FEWEST_HELD_OUT = 3


EVERY_TASK_HAS_ONE_ROW = (
    "Every task has a single row: an episode needs a support and a query row of one task."
)


class EpisodeSampling:
    """Draws training and validation episodes from the rows of ``fit``."""

    device: Any
    early_stopping: Any
    validation_fraction: float
    _no_episode = EVERY_TASK_HAS_ONE_ROW

    @abstractmethod
    def _samplers(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, generator: torch.Generator
    ) -> tuple[Sampler, Sampler | None]:
        """Samplers of training and validation episodes."""

    def _plain_sampler(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, generator: torch.Generator
    ) -> Sampler:
        """Episodes of tasks left out: as new tasks are, with nothing added to them."""
        return self._samplers(X, y, numbers, generator)[0]

    def _row_samplers(
        self,
        X: np.ndarray,
        y: np.ndarray,
        numbers: np.ndarray,
        generator: torch.Generator,
        n_support: int,
        n_query: int,
    ) -> tuple[Sampler, Sampler | None]:
        """Samplers of plain random rows."""
        n_tasks = int(numbers.max()) + 1
        device = resolve_device(self.device)
        rows, _ = task_rows(X, y, numbers, n_tasks, device, torch.float32)
        # A task of one row gives no episode, so it cannot be held out either.
        usable = rows.take_tasks(torch.nonzero(rows.sizes >= 2).flatten())
        if usable.n_tasks == 0:
            raise ValueError(EVERY_TASK_HAS_ONE_ROW)
        train, valid = self._hold_out(usable.n_tasks, generator)

        def sampler(tasks: torch.Tensor) -> RowSampler:
            return RowSampler(usable.take_tasks(tasks), n_support, n_query)

        return sampler(train), None if valid is None else sampler(valid)

    def _hold_out(
        self,
        n_tasks: int,
        generator: torch.Generator,
        at_least: int = 1,
        auto_from: int = TASKS_TO_HOLD_OUT,
    ) -> tuple[Any, Any]:
        """Split task numbers into training and validation (None without early stopping)."""
        wanted = self.early_stopping
        if isinstance(wanted, str):  # "auto"
            wanted = n_tasks >= auto_from
        if not wanted:
            return torch.arange(n_tasks), None
        if n_tasks < 2 * at_least:
            raise ValueError(
                "early_stopping=True holds out whole tasks (without groups: classes), and there "
                "are too few. Pass groups= with two or more task ids, or early_stopping=False."
            )
        n_valid = round(self.validation_fraction * n_tasks)
        if n_tasks >= TASKS_TO_HOLD_OUT:
            at_least = max(at_least, FEWEST_HELD_OUT)
        n_valid = min(n_tasks - at_least, max(at_least, n_valid))
        order = torch.randperm(n_tasks, generator=generator)
        return order[n_valid:].sort().values, order[:n_valid].sort().values
