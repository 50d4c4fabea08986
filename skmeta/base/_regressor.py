"""What every meta-regressor shares: the scale of y, and one or several outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from skmeta.base._estimator import MetaEstimator
from skmeta.base._rows import AS_NUMBERS, TOO_FAR, refuse_dates, refuse_odd_targets, validate_rows
from skmeta.core.learner import Learner
from skmeta.core.numerics import location_and_scale
from skmeta.core.sampling import Sampler
from skmeta.core.tasks import TaskRows


class MetaRegressor(RegressorMixin, MetaEstimator):
    """Base of meta-regressors; ``y`` is standardised by the mean and scale of the training rows."""

    def _check_rows(self, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        refuse_odd_targets(y)
        refuse_dates(y, "y")
        X, y = validate_rows(
            self,
            X,
            y,
            reset=reset,
            **AS_NUMBERS,
            y_numeric=True,
            multi_output=True,
            ensure_min_samples=2 if reset else 1,
        )
        y = np.asarray(y, **AS_NUMBERS)
        if not np.isfinite(y).all():  # of an array of objects None becomes NaN here
            raise ValueError("Input y contains NaN (missing values). Drop these rows.")
        if not reset and y.shape[1:] != self._target_shape:
            wanted = "one-dimensional" if not self._target_shape else f"(n, {self.n_outputs_})"
            raise ValueError(f"y was {wanted} in fit, and has the shape {y.shape} now.")
        return X, y

    def _fit_targets(self, y: np.ndarray, numbers: np.ndarray, n_tasks: int, grouped: bool) -> None:
        if n_tasks == 1:
            self._warn_single_task(grouped)
        self._target_shape = y.shape[1:]
        columns = y.reshape(len(y), -1)
        self.n_outputs_ = columns.shape[1]
        self.y_mean_, self.y_scale_ = location_and_scale(columns)

    def _encode(self, y: np.ndarray, numbers: np.ndarray, n_tasks: int) -> np.ndarray:
        return (y.reshape(len(y), -1) - self.y_mean_) / self.y_scale_

    def _samplers(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, generator: torch.Generator
    ) -> tuple[Sampler, Sampler | None]:
        return self._row_samplers(X, y, numbers, generator, self.n_support, self.n_query)

    def _check_learner(self, learner: Learner, rows: TaskRows) -> torch.Tensor:
        outputs = super()._check_learner(learner, rows)
        if outputs.shape[1] != self.n_outputs_:
            raise ValueError(
                f"The module gives {outputs.shape[1]} values a row; y has {self.n_outputs_} "
                "column(s). Its last layer must have as many outputs as y has columns."
            )
        return outputs

    def _inverse_link(self, outputs: np.ndarray) -> np.ndarray:
        """From outputs of the learner to standardised targets."""
        return outputs

    def predict(self, X: Any) -> np.ndarray:
        """Predict targets: of the task adapted to, or of the population before ``adapt``.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to predict.

        Returns
        -------
        y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Predictions, in the units and the shape of ``y`` in ``fit``.
        """
        outputs = self._outputs(X)
        with np.errstate(over="ignore"):
            values = self._inverse_link(outputs) * self.y_scale_ + self.y_mean_
        if not np.isfinite(values).all():
            raise ValueError(TOO_FAR)
        return values.reshape(len(values), *self._target_shape)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
