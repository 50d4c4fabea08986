"""Folds of whole tasks."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, check_cv


def task_folds(cv: Any, X: Any, y: Any, numbers: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to train on and to judge by, in the order of X; a task on both sides is refused."""
    if cv is None or isinstance(cv, Integral):
        cv = 5 if cv is None else int(cv)
        if cv < 2:
            raise ValueError(f"cv must be 2 folds or more, got {cv}.")
        # Left to scikit-learn, these would be folds of rows: every task in training and test.
        cv = GroupKFold(min(cv, int(numbers.max()) + 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The groups parameter is ignored")  # refused below
        # In the order of X, which may be that of time.
        folds = [(np.sort(a), np.sort(b)) for a, b in check_cv(cv).split(X, y, numbers)]
    for train, test in folds:
        if np.isin(numbers[test], numbers[train]).any():
            raise ValueError(
                "cv puts rows of one task on both sides of a split: methods would be scored on "
                "tasks that they were trained on. Use an int, GroupKFold or another splitter that "
                "goes by groups."
            )
    return folds
