"""Estimators that take further rows of a task, and say how sure they are."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmeta.base._rows import TOO_FAR
from skmeta.core.learner import SpreadLearner


class Updatable:
    """Adds ``update``; the learner is a :class:`~skmeta.core.learner.SpreadLearner`."""

    def update(self: Any, X: Any, y: Any) -> Any:
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
            self._join(new)
        return new

    def _join(self: Any, new: Any) -> None:
        """Add the rows behind ``self`` to those of a sibling that has seen further ones."""
        learner = cast(SpreadLearner, self.learner_)
        new.state_ = learner.merge(self.state_, new.state_)


class SpreadMixin:
    """Adds ``return_std`` to a regressor whose learner has a ``predict_variance``."""

    # So that return_std passes through pipelines with routing on.
    __metadata_request__predict: ClassVar[dict] = {"return_std": True}

    def predict(self: Any, X: Any, return_std: bool = False) -> Any:
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
        mean = super().predict(X)  # type: ignore[misc]
        if not return_std:
            return mean
        variance = self._outputs(X, "predict_variance")
        with np.errstate(over="ignore"):
            std = np.sqrt(variance) * self._stretch() * self.y_scale_
        if not np.isfinite(std).all():
            raise ValueError(TOO_FAR)
        return mean, std.reshape(mean.shape)

    def _stretch(self) -> Any:
        """Factor on the standard deviations: a number, or (n_rows, n_outputs)."""
        return 1.0
