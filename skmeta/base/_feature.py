"""The prediction of an ordinary regressor as one more feature: out of task, so that none leaks."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold, KFold

FOLDS = 5
RATE = 0.1
MOST_TREES = 150
LEAVES = (6, 24)


def out_of_task(
    regressor: Any, X: np.ndarray, y: np.ndarray, numbers: np.ndarray
) -> tuple[list[Any], np.ndarray]:
    """Fit a pooled regressor a column of y, and predict every row by one that never saw its task.

    Parameters
    ----------
    regressor : "boosting" or regressor
        What to fit; cloned. "boosting" is gradient boosting with the number and size of its trees
        chosen on tasks left out.
    X : array of shape (n_rows, n_features)
        Rows.
    y : array of shape (n_rows, n_outputs)
        Targets.
    numbers : array of shape (n_rows,)
        Task of every row. Rows of a single task are left out at random.

    Returns
    -------
    fitted : list of regressors
        One a column of y, fitted to all rows.
    column : array of shape (n_rows, n_outputs)
        Out-of-task predictions.
    """
    n_tasks = int(numbers.max()) + 1
    if n_tasks > 1:
        folds = list(GroupKFold(min(FOLDS, n_tasks)).split(X, y, numbers))
    else:
        folds = list(KFold(min(FOLDS, len(X)), shuffle=True, random_state=0).split(X))
    # A task counts as much as another, whatever its rows.
    weight = 1.0 / np.bincount(numbers)[numbers]
    fitted, columns = [], []
    for target in y.T:
        if isinstance(regressor, str):
            model, column = _boosting(X, target, folds, weight)
        else:
            column = np.empty(len(y))
            for train, test in folds:
                column[test] = clone(regressor).fit(X[train], target[train]).predict(X[test])
            model = clone(regressor).fit(X, target)
        fitted.append(model)
        columns.append(column)
    return fitted, np.column_stack(columns)


def _boosting(
    X: np.ndarray, y: np.ndarray, folds: list, weight: np.ndarray
) -> tuple[Any, np.ndarray]:
    least, best = np.inf, None
    for n_leaves in LEAVES:
        stages = np.empty((MOST_TREES, len(y)))
        for train, test in folds:
            model = _trees(n_leaves, MOST_TREES).fit(X[train], y[train])
            # Fewer stages than asked for only if a tree found nothing to split.
            found = np.array(list(model.staged_predict(X[test])))
            stages[:, test] = found[np.minimum(np.arange(MOST_TREES), len(found) - 1)]
        losses = (weight * (stages - y) ** 2).sum(axis=1)
        stage = int(losses.argmin())
        if losses[stage] < least:
            least, best = losses[stage], (n_leaves, stage, stages[stage])
    assert best is not None
    n_leaves, stage, column = best
    return _trees(n_leaves, stage + 1).fit(X, y), column


def _trees(n_leaves: int, n_trees: int) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        learning_rate=RATE, max_leaf_nodes=n_leaves, max_iter=n_trees, early_stopping=False,
        random_state=0,
    )  # fmt: skip
