"""Mixed models and Gaussian processes of other libraries, with predictions for NEW tasks.

None of the libraries adapts a fitted model to rows of a new group, so all end in the same step:
a mean that all tasks share, a covariance of the task's own part and a noise variance, and the
conditional mean and variance given the support rows (BLUP by hand).
Each library is imported when its model is fitted. Nothing here is run by itself.
"""

import logging
import warnings
from itertools import product

import numpy as np
from _common import gram_draws
from _dense_gp import fit_dense_gp

MOST_SLOPES = 4
GAME_SHOTS = 5  # settings are tuned by predicting held-out training tasks from so many rows


class Posterior:
    """Shared mean of every row, covariance of the task's own part, noise variance."""

    def __init__(self, mean, kernel, noise):
        self.mean, self.kernel, self.noise = mean, kernel, max(float(noise), 1e-6)

    def predict_task(self, split, o, k):
        """Mean and standard deviation of the rows after the first k of each order."""
        support, query = gram_draws(self.kernel, o, k)
        rows = np.sort(o[0])
        prior = np.diag(self.kernel(rows))[np.searchsorted(rows, o[:, k:])]
        gain = np.linalg.solve(support + self.noise * np.eye(k), query.transpose(0, 2, 1))
        gap = split.y[o[:, :k]] - self.mean[o[:, :k]]
        mean = self.mean[o[:, k:]] + np.einsum("dkq,dk->dq", gain, gap)
        variance = self.noise + prior - np.einsum("dqk,dkq->dq", query, gain)
        return mean, np.sqrt(variance.clip(1e-12))

    def predict(self, split, orders, k):
        found = {i: self.predict_task(split, o, k) for i, o in orders.items()}
        return {i: m for i, (m, _) in found.items()}, {i: s for i, (_, s) in found.items()}


def slope_columns(split, most=MOST_SLOPES):
    """Columns whose slopes differ most between training tasks, the clearest first.

    The score of a column: how much of the residual of the within-task regression its slopes, one a
    task, explain beyond what noise would.
    """
    X, y = split.X[split.fit_rows], split.y[split.fit_rows]
    _, task, size = np.unique(split.groups[split.fit_rows], return_inverse=True, return_counts=True)

    def within(v):
        sums = np.zeros((len(size), v.shape[1]))
        np.add.at(sums, task, v)
        return v - (sums / size[:, None])[task]

    W, w = within(X), within(y[:, None])[:, 0]
    r = w - W @ np.linalg.lstsq(W, w, rcond=None)[0]
    along, square = np.zeros((2, len(size), X.shape[1]))
    np.add.at(along, task, W * r[:, None])
    np.add.at(square, task, W**2)
    gain = np.where(square > 1e-8, along**2 / square.clip(1e-8) - r.var(), 0).sum(axis=0)
    return [j for j in np.argsort(-gain, kind="stable")[:most] if gain[j] > 0]


def _mixed(split, mean, columns, covariance, noise):
    Z = np.column_stack([np.ones(len(split.y)), split.X[:, columns]])
    return Posterior(mean, lambda rows: Z[rows] @ covariance @ Z[rows].T, noise)


# statsmodels ------------------------------------------------------------------------------------


def _reml(y, F, groups, Z):
    """The fit with the largest likelihood of several optimisers; None when all fail.

    L-BFGS at times reports convergence at a variance of zero with an infinite likelihood, or stops
    well below the others.
    """
    import statsmodels.api as sm

    best = None
    for method in ("lbfgs", "bfgs", "powell"):
        if method == "powell" and (best is not None or Z.shape[1] > 2):
            break
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                model = sm.MixedLM(y, F, groups=groups, exog_re=Z)
                fit = model.fit(reml=True, method=[method], maxiter=200)
        except (np.linalg.LinAlgError, ValueError):
            continue
        good = np.isfinite(fit.llf) and fit.scale > 0 and np.isfinite(fit.cov_re).all()
        if good and (best is None or fit.llf > best.llf):
            best = fit
    return best


def _independent(F):
    """Columns of F that are no combination of others (dummies may be): statsmodels needs it."""
    from scipy.linalg import qr

    _, r, order = qr(F, mode="economic", pivoting=True)
    size = np.abs(np.diag(r))
    return np.sort(order[: (size > 1e-8 * size[0]).sum()])


def fit_mixedlm(split, slopes):
    """Random intercept, or intercept and as many slopes as Akaike's criterion wants, up to 4."""
    F = np.column_stack([np.ones(len(split.y)), split.X])
    F, rows = F[:, _independent(F[split.fit_rows])], split.fit_rows
    ranked = slope_columns(split) if slopes else []
    best, least = None, np.inf
    for m in sorted({0, *(min(m, len(ranked)) for m in (1, 2, 4))}):
        Z = np.column_stack([np.ones(len(F)), split.X[:, ranked[:m]]])
        fit = _reml(split.y[rows], F[rows], split.groups[rows], Z[rows])
        if fit is None:
            continue
        criterion = -2 * fit.llf + (m + 1) * (m + 2)
        if criterion >= least:
            break
        best, least = (fit, m), criterion
    if best is None:  # no optimiser got anywhere: least squares
        beta = np.linalg.lstsq(F[rows], split.y[rows], rcond=None)[0]
        noise = (split.y[rows] - F[rows] @ beta).var()
        return _mixed(split, F @ beta, [], np.zeros((1, 1)), noise)
    fit, m = best
    return _mixed(split, F @ fit.fe_params, ranked[:m], np.asarray(fit.cov_re), fit.scale)


