"""Compressed sensing with few cosines: the lasso, for comparison."""

import warnings

import numpy as np
from scipy.fft import idctn
from sklearn.linear_model import Lasso

from skmeta.operators import GaussianMeasurements

PENALTIES = np.geomspace(1e-6, 10, 15)


class CosineLasso:
    """Few cosines that explain the measurements: the estimator of compressed sensing."""

    def fit(self, X):
        """Learn from clean images."""
        side = round(X.shape[1] ** 0.5)
        units = np.eye(X.shape[1]).reshape(-1, side, side)
        self.basis_ = idctn(units, axes=(1, 2), norm="ortho").reshape(len(units), -1)
        self.tuning_ = X[np.random.default_rng(0).choice(len(X), 20, replace=False)]
        return self

    def adapt(self, *, operator, noise_std):
        """Return what takes measurements of the operator."""
        m, n = operator.shape
        other, X = GaussianMeasurements(m, n, random_state=999), self.tuning_
        noise = noise_std * np.random.default_rng(999).normal(size=(len(X), m))
        Y = X @ other.matrix.T + noise
        errors = [np.mean((self._solve(other, Y, p) - X) ** 2) for p in PENALTIES]
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__, operator=operator)
        new.penalty_ = PENALTIES[int(np.argmin(errors))]
        return new

    def predict(self, Y):
        """Images from measurements."""
        return self._solve(self.operator, Y, self.penalty_)

    def _solve(self, operator, Y, penalty):
        design = np.asfortranarray(operator.matrix @ self.basis_.T)
        lasso = Lasso(penalty, fit_intercept=False, max_iter=300, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a few slow images make no difference to the mean
            found = [lasso.fit(design, y).coef_.copy() for y in Y]
        return (np.array(found) @ self.basis_).clip(0, 1)
