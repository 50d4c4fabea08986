"""What one would use without meta-learning: a pooled model, plus a part fitted to a task's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.pipeline import make_pipeline

from skmeta.base._groups import task_numbers
from skmeta.base._rows import TaskBatch
from skmeta.closed_form._hierarchical_ridge import HierarchicalRidge
from skmeta.core.numerics import location_and_scale
from skmeta.model_selection import _pooled as models
from skmeta.model_selection._metrics import _task_means
from skmeta.model_selection._pooled import Columns, Pooled, fit_pooled
from skmeta.model_selection._shots import (
    Choice,
    apply_weights,
    design,
    fit_tasks,
    play,
    solve_logistic,
    solve_ridge,
)

# Loss on tasks not seen, pooled model, and the tuned part.
Found = tuple[float, Pooled, list[Choice]]


def _loss(found: Found) -> float:
    return found[0]


class Baseline(BaseEstimator):
    """A pooled model, and on its residuals a part that every task fits to its support rows.

    Everything is tuned on the training tasks, by holding out whole tasks.

    Parameters
    ----------
    pooled : sequence of str
        Pooled models; the one that does best, with its part, on tasks it has not seen is taken.
    part : {None, "offset", "columns"}
        What a task fits itself: nothing, an offset, or an offset and slopes.
    n_support : sequence of int
        Numbers of support rows to tune the part for. A task with another number takes the nearest.
    """

    # Filled in by the two kinds below.
    _models: ClassVar[dict[str, Any]]
    _penalties: ClassVar[tuple[float, ...]]
    _levels: ClassVar[tuple[float, ...]]
    _n_draws: ClassVar[int]
    _solve: Any

    def __init__(
        self,
        pooled: Sequence[str],
        part: str | None = None,
        n_support: Sequence[int] = (1, 3, 5, 10),
        shuffle: bool = True,
    ) -> None:
        self.pooled = pooled
        self.part = part
        self.n_support = n_support
        self.shuffle = shuffle

    def _learn_targets(self, y: np.ndarray) -> None:
        """Learn what ``_encode`` needs."""
        raise NotImplementedError

    def _encode(self, y: np.ndarray) -> np.ndarray:
        """Targets as models take them: (n_rows, m)."""
        raise NotImplementedError

    def _finish(self, out: np.ndarray, method: str) -> np.ndarray:
        """Turn outputs into what ``method`` answers with."""
        raise NotImplementedError

    @staticmethod
    def _row_loss(Y: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Loss of every row."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any, groups: Any, shared: dict | None = None) -> Baseline:
        """Fit to the training tasks.

        ``shared`` holds what baselines fitted to the same rows have in common, and is added to.
        """
        start, shared = perf_counter(), {} if shared is None else shared
        numbers, _ = task_numbers(groups, len(y))
        if "columns" not in shared:
            columns = Columns().fit(X)
            shared["columns"] = columns, columns.transform(X)
        self.columns_, Z = shared["columns"]
        self._learn_targets(np.asarray(y))
        Y = self._encode(np.asarray(y))
        spent = 0.0
        found: list[Found] = []
        for name in self.pooled:
            if name not in shared:
                begin = perf_counter()
                pooled = fit_pooled(self._models[name], Z, Y, numbers, self._row_loss)
                shared[name] = pooled, perf_counter() - begin
            else:
                spent += shared[name][1]
            found.append(self._with_part(shared[name][0], Z, Y, numbers))
        if self.part == "offset":
            found += self._again(found, Z, Y, numbers)
        _, best, self.choices_ = min(found, key=_loss)
        self.model_ = best.model
        self.fit_seconds_ = perf_counter() - start + spent
        self.support_ = None
        return self

    def _with_part(
        self, pooled: Pooled, Z: np.ndarray, Y: np.ndarray, numbers: np.ndarray
    ) -> Found:
        """Tune the part, if there is one."""
        if self.part is None:
            return pooled.loss, pooled, []
        choices, loss = play(
            Z,
            pooled.out,
            Y,
            numbers,
            n_support=self.n_support,
            shuffle=self.shuffle,
            levels=(None,) if self.part == "offset" else self._levels,
            penalties=self._penalties,
            n_draws=self._n_draws,
            solve=self._solve,
            row_loss=self._row_loss,
        )
        return loss, pooled, choices

    def _again(
        self, found: list[Found], Z: np.ndarray, Y: np.ndarray, numbers: np.ndarray
    ) -> list[Found]:
        """Pooled models fitted once more, where targets allow it with the offsets taken out."""
        return []

    def adapt(self, X: Any, y: Any, _batch: TaskBatch | None = None) -> Baseline:
        """Return the baseline for the one task that these rows are of, or for a batch of tasks."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__, support_=(X, np.asarray(y), _batch))
        return new

    def update(self, X: Any, y: Any) -> Baseline:
        """Return the baseline for the task with these rows added, arrays as those before."""
        if self.support_ is None:
            return self.adapt(X, y)
        before, targets, _ = self.support_
        return self.adapt(np.concatenate([before, X]), np.concatenate([targets, y]))

    def predict_tasks_(
        self,
        Xs: Any,
        ys: np.ndarray,
        support_ids: np.ndarray,
        X: Any,
        ids: np.ndarray,
        method: str = "predict",
    ) -> np.ndarray:
        """Adapt to many tasks at once; the arguments are those of ``predict_tasks``."""
        return self._finish(self._answers(Xs, ys, support_ids, X, ids), method)

    def _outputs(self, X: Any) -> np.ndarray:
        if self.support_ is None:
            return self.model_.predict(self.columns_.transform(X))
        Xs, ys, batch = self.support_
        if batch is not None:
            return self._answers(Xs, ys, batch.support, X, batch.query)
        return self._answers(Xs, ys, np.zeros(len(ys), int), X, np.zeros(len(X), int))

    def _answers(
        self, Xs: Any, ys: np.ndarray, support_ids: np.ndarray, X: Any, ids: np.ndarray
    ) -> np.ndarray:
        Z = self.columns_.transform(X)
        out = self.model_.predict(Z)
        if not self.choices_ or len(ys) == 0:
            return out
        own, task, sizes = np.unique(support_ids, return_inverse=True, return_counts=True)
        Zs, Y = self.columns_.transform(Xs), self._encode(ys)
        out_s = self.model_.predict(Zs)
        F = design(Zs, None if self.part == "offset" else 1.0)
        # The last line stays 0: it is for tasks without support.
        weights = np.zeros((len(own) + 1, F.shape[1], Y.shape[1]))
        order = np.argsort(task, kind="stable")
        for size in np.unique(sizes):
            chosen = np.flatnonzero(sizes == size)
            rows = order[np.isin(task[order], chosen)].reshape(-1, size)
            choice = self.choices_[np.argmin([abs(choice.k - size) for choice in self.choices_])]
            level = np.ones(F.shape[1])
            level[0] = choice.level or 1.0
            found = fit_tasks(self._solve, F * level, out_s, Y, rows, [choice.penalty])
            weights[chosen] = next(found) * level[:, None]
        place = np.searchsorted(own, ids).clip(max=len(own) - 1)
        place = np.where(own[place] == ids, place, len(own))
        return out + apply_weights(
            design(Z, None if self.part == "offset" else 1.0), weights, place
        )