# Tuning of GPBoost and merf ----------------------------------------------------------------------


def _tune(split, candidates, fit, n_folds=3):
    """The candidate that predicts held-out training tasks best, from five random rows of each."""
    ids, losses = list(split.train), np.zeros(len(candidates))
    for fold in range(n_folds):
        out = {i: split.train[i] for i in ids[fold::n_folds]}
        rows = np.setdiff1d(split.fit_rows, np.concatenate(list(out.values())))
        k = min(GAME_SHOTS, max(len(r) for r in out.values()) - 2)
        out = {i: r for i, r in out.items() if len(r) >= k + 2}
        orders = split.orders(out, range(900_000, 900_005), "random")
        for c, candidate in enumerate(candidates):
            mean, _ = fit(candidate, rows).predict(split, orders, k)
            gaps = [((mean[i] - split.y[o[:, k:]]) ** 2).mean() for i, o in orders.items()]
            losses[c] += np.mean(gaps)
    return candidates[int(np.argmin(losses))]


# GPBoost -----------------------------------------------------------------------------------------


class GPBoost:
    """Boosted trees plus a random intercept and slopes, fitted together."""

    def __init__(self, split, refit):
        self.split, self.refit, self.columns = split, refit, slope_columns(split)
        # Slopes; leaves of a tree, learning rate, trees.
        grid = product(
            (0, 2, MOST_SLOPES), ((4, 0.1, 30), (4, 0.1, 100), (4, 0.03, 100), (12, 0.1, 30))
        )
        self.setting = _tune(split, list(grid), self.fit)
        self.posterior = self.fit(self.setting, split.fit_rows)

    def fit(self, setting, rows):
        import gpboost

        n_slopes, (n_leaves, rate, n_rounds) = setting
        split, columns = self.split, self.columns[:n_slopes]
        _, task = np.unique(split.groups[rows], return_inverse=True)
        effects = {"group_data": task}
        if columns:
            effects["group_rand_coef_data"] = split.X[rows][:, columns]
            effects["ind_effect_group_rand_coef"] = [1] * len(columns)
        # The default inversion method is an approximation, and was off by .03.
        model = gpboost.GPModel(
            likelihood="gaussian",
            matrix_inversion_method="cholesky",
            num_parallel_threads=1,
            **effects,
        )
        options = {
            "learning_rate": rate,
            "num_leaves": n_leaves,
            "verbose": -1,
            "num_threads": 1,
            "seed": 0,
        }
        data = gpboost.Dataset(split.X[rows], split.y[rows])
        booster = gpboost.train(options, data, gp_model=model, num_boost_round=n_rounds)
        mean = booster.predict(data=split.X, ignore_gp_model=True)
        noise, *variances = np.ravel(model.get_cov_pars(format_pandas=False))
        return _mixed(split, mean, columns, np.diag(variances), noise)

    def predict(self, split, orders, k):
        if not self.refit or k == 0:
            return self.posterior.predict(split, orders, k)
        # Refitted once a draw, with the support rows of all new tasks of that draw.
        parts = []
        for j in range(len(next(iter(orders.values())))):
            rows = np.concatenate([split.fit_rows, *(o[j, :k] for o in orders.values())])
            one = {i: o[j : j + 1] for i, o in orders.items()}
            parts.append(self.fit(self.setting, rows).predict(split, one, k))
        return tuple({i: np.concatenate([p[n][i] for p in parts]) for i in orders} for n in (0, 1))


# merf --------------------------------------------------------------------------------------------


def fit_merf(split):
    """A random forest plus a random intercept and up to two slopes, fitted in turns."""
    import pandas as pd
    from merf import MERF
    from sklearn.ensemble import RandomForestRegressor

    logging.getLogger("merf.merf").setLevel(logging.WARNING)  # it prints a line an iteration
    columns = slope_columns(split, 2)

    def fit(leaf, rows):
        forest = RandomForestRegressor(60, min_samples_leaf=leaf, max_features=0.7, random_state=0)
        model = MERF(fixed_effects_model=forest, max_iterations=10)
        Z = np.column_stack([np.ones(len(rows)), split.X[rows][:, columns]])
        model.fit(split.X[rows], Z, pd.Series(split.groups[rows]), split.y[rows])
        mean = model.trained_fe_model.predict(split.X)
        covariance, noise = model.D_hat_history[-1], model.sigma2_hat_history[-1]
        return _mixed(split, mean, columns, np.asarray(covariance), noise)

    return fit(_tune(split, [5, 30], fit), split.fit_rows)


# Name -> the library it needs, and how it is fitted to the training tasks of a split.
PEERS = {
    "MixedLM, intercept": ("statsmodels", lambda split: fit_mixedlm(split, False)),
    "MixedLM, slopes": ("statsmodels", lambda split: fit_mixedlm(split, True)),
    "GPBoost": ("gpboost", lambda split: GPBoost(split, False)),
    "GPBoost, refitted": ("gpboost", lambda split: GPBoost(split, True)),
    "merf": ("merf", fit_merf),
    "dense GP": ("torch", lambda split: fit_dense_gp(split, Posterior)),
}
