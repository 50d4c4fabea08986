"""Mixed models of other libraries, with the prediction for a NEW task that they do not offer.

Both fit a function of the columns plus a random intercept a task. For a new task the best
prediction of its intercept is the mean residual of its n support rows times n / (n + kappa), where
kappa is the noise variance over the variance of the intercepts: a shrunken offset whose penalty
comes from the fitted variances.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from sklearn.model_selection import KFold

from skmeta.base._groups import task_numbers
from skmeta.model_selection._baselines import RegressorBaseline
from skmeta.model_selection._pooled import N_FOLDS, Columns
from skmeta.model_selection._shots import Choice

# No variance between tasks: no offset.
NO_OFFSET = 1e12


class _Function:
    """The part that all tasks share, in the form of a pooled model."""

    def __init__(self, predict: Any) -> None:
        self.of = predict

    def predict(self, Z: np.ndarray) -> np.ndarray:
        return np.asarray(self.of(Z), dtype=np.float64)[:, None]


class _RandomIntercept(RegressorBaseline):
    """A baseline whose pooled part and kappa come from another library."""

    def __init__(self) -> None:
        super().__init__((), "offset")

    def fit(self, X: Any, y: Any, groups: Any, shared: dict | None = None) -> _RandomIntercept:
        """Fit to the training tasks."""
        numbers, _ = task_numbers(groups, len(y))
        self.columns_ = Columns().fit(X)
        self._learn_targets(np.asarray(y))
        target = self._encode(np.asarray(y))[:, 0]
        predict, noise, between = self._fit_mixed(self.columns_.transform(X), target, numbers)
        self.model_ = _Function(predict)
        kappa = noise / between if between > noise / NO_OFFSET else NO_OFFSET
        self.choices_ = [Choice(1, None, kappa)]
        self.support_ = None
        return self

    def _fit_mixed(
        self, Z: np.ndarray, y: np.ndarray, numbers: np.ndarray
    ) -> tuple[Any, float, float]:
        """Return the shared function, the noise variance and the variance of the intercepts."""
        raise NotImplementedError


class GPBoostBaseline(_RandomIntercept):
    """Boosted trees and a random intercept, fitted together (Sigrist, 2022)."""

    def _fit_mixed(
        self, Z: np.ndarray, y: np.ndarray, numbers: np.ndarray
    ) -> tuple[Any, float, float]:
        import gpboost

        options = {
            "learning_rate": 0.1,
            "num_leaves": 8,
            "min_data_in_leaf": 10,
            "verbose": -1,
            "num_threads": 1,
            "seed": 0,
            "metric": "mse",
        }

        def parts() -> dict[str, Any]:
            model = gpboost.GPModel(
                group_data=numbers, likelihood="gaussian", matrix_inversion_method="cholesky"
            )
            return {"train_set": gpboost.Dataset(Z, y), "gp_model": model}

        # By rows, as its documentation does it: in new tasks the intercepts would drown the rest.
        folds = KFold(N_FOLDS, shuffle=True, random_state=0).split(Z)
        found = gpboost.cv(
            options,
            **parts(),
            num_boost_round=200,
            early_stopping_rounds=20,
            folds=list(folds),
            use_gp_model_for_validation=True,
            verbose_eval=False,
        )
        rounds = max(1, int(np.argmin(next(v for k, v in found.items() if k.endswith("mean")))) + 1)
        fitted = parts()
        booster = gpboost.train(options, **fitted, num_boost_round=rounds)
        noise, between = np.ravel(fitted["gp_model"].get_cov_pars(format_pandas=False))[:2]

        def predict(Z: np.ndarray) -> np.ndarray:
            return booster.predict(data=Z, ignore_gp_model=True)

        return predict, float(noise), float(between)


class MERFBaseline(_RandomIntercept):
    """A random forest and a random intercept, fitted in turns (Hajjem et al., 2014)."""

    def _fit_mixed(
        self, Z: np.ndarray, y: np.ndarray, numbers: np.ndarray
    ) -> tuple[Any, float, float]:
        import pandas as pd
        from merf import MERF
        from sklearn.ensemble import RandomForestRegressor

        logging.getLogger("merf.merf").setLevel(logging.WARNING)  # it prints a line an iteration
        forest = RandomForestRegressor(50, min_samples_leaf=5, random_state=0)
        model = MERF(fixed_effects_model=forest, max_iterations=10)
        model.fit(Z, np.ones((len(Z), 1)), pd.Series(numbers), y)
        noise, between = float(model.sigma2_hat_history[-1]), float(model.D_hat_history[-1][0, 0])
        return model.trained_fe_model.predict, noise, between