class RegressorBaseline(RegressorMixin, Baseline):
    """Targets are standardised on the training rows."""

    _models: ClassVar = {"mean": models.Mean, "ridge": models.Ridge, "boosting": models.Boosting}
    _penalties: ClassVar = tuple(np.logspace(-3, 4, 15))
    _levels: ClassVar = (1.0, 5.0, 50.0)
    _n_draws: ClassVar = 2000
    _solve = staticmethod(solve_ridge)

    def _learn_targets(self, y: np.ndarray) -> None:
        self.target_shape_ = y.shape[1:]
        self.y_mean_, self.y_scale_ = location_and_scale(y.reshape(len(y), -1).astype(np.float64))

    def _encode(self, y: np.ndarray) -> np.ndarray:
        return (y.reshape(len(y), -1) - self.y_mean_) / self.y_scale_

    def _finish(self, out: np.ndarray, method: str) -> np.ndarray:
        return (out * self.y_scale_ + self.y_mean_).reshape(len(out), *self.target_shape_)

    @staticmethod
    def _row_loss(Y: np.ndarray, out: np.ndarray) -> np.ndarray:
        return ((Y - out) ** 2).mean(axis=1)

    def _again(
        self, found: list[Found], Z: np.ndarray, Y: np.ndarray, numbers: np.ndarray
    ) -> list[Found]:
        # Large offsets of tasks hide from boosting what tasks share: a mixed model would not mind.
        _, best, choices = min(found, key=_loss)
        size = np.bincount(numbers)
        mean = _task_means(Y - best.out, numbers, len(size))
        Y_rest = Y - (mean * (size / (size + choices[-1].penalty))[:, None])[numbers]
        again = []
        for name in self.pooled:
            pooled = fit_pooled(self._models[name], Z, Y_rest, numbers, self._row_loss)
            again.append(self._with_part(pooled, Z, Y, numbers))
        return again

    def predict(self, X: Any) -> np.ndarray:
        """Predict targets."""
        return self._finish(self._outputs(X), "predict")


