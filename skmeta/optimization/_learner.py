"""The learner of the MAML family: gradient descent from a learned start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from skmeta.core.forward import StackForward, make_forward
from skmeta.core.inner import adapt_weights, task_losses
from skmeta.core.learner import Learner, State
from skmeta.core.norm import update_prior
from skmeta.core.tasks import Episodes, Padded, TaskRows

# The prior is the answer of all rows taken as one task; more rows than this change little.
PRIOR_ROWS = 2**14
# Longest inner gradient of a task, of a loss in standardised units: ordinary ones are shorter.
MAX_INNER_NORM = 10.0
# Learned rates suit the training tasks; on a task unlike them the steps may fly off. Adaptation
# that leaves the support loss above twice its start (plus this, in units of the variance of y) is
# undone and taken again, each step as long as lowers the loss.
TOLERATED_LOSS = 0.01
N_RETRIES = 5


class MAMLLearner(Learner):
    """Gradient descent from a learned start, with fixed or learned rates.

    The state is every task's adapted weights, and the statistics of its batch norms if there are
    any.

    Parameters
    ----------
    module : Module
        Maps rows to outputs; trained in place. Parameters that need no gradient stay fixed.
    loss : callable
        Element-wise loss of outputs and targets.
    inner_lr : float
        Rate of the inner steps, or where learning it starts.
    learn_inner_lr : {False, "layer", "parameter", "step"}
        What has a learned rate of its own.
    n_inner_steps, n_adapt_steps : int
        Steps in training and at adaptation. Past the steps with a learned rate, the last is used.
    n_support : int
        Support rows that training is about; a task with fewer takes proportionally smaller steps.
    second_order : bool
        Differentiate through the inner gradients.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        loss: Callable[[Tensor, Tensor], Tensor],
        inner_lr: float,
        learn_inner_lr: bool | str,
        n_inner_steps: int,
        n_adapt_steps: int,
        n_support: int,
        second_order: bool,
    ) -> None:
        super().__init__()
        self.forward_tasks = make_forward(module)
        self.module = module
        self.loss = loss
        self.inner_lr = inner_lr
        self.n_inner_steps = n_inner_steps
        self.n_adapt_steps = n_adapt_steps
        self.n_support = n_support
        self.second_order = second_order
        if not self._start():
            raise ValueError("The module has no parameter that requires a gradient: none to adapt.")
        self.learn_inner_lr = learn_inner_lr
        self._layer_sizes = self._weights_a_layer()
        self.rates = nn.ParameterList(self._make_rates())

    def _start(self) -> dict[str, Tensor]:
        """The weights that adapt, and where they start."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def _weights_a_layer(self) -> list[int]:
        """How many weights each layer has: its weight and its bias share a rate."""
        layers: dict[str, int] = {}
        for name, p in self._start().items():
            layer = name.rpartition(".")[0]
            layers[layer] = layers.get(layer, 0) + p.numel()
        return list(layers.values())

    def _make_rates(self) -> list[Tensor]:
        """Learned rates: one vector of all weights, or one a layer (and step)."""
        if not self.learn_inner_lr:
            return []
        if self.learn_inner_lr == "parameter":
            return [torch.full((sum(self._layer_sizes),), self.inner_lr)]
        n_steps = self.n_inner_steps if self.learn_inner_lr == "step" else 1
        return [torch.full((n_steps, len(self._layer_sizes)), self.inner_lr)]

    def _rate(self, step: int) -> Tensor | float:
        """Rate of a step: a number, or a vector with one entry a weight."""
        if not self.learn_inner_lr:
            return self.inner_lr
        if self.learn_inner_lr == "parameter":
            return self.rates[0]
        by_layer = self.rates[0][min(step, len(self.rates[0]) - 1)]
        repeats = torch.tensor(self._layer_sizes, device=by_layer.device)
        return torch.repeat_interleave(by_layer, repeats, output_size=sum(self._layer_sizes))

    def _guards(self, support: TaskRows) -> dict[str, Any]:
        """Keep a step from overshooting where the support is unlike those of training."""
        sizes = support.sizes
        weight = None
        if int(sizes.min()) < self.n_support:
            # The curvature of a mean over fewer rows is larger: divide their sum by n_support.
            weight = (sizes / self.n_support).clamp(max=1.0).to(support.x)
        return {"task_weight": weight, "max_norm": MAX_INNER_NORM}

    @property
    def max_tasks(self) -> int:
        """Tasks at a time: memory grows with the weights, which every task has its own copy of."""
        n_weights = sum(p.numel() for p in self.module.parameters())
        budget = 2**24 if isinstance(self.forward_tasks, StackForward) else 2**20
        return min(512, max(4, budget // n_weights))

    def episode_loss(self, episodes: Episodes, generator: Generator) -> Tensor:
        """Mean query loss after adaptation (Finn et al., 2017, equation 1)."""
        support, query = episodes.support.padded(), episodes.query.padded()
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            weights = adapt_weights(
                self.forward_tasks,
                self._start(),
                support,
                self.loss,
                self._rate,
                self.n_inner_steps,
                second_order=self.second_order and differentiable,
                differentiable=differentiable,
                **self._guards(episodes.support),
            )
        stats = None
        if self.forward_tasks.norms:
            _, stats = self.forward_tasks(weights, support.x, support.mask)
            if self.training:
                update_prior(self.forward_tasks.norms, stats)
        outputs, _ = self.forward_tasks(weights, query.x, query.mask, stats)
        return task_losses(self.loss, outputs, query).mean()

    def condition(self, support: TaskRows) -> State:
        """Adapted weights of T tasks.

        A task whose support loss the steps have made much worse takes them again, shorter.
        """
        padded = support.padded()
        state = self._descend(support, padded)
        with torch.no_grad():
            start = {n: p.expand(support.n_tasks, *p.shape) for n, p in self._start().items()}
            bound = 2 * self._support_losses(start, padded) + TOLERATED_LOSS
            # Not "larger than": a loss that is NaN is worse, too.
            worse = ~(self._support_losses(state, padded) <= bound)
            if bool(worse.any()):
                tasks = torch.nonzero(worse).flatten()
                part = support.take_tasks(tasks.cpu())
                again = self._descend(part, part.padded(), n_retries=N_RETRIES)
                state = {n: v.index_copy(0, tasks, again[n]) for n, v in state.items()}
        if self.forward_tasks.norms:
            with torch.no_grad():
                _, stats = self.forward_tasks(state, padded.x, padded.mask)
            for i, (mean, var) in enumerate(stats):
                state[f"norm/{i}/mean"], state[f"norm/{i}/var"] = mean, var
        return state

    def _descend(self, support: TaskRows, padded: Padded, n_retries: int = 0) -> State:
        """Adapted weights; steps that raise the support loss are retried ``n_retries`` times."""
        with torch.enable_grad():
            weights = adapt_weights(
                self.forward_tasks,
                self._start(),
                padded,
                self.loss,
                self._rate,
                self.n_adapt_steps,
                second_order=False,
                differentiable=False,
                n_retries=n_retries,
                **self._guards(support),
            )
        return {name: value.detach() for name, value in weights.items()}

    def _support_losses(self, weights: State, padded: Padded) -> Tensor:
        outputs, _ = self.forward_tasks(weights, padded.x, padded.mask)
        return task_losses(self.loss, outputs, padded)

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Outputs of every task's own weights."""
        padded = query.padded()
        stats = tuple(
            (state[f"norm/{i}/mean"], state[f"norm/{i}/var"])
            for i in range(len(self.forward_tasks.norms))
        )
        weights = {name: value for name, value in state.items() if not name.startswith("norm/")}
        with torch.no_grad():
            outputs, _ = self.forward_tasks(weights, padded.x, padded.mask, stats)
        return padded.flat(outputs)

    def set_prior(self, rows: TaskRows) -> None:
        """Adapt to all rows (a random part of very many) as one task: the population's answer."""
        assert rows.y is not None
        if len(rows.x) > PRIOR_ROWS:
            # Drawn at random: every n-th row could be the first visit of every patient.
            generator = torch.Generator().manual_seed(0)
            chosen = torch.randperm(len(rows.x), generator=generator)[:PRIOR_ROWS]
            chosen = chosen.to(rows.x.device)
            rows = TaskRows.single(rows.x[chosen], rows.y[chosen])
        super().set_prior(rows)
