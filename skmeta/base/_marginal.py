"""Estimators that learn from all rows at once, by marginal likelihood, and not from episodes."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skmeta.base._estimator import MetaEstimator
from skmeta.base._feature import out_of_task
from skmeta.base._regressor import MetaRegressor
from skmeta.base._rows import TOO_FAR, task_rows
from skmeta.core.learner import MarginalLearner
from skmeta.core.numerics import location_and_scale


class MarginalEstimator(MetaEstimator):
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
    ) -> None:
        device, _ = next((p.device, p.dtype) for p in learner.parameters())
        n_tasks = int(numbers.max()) + 1
        rows, _ = task_rows(X, y, numbers, n_tasks, device, self._training_dtype)
        if int(rows.sizes.max()) < 2:
            raise ValueError(
                "Every task has a single row: what varies between tasks cannot be told from noise. "
                "Pass groups with several rows a task."
            )
        history = learner.fit_tasks(rows, generator)
        self.history_ = [{**row, "epoch": i + 1} for i, row in enumerate(history)]
        self.n_iter_ = len(self.history_)

    def _column_names(self) -> list[str]:
        """Names of the columns of the design."""
        names = list(getattr(self, "feature_names_in_", []))
        names = names or [f"x{i}" for i in range(self.n_features_in_)]
        n_more = len(getattr(self, "feature_regressors_", []))
        if n_more == 1:
            return [*names, "feature_regressor"]
        return [*names, *(f"feature_regressor{i}" for i in range(n_more))]

    def update(self, X: Any, y: Any) -> Any:
        """Add rows to the task that the estimator is adapted to; ``self`` is left as it is.

        Exact: ``adapt(X1, y1).update(X2, y2)`` is ``adapt`` on all the rows at once. Before
        ``adapt`` it is ``adapt``.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            New rows of the task, at least one.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their targets.

        Returns
        -------
        estimator : object
            A new estimator of the same class, adapted to the old rows and the new ones.

        Raises
        ------
        ValueError
            As ``adapt``.
        """
        check_is_fitted(self)
        if self._query_tasks is not None:
            raise ValueError("update is for an estimator adapted to one task, not to a batch.")
        new = self.adapt(X, y)
        if self.adapted_:
            learner = cast(MarginalLearner, self.learner_)
            new.state_ = learner.merge(self.state_, new.state_)
        return new


class SpreadRegressor(MarginalEstimator, MetaRegressor):
    """Base of regressors that know how sure they are, and may lean on an ordinary one."""

    # So that return_std passes through pipelines with routing on.
    __metadata_request__predict: ClassVar[dict] = {"return_std": True}
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

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict targets: of the task adapted to, or of the population before ``adapt``.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to predict.
        return_std : bool, default=False
            Also return the standard deviation of a new observation at every row: what is not known
            of the task and the noise, together.

        Returns
        -------
        y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Predictions, in the units and the shape of ``y`` in ``fit``.
        std : ndarray of the shape of ``y``
            Only with ``return_std=True``.
        """
        mean = super().predict(X)
        if not return_std:
            return mean
        variance = self._outputs(X, "predict_variance")
        with np.errstate(over="ignore"):
            std = np.sqrt(variance) * self.y_scale_
        if not np.isfinite(std).all():
            raise ValueError(TOO_FAR)
        return mean, std.reshape(mean.shape)
