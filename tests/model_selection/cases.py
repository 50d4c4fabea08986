"""Small fitted estimators and task data, and a slow scorer to compare with."""

import functools
import warnings

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, is_classifier
from sklearn.exceptions import UndefinedMetricWarning

import skmeta
from skmeta.datasets import make_sinusoids
from tests.instances import small

SIZES = (7, 12, 9, 15, 8, 11, 10)


def quick(name="MAMLRegressor", **changes):
    """An instance that fits in a tenth of a second, for tests that fit many times."""
    sizes = {"max_epochs": 1, "tasks_per_batch": 4, "early_stopping": False}
    if name == "MAMLRegressor":
        sizes.update(n_inner_steps=1, hidden_layer_sizes=(8,))
    return small(name, **{**sizes, **changes})


def ragged_sinusoids(random_state=1, n_outputs=None):
    """Tasks of different sizes, their rows shuffled together; ids are neither sorted nor dense."""
    rng = np.random.default_rng(random_state)
    X, y, numbers = make_sinusoids(len(SIZES), max(SIZES), random_state=random_state)
    keep = np.concatenate([np.arange(n) + t * max(SIZES) for t, n in enumerate(SIZES)])
    rng.shuffle(keep)
    X, y, groups = X[keep], y[keep], 100 - 7 * numbers[keep]
    if n_outputs is not None:
        y = np.column_stack([y, 1 - 2 * y, y**2][:n_outputs])
    return X, y, groups


def labelled_tasks(random_state=1, sizes=SIZES, labels=("no", "perhaps", "yes")):
    """Every task shifts the same three classes by an offset of its own."""
    rng = np.random.default_rng(random_state)
    X, y, groups = [], [], []
    for task, n in enumerate(sizes):
        code = rng.permutation(np.arange(n) % len(labels))
        X.append(rng.normal(size=(n, 3)) + code[:, None] + 2 * rng.normal(size=3))
        y.append(np.array(labels)[code])
        groups.append(np.full(n, 100 - 7 * task))
    order = rng.permutation(sum(sizes))
    return np.concatenate(X)[order], np.concatenate(y)[order], np.concatenate(groups)[order]


def own_class_tasks(random_state=1, ways=(2, 3, 2, 4, 3), n_rows=7, first=0):
    """Every task has classes of its own, and not equally many."""
    rng = np.random.default_rng(random_state)
    X, y, groups = [], [], []
    for task, n_way in enumerate(ways):
        for _ in range(n_way):
            X.append(rng.normal(size=(n_rows, 3)) + 3 * rng.normal(size=3))
            y += [f"class {first}"] * n_rows
            groups += [100 - 7 * task] * n_rows
            first += 1
    order = rng.permutation(len(y))
    return np.concatenate(X)[order], np.array(y)[order], np.array(groups)[order]


@functools.cache
def regressor(n_outputs=None):
    X, y, groups = ragged_sinusoids(0, n_outputs)
    return quick(max_epochs=2, n_inner_steps=2).fit(X, y, groups=groups)


@functools.cache
def classifier(labels=("no", "perhaps", "yes")):
    X, y, groups = labelled_tasks(0, labels=labels)
    return quick("ProtoNetClassifier").fit(X, y, groups=groups)


@functools.cache
def own_classifier():
    X, y, groups = own_class_tasks(0)
    return quick("ProtoNetClassifier").fit(X, y, groups=groups)


class MeanRegressor(RegressorMixin, BaseEstimator):
    """Another library's idea of a meta-estimator: ``adapt`` takes X and y, and nothing else."""

    def fit(self, X, y):
        self.mean_ = np.mean(y)
        self.supports_ = []
        return self

    def adapt(self, X, y):
        self.supports_.append(np.asarray(X)[:, 0].copy())
        new = MeanRegressor()
        new.mean_ = np.mean(y)
        return new

    def predict(self, X):
        return np.full(len(X), self.mean_)


def naive_scores(
    estimator, X, y, groups, score, *, n_support=5, n_shot=None, n_repeats=10, random_state=0
):
    """One score a task, by loops over tasks and repeats; NaN where the metric is undefined."""
    own = is_classifier(estimator) and not getattr(estimator, "shared_classes_", True)

    def quotas(rows):
        if n_shot is None and not own:
            return [(rows, n_support)]
        cells = [rows[y[rows] == label] for label in np.unique(y[rows])]
        shots = n_shot or max(1, n_support // len(cells))
        return [(cell, min(shots, max(len(cell) - 1, 1))) for cell in cells]

    tasks = [np.flatnonzero(groups == task) for task in np.unique(groups)]
    tasks = [rows for rows in tasks if len(rows) > sum(quota for _, quota in quotas(rows))]
    kept = np.sort(np.concatenate(tasks))
    keys = np.random.RandomState(random_state).random_sample((n_repeats, len(kept)))
    result = []
    for rows in tasks:
        values = []
        for repeat in range(n_repeats):
            support = []
            for cell, quota in quotas(rows):
                key = keys[repeat, np.searchsorted(kept, cell)]
                support += cell[np.argsort(key)][:quota].tolist()
            query = np.setdiff1d(rows, support)
            adapted = skmeta.adapt(estimator, X[support], y[support])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UndefinedMetricWarning)
                values.append(score(adapted, X[query], y[query]))
        values = np.array(values)
        defined = values[~np.isnan(values)]
        result.append(defined.mean() if len(defined) else np.nan)
    return np.array(result)
