"""Inner loops: gradient descent on every task's support loss, batched over tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from skmeta.core.forward import StackForward, TaskForward, Weights
from skmeta.core.norm import Stats
from skmeta.core.tasks import Padded

Loss = Callable[[Tensor, Tensor], Tensor]  # element-wise: (T, n, ...) and targets -> (T, n, ...)
Rate = Callable[[int], Tensor | float]  # number of the step -> one rate, or one a weight
Observer = Callable[[int, Weights, Stats], None]


class Layout:
    """How named weights lie in one flat vector.

    Descending a flat vector takes one operation a step, whatever the number of layers; on small
    nets that is most of the time.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.shapes = {name: value.shape for name, value in weights.items()}
        self._sizes = [shape.numel() for shape in self.shapes.values()]

    def join(self, weights: Mapping[str, Tensor]) -> Tensor:
        """All weights in one vector of shape (P,)."""
        return torch.cat([weights[name].reshape(-1) for name in self.shapes])

    def join_tasks(self, values: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """Task-batched values in the order of the layout, (T, P); None stands for zeros."""
        n_tasks = len(like)
        return torch.cat(
            [
                like.new_zeros(n_tasks, size) if value is None else value.reshape(n_tasks, size)
                for value, size in zip(values, self._sizes, strict=True)
            ],
            dim=1,
        )

    def split(self, flat: Tensor) -> Weights:
        """Undo :meth:`join_tasks`: name -> (T, *shape), without a copy."""
        parts = flat.split(self._sizes, dim=1)
        return {
            name: part.reshape(len(flat), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


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
    start: Mapping[str, Tensor],
    support: Padded | Callable[[int], Padded],
    loss: Loss,
    rate: Rate,
    n_steps: int,
    *,
    second_order: bool,
    own: Mapping[str, Tensor] | None = None,
    differentiable: bool = True,
    task_weight: Tensor | None = None,
    max_norm: float | None = None,
    n_retries: int = 0,
    observe: Observer | None = None,
) -> Weights:
    """Take ``n_steps`` of gradient descent on each task's mean support loss.

    Parameters
    ----------
    forward : TaskForward or StackForward
        Runs the module with task-batched weights.
    start : dict of name to Tensor
        The weights that every task starts from.
    support : Padded or callable
        The support rows of T tasks; or from the number of a step to the rows that it looks at.
    loss : callable
        Element-wise loss of outputs and targets.
    rate : callable
        Gives the learning rate of a step: a number, or a vector with one entry a weight (P,).
    n_steps : int
        How many steps to take.
    second_order : bool
        Keep the graph of the gradients, so that the caller can differentiate through the steps;
        otherwise gradients count as constants (first-order MAML).
    own : dict of name to Tensor of shape (T, ...) or None, default=None
        Weights that every task starts from a place of its own, besides ``start``.
    differentiable : bool, default=True
        Whether anything will be differentiated in the start or the rates. If not, no step is
        remembered, and memory does not grow with their number.
    task_weight : Tensor of shape (T,) or None, default=None
        What to multiply each task's mean support loss by.
    max_norm : float or None, default=None
        Longest gradient of a task; a longer one is shortened to it.
    n_retries : int, default=0
        A step that raises a task's support loss is tried again at a quarter of its length, and so
        are the later steps of that task; after ``n_retries`` the step is left out. Only where
        nothing is differentiable.
    observe : callable or None, default=None
        Called after every step with its number, the weights that it led to and the normalisation
        statistics that it used.

    Returns
    -------
    dict of name to Tensor of shape (T, ...)
        The adapted weights. A weight that the outputs do not depend on stays as it is.
    """
    rows = support if isinstance(support, Padded) else support(0)
    layout, flat = _starting_place(start, own or {}, len(rows.x))
    length = flat.new_ones(len(flat), 1)
    for step in range(n_steps):
        if not differentiable:
            flat = flat.detach().requires_grad_()
        if not isinstance(support, Padded):
            rows = support(step)
        gradient, stats = _gradient(
            forward, layout, flat, rows, loss, task_weight, second_order, step
        )
        if max_norm is not None:
            gradient = _shorten(gradient, max_norm)
        now = rate(step)
        if isinstance(now, Tensor):
            now = now if differentiable else now.detach()
        if n_retries:
            flat, length = _backtrack(
                lambda at: task_losses(
                    loss,
                    forward(layout.split(at), rows.x, rows.mask, step=step)[0],  # noqa: B023
                    rows,  # noqa: B023 (called at once)
                ),
                flat,
                gradient * now,
                length,
                n_retries,
            )
        elif isinstance(now, Tensor):
            flat = torch.addcmul(flat, gradient, now, value=-1)
        else:
            flat = torch.sub(flat, gradient, alpha=now)
        if observe is not None:
            observe(step, layout.split(flat), stats)
    return layout.split(flat)


def _starting_place(
    start: Mapping[str, Tensor], own: Mapping[str, Tensor], n_tasks: int
) -> tuple[Layout, Tensor]:
    """Where every task starts: the layout of its weights, and the weights (T, P)."""
    shared = Layout(start).join(start).expand(n_tasks, -1) if start else None
    if not own:
        assert shared is not None, "there is no weight to adapt"
        return Layout(start), shared
    parts = [value.reshape(n_tasks, -1) for value in own.values()]
    whole = Layout({**start, **{name: value[0] for name, value in own.items()}})
    return whole, torch.cat(parts if shared is None else [shared, *parts], 1)


def _backtrack(
    losses: Callable[[Tensor], Tensor], flat: Tensor, step: Tensor, length: Tensor, n_retries: int
) -> tuple[Tensor, Tensor]:
    """Take a step as long as lowers each task's loss: the new place, and the length it took."""
    with torch.no_grad():
        before = losses(flat)
        for _ in range(n_retries):
            new = flat - length * step
            # Not "larger than": a loss that is NaN is worse, too.
            worse = ~(losses(new) <= before)
            if not bool(worse.any()):
                break
            length = torch.where(worse[:, None], length / 4, length)
        return torch.where(worse[:, None], flat, new), length


def _gradient(
    forward: TaskForward | StackForward,
    layout: Layout,
    flat: Tensor,
    support: Padded,
    loss: Loss,
    task_weight: Tensor | None,
    second_order: bool,
    step: int,
) -> tuple[Tensor, Stats]:
    """Gradient of every task's mean support loss in its own weights: (T, P)."""
    weights = layout.split(flat)
    slope = getattr(loss, "slope", None)
    if slope is not None and isinstance(forward, StackForward) and forward.has_gradients:
        share = _row_shares(support, task_weight)
        with torch.set_grad_enabled(second_order):
            found = forward.gradients(
                weights, support.x, lambda outputs: slope(outputs, support.y) * share
            )
            return layout.join_tasks(found, flat), ()
    outputs, stats = forward(weights, support.x, support.mask, step=step)
    # One gradient of the SUM gives each task its own: tasks do not share weights here.
    losses = task_losses(loss, outputs, support)
    total = losses.sum() if task_weight is None else (losses * task_weight).sum()
    gradients = torch.autograd.grad(
        total, list(weights.values()), create_graph=second_order, allow_unused=True
    )
    return layout.join_tasks(gradients, flat), stats


def _row_shares(rows: Padded, task_weight: Tensor | None) -> Tensor | float:
    """What a row's loss counts for in its task's mean: 0 for padding; (T, n or 1, 1) if it varies.

    Times the weight of the task.
    """
    assert rows.y is not None
    n_outputs = rows.y.shape[2:].numel()
    if rows.mask is None:
        share: Tensor | float = 1.0 / (rows.x.shape[1] * n_outputs)
    else:
        size = rows.mask.sum(1).clamp(min=1)[:, None, None]
        share = rows.mask.unsqueeze(2).to(rows.x.dtype) / (size * n_outputs)
    return share if task_weight is None else share * task_weight[:, None, None]


def _shorten(gradient: Tensor, max_norm: float) -> Tensor:
    """Scale the gradient of every task that is longer than ``max_norm``."""
    norm = gradient.detach().norm(dim=1, keepdim=True)
    if bool((norm <= max_norm).all()):
        return gradient
    # Differentiated through, so that the shortened step is what training sees.
    norm = gradient.norm(dim=1, keepdim=True)
    return gradient * (max_norm / norm).clamp(max=1.0)
