"""Bayesian linear regression on a learned embedding, with a learned prior."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from skmeta.core.embedding import EmbeddingLearner
from skmeta.core.heads.ridge import posterior_at, refuse_far, unit_variance, unit_weights
from skmeta.core.learner import SpreadLearner, State
from skmeta.core.losses import mean_of_tasks
from skmeta.core.positive import Positive
from skmeta.core.tasks import Episodes, Padded, TaskRows

# Where training starts. The noise is in units of the scale of y: too much, because the net has yet
# to explain anything. Standard deviations of the weights between tasks are in units of the noise:
# that of the constant, and those of columns and embedding, which share theirs.
NOISE = 0.7
LEVEL, SLOPE = 0.5, 0.1
# Noise that no data can take away: a variance of 0 has no likelihood.
LEAST_NOISE = 1e-3


class ALPaCALearner(EmbeddingLearner, SpreadLearner):
    """The weights of a task are normally distributed around a mean that all tasks share.

    Parameters
    ----------
    module : Module
        The embedding.
    width : int
        Numbers that it makes of a row.
    n_features : int
        Columns that stand beside the embedding as they are.
    n_outputs : int
        Columns of y.
    n_support : int
        Support rows of a training episode, at most.
    """

    def __init__(
        self, module: nn.Module, width: int, n_features: int, n_outputs: int, n_support: int
    ) -> None:
        super().__init__(module)
        self.n_features = n_features
        self.n_support = n_support
        size = width + n_features + 1
        self.mean_weights = nn.Parameter(torch.zeros(size, n_outputs))
        # Lower triangle: a root of the covariance between tasks, in units of the noise variance.
        sd = torch.full((size,), SLOPE)
        sd[:width] /= width**0.5
        sd[width] = LEVEL
        sd[width + 1 :] /= max(1, n_features) ** 0.5
        self.root = nn.Parameter(torch.diag(sd))
        self.noise_sd = Positive(torch.full((n_outputs,), NOISE))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding, columns and a constant (n_rows, p), and the same under the prior's root."""
        parts = [self.embed(x), torch.ones_like(x[:, :1])]
        if self.n_features:
            parts.append(x.flatten(1))
        plain = torch.cat(parts, 1)
        return plain, plain @ self.root.tril()

    def noise(self) -> Tensor:
        """Variance of the noise: (n_outputs,)."""
        return self.noise_sd().square() + LEAST_NOISE**2

    def _padded(
        self, x: Tensor, y: Tensor | None, offsets: Tensor
    ) -> tuple[Padded, Tensor, Tensor]:
        """Rows under the root (T, n, p) and residuals (T, n, m), zero where padded."""
        plain, rooted = self.features(x)
        rest = plain @ self.mean_weights
        rest = rest if y is None else y - rest
        padded = TaskRows(rooted, rest, offsets).padded()
        assert padded.y is not None
        return padded, padded.x, padded.y

    def episode_loss(self, episodes: Episodes, generator: Generator) -> Tensor:
        """Mean negative log likelihood of the query rows, from a random number of support rows."""
        support, query = episodes.support, episodes.query
        assert support.y is not None and query.y is not None
        plain, rooted = self.features(torch.cat([support.x, query.x]))
        y = torch.cat([support.y, query.y])
        rest = y - plain @ self.mean_weights
        n = len(support.x)
        known = TaskRows(rooted[:n], rest[:n], support.offsets).padded()
        asked = TaskRows(rooted[n:], None, query.offsets).padded()
        assert known.y is not None
        # Tasks have shown anything from no row to all: so the prior and the spread are learned too.
        shown = torch.randint(0, self.n_support + 1, (support.n_tasks,), generator=generator)
        shown = torch.minimum(shown, support.sizes)
        keep = torch.arange(known.x.shape[1]) < shown[:, None]
        keep = keep[:, :, None].to(known.x.device, known.x.dtype)
        mean, variance = posterior_at(known.x * keep, known.y * keep, asked.x)
        error = rest[n:] - asked.flat(mean)
        spread = self.noise() * (1 + asked.flat(variance))[:, None]
        losses = 0.5 * (error.square() / spread + spread.log()).mean(1)
        return mean_of_tasks(losses, query)

    def condition(self, support: TaskRows) -> State:
        """What every task's rows say of its weights, in units of prior and noise."""
        with torch.no_grad():
            padded, z, rest = self._padded(support.x, support.y, support.offsets)
            if padded.mask is not None:
                z, rest = z * padded.mask[:, :, None], rest * padded.mask[:, :, None]
            refuse_far(z)
            return _condensed(z, rest)

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Means at the rows of T tasks."""
        with torch.no_grad():
            padded, z, common = self._padded(query.x, None, query.offsets)
            weights = unit_weights(state["root"].double(), state["rest"].double())
            return padded.flat(common + z @ weights.to(z.dtype))

    def predict_variance(self, state: State, query: TaskRows) -> Tensor:
        """Variance of a new observation: noise, and what is not known of the weights."""
        with torch.no_grad():
            padded, z, _ = self._padded(query.x, None, query.offsets)
            variance = unit_variance(state["root"].double(), z.double()).to(z.dtype)
            return padded.flat(1 + variance)[:, None] * self.noise()

    def merge(self, state: State, more: State) -> State:
        """Rows add up."""
        both = {name: torch.cat([state[name], more[name]], 1) for name in state}
        return _condensed(both["root"], both["rest"])

    def set_prior(self, rows: TaskRows) -> None:
        """The prior itself; for one task all its rows."""
        if rows.n_tasks == 1:
            super().set_prior(rows)
        else:
            self._prior = self.before_any_row()

    def before_any_row(self) -> State:
        """The state of a task that nothing is known of."""
        size, n_outputs = self.mean_weights.shape
        nothing = self.root.detach().new_zeros(1, 1, size + n_outputs)
        return {"root": nothing[..., :size], "rest": nothing[..., size:]}


def _condensed(z: Tensor, rest: Tensor) -> State:
    """Rows (T, n, p) and residuals turned so that min(n, p) of them say the same.

    A root of ``z' z``, and not the matrix: squares of long rows would leave no digit for the prior.
    """
    size = z.shape[2]
    turned = torch.linalg.qr(torch.cat([z, rest], 2), mode="r").R[:, :size]
    # In row order: products with what is read from a file then have the same last bit.
    return {"root": turned[..., :size].contiguous(), "rest": turned[..., size:].contiguous()}