class ClassifierBaseline(ClassifierMixin, Baseline):
    """Targets are one-hot, outputs logarithms of probabilities."""

    _models: ClassVar = {
        "frequencies": models.Frequencies,
        "logistic": models.Logistic,
        "boosting": models.BoostingLabels,
    }
    _penalties: ClassVar = tuple(np.logspace(-2, 3, 6))
    _levels: ClassVar = (1.0, 10.0)
    _n_draws: ClassVar = 400  # Newton's method is dearer than ridge
    _solve = staticmethod(solve_logistic)

    def _learn_targets(self, y: np.ndarray) -> None:
        self.classes_ = np.unique(y)

    def _encode(self, y: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if (self.classes_[places] != y).any():
            raise ValueError(f"Unknown label(s): fit knew {self.classes_.tolist()}.")
        return np.eye(len(self.classes_))[places]

    def _finish(self, out: np.ndarray, method: str) -> np.ndarray:
        return softmax(out, axis=1) if method != "predict" else self.classes_[out.argmax(axis=1)]

    @staticmethod
    def _row_loss(Y: np.ndarray, out: np.ndarray) -> np.ndarray:
        return -(Y * log_softmax(out, axis=1)).sum(axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes."""
        return self._finish(self._outputs(X), "predict_proba")

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels."""
        return self._finish(self._outputs(X), "predict")


# Pooled models and the task's own part.
REGRESSION: dict[str, tuple] = {
    "pooled ridge": (("ridge",), None),
    "pooled boosting": (("boosting",), None),
    "per-task model": (("mean",), "columns"),
    "pooled + shrunken offset": (("ridge", "boosting"), "offset"),
}
CLASSIFICATION: dict[str, tuple] = {
    "pooled logistic": (("logistic",), None),
    "pooled boosting": (("boosting",), None),
    "per-task logistic": (("frequencies",), "columns"),
    "pooled logistic + shrunken offset": (("logistic",), "offset"),
}
LINEAR_MIXED = "linear mixed model"
# Mixed models of other libraries, and their packages.
PEERS = {"GPBoost, intercept": "gpboost", "merf": "merf"}


def choose_baselines(wanted: Any, classifier: bool, n_outputs: int = 1) -> list[str]:
    """Names of the baselines to run: True is all that are installed."""
    known = list(CLASSIFICATION) if classifier else [*REGRESSION, LINEAR_MIXED]
    if not classifier and n_outputs == 1:
        known += PEERS
    if wanted is True:
        return [name for name in known if _is_there(name)]
    if wanted is False or wanted is None:
        return []
    if isinstance(wanted, Mapping):
        raise ValueError(
            f"baselines takes names, out of {known}. A model of your own goes into estimators: one "
            "that cannot adapt counts as a baseline there."
        )
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in known:
            raise ValueError(f"No baseline is called {name!r} here. There are: {known}.")
        if not _is_there(name):
            raise ValueError(f"The baseline {name!r} needs the package {PEERS[name]}: install it.")
    return list(dict.fromkeys(names))


def _is_there(name: str) -> bool:
    return name not in PEERS or find_spec(PEERS[name]) is not None


def make_baseline(
    name: str, classifier: bool, n_support: Sequence[int], shuffle: bool = True
) -> Any:
    """Build the unfitted baseline."""
    if classifier:
        pooled, part = CLASSIFICATION[name]
        return ClassifierBaseline(pooled, part, n_support, shuffle)
    if name in REGRESSION:
        pooled, part = REGRESSION[name]
        return RegressorBaseline(pooled, part, n_support, shuffle)
    if name == LINEAR_MIXED:
        return make_pipeline(Columns(), HierarchicalRidge())
    from skmeta.model_selection import _peers

    return _peers.GPBoostBaseline() if name == "GPBoost, intercept" else _peers.MERFBaseline()
