"""Tasks whose rows can be told apart, and an estimator that notes every row it sees."""

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from tests.model_selection.cases import SIZES

RECORD = []


def tasks(random_state=0, sizes=SIZES, offset=1.0):
    """Column 0 is the number of the row, column 1 explains y; ids are not dense, rows shuffled."""
    rng = np.random.default_rng(random_state)
    groups = rng.permutation(np.repeat(100 - 7 * np.arange(len(sizes)), sizes))
    X = np.column_stack([np.arange(len(groups)), rng.normal(size=len(groups))])
    y = X[:, 1] + offset * rng.normal(size=101)[groups] + 0.3 * rng.normal(size=len(groups))
    return X, y, groups


class Recorder(RegressorMixin, BaseEstimator):
    """Predicts the mean of the support, and notes every row that it sees, and what for."""

    def __init__(self, name="a"):
        self.name = name

    def fit(self, X, y, groups):
        RECORD.append((self.name, "fit", X[:, 0], np.unique(groups)))
        self.mean_ = y.mean()
        self.support_ = None
        return self

    def adapt(self, X, y):
        new = Recorder(self.name)
        new.mean_, new.support_ = y.mean(), X[:, 0]
        return new

    def predict(self, X):
        RECORD.append((self.name, "predict", X[:, 0], self.support_))
        return np.full(len(X), self.mean_)
