"""Baselines for yes or no in new tasks: pooled log odds, plus a part fitted to the support rows.

All settings are tuned on training tasks alone, as in `_baselines.py`, by log loss.
Nothing here is run by itself.
"""

import time
from itertools import product

import numpy as np
from _baselines import LEVELS, tune_support_part
from _common import gram_draws, linear_kernel, log_loss, tune_by_tasks
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

# Pooled part, kernel of the part fitted to the support rows, as in `_baselines.py`; "1b" is an
# offset and a slope in the pooled log odds.
CLASS_BASELINES = {
    "base rate": ("rate", ""),
    "task rate": ("rate", "1"),
    "pooled logistic": ("logistic", ""),
    "pooled boosting": ("boosting", ""),
    "per-task logistic": ("rate", "1x"),
    "pooled logistic + shrunken offset": ("logistic", "1"),
    "pooled boosting + shrunken offset": ("boosting", "1"),
    "pooled logistic + recalibration": ("logistic", "1b"),
    "pooled logistic + logistic on residuals": ("logistic", "1x"),
}
PENALTIES = tuple(np.logspace(-2, 3, 11))
STEPS = 20


def _logistic_stages(C, X, y, X_new):
    return _logistic(C, X, y).decision_function(X_new)[None]


def _logistic(C, X, y):
    return LogisticRegression(C=C, max_iter=1000).fit(X, y)


def _boosting(candidate, n_iter):
    rate, leaf, n_leaves = candidate
    return HistGradientBoostingClassifier(
        learning_rate=rate,
        min_samples_leaf=leaf,
        max_leaf_nodes=n_leaves,
        max_iter=n_iter,
        early_stopping=False,
        random_state=0,
    )


def _boosting_stages(candidate, X, y, X_new):
    n_iter = 60 if candidate[0] > 0.1 else 200
    stages = _boosting(candidate, n_iter).fit(X, y).staged_decision_function(X_new)
    return np.array([np.ravel(stage) for stage in stages])


def pooled_log_odds(split, kind):
    """Log odds of every row: out-of-task on the training tasks, the fitted model elsewhere."""
    if kind not in split.pooled:
        start, rows = time.perf_counter(), split.fit_rows
        X, y, groups = split.X[rows], split.y[rows], split.groups[rows]
        base = np.full(len(split.y), logit(y.mean()))
        if kind == "logistic":
            grid = np.logspace(-4, 2, 13)
            C, _, out = tune_by_tasks(grid, _logistic_stages, X, y, groups, loss=log_loss)
            base = _logistic(C, X, y).decision_function(split.X)
            base[rows] = out
        elif kind == "boosting":
            grid = list(product((0.04, 0.15), (10, 40), (6, 24)))
            found = tune_by_tasks(grid, _boosting_stages, X, y, groups, loss=log_loss)
            base = _boosting(found[0], found[1] + 1).fit(X, y).decision_function(split.X)
            base[rows] = found[2]
        split.pooled[kind] = base, time.perf_counter() - start
    return split.pooled[kind]


def logistic_draws(kernel, y, base, orders, k, penalties):
    """Kernel logistic regression with a given offset, on the first k rows of each order.

    Log odds of the others, (penalties, draws, others). Newton's method in the coordinates of the
    Gram matrix of the support, all draws and penalties at once.
    """
    support, query = gram_draws(kernel, orders, k)
    values, vectors = np.linalg.eigh(support)
    values = values.clip(1e-9 * values[:, -1:].clip(1e-9))
    F = vectors * np.sqrt(values)[:, None]
    ridge = np.asarray(penalties)[:, None, None]
    target, offset = y[orders[:, :k]], base[orders[:, :k]]
    w = np.zeros((len(penalties), *F.shape[::2]))
    for _ in range(STEPS):
        p = expit(offset + np.einsum("dki,adi->adk", F, w))
        slope = np.einsum("dki,adk->adi", F, p - target) + ridge * w
        curve = np.einsum("dki,adk,dkj->adij", F, p * (1 - p), F, optimize=True)
        step = np.linalg.solve(curve + ridge[..., None] * np.eye(k), slope[..., None])[..., 0]
        # No step moves a log odds of the support by more than five: Newton may overshoot.
        reach = np.abs(np.einsum("dki,adi->adk", F, step)).max(axis=2, keepdims=True)
        w -= step * np.minimum(1, 5 / reach.clip(1e-9))
        if reach.max() < 1e-6:
            break
    G = query @ (vectors / np.sqrt(values)[:, None])
    return base[orders[:, k:]] + np.einsum("dqi,adi->adq", G, w)


def run_class_baseline(name, split, k, rule, orders):
    """Log odds of the query rows of every held-out task (draws, rows), and seconds to fit."""
    kind, columns = CLASS_BASELINES[name]
    base, seconds = pooled_log_odds(split, kind)
    if not columns or k == 0:
        return {i: base[o[:, k:]] for i, o in orders.items()}, seconds
    start, y, designs = time.perf_counter(), split.y, None
    if columns == "1b":
        ones = np.ones(len(base))
        designs = [linear_kernel(np.column_stack([c * ones, base])) for c in LEVELS]

    def losses(kernel, o, penalties):
        found = logistic_draws(kernel, y, base, o, k, penalties)
        return log_loss(y[o[:, k:]], found).mean(axis=(1, 2))

    kernel, penalty = tune_support_part(losses, split, designs or columns, PENALTIES, k, rule)
    seconds += time.perf_counter() - start
    return {
        i: logistic_draws(kernel, y, base, o, k, [penalty])[0] for i, o in orders.items()
    }, seconds


class GLMM:
    """Logistic regression with a random intercept, through GPBoost.

    A new task: the intercept is integrated out on a grid, given the support rows.
    """

    def __init__(self, split):
        import gpboost

        rows = split.fit_rows
        X = np.column_stack([np.ones(len(split.y)), split.X])
        # A column that never varies in training would leave its weight open.
        X = X[:, [0, *(1 + np.flatnonzero(split.X[rows].std(axis=0) > 0))]]
        _, task = np.unique(split.groups[rows], return_inverse=True)
        model = gpboost.GPModel(
            group_data=task,
            likelihood="bernoulli_logit",
            matrix_inversion_method="cholesky",
            num_parallel_threads=1,
        )
        model.fit(y=split.y[rows], X=X[rows])
        beta = np.ravel(model.get_coef(format_pandas=False))[: X.shape[1]]
        variance = float(np.ravel(model.get_cov_pars(format_pandas=False))[0])
        self.base = X @ beta
        self.grid = np.linspace(-5, 5, 81) * np.sqrt(max(variance, 1e-8))
        self.log_prior = -0.5 * self.grid**2 / max(variance, 1e-8)

    def predict(self, split, orders, k):
        found = {}
        for i, o in orders.items():
            s = o[:, :k, None]
            fit = -log_loss(split.y[s], self.base[s] + self.grid).sum(axis=1)
            weight = np.exp(self.log_prior + fit - (self.log_prior + fit).max(axis=1)[:, None])
            weight /= weight.sum(axis=1)[:, None]
            p = np.einsum("dg,dqg->dq", weight, expit(self.base[o[:, k:, None]] + self.grid))
            found[i] = logit(p.clip(1e-9, 1 - 1e-9))
        return found


CLASS_PEERS = {"GLMM, intercept": ("gpboost", GLMM)}
