"""The learner behind HierarchicalLogisticRegression: a logistic mixed model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Generator, Tensor, nn

from skmeta.core.heads.logistic import (
    Design,
    Labelled,
    answer,
    contrasts,
    design_of_coefficients,
    design_under,
    find_mode,
    posterior,
    reduce,
    under,
)
from skmeta.core.learner import MarginalLearner, State
from skmeta.core.logistic_mixed import Population, fit_population, marginal_mean
from skmeta.core.mixed import with_constant
from skmeta.core.sampling import RowSampler
from skmeta.core.tasks import TaskRows

# Hyperparameters, on a log scale: precision of the mean slopes, and standard deviations between
# tasks of the intercept and of the slopes. Where the search starts, its first steps and its limits.
FIRST = np.log([1.0, 0.5, 0.3])
FIRST_STEPS = (1.0, 1.0, -1.0)
LIMITS = ((-6.0, 8.0), (-7.0, 3.0), (-7.0, 3.0))
# The mean intercept is free, but for this.
INTERCEPT_PRECISION = 0.01
# Standard deviations of priors: of log precision, and of the standard deviations between tasks (of
# the intercept, and of what all slopes together do to a row).
PRIOR_LOG_ALPHA = 4.0
PRIOR_SPREAD = 2.0
# Few tasks do not say what shape the prior has, and the mode is the cautious answer: with so many
# tasks half the corrections for skewness are made, of a task's coefficients and of the common mean.
TASKS_FOR_HALF = 20
# The common level is moved until new tasks are told the classes as often as the training rows have
# them: rows that are looked at, rounds at most, and the log ratio that is close enough.
ROWS_FOR_LEVEL, LEVEL_ROUNDS, LEVEL_SETTLED = 2**14, 30, 1e-4
# Newton steps, at most; ten are many.
NEWTON_STEPS = 100
# What a batch of tasks, and all tasks together, may hold: entries of a tensor.
CELLS_AT_A_TIME = 2**23
CELLS_IN_ALL = 2**26
# The game of method="simulate": folds of tasks, episodes a support size, query rows of an episode,
# and how strongly it is drawn to the hyperparameters of greatest marginal likelihood (in rows, a
# unit of squared log distance). Standard deviations below the last are all as good as zero.
FOLDS = 10
EPISODES = 200
QUERY_ROWS = 50
PULL = 8.0
AS_GOOD_AS_ZERO = 0.15


class LogisticLearner(MarginalLearner):
    """Logistic mixed model: intercept and slopes vary between tasks.

    The state is a task's rows and its most probable coefficients, in units of their prior.

    Parameters
    ----------
    n_features, n_classes : int
        Columns of X, and classes.
    method : {"laplace", "simulate"}
        How hyperparameters are chosen.
    n_support : sequence of int
        Support sizes to simulate.
    max_iter : int
        Steps of the search for hyperparameters.
    """

    mean: Tensor
    root: Tensor
    precision: Tensor
    spread: Tensor
    skew: Tensor
    table: Tensor

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        method: str,
        n_support: Sequence[int],
        max_iter: int,
    ) -> None:
        super().__init__()
        q = (n_classes - 1) * (n_features + 1)
        shapes = {"mean": (q,), "root": (q, q), "precision": (), "spread": (2,), "skew": ()}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))
        self.register_buffer("table", contrasts(n_classes))
        self.n_latent, self.n_columns = n_classes - 1, n_features + 1
        self.method = method
        self.n_support = tuple(n_support)
        self.max_iter = max_iter

    # ---------------------------------------------------------------- hyperparameters

    def _of_all(self, intercept: Tensor, slope: Tensor) -> Tensor:
        """A number for the intercepts and one for all slopes, as a vector (q,)."""
        both = torch.stack([intercept, slope])[[0] + [1] * (self.n_columns - 1)]
        return both.repeat(self.n_latent)

    def spreads(self, log_hyper: Tensor | None = None) -> Tensor:
        """Standard deviations between tasks of all coefficients, (q,)."""
        return self._of_all(*(self.spread if log_hyper is None else log_hyper[1:].exp()))

    def _log_prior(self, log_hyper: Tensor, many: bool) -> float:
        """Log density of the hyperparameters.

        Normal on the log precision, half-normal on both standard deviations; these are taken at
        their mode on the log scale, which is never at zero (Chung et al., 2013).
        """
        log_alpha, log_intercept, log_slope = log_hyper.tolist()
        value = -((log_alpha / PRIOR_LOG_ALPHA) ** 2) / 2
        if many:
            variance = math.exp(2 * log_intercept)
            variance += (self.n_columns - 1) * math.exp(2 * log_slope)
            value += log_intercept + log_slope - variance / PRIOR_SPREAD**2 / 2
        return value

    # ---------------------------------------------------------------- fit

    def fit_tasks(self, rows: TaskRows, generator: Generator) -> list[dict]:
        """Choose hyperparameters, then take the mean that is most probable under them."""
        assert rows.y is not None
        shares = torch.bincount(rows.y, minlength=len(self.table)) / len(rows.y)
        rows = _thin(rows, CELLS_IN_ALL // self.root.numel(), generator)
        many = rows.n_tasks > 1
        batches = self.batches(rows)
        history: list[dict] = []
        last: Population | None = None

        def population(log_hyper: Tensor) -> Population:
            nonlocal last
            last = self.population(batches, log_hyper, many, last)
            return last

        def evidence(log_hyper: Tensor) -> float:
            value = population(log_hyper).log_evidence + self._log_prior(log_hyper, many)
            return -value / len(rows.x)

        with torch.no_grad():
            self.skew.fill_(rows.n_tasks / (rows.n_tasks + TASKS_FOR_HALF))
            found = self._search(evidence, FIRST, 3 if many else 1, history)
            if many and self.method == "simulate":
                loss = Game(self, rows, found, generator).loss
                found = self._search(loss, found, 3, history)
            log_hyper = self._tensor(found)
            best = self.settled(batches, log_hyper, many, population(log_hyper))
            self.precision.copy_(log_hyper[0].exp())
            self.spread.copy_(log_hyper[1:].exp() * many)
            self.mean.copy_(best.mean)
            self.root.copy_(best.root(self.spreads()))
            if many:
                some = torch.randperm(len(rows.x), generator=generator)[:ROWS_FOR_LEVEL]
                self._level(rows.x[some.to(rows.x.device)], shares.to(self.mean))
        return history

    def _level(self, x: Tensor, shares: Tensor) -> None:
        """Move the mean intercepts until new tasks are told the classes as often as ``shares``.

        The approximations shrink them where tasks vary and a label is rare.
        """
        query = TaskRows.single(x)
        self.set_prior(query)
        intercepts = self.mean.view(self.n_latent, self.n_columns)[:, 0]
        for _ in range(LEVEL_ROUNDS):
            told = self.predict(self.prior(), query).exp().mean(0)
            off = shares.log() - told.log()
            intercepts += 2 * self.table.T @ off  # contrasts have the length 1/sqrt(2)
            if float(off.abs().max()) < LEVEL_SETTLED:
                break

    def population(
        self, batches: list[Design], log_hyper: Tensor, many: bool, start: Population | None
    ) -> Population:
        """What tasks say of their mean; a single task has no part of its own."""
        return fit_population(
            batches, *self._spread_and_prior(log_hyper, many), NEWTON_STEPS, start
        )

    def settled(
        self, batches: list[Design], log_hyper: Tensor, many: bool, found: Population
    ) -> Population:
        """The same with the mean moved from the mode towards that of the marginal likelihood."""
        both = self._spread_and_prior(log_hyper, many)
        mean = marginal_mean(batches, *both, NEWTON_STEPS, found)
        return replace(found, mean=found.mean.lerp(mean, self.skew))

    def _spread_and_prior(self, log_hyper: Tensor, many: bool) -> tuple[Tensor, Tensor]:
        prior = self._of_all(self._tensor(INTERCEPT_PRECISION), log_hyper[0].exp())
        return self.spreads(log_hyper) * many, prior

    def _search(
        self,
        loss: Callable[[Tensor], float],
        start: np.ndarray,
        n_free: int,
        history: list[dict],
    ) -> np.ndarray:
        """Nelder and Mead's search over the first ``n_free`` hyperparameters."""

        def value(free: np.ndarray) -> float:
            result = loss(self._tensor(np.concatenate([free, start[n_free:]])))
            return result if math.isfinite(result) else math.inf

        corners = np.vstack([np.zeros(n_free), np.diag(FIRST_STEPS[:n_free])]) + start[:n_free]
        losses: list[float] = []
        found = minimize(
            value, start[:n_free], method="Nelder-Mead", bounds=LIMITS[:n_free],
            callback=lambda intermediate_result: losses.append(intermediate_result.fun),
            options={"maxiter": self.max_iter + 1, "initial_simplex": corners, "xatol": 0.03,
                     "fatol": 1e-5},
        )  # fmt: skip
        history += [{"epoch": len(history) + i + 1, "train_loss": v} for i, v in enumerate(losses)]
        return np.concatenate([found.x, start[n_free:]])

    def _tensor(self, values: np.ndarray | float) -> Tensor:
        return torch.tensor(values, dtype=self.mean.dtype, device=self.mean.device)

    def batches(self, rows: TaskRows) -> list[Design]:
        """Padded batches whose unknowns are the tasks' coefficients."""
        q = len(self.mean)
        row = max(q, int(rows.sizes.max()) * self.n_latent) * q
        return [
            design_of_coefficients(Labelled.of(rows.take_tasks(tasks)), self.table)
            for tasks in rows.buckets(max(1, CELLS_AT_A_TIME // row))
        ]

    # ---------------------------------------------------------------- adapt and predict

    @property
    def max_tasks(self) -> int:
        """Tasks at a time: each has a matrix of its own."""
        return min(4096, max(1, CELLS_AT_A_TIME // (4 * self.root.numel())))

    def condition(self, support: TaskRows) -> State:
        """Most probable coefficients of T tasks."""
        return self._state(Labelled.of(support))

    def _state(self, rows: Labelled) -> State:
        mode = mode_of(design_under(rows, self.table, self.mean, self.root))
        return {"z": rows.z, "y": rows.y, "real": rows.real, "mode": mode}

    def merge(self, state: State, more: State) -> State:
        """Condition on the rows of both."""
        z, y, real = (torch.cat([state[n], more[n]], dim=1) for n in ("z", "y", "real"))
        return self._state(Labelled(z, y, real))

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Log-probabilities of the classes."""
        padded = query.padded()
        rows = Labelled(state["z"], state["y"], state["real"])
        design = design_under(rows, self.table, self.mean, self.root)
        at_once = max(1, CELLS_AT_A_TIME // (len(rows.y) * self.n_latent * len(self.mean)))
        parts = []
        for x in padded.x.split(at_once, dim=1):
            phi, offset = under(with_constant(x), self.n_latent, self.mean, self.root)
            parts.append(answer(design, state["mode"], self.skew, phi, offset))
        return padded.flat(torch.cat(parts, dim=1))

    def predict_variance(self, state: State, query: TaskRows) -> Tensor:
        """Variance of the indicators of the classes."""
        proba = self.predict(state, query).exp()
        return proba * (1 - proba)

    def set_prior(self, rows: TaskRows) -> None:
        """No rows: those of the training tasks are in the mean already."""
        z = self.mean.new_zeros(1, 0, self.n_columns)
        y = torch.zeros(1, 0, dtype=torch.int64, device=z.device)
        self._prior = self._state(Labelled(z, y, z[..., 0]))

    def effects(self, rows: TaskRows) -> tuple[Tensor, Tensor]:
        """Deviation of T tasks' coefficients from the mean, (T, q), and its covariance."""
        root = torch.diag(self.spreads())
        deviations, covariances = [], []
        batches = list(rows.buckets(self.max_tasks))
        for tasks in batches:
            labelled = Labelled.of(rows.take_tasks(tasks))
            design = design_under(labelled, self.table, self.mean, root)
            mean, chol = posterior(design, find_mode(design, NEWTON_STEPS), self.skew)
            half = torch.linalg.solve_triangular(chol, root.expand_as(chol), upper=False)
            deviations.append(mean @ root)
            covariances.append(half.mT @ half)
        back = torch.argsort(torch.cat(batches))
        return torch.cat(deviations)[back], torch.cat(covariances)[back]


class Game:
    """The k-shot game played with the training tasks: each is new to the mean that it is given.

    Parameters
    ----------
    learner : LogisticLearner
        Whose hyperparameters are sought.
    rows : TaskRows
        The training tasks.
    center : ndarray of shape (3,)
        Log hyperparameters to stay close to, as far as few rows ask for it.
    generator : Generator
        Draws folds and episodes.
    """

    def __init__(
        self, learner: LogisticLearner, rows: TaskRows, center: np.ndarray, generator: Generator
    ) -> None:
        self.learner = learner
        self.center = _floored(learner._tensor(center))
        self.pull = PULL / len(rows.x)
        n_folds = min(rows.n_tasks, FOLDS)
        fold = torch.randperm(rows.n_tasks, generator=generator) % n_folds
        self.others = [
            learner.batches(rows.take_tasks(torch.nonzero(fold != f).flatten()))
            for f in range(n_folds)
        ]
        self.last: list[Population | None] = [None] * n_folds
        most = max(1, min(EPISODES, CELLS_IN_ALL // learner.root.numel() // 4))
        self.rounds = []
        for k in _playable(learner.n_support, rows.sizes):
            able = torch.nonzero(rows.sizes > k).flatten()
            order = torch.randperm(len(able), generator=generator)
            tasks = able[order.repeat(-(-most // len(able)))[:most]]
            drawn = RowSampler(rows, k, QUERY_ROWS).draw(tasks, generator)
            sets = Labelled.of(drawn.support), Labelled.of(drawn.query)
            self.rounds.append((fold[tasks].to(rows.x.device), *sets))
        self.modes: list[Tensor | None] = [None] * len(self.rounds)

    def loss(self, log_hyper: Tensor) -> float:
        """Mean log loss over support sizes, and the pull."""
        learner = self.learner
        spread = learner.spreads(log_hyper)
        means, roots = [], []
        for f, batches in enumerate(self.others):
            found = learner.population(batches, log_hyper, True, self.last[f])
            self.last[f] = found
            found = learner.settled(batches, log_hyper, True, found)
            means.append(found.mean)
            roots.append(found.root(spread))
        mean, root = torch.stack(means), torch.stack(roots)
        losses = []
        for i, (fold, support, query) in enumerate(self.rounds):
            prior = mean[fold], root[fold]
            design = design_under(support, learner.table, *prior)
            self.modes[i] = mode = mode_of(design, self.modes[i])
            ahead = under(query.z, learner.n_latent, *prior)
            log_proba = answer(design, mode, learner.skew, *ahead)
            own = log_proba.gather(2, query.y.unsqueeze(2)).squeeze(2)
            losses.append(-((own * query.real).sum(1) / query.real.sum(1)).mean())
        distance = (_floored(log_hyper) - self.center).square().sum()
        return float(torch.stack(losses).mean() + self.pull * distance)


def mode_of(design: Design, start: Tensor | None = None) -> Tensor:
    """Most probable unknowns (T, q), found among as few as the rows speak of."""
    fewer, basis = reduce(design)
    if basis is None:
        return find_mode(fewer, NEWTON_STEPS, start)
    if start is not None:
        start = (start.unsqueeze(1) @ basis).squeeze(1)
    return (basis @ find_mode(fewer, NEWTON_STEPS, start).unsqueeze(2)).squeeze(2)


def _floored(log_hyper: Tensor) -> Tensor:
    """Log hyperparameters, with standard deviations that level off towards zero."""
    floor = log_hyper.new_tensor([-math.inf, *[math.log(AS_GOOD_AS_ZERO)] * 2])
    return torch.logaddexp(2 * log_hyper, 2 * floor) / 2


def _playable(n_support: Sequence[int], sizes: Tensor) -> list[int]:
    """Support sizes that leave some task a row to be judged on."""
    largest = int(sizes.max()) - 1
    return sorted({k for k in n_support if k <= largest}) or [largest]


def _thin(rows: TaskRows, most: int, generator: Generator) -> TaskRows:
    """At most ``most`` random tasks."""
    if rows.n_tasks <= most:
        return rows
    kept = torch.randperm(rows.n_tasks, generator=generator)[: max(2, most)]
    return rows.take_tasks(kept.sort().values)
