"""The learner behind HierarchicalRidge: a linear mixed model, one an output."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Generator, Tensor, nn

from skmeta.core.learner import MarginalLearner, State
from skmeta.core.mixed import (
    Moments,
    mixed_model,
    moments,
    posterior_factor,
    posterior_mean,
    posterior_variance,
    rooted,
    unknown_directions,
    with_constant,
)
from skmeta.core.numerics import FAR_SUPPORT
from skmeta.core.tasks import TaskRows

# Standard deviations between tasks, in units of the noise's, where the search starts; and those of
# level and slopes that are looked at for a second start: noise may be next to nothing.
FIRST_SPREAD = 0.5
OTHER_SPREADS = (0.05, 5.0, 500.0, 5e4)
# A flat prior on the mean asks for so many tasks a coefficient, free covariances for so many.
TASKS_FOR_A_FLAT_PRIOR = 8
TASKS_FOR_COVARIANCES = 5
# Up to so many coefficients their covariances are free where there are tasks enough, and so many
# rows beyond a task's first for each of their numbers; else they have to earn their number.
FEW_COEFFICIENTS = 3
ROWS_FOR_COVARIANCES = 20
# Next to no noise explains small tasks too well. With few rows beyond the first of a task the prior
# of its standard deviation is a power of it, to keep off the boundary (Chung et al., 2013): the
# first number over these rows, one at most, and nothing from the second number on. It has no scale.
NOISE_PRIOR, ROWS_FOR_NOISE = 10.0, 100
# Noise is no less than 1e-5 of the standard deviation of y: slopes may be 1e10 times as large.
LOG_ALPHA_BOUNDS = (-45.0, 20.0)
# Support rows beyond so many standard deviations are of other units: in their squares, which are
# all that is kept, a noise of the usual size would be lost.
FARTHEST = 1e6


class MixedLearner(MarginalLearner):
    """Linear mixed model with all coefficients varying between tasks.

    The state is a task's moments and its coefficients: no rows.

    Parameters
    ----------
    n_features, n_outputs : int
        Columns of X and y.
    covariance : {"auto", "full", "diag", "isotropic", "low_rank"}
        Form of the between-task covariance.
    rank : int
        Of the low-rank form.
    mean_prior : {"auto", "flat", "ridge"}
        Prior of the mean coefficients.
    restricted : bool
        REML, or ML.
    max_iter : int
        Steps of the optimiser, an output and form.
    """

    mean: Tensor
    root: Tensor
    between: Tensor
    noise: Tensor

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        covariance: str,
        rank: int,
        mean_prior: str,
        restricted: bool,
        max_iter: int,
    ) -> None:
        super().__init__()
        p = n_features + 1
        shapes = {
            "mean": (n_outputs, p),
            "root": (n_outputs, p, p),
            "between": (n_outputs, p, p),
            "noise": (n_outputs,),
        }
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))
        self.covariance = covariance
        self.rank = rank
        self.mean_prior = mean_prior
        self.restricted = restricted
        self.max_iter = max_iter

    # ---------------------------------------------------------------- fit

    def fit_tasks(self, rows: TaskRows, generator: Generator) -> list[dict]:
        """Maximise the (restricted) likelihood of every output."""
        sums = moments(rows)
        losses = [self._fit_output(sums, output) for output in range(self.mean.shape[0])]
        return [{"train_loss": loss} for steps in losses for loss in steps]

    def _fit_output(self, sums: Moments, output: int) -> list[float]:
        """Fit one output; the losses of the search that found the best."""
        n_tasks, p = sums.gram.shape[:2]
        more_rows = sums.n_rows - n_tasks
        many = n_tasks >= TASKS_FOR_A_FLAT_PRIOR * p
        flat = self.mean_prior == "flat" or (self.mean_prior == "auto" and many)
        # What the rows say nothing of is as wide as the prior; without one it is held at zero.
        unknown = unknown_directions(sums.gram.sum(0))
        best = None
        power = 0.0
        if n_tasks > 1:
            power = min(1.0, max(0.0, NOISE_PRIOR / more_rows - NOISE_PRIOR / ROWS_FOR_NOISE))
        for form in self._forms(n_tasks, p, more_rows):
            shape = _Form(form, p, min(self.rank, p))
            found = self._minimise(shape, sums, output, flat, unknown, power)
            if best is None or found[0] < best[0]:
                best = found
        assert best is not None
        _, factor, fit, losses = best
        # Nothing is known to vary along it, either: there the search stays where it starts.
        factor = factor - unknown @ factor / torch.linalg.eigvalsh(sums.gram.sum(0))[-1]
        between = fit.noise * factor @ factor.T
        # A new task varies about a mean that is itself known only so well.
        prior = between + fit.noise * torch.linalg.inv(fit.precision)
        with torch.no_grad():
            self.mean[output] = fit.mean
            self.between[output] = between
            values, vectors = torch.linalg.eigh(prior)  # its rank may be that of rounding
            self.root[output] = vectors * values.clamp(min=0).sqrt()
            self.noise[output] = fit.noise
        return losses

    def _forms(self, n_tasks: int, p: int, more_rows: int) -> list[str]:
        """Forms of the covariance to compare; ``more_rows``: beyond the first of every task."""
        if n_tasks == 1:
            return ["none"]  # nothing can be said of what varies between tasks
        if self.covariance != "auto":
            return [self.covariance]
        if n_tasks < TASKS_FOR_COVARIANCES * p:
            return ["isotropic", "diag"]
        free = p <= FEW_COEFFICIENTS and more_rows >= ROWS_FOR_COVARIANCES * p * (p + 1) // 2
        return ["full"] if free else ["isotropic", "diag", "full"]

    def _minimise(self, form, sums, output, flat, unknown, power):
        """Penalised deviance, factor, fit and losses at the optimum of one form.

        ``power`` is that of the standard deviation of the noise in its prior.
        """
        like = sums.gram
        half, level = rooted(sums.gram, sums.cross[..., output : output + 1])
        bounds = [(None, None)] * form.size + ([] if flat else [LOG_ALPHA_BOUNDS])

        def model(theta: Tensor, flat: bool = flat):
            log_alpha = None if flat else theta[-1]
            return mixed_model(
                form.factor(theta[: form.size]), log_alpha, half, level[..., 0],
                sums.square[:, output], sums.n_rows - power, unknown * flat,
                restricted=self.restricted,
            )  # fmt: skip

        def objective(values):
            theta = torch.tensor(values, dtype=like.dtype, device=like.device, requires_grad=True)
            try:
                with torch.enable_grad():
                    deviance = model(theta).deviance
                    (slope,) = torch.autograd.grad(deviance, theta)
            except torch.linalg.LinAlgError:  # too long a step: the line search takes a shorter one
                return 1e10, np.zeros(len(values))
            return deviance.item() / sums.n_rows, slope.cpu().numpy() / sums.n_rows

        def looked_at(level_spread: float, slope_spread: float):
            """Deviance and values there; the prior of the mean slopes is as wide as they are."""
            theta = like.new_tensor(form.start(level_spread, slope_spread))
            try:
                if not flat:
                    free = model(theta, flat=True)
                    slopes = free.mean[1:].square().mean()
                    log_alpha = (free.noise / slopes).log().nan_to_num(0.0).clip(*LOG_ALPHA_BOUNDS)
                    theta = torch.cat([theta, log_alpha.reshape(1)])
                deviance = float(model(theta).deviance)
            except torch.linalg.LinAlgError:
                return np.inf, first
            return deviance if np.isfinite(deviance) else np.inf, theta.cpu().numpy()

        first = np.concatenate([form.start(FIRST_SPREAD, FIRST_SPREAD), [] if flat else [0.0]])
        if len(first) == 0:
            theta, losses = like.new_tensor(first), []
        else:
            pairs = [looked_at(*pair) for pair in product(OTHER_SPREADS, OTHER_SPREADS)]
            second = min(pairs, key=lambda pair: pair[0])[1]
            searches = [self._search(objective, start, bounds) for start in (first, second)]
            found, losses = min(searches, key=lambda search: search[0].fun)
            theta = like.new_tensor(found.x)
        fit = model(theta)
        # Schwarz's criterion: a task is an observation of the covariance.
        penalty = form.size * np.log(len(like))
        return float(fit.deviance) + penalty, form.factor(theta[: form.size]), fit, losses

    def _search(self, objective, start, bounds):
        """Where a search ends, and the losses on its way."""
        losses: list[float] = []
        found = minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": self.max_iter, "ftol": 1e-13, "gtol": 1e-8},
            callback=lambda intermediate_result: losses.append(intermediate_result.fun),
        )  # fmt: skip
        return found, losses

    # ---------------------------------------------------------------- adapt and predict

    @property
    def max_tasks(self) -> int:
        """Tasks at a time: each has a matrix of its own."""
        return min(4096, max(1, 2**22 // self.root.numel()))

    def condition(self, support: TaskRows) -> State:
        """Coefficients of T tasks."""
        sums = _moments_nearby(support)
        return self._state(sums.gram, sums.cross)

    def _state(self, gram: Tensor, cross: Tensor) -> State:
        coef = posterior_mean(gram, cross, self.mean, self.root, self.noise)
        return {"gram": gram, "cross": cross, "coef": coef}

    def merge(self, state: State, more: State) -> State:
        """Moments add up."""
        return self._state(state["gram"] + more["gram"], state["cross"] + more["cross"])

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Expected targets."""
        padded = query.padded()
        return padded.flat(with_constant(padded.x) @ state["coef"])

    def predict_variance(self, state: State, query: TaskRows) -> Tensor:
        """Variance of new observations."""
        padded = query.padded()
        z = with_constant(padded.x)
        known = posterior_variance(z, state["gram"], self.root, self.noise)
        return padded.flat(known + self.noise)

    def set_prior(self, rows: TaskRows) -> None:
        """No rows: those of the training tasks are in the mean already."""
        _, p = self.mean.shape
        gram = self.mean.new_zeros(1, p, p)
        self._prior = self._state(gram, gram.new_zeros(1, p, self.mean.shape[0]))

    def effects(self, rows: TaskRows) -> tuple[Tensor, Tensor]:
        """Deviation of T tasks from the mean, (T, p, O), and its covariance, (T, O, p, p)."""
        sums = _moments_nearby(rows)
        values, vectors = torch.linalg.eigh(self.between)
        root = vectors * values.clamp(min=0).sqrt().unsqueeze(1)
        coef = posterior_mean(sums.gram, sums.cross, self.mean, root, self.noise)
        chol = posterior_factor(sums.gram, root, self.noise)
        half = torch.linalg.solve_triangular(chol, root.mT.expand_as(chol), upper=False)
        return coef - self.mean.T, half.mT @ half


