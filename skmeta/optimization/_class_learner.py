"""Gradient descent where every task has classes of its own: the head starts from prototypes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from skmeta.core.forward import SharedForward, Weights, make_forward, with_head
from skmeta.core.learner import NEVER, State
from skmeta.core.norm import use_support_statistics
from skmeta.core.positive import Positive
from skmeta.core.tasks import Padded, TaskRows
from skmeta.optimization._learner import PRIOR_NUMBERS, PRIOR_ROWS, MAMLLearner


class OwnClassesLearner(MAMLLearner):
    """A body that is learned, and a linear head that every task makes from its class means.

    A linear layer with weights 2 c and bias -|c|^2 scores rows like the distance to the class means
    c does (Triantafillou et al., 2020); from there, it adapts with the rest. So a task may have any
    number of classes.

    Parameters
    ----------
    module : Module
        The body: maps rows to features.
    width : int
        Number of features.
    **kwargs
        As for :class:`MAMLLearner`.
    """

    def __init__(self, module: nn.Module, width: int, **kwargs: Any) -> None:
        self._width = width
        super().__init__(module, **kwargs)
        self.scale = Positive(torch.tensor(1.0))

    def _build(self, module: nn.Module) -> None:
        # The head stands in the net for its place alone: its weights always come from outside.
        net = with_head(module, nn.Linear(self._width, 1))
        use_support_statistics(net)
        if self.algorithm == "anil":
            self.body = SharedForward(net[:-1])
            self._head = ("0.weight", "0.bias")
            self.forward_tasks = make_forward(nn.Sequential(net[-1]))
            self._features: SharedForward | None = None
            self._adapting = (nn.Sequential(),)
        else:
            self.body = None
            self._head = (f"{len(net) - 1}.weight", f"{len(net) - 1}.bias")
            self.forward_tasks = make_forward(net)
            self._adapting = (net[:-1],)
            self._features = SharedForward(self._adapting[0])
        self.module = net[:-1]

    def _own_shapes(self) -> dict[str, tuple[int, ...]]:
        return {self._head[0]: (self._width,), self._head[1]: ()}

    def _own_start(self, support: Padded) -> Weights:
        """A head that scores like the distance to the class means of the support."""
        assert support.y is not None
        features = support.x
        if self._features is not None:
            features, _ = self._features(support.x, support.mask)
        member = F.one_hot(support.y).to(features)
        if support.mask is not None:
            member = member * support.mask.unsqueeze(2)
        counts = member.sum(1).unsqueeze(2)
        means = member.mT @ features / counts.clamp(min=1)
        scale = self.scale()
        bias = torch.where(counts.squeeze(2) > 0, -scale * means.square().sum(2), NEVER)
        return {self._head[0]: 2 * scale * means, self._head[1]: bias}

    def _condition(self, support: TaskRows, n_steps: int) -> State:
        state = super()._condition(support, n_steps)
        # Joined with tasks of more classes, weights are padded with zeros: these are not classes.
        state["own/present"] = state[self._head[1]] > NEVER / 2
        return state

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Scores of the classes of every row's task."""
        scores = super().predict(state, query)
        return torch.where(state["own/present"][query.task_of_row], scores, NEVER)

    def set_prior(self, rows: TaskRows) -> None:
        """Class means of all rows, or of some of each class: there is no one task to adapt to."""
        assert rows.y is not None
        most = max(1, min(PRIOR_ROWS, PRIOR_NUMBERS // rows.x[0].numel()))
        n_classes = int(rows.y.max()) + 1
        if len(rows.y) > most:
            order = torch.argsort(rows.y, stable=True)
            y = rows.y[order]
            rank = torch.arange(len(y), device=y.device) - torch.searchsorted(y, y)
            keep = order[rank < max(1, most // n_classes)]
            rows = TaskRows.single(rows.x[keep], rows.y[keep])
        self._prior = self._condition(TaskRows.single(rows.x, rows.y), 0)
