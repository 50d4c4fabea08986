"""Pooled models, which know no task ids: the parts that baselines are made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import OneHotEncoder

from skmeta.core.numerics import location_and_scale

N_FOLDS = 5
RIDGE_PENALTIES = np.logspace(-2, 6, 17)
LOGISTIC_C = tuple(np.logspace(-4, 1, 6))
# Leaves of a tree, fewest rows in one.
TREES = ((4, 5), (16, 20))
ROUNDS_A_STAGE = 10
N_STAGES = 20
# The least probability that a baseline answers with.
RAREST = 1e-6


class Columns(TransformerMixin, BaseEstimator):
    """Any table as standardised numbers: words one-hot, missing numbers at their mean."""

    def fit(self, X: Any, y: Any = None) -> Columns:
        """Learn kinds, means, categories and scales of the columns."""
        columns = _columns(X)
        self.numeric_ = np.array([_numbers(column) is not None for column in columns], dtype=bool)
        if self.numeric_.any():
            self.imputer_ = SimpleImputer(keep_empty_features=True).fit(self._part(columns, True))
        if not self.numeric_.all():
            self.encoder_ = OneHotEncoder(
                handle_unknown="ignore", sparse_output=False, max_categories=100
            ).fit(self._part(columns, False))
        self.mean_, self.scale_ = location_and_scale(self._design(X))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return an array of floats (n_rows, n_columns)."""
        return (self._design(X) - self.mean_) / self.scale_

    def _design(self, X: Any) -> np.ndarray:
        columns, parts = _columns(X), []
        if self.numeric_.any():
            parts.append(self.imputer_.transform(self._part(columns, True)))
        if not self.numeric_.all():
            parts.append(self.encoder_.transform(self._part(columns, False)))
        return np.hstack(parts)

    def _part(self, columns: list, numeric: bool) -> np.ndarray:
        chosen = [columns[i] for i in np.flatnonzero(self.numeric_ == numeric)]
        if numeric:
            return np.column_stack([_as_numbers(column) for column in chosen])
        return np.column_stack([np.asarray(column).astype(str) for column in chosen])


def _columns(X: Any) -> list:
    if issparse(X):
        X = X.toarray()
    if hasattr(X, "columns"):
        return [X[name] for name in X.columns]
    X = np.asarray(X)
    return list(X.reshape(len(X), -1).T)


def _numbers(column: Any) -> np.ndarray | None:
    """Return the column as floats, NaN where missing; None if it holds words."""
    kind = getattr(column.dtype, "kind", None) or np.asarray(column).dtype.kind
    if kind not in "biufO" or str(column.dtype) in ("category", "str", "string"):
        return None
    try:
        if hasattr(column, "array"):  # a pandas Series, which may hold pandas' own missing value
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _as_numbers(column: Any) -> np.ndarray:
    """A column that held numbers in ``fit`` as floats; words that turn up in it are missing."""
    found = _numbers(column)
    return np.array([_number(value) for value in column]) if found is None else found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


# ------------------------------------------------------------------- the models
#
# ``Model(candidate, Z, Y, n_stages)`` fits; ``stages(Z)`` answers with one line a stage (a penalty,
# a number of trees), so that one fit tries many settings; ``predict(Z)`` is the last stage. ``Y``
# has a column an output: standardised values, or one-hot classes, for which outputs are logarithms
# of probabilities.


class Mean:
    """The mean of the training rows."""

    candidates: ClassVar[tuple] = (None,)

    def __init__(self, candidate: Any, Z: np.ndarray, Y: np.ndarray, n_stages: int = 1) -> None:
        self.value = Y.mean(axis=0)

    def stages(self, Z: np.ndarray) -> np.ndarray:
        return np.tile(self.value, (1, len(Z), 1))

    def predict(self, Z: np.ndarray) -> np.ndarray:
        return self.stages(Z)[-1]


class Frequencies(Mean):
    """How frequent the classes are in the training rows."""

    def __init__(self, candidate: Any, Z: np.ndarray, Y: np.ndarray, n_stages: int = 1) -> None:
        self.value = np.log(Y.mean(axis=0).clip(RAREST))


class Ridge:
    """Ridge regression; a stage is a penalty. One decomposition serves them all."""

    candidates: ClassVar[tuple] = (None,)

    def __init__(
        self, candidate: Any, Z: np.ndarray, Y: np.ndarray, n_stages: int = len(RIDGE_PENALTIES)
    ) -> None:
        self.x_mean, self.y_mean = Z.mean(axis=0), Y.mean(axis=0)
        left, size, right = np.linalg.svd(Z - self.x_mean, full_matrices=False)
        shrink = size / (size**2 + RIDGE_PENALTIES[:n_stages, None])
        self.weights = right.T @ (shrink[:, :, None] * (left.T @ (Y - self.y_mean)))

    def stages(self, Z: np.ndarray) -> np.ndarray:
        return (Z - self.x_mean) @ self.weights + self.y_mean

    def predict(self, Z: np.ndarray) -> np.ndarray:
        return (Z - self.x_mean) @ self.weights[-1] + self.y_mean


