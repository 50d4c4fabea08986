"""The members of the automatic choice, fitted without some tasks and predicted together."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmeta.base._feature import out_of_task
from skmeta.base._rows import TaskBatch
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection._draws import draw_repeats

# Curves on top of boosting are tried where it beats a line by more than this share of its error.
WORTH_BOOSTING = 0.02
# A member of the blend: which fit it takes, and whether it adapts to the task.
MEMBERS = {
    "pooled linear": ("linear", False),
    "pooled boosting": ("boosted linear", False),
    "linear": ("linear", True),
    "gp": ("gp", True),
    "boosted linear": ("boosted linear", True),
    "boosted gp": ("boosted gp", True),
}


def boosting_pays(X: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> bool:
    """Whether pooled boosting beats pooled ridge regression on tasks that they have not seen."""
    line = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 15)))
    weight = 1.0 / np.bincount(numbers)[numbers]
    targets = y.reshape(len(y), -1)
    losses = [
        (weight[:, None] * (out_of_task(kind, X, targets, numbers)[1] - targets) ** 2).sum(axis=0)
        for kind in (line, "boosting")
    ]
    return bool((losses[1] < (1 - WORTH_BOOSTING) * losses[0]).any())


def fit_members(
    candidates: dict[str, Any], X: np.ndarray, y: np.ndarray, numbers: np.ndarray
) -> dict[str, Any]:
    """Fit all candidates; those that lean on boosting share one."""
    shared, fits = None, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingleTaskWarning)  # said once, by the estimator
        for name, candidate in candidates.items():
            estimator = clone(candidate)
            if estimator.feature_regressor is not None:
                if shared is None:
                    own = np.unique(numbers, return_inverse=True)[1]
                    shared = out_of_task("boosting", X, y.reshape(len(y), -1), own)
                estimator._out_of_task = shared
            fits[name] = estimator.fit(X, y, groups=numbers)
    return fits


def predict_left_out(
    candidates: dict[str, Any],
    X: np.ndarray,
    y: np.ndarray,
    numbers: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    sizes: list[int],
    n_repeats: int,
    seed: int,
) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Fit without a fold of tasks; predict these from random support rows of each size."""
    fits = fit_members(candidates, X[train], y[train], numbers[train])
    names = [name for name, (fit, _) in MEMBERS.items() if fit in fits]
    rng = np.random.RandomState(seed)
    n_rows = np.bincount(numbers[test])
    found = {}
    for size in sizes:
        rows = test[n_rows[numbers[test]] >= size + 2]
        if len(rows) == 0:
            continue
        ids, own = np.unique(numbers[rows], return_inverse=True)
        n_draws = n_repeats if size else 1
        draw = draw_repeats(own, np.full(len(ids), size), own, n_draws, rng)
        support, query = rows[draw.support], rows[draw.query]
        members = fits
        if size:
            batch = TaskBatch(draw.support_draw, draw.query_draw, n_draws * len(ids))
            members = {
                name: fit.adapt(X[support], y[support], _batch=batch) for name, fit in fits.items()
            }
        mean, std = predict_members(names, members, fits, X[query], True)
        found[size] = mean, std, y[query], numbers[query]
    return found


def predict_members(
    names: list[str],
    members: dict[str, Any],
    population: dict[str, Any],
    X: np.ndarray,
    return_std: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and standard deviations of the named members: (rows, members, ...)."""
    means, stds = [], []
    known: dict[tuple[str, bool], Any] = {}
    for name in names:
        fit, adapts = MEMBERS[name]
        model = (members if adapts else population)[fit]
        if (fit, adapts) not in known:
            found = model.predict(X, return_std=return_std)
            known[fit, adapts] = found if return_std else (found, np.zeros_like(found))
        mean, std = known[fit, adapts]
        if name == "pooled boosting":
            columns = [regressor.predict(X) for regressor in model.feature_regressors_]
            mean = np.column_stack(columns).reshape(mean.shape)
        means.append(mean)
        stds.append(std)
    return np.stack(means, axis=1), np.stack(stds, axis=1)
