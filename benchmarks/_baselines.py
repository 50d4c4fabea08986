"""Baselines for new tasks: a pooled part, plus a part fitted to the support rows of the task.

All settings are tuned on training tasks alone: the pooled part by task-wise cross-validation, the
other by playing the k-shot game on out-of-task residuals of the training tasks.
Nothing here is run by itself.
"""

import time
from itertools import product

import numpy as np
from _common import linear_kernel, rbf_kernel, ridge_draws, tune_by_tasks
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

# Pooled part, kernel of the part fitted to the support rows ("" = none, "1" = offset, "1x" =
# offset and slopes, "rbf" = offset and a smooth curve; "code" = none, but the pooled part sees the
# task's shrunken mean), candidate penalties (None = grid below).
BASELINES = {
    "pooled mean": ("zero", "", None),
    "task mean": ("zero", "1", (1e-8,)),
    "pooled ridge": ("ridge", "", None),
    "pooled boosting": ("boosting", "", None),
    "boosting + shrunken offset": ("boosting", "1", None),
    "per-task ridge": ("zero", "1x", None),
    "pooled ridge + ridge on residuals": ("ridge", "1x", None),
    "pooled ridge + kernel ridge on residuals": ("ridge", "rbf", None),
    "boosting + kernel ridge on residuals": ("boosting", "rbf", None),
    "boosting with target-encoded task": ("boosting", "code", None),
}
POOLED = ("pooled mean", "pooled ridge", "pooled boosting")
PER_TASK = ("task mean", "per-task ridge")
PENALTIES = tuple(np.logspace(-3, 4, 22))
# Size of the constant column next to standardised features: 1 shrinks the level of a task as much
# as a slope, 100 practically leaves it free. Chosen on training tasks like the penalty.
LEVELS = (1.0, 3.0, 10.0, 100.0)
BUMPS = (0.03, 0.1, 0.3, 1.0)  # width of the curve, for one column
N_SIMULATED = 20
MOST_SIMULATED = 100


def _ridge_stages(alpha, X, y, X_new):
    return Ridge(alpha=alpha).fit(X, y).predict(X_new)[None]


def _boosting(candidate, n_iter):
    rate, leaf, n_leaves = candidate
    return HistGradientBoostingRegressor(
        learning_rate=rate,
        min_samples_leaf=leaf,
        max_leaf_nodes=n_leaves,
        max_iter=n_iter,
        early_stopping=False,
        random_state=0,
    )


def _boosting_stages(candidate, X, y, X_new):
    n_iter = 80 if candidate[0] > 0.1 else 300
    stages = _boosting(candidate, n_iter).fit(X, y).staged_predict(X_new)
    return np.array(list(stages))


def pooled_part(split, kind):
    """Predictions for every row: out-of-task on the training tasks, the fitted model elsewhere."""
    if kind not in split.pooled:
        start, rows, base = time.perf_counter(), split.fit_rows, np.zeros(len(split.y))
        X, y, groups = split.X[rows], split.y[rows], split.groups[rows]
        if kind == "ridge":
            alpha, _, out = tune_by_tasks(np.logspace(-2, 6, 25), _ridge_stages, X, y, groups)
            base = Ridge(alpha=alpha).fit(X, y).predict(split.X)
            base[rows] = out
        elif kind == "boosting":
            grid = list(product((0.04, 0.15), (10, 40), (6, 24)))
            best, stage, out = tune_by_tasks(grid, _boosting_stages, X, y, groups)
            base = _boosting(best, stage + 1).fit(X, y).predict(split.X)
            base[rows] = out
        split.pooled[kind] = base, time.perf_counter() - start
    return split.pooled[kind]


def kernels(split, columns):
    """Candidate kernels of the part that is fitted to the support rows."""
    ones = np.ones((len(split.y), 1))
    if columns == "1":
        return [linear_kernel(ones)]
    if columns == "1x":
        return [linear_kernel(np.hstack([c * ones, split.X])) for c in LEVELS]
    p = split.X.shape[1]
    return [rbf_kernel(split.X, g / p, c) for g, c in product(BUMPS, (1.0, 10.0))]


def tune_support_part(losses, split, columns, penalties, k, rule):
    """Kernel and penalty with the least loss in the k-shot game on training tasks.

    `losses(kernel, orders, penalties)` gives one loss a penalty for one task; `columns` may be the
    candidate kernels themselves.
    """
    designs = kernels(split, columns) if isinstance(columns, str) else columns
    penalties = penalties or PENALTIES
    if len(designs) * len(penalties) == 1:
        return designs[0], penalties[0]
    simulated = split.simulated(k, N_SIMULATED, MOST_SIMULATED, rule)
    table = [[losses(d, o, penalties) for o in simulated.values()] for d in designs]
    mean = np.mean(table, axis=1)
    d, a = np.unravel_index(mean.argmin(), mean.shape)
    return designs[d], penalties[a]


def encode(split, orders, k, shrink):
    """Rows after the first k of each order, and the shrunken mean of these k beside them."""
    code = {i: split.y[o[:, :k]].sum(axis=1) / (k + shrink) for i, o in orders.items()}
    rows = np.concatenate([o[:, k:].ravel() for o in orders.values()])
    code = np.concatenate([np.repeat(code[i], o.shape[1] - k) for i, o in orders.items()])
    return np.column_stack([split.X[rows], code]), split.y[rows], split.groups[rows]


def run_encoded(split, k, rule, orders):
    """Boosting with one more column, that codes the task by its support rows.

    Training tasks are coded by k rows that are then left out, some times over, so that the code is
    as noisy as a new task's.
    """
    n_draws = np.clip(5000 // len(split.fit_rows), 2, 20)
    means = np.array([split.y[rows].mean() for rows in split.train.values()])
    within = np.mean([split.y[rows].var() for rows in split.train.values()])
    shrink = within / means.var().clip(1e-3)
    X, y, groups = encode(split, split.simulated(k, n_draws, len(means), rule), k, shrink)
    grid = [(0.15, 10, 6), (0.15, 40, 24)]
    best, stage, _ = tune_by_tasks(grid, _boosting_stages, X, y, groups)
    model, found = _boosting(best, stage + 1).fit(X, y), {}
    for i, o in orders.items():
        predicted = model.predict(encode(split, {i: o}, k, shrink)[0])
        found[i] = predicted.reshape(len(o), -1)
    return found


def run_baseline(name, split, k, rule, orders):
    """Predictions of the query rows of every held-out task (draws, rows), and seconds to fit."""
    kind, columns, penalties = BASELINES[name]
    base, seconds = pooled_part(split, kind)
    if not columns or k == 0:
        return {i: base[o[:, k:]] for i, o in orders.items()}, seconds
    start, r = time.perf_counter(), split.y - base
    if columns == "code":
        found = run_encoded(split, k, rule, orders)
        return found, seconds + time.perf_counter() - start

    def losses(kernel, o, penalties):
        found = ridge_draws(kernel, r, o, k, penalties)
        return ((found - r[o[:, k:]]) ** 2).mean(axis=(1, 2))

    kernel, penalty = tune_support_part(losses, split, columns, penalties, k, rule)
    seconds += time.perf_counter() - start
    return {
        i: base[o[:, k:]] + ridge_draws(kernel, r, o, k, [penalty])[0] for i, o in orders.items()
    }, seconds