def _trees(candidate: tuple, n_stages: int) -> dict[str, Any]:
    n_leaves, fewest = candidate
    return {
        "max_leaf_nodes": n_leaves,
        "min_samples_leaf": fewest,
        "max_iter": n_stages * ROUNDS_A_STAGE,
        "early_stopping": False,  # it would hold out rows, where tasks count
        "random_state": 0,
    }


def _every_stage(staged: Any) -> np.ndarray:
    return np.stack(list(islice(staged, ROUNDS_A_STAGE - 1, None, ROUNDS_A_STAGE)))


class Boosting:
    """Boosted trees, one model an output; a stage is ten trees."""

    candidates = TREES

    def __init__(
        self, candidate: tuple, Z: np.ndarray, Y: np.ndarray, n_stages: int = N_STAGES
    ) -> None:
        options = _trees(candidate, n_stages)
        self.models = [HistGradientBoostingRegressor(**options).fit(Z, y) for y in Y.T]

    def stages(self, Z: np.ndarray) -> np.ndarray:
        return np.stack([_every_stage(m.staged_predict(Z)) for m in self.models], axis=-1)

    def predict(self, Z: np.ndarray) -> np.ndarray:
        return np.column_stack([model.predict(Z) for model in self.models])


class _Labels:
    """A classifier of scikit-learn's; classes that it has not met are as rare as can be."""

    def _fit(self, model: Any, Z: np.ndarray, Y: np.ndarray) -> None:
        codes = Y.argmax(axis=1)
        self.known = np.unique(codes)
        self.n_classes = Y.shape[1]
        self.model = None  # one class: there is nothing to fit
        if len(self.known) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                self.model = model.fit(Z, codes)

    def _staged(self, Z: np.ndarray) -> np.ndarray:
        assert self.model is not None
        return self.model.predict_proba(Z)[None]

    def stages(self, Z: np.ndarray) -> np.ndarray:
        found = np.ones((1, len(Z), 1)) if self.model is None else self._staged(Z)
        proba = np.zeros((*found.shape[:2], self.n_classes))
        proba[:, :, self.known] = found
        return np.log(proba.clip(RAREST))

    def predict(self, Z: np.ndarray) -> np.ndarray:
        return self.stages(Z)[-1]


class Logistic(_Labels):
    """Logistic regression."""

    candidates = LOGISTIC_C

    def __init__(self, candidate: float, Z: np.ndarray, Y: np.ndarray, n_stages: int = 1) -> None:
        self._fit(LogisticRegression(C=candidate, max_iter=300), Z, Y)


class BoostingLabels(_Labels):
    """Boosted trees for classes; a stage is ten trees."""

    candidates = TREES

    def __init__(
        self, candidate: tuple, Z: np.ndarray, Y: np.ndarray, n_stages: int = N_STAGES
    ) -> None:
        self.n_stages = n_stages
        self._fit(HistGradientBoostingClassifier(**_trees(candidate, n_stages)), Z, Y)

    def _staged(self, Z: np.ndarray) -> np.ndarray:
        assert self.model is not None
        return _every_stage(self.model.staged_predict_proba(Z))


# ------------------------------------------------------------------- tuning by tasks


@dataclass(frozen=True)
class Pooled:
    """A fitted pooled model, and what it says of training tasks that it has not seen."""

    model: Any
    out: np.ndarray
    loss: float


def fit_pooled(
    kind: Any, Z: np.ndarray, Y: np.ndarray, numbers: np.ndarray, row_loss: Callable
) -> Pooled:
    """Choose a model's settings by holding out whole tasks, and fit it to all rows."""
    n_tasks = int(numbers.max()) + 1
    folds = list(GroupKFold(min(N_FOLDS, n_tasks)).split(Z, groups=numbers))
    order = np.concatenate([held for _, held in folds])
    # The loss counts tasks, not rows, as the comparison does.
    weight = 1 / np.bincount(numbers)[numbers[order]] / n_tasks
    least, best = np.inf, None
    for candidate in kind.candidates:
        parts = [kind(candidate, Z[rest], Y[rest]).stages(Z[held]) for rest, held in folds]
        # A fold of one class has one stage: it answers the same at every other.
        n_stages = max(len(part) for part in parts)
        parts = [np.broadcast_to(part, (n_stages, *part.shape[1:])) for part in parts]
        for stage, out in enumerate(map(np.concatenate, zip(*parts, strict=True))):
            loss = float(weight @ row_loss(Y[order], out))
            if loss < least:
                least, best = loss, (candidate, stage, out)
    assert best is not None
    candidate, stage, found = best
    out = np.empty_like(found)
    out[order] = found
    return Pooled(kind(candidate, Z, Y, stage + 1), out, least)
