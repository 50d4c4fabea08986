"""Element-wise losses of outputs and targets.

A loss may be a plain function, or a :class:`Loss` that also knows its slope: then inner gradients
of plain stacks need no autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from skmeta.core.tasks import TaskRows


@dataclass(frozen=True)
class Loss:
    """An element-wise loss and its derivative in the outputs."""

    value: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every output."""
        return self.value(outputs, targets)


def _square(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square()


def _square_slope(outputs: Tensor, targets: Tensor) -> Tensor:
    return 2 * (outputs - targets)


squared_error = Loss(_square, _square_slope)


def mean_of_tasks(losses: Tensor, rows: TaskRows) -> Tensor:
    """Mean over tasks of the mean loss of a task's rows: (n_rows,) to a scalar.

    A task without rows (an episode of classes with one row each has no query) does not count.
    """
    per_task = losses.new_zeros(rows.n_tasks).index_add(0, rows.task_of_row, losses)
    sizes = rows.sizes.to(losses.device)
    return (per_task / sizes.clamp(min=1)).sum() / (sizes > 0).sum().clamp(min=1)
