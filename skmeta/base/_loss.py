"""``loss``: what is minimised, by name or as the user's own torch loss."""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from skmeta.core.losses import (
    Loss,
    absolute_error,
    class_loss,
    huber,
    per_row,
    per_row_of_classes,
    poisson,
    quantile_loss,
    squared_error,
)

NUMBER_LOSSES = {
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "huber": huber,
    "poisson": poisson,
}
NUMBER_LOSS: dict[str, list] = {
    "loss": [StrOptions({*NUMBER_LOSSES, "quantile"}), callable],
    "quantile": [None, Interval(Real, 0, 1, closed="neither")],
}
CLASS_LOSS: dict[str, list] = {"loss": [StrOptions({"log_loss"}), callable]}
CLASS_WEIGHT: dict[str, list] = {"class_weight": [None, StrOptions({"balanced"}), dict]}


class NumberLoss:
    """Adds ``loss`` and ``quantile`` to a regressor."""

    loss: Any
    quantile: float | None
    frozen_params_: dict[str, Any]

    def _check_rows(self: Any, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        X, y = super()._check_rows(X, y, reset=reset)  # type: ignore[misc]
        loss = self.loss if reset else self.frozen_params_["loss"]
        if _is(loss, "poisson") and (y < 0).any():
            raise ValueError(f"loss='poisson' is for counts, but y holds {y.min():g}.")
        return X, y

    def _fit_targets(self: Any, y: np.ndarray, *args: Any) -> None:
        super()._fit_targets(y, *args)  # type: ignore[misc]
        if not self._levels_add:
            # Rates are in units of the mean count: a start of 0 is then about right.
            means = y.reshape(len(y), -1).mean(axis=0)
            self.y_mean_ = np.zeros_like(means)
            self.y_scale_ = np.where(means > 0, means, 1.0)

    @property
    def _levels_add(self) -> bool:
        return not _is(self.loss, "poisson")

    def _number_loss(self) -> Loss | Callable:
        if (self.loss == "quantile") != (self.quantile is not None):
            raise ValueError(
                "quantile= is for loss='quantile', which needs it: got "
                f"loss={self.loss!r} and quantile={self.quantile!r}."
            )
        if self.quantile is not None:
            return quantile_loss(self.quantile)
        if isinstance(self.loss, str):
            return NUMBER_LOSSES[self.loss]
        return per_row(_own(self.loss))

    def _inverse_link(self, outputs: np.ndarray) -> np.ndarray:
        return np.exp(outputs) if _is(self.frozen_params_["loss"], "poisson") else outputs


class ClassLoss:
    """Adds ``loss`` to a classifier."""

    loss: Any

    def _class_loss(self) -> Loss | Callable:
        return class_loss() if isinstance(self.loss, str) else per_row_of_classes(_own(self.loss))


class WeightedClassLoss(ClassLoss):
    """Adds ``loss`` and ``class_weight`` to a classifier."""

    class_weight: Any
    class_weight_: np.ndarray

    def _fit_targets(self: Any, y: np.ndarray, *args: Any) -> None:
        super()._fit_targets(y, *args)  # type: ignore[misc]
        self.class_weight_ = np.ones(len(self.classes_))
        if self.class_weight is None:
            return
        if not self.shared_classes_:
            raise ValueError(
                "class_weight needs classes that tasks share; here every task has its own. "
                "Leave class_weight=None."
            )
        if callable(self.loss):
            raise ValueError(
                "class_weight is for loss='log_loss'. Give your own loss its weights itself, in "
                "the order of the sorted labels."
            )
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        of_rows = weights[np.searchsorted(self.classes_, y)]
        if not (np.isfinite(weights) & (weights >= 0)).all() or not of_rows.any():
            raise ValueError(
                "class_weight must be finite, not negative, and above 0 for some rows: got "
                f"{dict(zip(self.classes_.tolist(), weights.tolist(), strict=True))}."
            )
        # A row counts 1 in the mean, so that rates and clipping keep their meaning.
        self.class_weight_ = weights / of_rows.mean()

    @property
    def _labels_have_meaning(self) -> bool:
        return self.class_weight is not None

    def _class_loss(self) -> Loss | Callable:
        if self.class_weight is None:
            return super()._class_loss()
        return class_loss(torch.as_tensor(self.class_weight_))


def _is(loss: Any, name: str) -> bool:
    return isinstance(loss, str) and loss == name


def _own(loss: Callable) -> Callable:
    """The user's loss; one of torch's is copied, and set to give one number a row."""
    if isinstance(loss, type):
        raise ValueError(f"loss is a class: give an instance, {loss.__name__}().")
    if isinstance(loss, nn.PoissonNLLLoss):
        raise ValueError("For counts use loss='poisson': it keeps y and the rate in their units.")
    if isinstance(loss, nn.Module):
        loss = copy.deepcopy(loss)
        if hasattr(loss, "reduction"):
            loss.reduction = "none"  # type: ignore[assignment]
    return loss
