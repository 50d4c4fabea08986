"""The learner behind HierarchicalGPClassifier: logistic likelihoods made normal, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from skmeta.closed_form._gp_learner import GPLearner, _thin
from skmeta.core.gp import (
    WIDE,
    Bound,
    Parts,
    add,
    bound_and_slopes,
    evidence,
    parts_of,
    shared_features,
    solve,
    weights_posterior,
)
from skmeta.core.kernels import Hyper, task_variance
from skmeta.core.learner import State
from skmeta.core.sigmoid import expected_log_odds
from skmeta.core.tasks import Padded, TaskRows

# Guards of the search: the least weight of a row, and how far a step may move its log odds.
LEAST_WEIGHT = 1e-4
LONGEST_MOVE = 2.0
# How far the common level may be shifted after that, in log odds.
WIDEST_SHIFT = 10.0
# Newton steps for the log odds of a part of the tasks, before a step of the search looks at it: it
# may be the one time that they are seen.
STEPS_A_PART = 4
# Passes over all rows after training: at most, and when the shared weights (standard normal before)
# move by less.
FINAL_ROUNDS, SETTLED = 100, 1e-4
# Pairs of passes over the support in adaptation: at most, and when the logarithms of theta move by
# less. How far ahead of two passes the next pair may begin.
ADAPT_ROUNDS, ADAPTED = 100, 1e-6
FARTHEST_AHEAD = 100.0


class GPClassifierLearner(GPLearner):
    """One latent process a class (one for two classes), its likelihood made normal row by row.

    While hyperparameters are sought, by Laplace's approximation: a row has the target and variance
    of a Newton step from where its log odds are, and a step of Newton's method goes with each of
    the search. For the posterior under them, of training and new tasks, by Polya-Gamma
    augmentation: given one number a row, ``theta``, the target is ``sign / (2 theta)`` and its
    variance ``1 / theta`` (Wenzel et al., 2019). That iteration cannot overshoot; its bound would
    have tasks vary far too little where they have three rows of unlike odds, or a label is rare.

    Parameters
    ----------
    n_classes : int
        Classes, known to all tasks.
    **options
        As for :class:`GPLearner`.
    """

    first_scalars: ClassVar[dict[str, float]] = {
        "noise": 0.3,  # not used: the likelihood has its own
        "constant": 1.0,
        "rbf": 0.3,
        "shared_linear": 1.0,
        "shared_rbf": 1.0,
    }
    first_slopes: ClassVar[float] = 0.3
    mean_spread: ClassVar[float] = 1.0

    def __init__(self, n_features: int, n_classes: int, n_inducing: int, **options) -> None:
        super().__init__(n_features, 1 if n_classes == 2 else n_classes, n_inducing, **options)
        self.n_classes = n_classes

    # ---------------------------------------------------------------- fit

    def fit_tasks(self, rows: TaskRows, generator: Generator) -> list[dict]:
        """Fit every class against the others."""
        assert rows.y is not None
        shares = self._shares(rows)  # before rows of a rare label are left out
        if rows.n_tasks > 1 and int(rows.sizes.max()) > self.max_task_rows:
            rows = _thin(rows, self.max_task_rows, generator)
        assert rows.y is not None
        signs = self._signs(rows.y)
        # What a row needs during the fit is looked up by its number.
        numbers = torch.arange(len(rows.x), device=rows.x.device)
        history: list[dict] = []
        for output in range(signs.shape[1]):
            self._sign, self._share = signs[:, output], shares[output]
            own = TaskRows(rows.x, numbers, rows.offsets)
            history += self._fit_output(output, own, generator)
        del self._sign, self._share, self._at, self._theta
        return history

    def _shares(self, rows: TaskRows) -> Tensor:
        """How often training has each class: (O,). A task counts for the rows of it that are used.

        In a single task these are all.
        """
        assert rows.y is not None
        ones = (self._signs(rows.y) > 0).to(self.mean)
        sizes = rows.sizes.to(ones)
        used = sizes if rows.n_tasks == 1 else sizes.clamp(max=self.max_task_rows)
        return (ones * (used / sizes)[rows.task_of_row, None]).sum(0) / used.sum()

    def _maximise(self, rows: TaskRows, generator: Generator, history: list[dict]) -> Tensor:
        # From the log odds of the class in all rows; theta begins where the search ends.
        n_ones, n_rows = int((self._sign > 0).sum()), len(self._sign)
        odds = (n_ones + 0.5) / (n_rows - n_ones + 0.5)
        self._at = torch.full_like(self._sign, math.log(odds))
        self._theta: Tensor | None = None
        log_hyper = super()._maximise(rows, generator, history)
        self._theta = _theta(self._at.abs())
        return log_hyper

    def _signs(self, codes: Tensor) -> Tensor:
        """+1 for the class of a column, -1 for the others: (..., O)."""
        dtype = self.mean.dtype
        if self.n_classes == 2:
            return (2 * codes - 1).to(dtype).unsqueeze(-1)
        return 2 * F.one_hot(codes, self.n_classes).to(dtype) - 1

    def _parts(
        self, h: Hyper, rows: Padded, own_part: bool, factor: Tensor | None
    ) -> tuple[Parts, Tensor]:
        assert rows.y is not None
        target, weight = self._normal(rows.y)
        parts = parts_of(
            h, rows.x, rows.mask, self.inducing, own_part=own_part, noise=1 / weight, factor=factor
        )
        return parts, target if rows.mask is None else target * rows.mask

    def _normal(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Targets of rows and their precisions: the normal likelihood that stands for theirs."""
        sign = self._sign[numbers]
        if self._theta is not None:
            theta = self._theta[numbers]
            return sign / (2 * theta), theta
        at = self._at[numbers]
        proba = torch.sigmoid(at)
        weight = (proba * (1 - proba)).clamp(min=LEAST_WEIGHT)
        return at + ((sign + 1) / 2 - proba) / weight, weight

    def _bend(self, batches: list[Padded]) -> Callable[[int, Tensor], Tensor]:
        """Slope of Laplace's determinant in the log odds, by way of the rows' weights."""

        def bend(number: int, precision: Tensor) -> Tensor:
            rows = batches[number]
            assert rows.y is not None
            proba = torch.sigmoid(self._at[rows.y])
            weight = proba * (1 - proba)
            moves = _real(rows) & (weight > LEAST_WEIGHT)
            variance = (weight - precision) / weight.square()
            return (variance * (1 - 2 * proba)).where(moves, 0.0)

        return bend

    def _settle(self, h: Hyper, batches: list[Padded], weight: float, own_part: bool) -> None:
        """Newton's steps for the log odds, under these hyperparameters."""
        factor = self._factor(h)
        for _ in range(STEPS_A_PART):
            parts = [self._parts(h, batch, own_part, factor) for batch in batches]
            self._look_again(batches, bound_and_slopes(parts, weight))

    def _look_again(self, batches: list[Padded], bound: Bound) -> float:
        """Newton's step for the log odds; the likelihood of labels, less that of targets.

        Which makes the loss that of Laplace's approximation, where no move is cut short.
        """
        lacks = 0.0
        for rows, surprise in zip(batches, bound.surprise, strict=True):
            assert rows.y is not None
            target, weight = self._normal(rows.y)
            at = self._at[rows.y]
            rest = surprise / weight
            moved = at + (target - rest - at).clamp(-LONGEST_MOVE, LONGEST_MOVE)
            own = F.logsigmoid(self._sign[rows.y] * moved)
            own = own + (weight * rest.square() - weight.log()) / 2
            real = _real(rows)
            self._at[rows.y[real]] = moved[real]
            lacks -= float(own[real].sum())
        return lacks

    def _move(self, rows: Padded, surprise: Tensor, precision: Tensor) -> None:
        """Set theta to its expectation under the posterior of the process at the rows."""
        assert rows.y is not None and self._theta is not None
        target, theta = self._normal(rows.y)
        found = _moved(target, 1 / theta, surprise, precision)
        real = _real(rows)
        self._theta[rows.y[real]] = found[real]

    def _posterior(self, h: Hyper, rows: TaskRows, generator: Generator) -> tuple[Tensor, Tensor]:
        found = super()._posterior(h, rows, generator)
        factor = self._factor(h)
        for _ in range(FINAL_ROUNDS):
            mean, root = found
            total = None
            for batch in self._batches(rows, generator):
                parts, y = self._parts(h, batch, rows.n_tasks > 1, factor)
                solved = solve(parts, y)
                spread = (solved.phi @ root).square().sum(2)
                inverse = solved.inverse
                if inverse.ndim == 3:
                    inverse = inverse.diagonal(dim1=1, dim2=2)
                self._move(batch, solved.y - solved.phi @ mean, inverse - spread)
                parts, y = self._parts(h, batch, rows.n_tasks > 1, factor)
                sums = evidence(parts, solve(parts, y), y)
                total = sums if total is None else add(total, sums)
            assert total is not None
            found = weights_posterior(total)
            if float((found[0] - mean).abs().max()) < SETTLED:
                break
        return self._level(h, rows, *found) if rows.n_tasks > 1 else found

    def _level(self, h: Hyper, rows: TaskRows, mean: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        """Shift the common level until new tasks are told the class as often as the rows have it.

        The normal approximation shrinks it where tasks vary and a label is rare.
        """
        middle, variance = self._of_new_tasks(h, rows.x, mean, root)
        low, high = -WIDEST_SHIFT, WIDEST_SHIFT
        for _ in range(40):
            shift = (low + high) / 2
            told = torch.sigmoid(expected_log_odds(middle + shift, variance)).mean()
            low, high = (low, shift) if told > self._share else (shift, high)
        mean = mean.clone()
        mean[0] += shift / WIDE
        return mean, root

    def _of_new_tasks(
        self, h: Hyper, x: Tensor, mean: Tensor, root: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of the process at rows of tasks that are not known: (N,) each."""
        phi = shared_features(h, x, self.inducing)
        variance = (phi @ root).square().sum(1) + task_variance(h, x)
        if len(self.inducing):
            carried = phi[:, 1 + self.n_features :].square().sum(1)
            variance = variance + (h.shared_rbf - carried).clamp(min=0.0)
        return phi @ mean, variance

    # ---------------------------------------------------------------- adapt and predict

    def condition(self, support: TaskRows) -> State:
        """Weights of the support rows' kernels for T tasks."""
        padded = support.padded()
        assert padded.y is not None
        real = padded.x.new_ones(padded.x.shape[:2])
        if padded.mask is not None:
            real = padded.mask.to(real)
        signs = self._signs(padded.y) * real.unsqueeze(2)
        return self._state(padded.x * real.unsqueeze(2), signs, real)

    def _state(self, x: Tensor, y: Tensor, real: Tensor) -> State:
        alpha, thetas = torch.zeros_like(y), torch.ones_like(y)
        for output in range(y.shape[2]):
            phi = shared_features(self.hyper(output), x, self.inducing)
            expected = phi @ self.mean[output]

            def look(theta: Tensor) -> Tensor:
                chol, surprise = self._surprise(output, x, phi, y[..., output], real, theta)  # noqa: B023 (called at once)
                precision = torch.cholesky_inverse(chol).diagonal(dim1=1, dim2=2)
                target = y[..., output] / (2 * theta) - expected  # noqa: B023
                return _moved(target, 1 / theta, surprise, precision, expected)  # noqa: B023

            theta = _settled(look, torch.full_like(real, 0.25), real)
            _, surprise = self._surprise(output, x, phi, y[..., output], real, theta)
            alpha[..., output], thetas[..., output] = surprise, theta
        return {"x": x, "y": y, "real": real, "alpha": alpha, "theta": thetas}

    def _surprise(
        self, output: int, x: Tensor, phi: Tensor, sign: Tensor, real: Tensor, theta: Tensor
    ) -> tuple[Tensor, Tensor]:
        chol = self._support_factor(output, x, phi, real, 1 / theta)
        rest = (sign / (2 * theta) - phi @ self.mean[output]) * real
        return chol, torch.cholesky_solve(rest.unsqueeze(2), chol).squeeze(2)

    def _support_noise(self, state: State, output: int) -> Tensor:
        # Where tasks were joined, padded places have a theta of 0.
        return state["real"] / state["theta"][..., output].clamp(min=1e-12)

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Log-scores of the classes, the uncertainty of the process integrated over."""
        padded = query.padded()
        mean, variance = self._latent(state, padded, spread=True)
        logit = padded.flat(expected_log_odds(mean, variance))
        if self.n_classes == 2:
            return torch.cat([torch.zeros_like(logit), logit], dim=1)
        return F.logsigmoid(logit)

    def predict_variance(self, state: State, query: TaskRows) -> Tensor:
        """Variance of the latent processes."""
        padded = query.padded()
        return padded.flat(self._latent(state, padded, spread=True)[1])

    def set_prior(self, rows: TaskRows) -> None:
        """No rows: those of the training tasks are in the shared weights already."""
        super().set_prior(rows)
        self._prior["theta"] = self._prior["y"]


def _real(rows: Padded) -> Tensor:
    """Which places hold a row."""
    assert rows.y is not None
    return rows.mask if rows.mask is not None else torch.ones_like(rows.y, dtype=torch.bool)


def _theta(c: Tensor) -> Tensor:
    """Expectation of a Polya-Gamma variable: tanh(c / 2) / (2 c), and 1/4 at 0."""
    c = c.clamp(min=1e-4)
    return torch.tanh(c / 2) / (2 * c)


def _moved(
    target: Tensor, noise: Tensor, surprise: Tensor, precision: Tensor, level: Tensor | float = 0.0
) -> Tensor:
    """Theta after a look at the posterior of the process, from leave-nothing-out identities.

    ``surprise`` is K^-1 (target - mean) and ``precision`` the diagonal of K^-1, given all rows.
    """
    mean = level + target - noise * surprise
    variance = (noise - noise.square() * precision).clamp(min=0.0)
    return _theta(torch.sqrt(mean.square() + variance))


def _settled(look: Callable[[Tensor], Tensor], theta: Tensor, real: Tensor) -> Tensor:
    """Repeat ``look``, from theta to a better theta (T, n), until the tasks' no longer move.

    Where many rows agree it creeps, so after two looks each task goes ahead as far as the change
    between them suggests (Varadhan and Roland, 2008). Each stops by itself: it does not matter
    which others are there.
    """
    moving = torch.ones(len(theta), 1, dtype=torch.bool, device=theta.device)
    for _ in range(ADAPT_ROUNDS):
        one = look(theta)
        two = look(one)
        first, second = (one / theta).log() * real, (two / one).log() * real
        bend = second - first
        ahead = first.norm(dim=1) / bend.norm(dim=1).clamp(min=1e-300)
        ahead = ahead.clamp(1.0, FARTHEST_AHEAD).unsqueeze(1)
        still = (second.abs() > ADAPTED).any(1, keepdim=True)
        far = theta * (2 * ahead * first + ahead.square() * bend).exp()
        new = torch.where(still, far.clamp(1e-12, 0.25), two)
        theta = torch.where(moving, new, theta)
        moving = moving & still
        if not bool(moving.any()):
            break
    return theta
