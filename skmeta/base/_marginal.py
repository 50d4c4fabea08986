"""Estimators that learn from all rows at once, by marginal likelihood, and not from episodes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from skmeta.base._estimator import MetaEstimator
from skmeta.base._feature import out_of_task
from skmeta.base._regressor import MetaRegressor
from skmeta.base._rows import task_rows
from skmeta.base._spread import SpreadMixin, Updatable
from skmeta.core.numerics import location_and_scale
from skmeta.exceptions import TrainingDivergedError


class MarginalEstimator(Updatable, MetaEstimator):
    """Base of hierarchical models: closed-form adaptation, exact updates, double precision."""

    _training_dtype: ClassVar[torch.dtype] = torch.float64
    # What the episodic families have as parameters, and these methods have no use for.
    module: Any = None
    device: str = "cpu"
    random_state: Any = 0  # nothing is drawn: the global generator must not be, either

    def _inference_dtype(self, device: torch.device) -> torch.dtype:
        return torch.float64

    def _train(
        self,
        learner: Any,
        X: np.ndarray,
        y: np.ndarray,
        numbers: np.ndarray,
        generator: torch.Generator,
        keeper: Any = None,
        teller: Any = None,
    ) -> None:
        device, _ = next((p.device, p.dtype) for p in learner.parameters())
        n_tasks = int(numbers.max()) + 1
        rows, _ = task_rows(X, y, numbers, n_tasks, device, self._training_dtype)
        if int(rows.sizes.max()) < 2:
            raise ValueError(
                "Every task has a single row: what varies between tasks cannot be told from noise. "
                "Pass groups with several rows a task."
            )
        try:
            history = learner.fit_tasks(rows, generator)
        except torch.linalg.LinAlgError as error:
            raise TrainingDivergedError(
                "The search for the best likelihood ran to where a covariance matrix is no matrix "
                "of covariances any more. Lower lr where the estimator has one, and check X and y "
                "for huge values."
            ) from error
        self.history_ = [{**row, "epoch": i + 1} for i, row in enumerate(history)]
        self.n_iter_ = len(self.history_)

    def _coefficient_names(self) -> list[str]:
        """Those, after the intercept."""
        columns = self._column_names()
        return ["(intercept)" if "intercept" in columns else "intercept", *columns]

    def _column_names(self) -> list[str]:
        """Names of the columns of the design."""
        names = list(getattr(self, "feature_names_in_", []))
        names = names or [f"x{i}" for i in range(self.n_features_in_)]
        n_more = len(getattr(self, "feature_regressors_", []))
        if n_more == 1:
            return [*names, "feature_regressor"]
        return [*names, *(f"feature_regressor{i}" for i in range(n_more))]


class SpreadRegressor(SpreadMixin, MarginalEstimator, MetaRegressor):
    """Base of regressors that know how sure they are, and may lean on an ordinary one."""

    feature_regressor: Any = None

    def _fit_features(self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        self.feature_regressors_: list[Any] = []
        if self.feature_regressor is None:
            return super()._fit_features(X, y, numbers)
        # Handed over where somebody has fitted them already, for the same rows.
        found = self.__dict__.pop("_out_of_task", None)
        if found is None:
            targets = y * self.y_scale_ + self.y_mean_
            found = out_of_task(self.feature_regressor, X, targets, numbers)
        self.feature_regressors_, column = found
        design = np.column_stack([X, column])
        self.x_mean_, self.x_scale_ = location_and_scale(design)
        return (design - self.x_mean_) / self.x_scale_

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        predicted = [model.predict(X) for model in self.feature_regressors_]
        return super()._scaled(np.column_stack([X, *predicted]) if predicted else X)
