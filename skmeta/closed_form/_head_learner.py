"""Linear heads on a learned embedding, solved anew for every task."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from skmeta.core.embedding import EmbeddingLearner
from skmeta.core.heads.prototypes import prototypes
from skmeta.core.heads.ridge import ridge_weights
from skmeta.core.heads.svm import svm_duals
from skmeta.core.heads.svm_large import is_large, svm_duals_large
from skmeta.core.learner import NEVER, State
from skmeta.core.losses import mean_of_tasks
from skmeta.core.positive import Positive
from skmeta.core.tasks import Episodes, TaskRows

# Numbers that the matrices of a batch of machines may hold.
BATCH_NUMBERS = 2**24
# Relative gap of a machine of many rows, from which on its weights are no longer its weights.
LOOSE = 0.05
# Where tasks have classes of their own, the answer before any support looks at all classes at once.
# If a head can afford so many rows of each, it is the head's; otherwise that of the class means.
FEWEST_PRIOR_ROWS = 10
# Scores that the sharpness of the latter is judged by, and steps of the search for it.
SHARPNESS_NUMBERS = 2**20
SHARPNESS_STEPS = 14


class Head(nn.Module):
    """A closed-form solver: weights of T tasks from their support.

    Attributes
    ----------
    prior_numbers : int
        Rows times classes that it solves for an answer that nobody may ask for.
    """

    prior_numbers: ClassVar[int] = 2**21

    @abstractmethod
    def forward(self, features: Tensor, targets: Tensor, present: Tensor, offsets: Tensor) -> State:
        """Weights (T, p, m) as "weights", and whatever else is worth keeping.

        ``features`` (T, n, p), ``targets`` (T, n, m; one-hot classes) and ``offsets`` (T, n, m;
        what the head is to correct) are zero on padded rows; ``present`` (T, m) says which classes
        a task has.
        """


class RidgeHead(Head):
    """Ridge regression of what the offsets leave, with a learned penalty."""

    def __init__(self) -> None:
        super().__init__()
        self.penalty = Positive(torch.tensor(1.0))

    def forward(self, features: Tensor, targets: Tensor, present: Tensor, offsets: Tensor) -> State:
        return {"weights": ridge_weights(features, targets - offsets, self.penalty())}


class SVMHead(Head):
    """The machine of Crammer and Singer.

    Parameters
    ----------
    C : float
        Largest weight of a row.
    """

    prior_numbers: ClassVar[int] = 2**16  # of which a few thousand steps take seconds

    def __init__(self, C: float) -> None:
        super().__init__()
        self.C = C

    def forward(self, features: Tensor, targets: Tensor, present: Tensor, offsets: Tensor) -> State:
        n, n_classes = targets.shape[1:]
        tasks = features, targets, present, offsets
        if torch.is_grad_enabled() or not is_large(n, n_classes):
            duals = self._exact(*tasks)
        else:
            # A task is as large as its own rows and classes: padding must not change its answer.
            sizes, ways = (targets.sum(2) > 0).sum(1), present.sum(1)
            both = zip(sizes.tolist(), ways.tolist(), strict=True)
            large = np.array([is_large(*size) for size in both])
            duals = torch.zeros_like(targets)
            for i in np.flatnonzero(large):
                duals[i] = self._large(*(v[i] for v in tasks))
            small = torch.from_numpy(np.flatnonzero(~large)).to(targets.device)
            if len(small):
                most = int(sizes[small].max())  # rows come first, padding after them
                rows = features[small, :most], targets[small, :most]
                duals[small, :most] = self._exact(*rows, present[small], offsets[small, :most])
        return {"weights": features.mT @ duals, "duals": duals}

    def _exact(self, *tasks: Tensor) -> Tensor:
        """Many tasks, each to the end."""
        n, n_classes = tasks[1].shape[1:]
        chunk = max(1, BATCH_NUMBERS // (n_classes * n * n))
        features = tasks[0].double()
        kernels = features @ features.mT
        parts = zip(*(v.split(chunk) for v in (kernels, *tasks[1:])), strict=True)
        duals = torch.cat([svm_duals(K, y, here, self.C, o) for K, y, here, o in parts])
        return duals.to(tasks[0].dtype)

    def _large(self, features: Tensor, targets: Tensor, present: Tensor, offsets: Tensor) -> Tensor:
        """One task of many rows, without its padding and the classes that it lacks."""
        rows = torch.nonzero(targets.sum(1) > 0).flatten()
        columns = torch.nonzero(present).flatten()
        duals = torch.zeros_like(targets)
        few = targets[rows][:, columns], offsets[rows][:, columns]
        found, gap = svm_duals_large(features[rows], few[0], self.C, few[1])
        if gap > LOOSE:
            warnings.warn(
                f"The support vector machine of a task of {len(rows)} rows is not solved to the "
                f"end: its primal objective is within {100 * gap:.0f} % of the optimum. Its "
                "embedded rows are long: scale the columns of X, or lower C.",
                ConvergenceWarning,
                stacklevel=2,
            )
        duals[rows[:, None], columns] = found
        return duals


class HeadLearner(EmbeddingLearner):
    """An embedding, a head, and what the head corrects: a linear answer that all tasks share.

    Parameters
    ----------
    module : Module
        The embedding.
    width : int
        Numbers that it makes of a row; a constant stands beside them, for the intercept.
    head : Head
        The solver.
    n_outputs : int or None
        Columns of targets that mean the same in every task; None where tasks have classes of their
        own: then there is no common answer.
    n_support : int or None
        Support rows of a training episode, of which it shows any number, from none to all; None
        shows all.
    unit_length : bool
        Whether embedded rows are scaled to unit length.
    """

    common_weights: nn.Parameter | None

    def __init__(
        self,
        module: nn.Module,
        width: int,
        head: Head,
        n_outputs: int | None,
        *,
        n_support: int | None = None,
        unit_length: bool = False,
    ) -> None:
        super().__init__(module)
        self.n_support = n_support
        # How long the embedding and the constant are: how far a few rows can move the answer.
        self.lengths = Positive(torch.ones(2))
        self.head = head
        self.n_outputs = n_outputs
        self.unit_length = unit_length
        common = None if n_outputs is None else nn.Parameter(torch.zeros(width + 1, n_outputs))
        self.register_parameter("common_weights", common)

    def features(self, x: Tensor) -> Tensor:
        """Embedded rows and a constant, of learned lengths: (n_rows, width + 1)."""
        embedded = self.embed(x)
        if self.unit_length:
            embedded = F.normalize(embedded, dim=1)
        lengths = self.lengths()
        constant = lengths[1].expand(len(embedded), 1)
        return torch.cat([lengths[0] * embedded, constant], 1)

    def _targets(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Targets as columns: (n_rows, m)."""
        return y

    def _present(self, targets: Tensor) -> Tensor:
        """Which columns a task has, from its targets (T, n, m): (T, m)."""
        return torch.ones_like(targets[:, 0], dtype=torch.bool)

    def _solve(self, features: Tensor, support: TaskRows, shown: Tensor | None = None) -> State:
        assert support.y is not None
        targets = self._targets(support.y, features.dtype)
        padded = TaskRows(features, targets, support.offsets).padded()
        z, y = padded.x, padded.y
        assert y is not None
        mask = padded.mask
        if shown is not None:
            first = torch.arange(z.shape[1], device=z.device) < shown.to(z.device)[:, None]
            mask = first if mask is None else mask & first
        if mask is not None:
            z, y = z * mask[:, :, None], y * mask[:, :, None]
        present = self._present(y)
        if self.common_weights is None:
            return {**self.head(z, y, present, torch.zeros_like(y)), "present": present}
        state = self.head(z, y, present, z @ self.common_weights)
        return {**state, "weights": self.common_weights + state["weights"], "present": present}

    def _answer(self, state: State, features: Tensor, query: TaskRows) -> Tensor:
        padded = TaskRows(features, None, query.offsets).padded()
        return padded.flat(padded.x @ state["weights"])

    def episode_loss(self, episodes: Episodes, generator: Generator) -> Tensor:
        """Mean loss of the query rows."""
        support, query = episodes.support, episodes.query
        assert query.y is not None
        # One forward pass: batch norms see the episode as a whole.
        both = self.features(torch.cat([support.x, query.x]))
        shown = None
        if self.n_support is not None:
            shown = torch.randint(0, self.n_support + 1, (support.n_tasks,), generator=generator)
        state = self._solve(both[: len(support.x)], support, shown)
        outputs = self._answer(state, both[len(support.x) :], query)
        return mean_of_tasks(self._losses(outputs, query.y), query)

    @abstractmethod
    def _losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss of every row."""

    def condition(self, support: TaskRows) -> State:
        """Solve T tasks in one call."""
        with torch.no_grad():
            return self._solve(self.features(support.x), support)

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Outputs for the rows of T tasks."""
        with torch.no_grad():
            return self._answer(state, self.features(query.x), query)

    def set_prior(self, rows: TaskRows) -> None:
        """The common answer; of one task, or where there is none, all rows taken as one task."""
        if self.common_weights is not None and rows.n_tasks > 1:
            weights = self.common_weights.detach()[None]
            self._prior = {"weights": weights, "present": self._present(weights)}
        else:
            super().set_prior(rows)


