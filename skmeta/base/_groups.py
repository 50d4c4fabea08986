"""``groups``: one task id a row, checked in plain words and turned into task numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ONE_TASK = "fit got one task, so there is nothing to learn across tasks. "
NO_GROUPS = ONE_TASK + (
    "Pass groups=, one task id a row. Inside GridSearchCV, cross_validate and the like, groups "
    "reach the estimator only after sklearn.set_config(enable_metadata_routing=True)."
)
SAME_GROUP = ONE_TASK + (
    "All rows have the same id in groups. Give every task an id of its own; where tasks are held "
    "out, as in a cross-validation, there must be three or more."
)


def task_numbers(groups: Any, n_rows: int, name: str = "groups") -> tuple[NDArray[np.int64], int]:
    """Number the tasks 0, 1, ... in the order of their sorted ids.

    Parameters
    ----------
    groups : array-like of shape (n_rows,) or None
        One task id a row; taken by position, whatever index a Series has. None is one task.
    n_rows : int
        How many rows there are.
    name : str, default="groups"
        What to call the array in an error.

    Returns
    -------
    numbers : int array of shape (n_rows,)
        The task of every row.
    n_tasks : int
        How many tasks there are.
    """
    if groups is None:
        return np.zeros(n_rows, dtype=np.int64), 1
    ids, numbers = np.unique(check_ids(groups, n_rows, name), return_inverse=True)
    return numbers.astype(np.int64), len(ids)


def check_ids(groups: Any, n_rows: int, name: str = "groups") -> np.ndarray:
    """Check task ids and return them as an array that can be sorted."""
    if isinstance(groups, list | tuple) and len({type(value) for value in groups}) > 1:
        # Left alone, numpy would turn [1, "1"] and ["a", nan] into strings.
        ids = np.asarray(groups, dtype=object)
    else:
        ids = np.asarray(groups)
    if ids.ndim == 0:
        raise ValueError(f"{name} must hold one task id a row, got the single value {groups!r}.")
    if ids.ndim > 1:
        raise ValueError(
            f"{name} must be one-dimensional, one task id a row, got an array of shape "
            f"{ids.shape}. Combine several columns into one id first."
        )
    if len(ids) != n_rows:
        raise ValueError(f"{name} has {len(ids)} entries for {n_rows} rows: one task id a row.")
    if ids.dtype.kind == "c":
        raise ValueError(f"{name} holds complex numbers: use integers or strings as task ids.")
    if ids.dtype.kind == "f":
        missing = np.isnan(ids)
    elif ids.dtype.kind in "mM":
        missing = np.isnat(ids)
    elif ids.dtype.kind == "O":
        missing = np.fromiter((is_missing(v) for v in ids), bool, len(ids))
    else:
        missing = np.zeros(len(ids), dtype=bool)
    if missing.any():
        raise ValueError(
            f"{name} has {int(missing.sum())} missing entries (None or NaN). Every row needs the "
            "id of its task: drop these rows or give them an id."
        )
    infinite = _infinite(ids)
    if infinite:
        raise ValueError(
            f"{name} has {infinite} infinite entries (inf or -inf), which name no task: drop these "
            "rows or give them an id."
        )
    if ids.dtype.kind == "O":
        kinds = {_kind(value) for value in ids}
        if len(kinds) > 1:
            raise ValueError(
                f"{name} mixes {' and '.join(sorted(kinds))}: 1 and '1' would be two tasks. "
                "Convert all ids to one type."
            )
        if kinds == {"str"}:
            ids = ids.astype(str)
        elif not _can_be_sorted(ids):
            raise ValueError(
                f"{name} holds {kinds.pop()} objects, which cannot be sorted. Use integers or "
                "strings as task ids."
            )
    return ids


def _infinite(ids: np.ndarray) -> int:
    """How many ids are infinite."""
    if ids.dtype.kind == "O":
        return sum(isinstance(v, float | np.floating) and bool(np.isinf(v)) for v in ids)
    return int(np.isinf(ids).sum()) if ids.dtype.kind == "f" else 0


def _can_be_sorted(ids: np.ndarray) -> bool:
    try:
        # Sets compare without an error and without an order: equal ids would not meet.
        return len(np.unique(ids)) == len(set(ids.tolist()))
    except (TypeError, ArithmeticError):
        return False


def is_missing(value: Any) -> bool:
    """Whether a single value is None, NaN, NaT or pandas' NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _kind(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, int | float | np.integer | np.floating):
        return "number"
    return "str" if isinstance(value, str) else type(value).__name__
