"""The learner behind the hierarchical Gaussian processes."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn

from skmeta.core.gp import (
    JITTER,
    Evidence,
    Hyper,
    Parts,
    add,
    bound_and_slopes,
    evidence,
    parts_of,
    shared_features,
    solve,
    task_kernel,
    task_variance,
    weights_posterior,
)
from skmeta.core.learner import MarginalLearner, State
from skmeta.core.tasks import Padded, TaskRows
from skmeta.exceptions import TrainingDivergedError

# Variances where the search starts, in units of that of y. The noise stays above the second.
FIRST = {"noise": 0.3, "constant": 0.3, "rbf": 0.1, "shared_linear": 1.0, "shared_rbf": 0.3}
FIRST_SLOPES = 0.1
LEAST_NOISE = 1e-6
# Standard deviation, on a log scale, of the prior of what all tasks share and of length scales:
# wide, and yet what keeps the answer of five tasks finite.
PRIOR_WIDTH = 3.0
# Standard deviations between tasks have an exponential prior of this mean, in units of that of y:
# tasks are alike where nothing says that they differ (Simpson et al., 2017).
MEAN_SPREAD = 0.5
SCALARS = tuple(FIRST)
VECTORS = ("linear", "length", "shared_length")
# Padded rows times the widest task: what one batch of covariances may hold.
CELLS_AT_A_TIME = 2**21


class GPLearner(MarginalLearner):
    """Shared sparse process plus an exact one a task; one set of hyperparameters an output.

    The state is a task's support rows and the weights of their kernels.

    Parameters
    ----------
    n_features, n_outputs, n_inducing : int
        Columns of X and y, and inducing points.
    max_iter : int
        Steps of the optimiser.
    lr : float
        Its rate, on log hyperparameters.
    rows_per_step : int
        More rows than these are taken a random part of the tasks at a time.
    max_task_rows : int
        Rows of a task that training looks at, at most; drawn at random.
    """

    log_hyper: Tensor
    inducing: Tensor
    mean: Tensor
    root: Tensor

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        n_inducing: int,
        *,
        max_iter: int,
        lr: float,
        rows_per_step: int,
        max_task_rows: int,
    ) -> None:
        super().__init__()
        d, q = n_features, 1 + n_features + n_inducing
        shapes = {
            "log_hyper": (n_outputs, len(SCALARS) + len(VECTORS) * d),
            "inducing": (n_inducing, d),
            "mean": (n_outputs, q),
            "root": (n_outputs, q, q),
        }
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))
        self.n_features = n_features
        self.max_iter = max_iter
        self.lr = lr
        self.rows_per_step = rows_per_step
        self.max_task_rows = max_task_rows

    # ---------------------------------------------------------------- hyperparameters

    def _first(self) -> Tensor:
        d = self.n_features
        values = [*FIRST.values(), *[FIRST_SLOPES / d] * d, *[math.sqrt(d)] * (2 * d)]
        return torch.tensor(values, dtype=self.mean.dtype, device=self.mean.device).log()

    def _unpack(self, log_hyper: Tensor) -> Hyper:
        values = log_hyper.exp()
        named = dict(zip(SCALARS, values[: len(SCALARS)], strict=True))
        parts = values[len(SCALARS) :].split(self.n_features)
        named.update(zip(VECTORS, parts, strict=True))
        named["noise"] = named["noise"] + LEAST_NOISE
        return Hyper(**named)

    def hyper(self, output: int) -> Hyper:
        """Variances and length scales of an output, in standardised units."""
        return self._unpack(self.log_hyper[output])

    # ---------------------------------------------------------------- fit

    def fit_tasks(self, rows: TaskRows, generator: Generator) -> list[dict]:
        """Maximise the marginal likelihood of every output, then condition on all rows."""
        history: list[dict] = []
        for output in range(len(self.mean)):
            assert rows.y is not None
            own = TaskRows(rows.x, rows.y[:, output], rows.offsets)
            log_hyper = self._maximise(own, generator, history)
            many = rows.n_tasks > 1
            if not many:  # a single task has no part of its own
                for name in ("constant", "rbf"):
                    log_hyper[SCALARS.index(name)] = -60.0
                log_hyper[len(SCALARS) : len(SCALARS) + self.n_features] = -60.0
            h = self._unpack(log_hyper)
            with torch.no_grad():
                total = functools.reduce(add, self._evidence(h, own, many, generator))
                self.log_hyper[output] = log_hyper
                self.mean[output], self.root[output] = weights_posterior(total)
        return history

    def _maximise(self, rows: TaskRows, generator: Generator, history: list[dict]) -> Tensor:
        first = self._first()
        values = first.clone().requires_grad_()
        optimizer = torch.optim.Adam([values], lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.max_iter)
        whole = list(self._batches(rows, generator)) if self._fits_at_once(rows) else None
        for step in range(self.max_iter):
            part, weight = rows, 1.0
            if whole is None:
                part = self._some_tasks(rows, generator)
                weight = rows.n_tasks / part.n_tasks
            batches = whole if whole is not None else self._batches(part, generator)
            with torch.enable_grad():
                h = self._unpack(values)
                parts = [self._parts(h, batch, rows.n_tasks > 1) for batch in batches]
                bound, surrogate = bound_and_slopes(parts, weight)
                prior = self._prior_loss(values, first)
                n_rows = weight * len(part.x)
                optimizer.zero_grad()
                ((surrogate + prior) / n_rows).backward()
            value = float(bound + prior.detach()) / n_rows
            if not math.isfinite(value):
                raise TrainingDivergedError(
                    f"The marginal likelihood became {value} at step {step + 1}. Lower lr, and "
                    "check X and y for huge values."
                )
            history.append({"epoch": len(history) + 1, "train_loss": value})
            optimizer.step()
            schedule.step()
        return values.detach()

    def _prior_loss(self, values: Tensor, first: Tensor) -> Tensor:
        """Minus the log prior of the log hyperparameters."""
        d, n = self.n_features, len(SCALARS)
        own = torch.zeros(len(values), dtype=torch.bool, device=values.device)
        own[[SCALARS.index("constant"), SCALARS.index("rbf")]] = True
        own[n : n + d] = True  # the slopes
        wide = ((values - first) / PRIOR_WIDTH).square() / 2
        return torch.where(own, (values / 2).exp() / MEAN_SPREAD, wide).sum()

    def _parts(self, h: Hyper, rows: Padded, own_part: bool) -> tuple[Parts, Tensor, int]:
        assert rows.y is not None
        parts = parts_of(h, rows.x, rows.mask, self.inducing, own_part=own_part)
        if rows.mask is None:
            return parts, rows.y, rows.y.numel()
        return parts, rows.y * rows.mask, int(rows.mask.sum())

    def _evidence(
        self, h: Hyper, rows: TaskRows, own_part: bool, generator: Generator
    ) -> Iterator[Evidence]:
        for batch in self._batches(rows, generator):
            parts, y, n_rows = self._parts(h, batch, own_part)
            yield evidence(parts, solve(parts, y, n_rows), y)

    def _fits_at_once(self, rows: TaskRows) -> bool:
        sizes = rows.sizes.clamp(max=self.max_task_rows)
        return int(sizes.sum()) <= self.rows_per_step

    def _some_tasks(self, rows: TaskRows, generator: Generator) -> TaskRows:
        """Random tasks with about ``rows_per_step`` rows in all."""
        order = torch.randperm(rows.n_tasks, generator=generator)
        sizes = rows.sizes.clamp(max=self.max_task_rows)[order]
        n_tasks = int((torch.cumsum(sizes, 0) <= self.rows_per_step).sum())
        return rows.take_tasks(order[: max(1, n_tasks)])

    def _batches(self, rows: TaskRows, generator: Generator) -> Iterator[Padded]:
        """Padded batches of bounded memory; rows of very large tasks are a random part of them."""
        if rows.n_tasks > 1 and int(rows.sizes.max()) > self.max_task_rows:
            rows = _thin(rows, self.max_task_rows, generator)
        if rows.n_tasks == 1:
            yield rows.padded()
            return
        widest = int(rows.sizes.max())
        for tasks in rows.buckets(max(1, CELLS_AT_A_TIME // widest**2)):
            yield rows.take_tasks(tasks).padded()

    # ---------------------------------------------------------------- adapt and predict

    @property
    def max_tasks(self) -> int:
        """Tasks at a time: each has a matrix of its own."""
        return 1024

    def condition(self, support: TaskRows) -> State:
        """Weights of the support rows' kernels for T tasks."""
        padded = support.padded()
        assert padded.y is not None
        real = torch.ones_like(padded.y[..., 0])
        if padded.mask is not None:
            real = padded.mask.to(real)
        return self._state(padded.x * real.unsqueeze(2), padded.y * real.unsqueeze(2), real)

    def _state(self, x: Tensor, y: Tensor, real: Tensor) -> State:
        alpha = torch.zeros_like(y)
        for output in range(len(self.mean)):
            h = self.hyper(output)
            chol, phi = self._support_factor(output, h, x, real)
            surprise = (y[..., output] - phi @ self.mean[output]) * real
            alpha[..., output] = torch.cholesky_solve(surprise.unsqueeze(2), chol).squeeze(2)
        return {"x": x, "y": y, "real": real, "alpha": alpha}

    def _support_factor(
        self, output: int, h: Hyper, x: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cholesky factor of the covariance of the support, and its shared features."""
        phi = shared_features(h, x, self.inducing)
        covariance = self._covariance(output, h, x, phi, x, phi)
        both = real.unsqueeze(1) * real.unsqueeze(2)
        # A padded place is a row of its own with variance 1.
        diagonal = (h.noise + JITTER) * real + (1 - real)
        return torch.linalg.cholesky(covariance * both + torch.diag_embed(diagonal)), phi

    def _covariance(
        self, output: int, h: Hyper, a: Tensor, phi_a: Tensor, b: Tensor, phi_b: Tensor
    ) -> Tensor:
        """Covariance between rows of a new task, given what training taught of the shared part."""
        known = (phi_a @ self.root[output]) @ (phi_b @ self.root[output]).mT
        return known + task_kernel(h, a, b)

    def merge(self, state: State, more: State) -> State:
        """Condition on the rows of both."""
        x, y, real = (torch.cat([state[n], more[n]], dim=1) for n in ("x", "y", "real"))
        return self._state(x, y, real)

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Expected targets."""
        padded = query.padded()
        outputs = []
        for output in range(len(self.mean)):
            h = self.hyper(output)
            x, phi = padded.x, shared_features(h, padded.x, self.inducing)
            mean = phi @ self.mean[output]
            if state["x"].shape[1]:
                support = shared_features(h, state["x"], self.inducing)
                cross = self._covariance(output, h, x, phi, state["x"], support)
                mean = mean + (cross @ state["alpha"][..., output].unsqueeze(2)).squeeze(2)
            outputs.append(mean)
        return padded.flat(torch.stack(outputs, dim=-1))

    def predict_variance(self, state: State, query: TaskRows) -> Tensor:
        """Variance of new observations."""
        padded = query.padded()
        outputs = []
        for output in range(len(self.mean)):
            h = self.hyper(output)
            x, phi = padded.x, shared_features(h, padded.x, self.inducing)
            variance = (phi @ self.root[output]).square().sum(-1) + task_variance(h, x)
            if len(self.inducing):
                low_rank = phi[..., 1 + self.n_features :].square().sum(-1)
                variance = variance + (h.shared_rbf - low_rank).clamp(min=0.0)
            if state["x"].shape[1]:
                chol, support = self._support_factor(output, h, state["x"], state["real"])
                cross = self._covariance(output, h, state["x"], support, x, phi)
                cross = cross * state["real"].unsqueeze(2)
                half = torch.linalg.solve_triangular(chol, cross, upper=False)
                variance = variance - half.square().sum(1)
            outputs.append(variance.clamp(min=0.0) + h.noise)
        return padded.flat(torch.stack(outputs, dim=-1))

    def set_prior(self, rows: TaskRows) -> None:
        """No rows: those of the training tasks are in the shared weights already."""
        x = self.mean.new_zeros(1, 0, self.n_features)
        y = self.mean.new_zeros(1, 0, len(self.mean))
        self._prior = {"x": x, "y": y, "real": y[..., 0], "alpha": y}


def _thin(rows: TaskRows, most: int, generator: Generator) -> TaskRows:
    """At most ``most`` random rows of every task."""
    keys = torch.rand(len(rows.x), generator=generator, dtype=torch.float64)
    task = torch.repeat_interleave(torch.arange(rows.n_tasks), rows.sizes)
    order = torch.argsort(task + keys)  # by task, shuffled inside
    rank = torch.arange(len(task)) - rows.offsets[:-1][task]
    kept = order[rank < most].to(rows.x.device)
    y = None if rows.y is None else rows.y[kept]
    return TaskRows.from_sizes(rows.x[kept], y, rows.sizes.clamp(max=most))