class RegressorHeadLearner(HeadLearner):
    """A head for numbers."""

    def _losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - y).square().mean(1)


class ClassifierHeadLearner(HeadLearner):
    """A head for classes; the scale of its scores is learned.

    Parameters
    ----------
    scale : float
        Scale to start from.
    **kwargs
        As for :class:`HeadLearner`.
    """

    def __init__(self, *args: Any, scale: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = Positive(torch.tensor(scale))

    def _targets(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return F.one_hot(y, self.n_outputs or int(y.max()) + 1).to(dtype)

    def _present(self, targets: Tensor) -> Tensor:
        if self.n_outputs is not None:
            return super()._present(targets)
        return targets.sum(1) > 0

    def _losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs, y, reduction="none")

    def _answer(self, state: State, features: Tensor, query: TaskRows) -> Tensor:
        scores = self.scale() * super()._answer(state, features, query)
        present = state["present"][query.task_of_row]
        return torch.where(present, scores, NEVER)

    def set_prior(self, rows: TaskRows) -> None:
        """As above; of very many rows some of each class, of very many classes their means."""
        assert rows.y is not None
        n_classes = int(rows.y.max()) + 1
        numbers = self.head.prior_numbers
        if self.n_outputs is None and len(rows.y) * n_classes > numbers:
            most = numbers // n_classes**2
            if most < FEWEST_PRIOR_ROWS:
                self._prior = self._class_means(rows, n_classes)
                return
            order = torch.argsort(rows.y, stable=True)
            y = rows.y[order]
            rank = torch.arange(len(y), device=y.device) - torch.searchsorted(y, y)
            keep = order[rank < most]
            rows = TaskRows.single(rows.x[keep], rows.y[keep])
        super().set_prior(rows)

    def _class_means(self, rows: TaskRows, n_classes: int) -> State:
        """The state of one task whose rows are of the class with the nearest mean."""
        assert rows.y is not None
        with torch.no_grad():
            embedded = TaskRows.single(self.features(rows.x)[:, :-1], rows.y)
            means, present = prototypes(embedded, n_classes)
            means = means[0]
            # Half of minus the squared distance, up to what is the same for all classes.
            offsets = -means.square().sum(1) / 2
            weights = torch.cat([means.T, offsets[None] / self.lengths()[1]])
            sharpness = _sharpness(embedded.x, rows.y, means, offsets) / self.scale()
        return {"weights": (sharpness * weights)[None], "present": present}


def _sharpness(z: Tensor, y: Tensor, means: Tensor, offsets: Tensor) -> float:
    """What the scores ``z means' + offsets`` are to be multiplied by before a softmax.

    The multiple that would have foretold the class of some rows best, had each been left out of the
    mean of its class; one row more, of any class, keeps it finite.
    """
    order = torch.argsort(y, stable=True)
    counts = torch.bincount(y)
    order = order[counts[y[order]] > 1]
    if len(order) == 0:
        return 1.0
    order = order[:: -(-len(order) * len(means) // SHARPNESS_NUMBERS)]
    x, label = z[order], y[order, None]
    count = counts[label].to(x)
    without = (count * means[label[:, 0]] - x) / (count - 1)
    own = ((x - without / 2) * without).sum(1, keepdim=True)
    scores = (x @ means.T + offsets).scatter(1, label, own)
    n = len(order)
    wanted = (n * scores.gather(1, label).mean() + scores.mean()) / (n + 1)
    low, high = -20.0, 20.0  # of the logarithm; the loss is convex
    for _ in range(SHARPNESS_STEPS):
        middle = (low + high) / 2
        expected = (torch.softmax(math.exp(middle) * scores, 1) * scores).sum(1).mean()
        low, high = (middle, high) if expected < wanted else (low, middle)
    return math.exp(low)
