"""The learner behind the hierarchical Gaussian processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from skmeta.core.gp import (
    JITTER,
    Bound,
    Evidence,
    Parts,
    add,
    bound_and_slopes,
    careful_cholesky,
    evidence,
    inducing_factor,
    parts_of,
    shared_features,
    solve,
    weights_posterior,
)
from skmeta.core.kernels import Hyper, task_kernel, task_variance
from skmeta.core.learner import MarginalLearner, State
from skmeta.core.tasks import Padded, TaskRows
from skmeta.exceptions import TrainingDivergedError

# The noise stays above this share of the variance of y.
LEAST_NOISE = 1e-6
# Standard deviation, on a log scale, of the prior of what all tasks share and of length scales:
# wide, and yet what keeps the answer of five tasks finite.
PRIOR_WIDTH = 3.0
SCALARS = ("noise", "constant", "rbf", "shared_linear", "shared_rbf")
VECTORS = ("linear", "length", "shared_length")
# Numbers in each of the matrices of a batch in training: a megabyte stays in a processor's cache;
# on a GPU, few large batches are better.
CELLS_AT_A_TIME = 2**17
CELLS_ON_GPU = 2**21


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

    # Variances where the search starts, in units of that of y.
    first_scalars: ClassVar[dict[str, float]] = {
        "noise": 0.3,
        "constant": 0.3,
        "rbf": 0.1,
        "shared_linear": 1.0,
        "shared_rbf": 0.3,
    }
    first_slopes: ClassVar[float] = 0.1
    # Standard deviations between tasks have an exponential prior of this mean, in units of that of
    # y: tasks are alike where nothing says that they differ (Simpson et al., 2017).
    mean_spread: ClassVar[float] = 0.5

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
        scalars = [self.first_scalars[name] for name in SCALARS]
        values = [*scalars, *[self.first_slopes / d] * d, *[math.sqrt(d)] * (2 * d)]
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
            history += self._fit_output(
                output, TaskRows(rows.x, rows.y[:, output], rows.offsets), generator
            )
        return history

    def _fit_output(self, output: int, rows: TaskRows, generator: Generator) -> list[dict]:
        history: list[dict] = []
        log_hyper = self._maximise(rows, generator, history)
        if rows.n_tasks == 1:  # a single task has no part of its own
            log_hyper[self._own_part()] = -60.0
        with torch.no_grad():
            found = self._posterior(self._unpack(log_hyper), rows, generator)
            self.log_hyper[output] = log_hyper
            self.mean[output], self.root[output] = found
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
            batches = whole if whole is not None else list(self._batches(part, generator))
            if whole is None:
                self._settle(self._unpack(values.detach()), batches, weight, rows.n_tasks > 1)
            with torch.enable_grad():
                h = self._unpack(values)
                factor = self._factor(h)
                parts = [self._parts(h, batch, rows.n_tasks > 1, factor) for batch in batches]
                bound = bound_and_slopes(parts, weight, self._bend(batches))
                prior = self._prior_loss(values, first)
                n_rows = weight * len(part.x)
                optimizer.zero_grad()
                prior.backward()
                bound.backward()
                assert values.grad is not None
                values.grad /= n_rows
            more = weight * self._look_again(batches, bound)
            value = (float(bound.value + prior.detach()) + more) / n_rows
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
        wide = ((values - first) / PRIOR_WIDTH).square() / 2
        own = (values / 2).exp() / self.mean_spread
        return torch.where(self._own_part(), own, wide).sum()

    def _own_part(self) -> Tensor:
        """Which hyperparameters are variances of the tasks' own part."""
        d, n = self.n_features, len(SCALARS)
        own = torch.zeros(n + 3 * d, dtype=torch.bool, device=self.mean.device)
        own[[SCALARS.index("constant"), SCALARS.index("rbf")]] = True
        own[n : n + d] = True  # the slopes
        return own

    def _factor(self, h: Hyper) -> Tensor | None:
        """What all batches have in common."""
        return inducing_factor(h, self.inducing) if len(self.inducing) else None

    def _parts(
        self, h: Hyper, rows: Padded, own_part: bool, factor: Tensor | None
    ) -> tuple[Parts, Tensor]:
        """Covariances and targets of a batch."""
        assert rows.y is not None
        y = rows.y if rows.mask is None else rows.y * rows.mask
        parts = parts_of(h, rows.x, rows.mask, self.inducing, own_part=own_part, factor=factor)
        return parts, y

    def _bend(self, batches: list[Padded]) -> Callable[[int, Tensor], Tensor] | None:
        """How targets and noise follow the process; see :func:`bound_and_slopes`. Here, not."""
        return None

    def _settle(self, h: Hyper, batches: list[Padded], weight: float, own_part: bool) -> None:
        """Make what stands for the likelihood of a part of the tasks fit it. Here, it does."""

    def _look_again(self, batches: list[Padded], bound: Bound) -> float:
        """Improve what stands for the likelihood, and tell what the loss lacks for it.

        A normal likelihood is what it is.
        """
        return 0.0

    def _posterior(self, h: Hyper, rows: TaskRows, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mean and root of the covariance of the shared weights, given all rows."""
        total: Evidence | None = None
        factor = self._factor(h)
        for batch in self._batches(rows, generator):
            parts, y = self._parts(h, batch, rows.n_tasks > 1, factor)
            found = evidence(parts, solve(parts, y), y)
            total = found if total is None else add(total, found)
        assert total is not None
        return weights_posterior(total)

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
        """Padded batches, alike in size; rows of very large tasks are a random part of them."""
        if rows.n_tasks > 1 and int(rows.sizes.max()) > self.max_task_rows:
            rows = _thin(rows, self.max_task_rows, generator)
        if rows.n_tasks == 1:
            yield rows.padded()
            return
        order = torch.argsort(rows.sizes, descending=True, stable=True)
        sizes, start, n_features = rows.sizes[order].tolist(), 0, self.mean.shape[1]
        most = CELLS_AT_A_TIME if self.mean.device.type == "cpu" else CELLS_ON_GPU
        while start < len(sizes):
            cells = sizes[start] * max(sizes[start], n_features)
            stop = start + max(1, most // cells)
            yield rows.take_tasks(order[start:stop]).padded()
            start = stop

    # ---------------------------------------------------------------- adapt and predict

    @property
    def max_tasks(self) -> int:
        """Tasks at a time: each has a matrix of its own."""
        return 1024

    def condition(self, support: TaskRows) -> State:
        """Weights of the support rows' kernels for T tasks."""
        padded = support.padded()
        assert padded.y is not None
        real = padded.x.new_ones(padded.x.shape[:2])
        if padded.mask is not None:
            real = padded.mask.to(real)
        return self._state(padded.x * real.unsqueeze(2), padded.y * real.unsqueeze(2), real)

    def _state(self, x: Tensor, y: Tensor, real: Tensor) -> State:
        alpha = torch.zeros_like(y)
        for output in range(len(self.mean)):
            h = self.hyper(output)
            phi = shared_features(h, x, self.inducing)
            chol = self._support_factor(output, x, phi, real, h.noise * real)
            surprise = (y[..., output] - phi @ self.mean[output]) * real
            alpha[..., output] = torch.cholesky_solve(surprise.unsqueeze(2), chol).squeeze(2)
        return {"x": x, "y": y, "real": real, "alpha": alpha}

    def _support_noise(self, state: State, output: int) -> Tensor:
        """Noise variance of every support row: (T, k)."""
        return self.hyper(output).noise * state["real"]

    def _support_factor(
        self, output: int, x: Tensor, phi: Tensor, real: Tensor, noise: Tensor
    ) -> Tensor:
        """Cholesky factor of the covariance of the support's targets."""
        covariance = self._covariance(output, x, phi, x, phi)
        both = real.unsqueeze(1) * real.unsqueeze(2)
        # A padded place is a row of its own with variance 1.
        diagonal = (noise + JITTER) * real + (1 - real)
        return careful_cholesky(covariance * both + torch.diag_embed(diagonal))

    def _covariance(
        self, output: int, a: Tensor, phi_a: Tensor, b: Tensor, phi_b: Tensor
    ) -> Tensor:
        """Covariance between rows of a new task, given what training taught of the shared part."""
        known = (phi_a @ self.root[output]) @ (phi_b @ self.root[output]).mT
        return known + task_kernel(self.hyper(output), a, b)

    def merge(self, state: State, more: State) -> State:
        """Condition on the rows of both."""
        return self._state(
            *(torch.cat([state[name], more[name]], dim=1) for name in ("x", "y", "real"))
        )

    def rows_held(self, state: State) -> Tensor:
        """How many support rows the state of every task holds: (T,)."""
        return state["real"].sum(1).long().cpu()

    def _latent(self, state: State, query: Padded, spread: bool) -> tuple[Tensor, Tensor]:
        """Mean and (with ``spread``) variance of the functions at the query rows: (T, n, O)."""
        filled = (state["real"] > 0).any(0)  # places that a wider task elsewhere has asked for
        if not bool(filled.all()):
            state = {name: value[:, filled] for name, value in state.items()}
        means, variances = [], []
        x = query.x
        for output in range(len(self.mean)):
            h = self.hyper(output)
            phi = shared_features(h, x, self.inducing)
            mean = phi @ self.mean[output]
            variance = torch.zeros_like(mean)
            if spread:
                variance = (phi @ self.root[output]).square().sum(-1) + task_variance(h, x)
                if len(self.inducing):
                    carried = phi[..., 1 + self.n_features :].square().sum(-1)
                    variance = variance + (h.shared_rbf - carried).clamp(min=0.0)
            if state["x"].shape[1]:
                real = state["real"].unsqueeze(2)
                own = shared_features(h, state["x"], self.inducing)
                cross = self._covariance(output, state["x"], own, x, phi) * real
                mean = mean + (cross.mT @ state["alpha"][..., output].unsqueeze(2)).squeeze(2)
                if spread:
                    noise = self._support_noise(state, output)
                    chol = self._support_factor(output, state["x"], own, state["real"], noise)
                    half = torch.linalg.solve_triangular(chol, cross, upper=False)
                    variance = variance - half.square().sum(1)
            means.append(mean)
            variances.append(variance.clamp(min=0.0))
        return torch.stack(means, dim=-1), torch.stack(variances, dim=-1)

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Expected targets."""
        padded = query.padded()
        return padded.flat(self._latent(state, padded, spread=False)[0])

    def predict_variance(self, state: State, query: TaskRows) -> Tensor:
        """Variance of new observations."""
        padded = query.padded()
        noise = torch.stack([self.hyper(output).noise for output in range(len(self.mean))])
        return padded.flat(self._latent(state, padded, spread=True)[1] + noise)

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