def _moments_nearby(rows: TaskRows) -> Moments:
    """Moments of rows that are not so far away that their squares lose what the noise is."""
    if bool((rows.x.abs() > FARTHEST).any()):
        raise ValueError(FAR_SUPPORT)
    return moments(rows)


class _Form:
    """How a vector of numbers makes a root (p, r) of the between-task covariance."""

    def __init__(self, name: str, p: int, rank: int) -> None:
        self.name, self.p, self.rank = name, p, rank
        self.size = {
            "none": 0,
            "isotropic": min(2, p),
            "diag": p,
            "full": p * (p + 1) // 2,
            "low_rank": p * rank,
        }[name]

    def start(self, level: float, slope: float) -> np.ndarray:
        """Numbers of a covariance without correlations, from standard deviations."""
        spread = np.full(self.p, slope)
        spread[0] = level
        if self.name == "full":
            return np.diag(spread)[np.tril_indices(self.p)]
        if self.name == "low_rank":
            # Not a column of zeros: its gradient would be zero, too.
            rng = np.random.default_rng(0)
            first = rng.normal(size=(self.p, self.rank)) / np.sqrt(self.p)
            first[0, 0] = 1.0
            return (spread[:, None] * first).ravel()
        return spread[: self.size]

    def factor(self, theta: Tensor) -> Tensor:
        if self.name == "none":
            return theta.new_zeros(self.p, 1)
        if self.name == "full":
            rows, columns = torch.tril_indices(self.p, self.p, device=theta.device)
            return theta.new_zeros(self.p, self.p).index_put((rows, columns), theta)
        if self.name == "low_rank":
            return theta.reshape(self.p, self.rank)
        if self.name == "isotropic":
            theta = torch.cat([theta[:1], theta[1:].expand(self.p - 1)])
        return torch.diag(theta)
