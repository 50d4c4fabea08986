"""Tasks that are smooth curves for the tests of Gaussian processes."""

import numpy as np

from skmeta import HierarchicalGPRegressor

RAGGED = [6, 1, 9, 3, 12, 1, 7, 5, 2, 8]


def simulate(sizes, d=2, noise=0.2, seed=0):
    """A curve that all tasks share, and a smooth one for each: X, y, groups; rows mixed."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    X = rng.uniform(-2, 2, size=(len(groups), d))
    y = np.sin(2 * X[:, 0]) + 0.7 * X.sum(1) + noise * rng.normal(size=len(X))
    for task in range(len(sizes)):
        rows = np.flatnonzero(groups == task)
        own = 0.25 + 0.5 * slow_rbf(X[rows], X[rows], np.full(d, 1.5))
        y[rows] += rng.multivariate_normal(np.zeros(len(rows)), own, method="eigh")
    return X, y, groups


def slow_rbf(a, b, length):
    return np.exp(-0.5 * (((a[:, None] - b[None]) / length) ** 2).sum(2))


def quick(**changes):
    return HierarchicalGPRegressor(**{"max_iter": 15, "random_state": 0, **changes})
