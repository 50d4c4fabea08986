"""Element-wise losses of outputs and targets.

A loss may be a plain function, or a :class:`Loss` that also knows its slope: then inner gradients
of plain stacks need no autograd.

Losses of numbers take outputs and targets of the shape (..., n_outputs); losses of classes take
scores (..., n_classes) and class numbers (...), where a class that a task lacks has the score
``NEVER``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from skmeta.core.tasks import TaskRows

# Log-score of a class that a task does not have: its probability is exactly 0, and yet finite.
NEVER = -1e30


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


def _absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs()


def _sign(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).sign()


absolute_error = Loss(_absolute, _sign)


def _huber(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.huber_loss(outputs, targets, reduction="none")


def _clipped(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).clamp(-1.0, 1.0)


# Errors beyond one unit of the targets' scale count linearly.
huber = Loss(_huber, _clipped)


def _pinball(outputs: Tensor, targets: Tensor, level: float) -> Tensor:
    error = targets - outputs
    return torch.maximum(level * error, (level - 1) * error)


def _pinball_slope(outputs: Tensor, targets: Tensor, level: float) -> Tensor:
    return (outputs >= targets).to(outputs.dtype) - level


def quantile_loss(level: float) -> Loss:
    """The loss that the ``level``-quantile minimises."""
    return Loss(partial(_pinball, level=level), partial(_pinball_slope, level=level))


def _poisson(outputs: Tensor, targets: Tensor) -> Tensor:
    # Half the deviance: the constant part makes 0 the best there is.
    constant = torch.special.xlogy(targets, targets) - targets
    return outputs.exp() - targets * outputs + constant


def _poisson_slope(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.exp() - targets


# Outputs are logarithms of rates.
poisson = Loss(_poisson, _poisson_slope)


def class_loss(weight: Tensor | None = None) -> Loss:
    """Minus the log-probability of the class; ``weight`` (n_classes,) is what a row counts for."""
    return Loss(partial(_log_loss, weight=weight), partial(_log_loss_slope, weight=weight))


def _log_loss(scores: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    flat = F.cross_entropy(scores.flatten(0, -2), labels.flatten(), reduction="none")
    losses = flat.reshape(labels.shape)
    return losses if weight is None else losses * weight.to(losses)[labels]


def _log_loss_slope(scores: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    hit = F.one_hot(labels, scores.shape[-1])
    slope = scores.softmax(-1) - hit
    return slope if weight is None else slope * weight.to(slope)[labels].unsqueeze(-1)


def per_row(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of numbers by the user: called with outputs and targets (n_rows, n_outputs)."""
    return partial(_per_row, loss=loss)


def _per_row(outputs: Tensor, targets: Tensor, loss: Callable) -> Tensor:
    _follow(loss, outputs)
    values = _asked(loss, outputs.flatten(0, -2), targets.flatten(0, -2))
    n_rows = outputs.shape[:-1].numel()
    _check_rows(values, n_rows)
    return values.reshape(*outputs.shape[:-1], *values.shape[1:])


def per_row_of_classes(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of classes by the user, for tasks of different numbers of classes.

    It is called with scores (n_rows, n_classes) and labels (n_rows,), once for every number of
    classes, and sees no class that the tasks lack: smoothed labels, say, would put weight on it.
    """
    return partial(_per_row_of_classes, loss=loss)


def _per_row_of_classes(scores: Tensor, labels: Tensor, loss: Callable) -> Tensor:
    _follow(loss, scores)
    flat, y = scores.flatten(0, -2), labels.flatten()
    n_ways = (flat.detach() > NEVER / 2).sum(1)
    losses = flat.new_zeros(len(flat))
    for n in torch.unique(n_ways).tolist():
        rows = torch.nonzero(n_ways == n).flatten()
        # Classes are numbered inside their task, so that those a task has come first.
        values = _asked(loss, flat[rows][:, :n], y[rows])
        _check_rows(values, len(rows))
        losses = losses.index_copy(0, rows, values.reshape(len(rows), -1).mean(1).to(losses.dtype))
    return losses.reshape(labels.shape)


def _asked(loss: Callable, outputs: Tensor, targets: Tensor) -> Tensor:
    """What the user's loss says; its errors must not look like those of a module."""
    try:
        return loss(outputs, targets)
    except (RuntimeError, IndexError, TypeError, AttributeError) as error:
        shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
        raise ValueError(f"The loss failed on {shapes}: {error}.") from error


def _follow(loss: Callable, outputs: Tensor) -> None:
    """Weights inside a loss go where the outputs are: training and prediction differ in type."""
    if isinstance(loss, nn.Module):
        loss.to(outputs.device, outputs.dtype)


def _check_rows(values: Tensor, n_rows: int) -> None:
    if not isinstance(values, Tensor) or values.ndim == 0 or len(values) != n_rows:
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"loss must give a number for every row: for {n_rows} rows it gave {shape}. "
            "Set reduction='none' in a torch loss."
        )


def mean_of_tasks(losses: Tensor, rows: TaskRows) -> Tensor:
    """Mean over tasks of the mean loss of a task's rows: (n_rows,) to a scalar.

    A task without rows (an episode of classes with one row each has no query) does not count.
    """
    per_task = losses.new_zeros(rows.n_tasks).index_add(0, rows.task_of_row, losses)
    sizes = rows.sizes.to(losses.device)
    return (per_task / sizes.clamp(min=1)).sum() / (sizes > 0).sum().clamp(min=1)
