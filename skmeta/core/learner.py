"""The algorithm interface: four verbs, batched over tasks. Everything above is written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from skmeta.core.losses import NEVER
from skmeta.core.tasks import Episodes, TaskRows, buckets_of

__all__ = ["NEVER", "Learner", "MarginalLearner", "SpreadLearner", "State"]

# What a task taught a learner: named tensors whose leading axis is the task.
State = dict[str, Tensor]


class Learner(nn.Module, ABC):
    """A meta-learning algorithm: its parameters are what all tasks share.

    Subclasses write ``episode_loss``, ``condition`` and ``predict``; a method whose answer before
    any support is more than :meth:`condition` on the pooled rows overrides ``set_prior``.

    Attributes
    ----------
    progress : float
        Share of the training that is done, from 0 to 1; kept by whoever trains.
    """

    progress = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._prior: State = {}

    @abstractmethod
    def episode_loss(self, episodes: Episodes, generator: Generator) -> Tensor:
        """Mean loss over the tasks of a meta-batch, differentiable in the parameters."""

    @abstractmethod
    def condition(self, support: TaskRows) -> State:
        """Adapt to T tasks in one call. No gradient flows back to the parameters."""

    @abstractmethod
    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Outputs for the rows of T tasks, shape (n_rows, n_outputs); ``state`` has T entries."""

    def set_prior(self, rows: TaskRows) -> None:
        """Fix the answer before any support: by default, that of all rows taken as one task."""
        self._prior = self.condition(TaskRows.single(rows.x, rows.y))

    def prior(self) -> State:
        """Return the state before any support; a batch of one task."""
        return self._prior

    @property
    def max_tasks(self) -> int:
        """How many tasks to take at a time, so that memory stays bounded."""
        return 512

    def condition_tasks(self, support: TaskRows) -> State:
        """:meth:`condition` for any number of tasks of any sizes, in padded batches."""
        return _in_batches(support, self.max_tasks, self.condition)

    def predict_tasks(self, state: State, query: TaskRows, verb: str = "predict") -> Tensor:
        """:meth:`predict` for any number of tasks of any sizes, in padded batches.

        ``verb`` may name another method with the same signature.
        """
        predict = getattr(self, verb)
        if query.n_tasks == 1:
            return predict(state, query)
        outputs = None
        row = torch.arange(len(query.x), device=query.x.device)
        numbered = TaskRows(query.x, row, query.offsets)
        for tasks in self._alike(query, self.rows_held(state)):
            batch = numbered.take_tasks(tasks)
            if len(batch.x) == 0:
                continue
            part = {name: value[tasks.to(value.device)] for name, value in state.items()}
            values = predict(part, TaskRows(batch.x, None, batch.offsets))
            if outputs is None:
                outputs = values.new_empty(len(query.x), *values.shape[1:])
            outputs[batch.y] = values
        assert outputs is not None  # the estimators never ask for zero rows
        return outputs

    def rows_held(self, state: State) -> Tensor | None:
        """How many support rows the state of every task holds, if it holds rows: (T,)."""
        return None

    def _alike(self, query: TaskRows, held: Tensor | None) -> Iterator[Tensor]:
        """Batches of tasks alike in the rows of their query, and in those that their states hold.

        One task with a thousand support rows would make all others as wide.
        """
        for tasks in query.buckets(self.max_tasks):
            if held is None:
                yield tasks
            else:
                yield from (tasks[part] for part in buckets_of(held[tasks], self.max_tasks))


class SpreadLearner(Learner):
    """A learner with a spread, whose states can be joined."""

    @abstractmethod
    def merge(self, state: State, more: State) -> State:
        """The state after the rows of both states."""

    @abstractmethod
    def predict_variance(self, state: State, query: TaskRows) -> Tensor:
        """Variance of a new observation at the rows of T tasks, shape (n_rows, n_outputs)."""


class MarginalLearner(SpreadLearner):
    """A learner fitted to all rows at once by marginal likelihood."""

    @abstractmethod
    def fit_tasks(self, rows: TaskRows, generator: Generator) -> list[dict]:
        """Fit the parameters; one record an iteration."""

    def episode_loss(self, episodes: Episodes, generator: Generator) -> Tensor:
        """Refuse: there is nothing to train in episodes."""
        raise NotImplementedError("There are no episodes here: fit_tasks takes all rows at once.")


def _in_batches(support: TaskRows, max_tasks: int, condition) -> State:
    """Run ``condition`` bucket by bucket and put the states back in the order of the tasks."""
    batches = list(support.buckets(max_tasks))
    if len(batches) == 1 and len(batches[0]) == support.n_tasks:
        return condition(support)
    states = [condition(support.take_tasks(tasks)) for tasks in batches]
    back = torch.argsort(torch.cat(batches))
    return {
        name: _join([state[name] for state in states])[back.to(states[0][name].device)]
        for name in states[0]
    }


def _join(parts: list[Tensor]) -> Tensor:
    """Put tasks below one another; those whose second axis is shorter are padded with zeros."""
    if parts[0].ndim > 1:
        widest = max(part.shape[1] for part in parts)
        missing = [widest - part.shape[1] for part in parts]
        behind = [0, 0] * (parts[0].ndim - 2)
        parts = [F.pad(p, (*behind, 0, m)) for p, m in zip(parts, missing, strict=True)]
    return torch.cat(parts)
