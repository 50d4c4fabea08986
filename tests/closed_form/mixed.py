"""Tasks with linear relations for the tests of mixed models."""

import numpy as np

COVARIANCES = ["auto", "full", "diag", "isotropic", "low_rank"]
RAGGED = [6, 1, 9, 3, 12, 1, 7, 5, 2, 8, 4, 10] * 3


def simulate(sizes, between, mean=None, noise=0.3, seed=0, shift=0.0, scale=1.0):
    """Tasks with normal coefficients: X, y, groups; rows of all tasks mixed."""
    rng = np.random.default_rng(seed)
    p = len(between)
    mean = np.arange(1.0, p + 1) if mean is None else mean
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    X = rng.normal(size=(len(groups), p - 1)) * scale + shift
    coef = rng.multivariate_normal(mean, between, size=len(sizes), method="svd")
    y = (with_constant(X) * coef[groups]).sum(1) + noise * rng.normal(size=len(X))
    return X, y, groups


def with_constant(X):
    return np.column_stack([np.ones(len(X)), X])


FULL = np.array([[1.0, 0.5, -0.2], [0.5, 0.8, 0.1], [-0.2, 0.1, 0.3]])
