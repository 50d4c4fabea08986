"""The learner of the MAML family: gradient descent from a learned start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from skmeta.core.forward import (
    SharedForward,
    StackForward,
    TaskForward,
    Weights,
    make_forward,
    split_head,
)
from skmeta.core.inner import adapt_weights, task_losses
from skmeta.core.learner import Learner, State
from skmeta.core.norm import Stats, SupportNorm, update_prior, use_support_statistics
from skmeta.core.rates import InnerRates
from skmeta.core.tasks import Episodes, Padded, TaskRows
from skmeta.optimization._minibatches import Minibatches

# The prior is the answer of all rows taken as one task; more rows, or numbers in them, than this
# change little.
PRIOR_ROWS = 2**14
PRIOR_NUMBERS = 2**20
# Longest inner gradient of a task, of a loss in standardised units: ordinary ones are shorter.
MAX_INNER_NORM = 10.0
# Learned rates suit the training tasks; on a task unlike them the steps may fly off. Adaptation
# that leaves the support loss above twice its start (plus this, in units of the variance of y) is
# undone and taken again, each step as long as lowers the loss.
TOLERATED_LOSS = 0.01
N_RETRIES = 5
# Annealing of Antoniou et al.: their configurations spend about so much of training on first-order
# gradients, and on losses of early steps, which never weigh less than this over the steps.
FIRST_ORDER_SHARE = 1 / 3
MULTI_STEP_SHARE = 0.1
LEAST_STEP_WEIGHT = 0.03


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
    algorithm : {"maml", "fomaml", "anil", "reptile"}
        Differentiate through the inner gradients of all weights; take them as constants; adapt the
        last layer only; or move the start towards adapted weights.
    inner_lr : float
        Rate of the inner steps, or where learning it starts.
    learn_inner_lr : {False, "layer", "parameter", "step"}
        What has a learned rate of its own.
    n_inner_steps, n_adapt_steps : int
        Steps in training and at adaptation. Past the steps with a learned rate, the last is used.
    n_support : int
        Support rows that training is about; a task with fewer takes proportionally smaller steps.
    multi_step_loss : bool
        Train on the query loss after every step, at first.
    derivative_order_annealing : bool
        Take inner gradients as constants, at first.
    per_step_norm : bool
        Give batch norms a scale and a shift for every step, which do not adapt.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        loss: Callable[[Tensor, Tensor], Tensor],
        algorithm: str,
        inner_lr: float,
        learn_inner_lr: bool | str,
        n_inner_steps: int,
        n_adapt_steps: int,
        n_support: int,
        multi_step_loss: bool = False,
        derivative_order_annealing: bool = False,
        per_step_norm: bool = False,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.algorithm = algorithm
        self.n_inner_steps = n_inner_steps
        self.n_adapt_steps = n_adapt_steps
        self.n_support = n_support
        self.multi_step_loss = multi_step_loss
        self.derivative_order_annealing = derivative_order_annealing
        self._build(module)
        if per_step_norm:
            for layer in self.norms:
                layer.split_steps(n_inner_steps + 1)  # the query comes after the last step
        if not self._start() and not self._own_shapes():
            raise ValueError("The module has no parameter that requires a gradient: none to adapt.")
        self.rates = InnerRates(
            learn_inner_lr, inner_lr, self._start(), self._own_shapes(), n_inner_steps
        )

    def _build(self, module: nn.Module) -> None:
        """Keep the module, and how to call it with task-batched weights."""
        use_support_statistics(module)  # before it is taken apart: the parts share its layers
        self.module = module
        # What comes before the weights that adapt: under ANIL, all but the last layer.
        self.body: SharedForward | None = None
        parts = split_head(module) if self.algorithm == "anil" else None
        self.forward_tasks: TaskForward | StackForward
        if parts is None:
            self.forward_tasks = make_forward(module)
            self._adapting = (module,)  # in a tuple: it is registered as the module already
        else:
            self.body = SharedForward(parts[0])
            self._adapting = (nn.Sequential(parts[1]),)
            self.forward_tasks = make_forward(self._adapting[0])

    @property
    def norms(self) -> list[SupportNorm]:
        """Batch norms, in the order in which their statistics come."""
        return self.forward_tasks.norms if self.body is None else self.body.norms

    # ---------------------------------------------------------------- start

    def _start(self) -> dict[str, Tensor]:
        """The weights that adapt, and where they start."""
        fixed = {id(p) for n in self.norms for p in n.parameters() if p.ndim > 1}  # one a step
        named: dict[str, Tensor] = {
            name: p
            for name, p in self._adapting[0].named_parameters()
            if p.requires_grad and id(p) not in fixed
        }
        if self.algorithm == "anil":
            last = list(named)[-1].rpartition(".")[0] if named else ""
            named = {name: p for name, p in named.items() if name.rpartition(".")[0] == last}
        return named

    def _own_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes, per class, of weights that every task starts from a place of its own."""
        return {}

    def _own_start(self, support: Padded) -> Weights:
        """Where these weights start: name -> (T, n_classes, ...)."""
        return {}

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
        return min(512, max(4, budget // max(n_weights, 1)))

    # ---------------------------------------------------------------- training

    def episode_loss(self, episodes: Episodes, generator: Generator) -> Tensor:
        """Mean query loss after adaptation (Finn et al., 2017, equation 1).

        Under Reptile, its gradient is how far the start lies from the adapted weights.
        """
        if self.algorithm == "reptile" and self.training:
            return self._reptile_loss(episodes, generator)
        support, query = episodes.support.padded(), episodes.query.padded()
        differentiable = torch.is_grad_enabled()
        support, body_stats = self._inputs(support)
        query, _ = self._inputs(query, body_stats)
        early: list[Tensor] = []
        step_weights = self._step_weights()

        def look(step: int, weights: Weights, _: Stats) -> None:
            if step < self.n_inner_steps - 1:
                loss, _ = self._query_loss(weights, support, query, step + 1)
                early.append(step_weights[step] * loss)

        with torch.enable_grad():
            own = self._own_start(support)
            weights = adapt_weights(
                self.forward_tasks,
                self._start(),
                support,
                self.loss,
                self.rates.of(own),
                self.n_inner_steps,
                own=own,
                second_order=self._second_order and differentiable,
                differentiable=differentiable,
                observe=self._observer(look if step_weights else None),
                **self._guards(episodes.support),
            )
        loss, stats = self._query_loss(weights, support, query, self.n_inner_steps)
        if self.norms and self.training:
            update_prior(self.norms, body_stats or stats, self.n_inner_steps)
        if not early:
            return loss
        return (1 - sum(step_weights)) * loss + torch.stack(early).sum()

    @property
    def _second_order(self) -> bool:
        if self.algorithm in ("fomaml", "reptile"):
            return False
        annealed = self.derivative_order_annealing and self.progress < FIRST_ORDER_SHARE
        return not annealed

    def _step_weights(self) -> list[float]:
        """What the query loss after each step but the last counts for; empty for nothing."""
        left = 1 - self.progress / MULTI_STEP_SHARE
        if not (self.multi_step_loss and self.training and left > 0):
            return []
        n = self.n_inner_steps
        return [max(left, LEAST_STEP_WEIGHT) / n] * (n - 1)

    def _observer(self, look: Callable | None) -> Callable | None:
        """What adaptation calls after each step, if anything."""
        per_step = [layer for layer in self.norms if layer.prior_mean.ndim > 1]
        if not (per_step and self.training and self.body is None):
            return look

        def observe(step: int, weights: Weights, stats: Stats) -> None:
            update_prior(self.norms, stats, step)
            if look is not None:
                look(step, weights, stats)

        return observe

    def _inputs(self, rows: Padded, stats: Stats | None = None) -> tuple[Padded, Stats]:
        """What the adapting weights see of rows: the rows, or what the body makes of them."""
        if self.body is None:
            return rows, ()
        features, used = self.body(rows.x, rows.mask, stats)
        return Padded(features, rows.y, rows.mask), used

    def _query_loss(
        self, weights: Weights, support: Padded, query: Padded, step: int
    ) -> tuple[Tensor, Stats]:
        """Mean query loss of adapted weights, and the statistics of the support under them."""
        stats: Stats | None = None
        if self.forward_tasks.norms:
            _, stats = self.forward_tasks(weights, support.x, support.mask, step=step)
        outputs, _ = self.forward_tasks(weights, query.x, query.mask, stats, step=step)
        return task_losses(self.loss, outputs, query).mean(), stats or ()

    def _reptile_loss(self, episodes: Episodes, generator: Generator) -> Tensor:
        """Mean loss of all rows after steps on minibatches of them (Nichol et al., 2018)."""
        batches = Minibatches(episodes, generator)
        start = self._start()
        with torch.enable_grad():
            own = self._own_start(batches.rows)
            weights = adapt_weights(
                self.forward_tasks,
                start,
                batches,
                self.loss,
                self.rates.of(own),
                self.n_inner_steps,
                own=own,
                second_order=False,
                differentiable=False,
                observe=self._observer(None),
                **self._guards(episodes.support),
            )
            # Its gradient in the start is the start minus the mean of the adapted weights.
            pull = torch.stack(
                [(p * (p - weights[name].mean(0)).detach()).sum() for name, p in start.items()]
            ).sum()
        with torch.no_grad():
            loss, stats = self._query_loss(weights, batches.rows, batches.rows, self.n_inner_steps)
            if self.norms:
                update_prior(self.norms, stats, self.n_inner_steps)
        return loss.detach() + pull - pull.detach()

    # ---------------------------------------------------------------- adaptation

    def condition(self, support: TaskRows) -> State:
        """Adapted weights of T tasks.

        A task whose support loss the steps have made much worse takes them again, shorter.
        """
        return self._condition(support, self.n_adapt_steps)

    def _condition(self, support: TaskRows, n_steps: int) -> State:
        with torch.no_grad():
            padded, body_stats = self._inputs(support.padded())
            own = self._own_start(padded)
        state = self._descend(support, padded, own, n_steps)
        with torch.no_grad():
            start = {n: p.expand(support.n_tasks, *p.shape) for n, p in self._start().items()}
            bound = 2 * self._support_losses({**start, **own}, padded, 0) + TOLERATED_LOSS
            # Not "larger than": a loss that is NaN is worse, too.
            worse = ~(self._support_losses(state, padded, n_steps) <= bound)
            if bool(worse.any()) and n_steps:
                tasks = torch.nonzero(worse).flatten()
                part = support.take_tasks(tasks.cpu())
                inputs, _ = self._inputs(part.padded())
                again = self._descend(
                    part, inputs, {n: v[tasks] for n, v in own.items()}, n_steps, N_RETRIES
                )
                state = {n: v.index_copy(0, tasks, again[n]) for n, v in state.items()}
            stats = body_stats
            if self.forward_tasks.norms:
                _, stats = self.forward_tasks(state, padded.x, padded.mask, step=n_steps)
        for i, (mean, var) in enumerate(stats):
            state[f"norm/{i}/mean"], state[f"norm/{i}/var"] = mean, var
        if stats:
            state["norm/step"] = torch.full((support.n_tasks,), n_steps)
        return state

    def _descend(
        self, support: TaskRows, padded: Padded, own: Weights, n_steps: int, n_retries: int = 0
    ) -> State:
        """Adapted weights; steps that raise the support loss are retried ``n_retries`` times."""
        with torch.enable_grad():
            weights = adapt_weights(
                self.forward_tasks,
                self._start(),
                padded,
                self.loss,
                self.rates.of(own),
                n_steps,
                own=own,
                second_order=False,
                differentiable=False,
                n_retries=n_retries,
                **self._guards(support),
            )
        return {name: value.detach() for name, value in weights.items()}

    def _support_losses(self, weights: State, padded: Padded, step: int) -> Tensor:
        outputs, _ = self.forward_tasks(weights, padded.x, padded.mask, step=step)
        return task_losses(self.loss, outputs, padded)

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Outputs of every task's own weights."""
        padded = query.padded()
        stats = tuple(
            (state[f"norm/{i}/mean"], state[f"norm/{i}/var"]) for i in range(len(self.norms))
        )
        step = int(state["norm/step"][0]) if stats else 0
        weights = {name: value for name, value in state.items() if "/" not in name}
        with torch.no_grad():
            rows, _ = self._inputs(padded, stats)
            given = stats if self.forward_tasks.norms else ()
            outputs, _ = self.forward_tasks(weights, rows.x, rows.mask, given, step=step)
        return padded.flat(outputs)

    def set_prior(self, rows: TaskRows) -> None:
        """Adapt to all rows (a random part of very many) as one task: the population's answer."""
        assert rows.y is not None
        most = max(2, min(PRIOR_ROWS, PRIOR_NUMBERS // rows.x[0].numel()))
        if len(rows.x) > most:
            # Drawn at random: every n-th row could be the first visit of every patient.
            generator = torch.Generator().manual_seed(0)
            chosen = torch.randperm(len(rows.x), generator=generator)[:most]
            chosen = chosen.to(rows.x.device)
            rows = TaskRows.single(rows.x[chosen], rows.y[chosen])
        super().set_prior(rows)
