"""Inner loops: gradient descent on every task's support loss, batched over tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skmeta.core.forward import StackForward, TaskForward, Weights
from skmeta.core.tasks import Padded

Loss = Callable[[Tensor, Tensor], Tensor]  # element-wise: (T, n, ...) and targets -> (T, n, ...)
Rate = Callable[[str, int], Tensor | float]  # name of a weight, number of the step -> its rate


def task_losses(loss: Loss, outputs: Tensor, rows: Padded) -> Tensor:
    """Mean loss over each task's own rows, shape (T,)."""
    assert rows.y is not None
    values = loss(outputs, rows.y)
    if rows.mask is None:
        return values.flatten(1).mean(1)
    values = values.flatten(2).mean(2) if values.ndim > 2 else values
    # where, not a product: a padded place may hold inf, and 0 * inf is NaN.
    values = torch.where(rows.mask, values, 0.0)
    return values.sum(1) / rows.mask.sum(1).clamp(min=1)


def adapt_weights(
    forward: TaskForward | StackForward,
    weights: Weights,
    support: Padded,
    loss: Loss,
    rate: Rate,
    n_steps: int,
    *,
    second_order: bool,
    task_weight: Tensor | None = None,
    max_norm: float | None = None,
) -> Weights:
    """Take ``n_steps`` of gradient descent on each task's mean support loss.

    Parameters
    ----------
    forward : TaskForward or StackForward
        Runs the module with task-batched weights.
    weights : dict of name to Tensor of shape (T, ...)
        Where every task starts; usually one set of weights, expanded.
    support : Padded
        The support rows of T tasks.
    loss : callable
        Element-wise loss of outputs and targets.
    rate : callable
        Gives the learning rate of a weight at a step.
    n_steps : int
        How many steps to take.
    second_order : bool
        Keep the graph of the gradients, so that the caller can differentiate through the steps;
        otherwise gradients count as constants (first-order MAML).
    task_weight : Tensor of shape (T,) or None, default=None
        What to multiply each task's mean support loss by.
    max_norm : float or None, default=None
        Longest gradient of a task; a longer one is shortened to it.

    Returns
    -------
    dict of name to Tensor of shape (T, ...)
        The adapted weights. A weight that the outputs do not depend on stays as it is.
    """
    for step in range(n_steps):
        outputs, _ = forward(weights, support.x, support.mask)
        # One gradient of the SUM gives each task its own: tasks do not share weights here.
        losses = task_losses(loss, outputs, support)
        total = losses.sum() if task_weight is None else (losses * task_weight).sum()
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            total, list(weights.values()), create_graph=second_order, allow_unused=True
        )
        if max_norm is not None:
            gradients = _shorten(gradients, max_norm)
        weights = {
            name: value if gradient is None else value - rate(name, step) * gradient
            for (name, value), gradient in zip(weights.items(), gradients, strict=True)
        }
    return weights


def _shorten(gradients: Sequence[Tensor | None], max_norm: float) -> Sequence[Tensor | None]:
    """Scale the gradients of every task whose joint norm exceeds ``max_norm``."""
    squares = [g.flatten(1).square().sum(1) for g in gradients if g is not None]
    norm = torch.stack(squares).sum(0).sqrt()
    if not bool((norm > max_norm).any()):
        return gradients
    factor = (max_norm / norm).clamp(max=1.0)
    return [None if g is None else g * factor.reshape(-1, *(1,) * (g.ndim - 1)) for g in gradients]
