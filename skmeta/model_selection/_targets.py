"""Checks of what is scored: targets, answers, and the way support rows are picked."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skmeta.base._rows import refuse_odd_labels, refuse_odd_targets


def check_targets(y: Any, n_rows: int, classifier: bool, name: str = "y") -> np.ndarray:
    """Targets as an array: numbers, of any shape, or labels (n_rows,)."""
    refuse_odd_targets(y)
    y = np.asarray(y)
    if len(y) != n_rows:
        raise ValueError(f"{name} has {len(y)} entries for {n_rows} rows.")
    if classifier:
        y = column_or_1d(y)
        refuse_odd_labels(y, name)
        check_classification_targets(y)
        return y
    try:
        y = y if y.dtype.kind in "biuf" else y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} of a regressor must be numbers: {error}.") from error
    if not np.isfinite(y).all():
        raise ValueError(f"{name} holds NaN or infinite values. Drop these rows.")
    return y


def refuse_odd_answers(values: np.ndarray, method: str) -> None:
    """Refuse answers that a metric would turn into NaN: they would look like tasks left out."""
    if values.dtype.kind != "f":
        return
    odd = np.isnan(values) if method == "decision_function" else ~np.isfinite(values)
    n_odd = int(odd.reshape(len(values), -1).any(axis=1).sum())
    if n_odd:
        raise ValueError(
            f"The estimator's {method} answered with NaN or infinite values for {n_odd} of "
            f"{len(values)} rows, which no metric can take."
        )


def check_shuffle(shuffle: Any) -> None:
    """Refuse what is neither True nor False: any word would count as True."""
    if not isinstance(shuffle, bool | np.bool_):
        raise ValueError(f"shuffle must be True or False, got {shuffle!r}.")
