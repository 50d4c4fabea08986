"""From arrays with a task number a row to the core's flat tasks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data
from torch import Tensor

from skmeta.base._groups import is_missing
from skmeta.core.tasks import TaskRows

# Data frames come column by column; sums along the other way would differ in their last bit.
AS_NUMBERS: dict[str, Any] = {"dtype": np.float64, "order": "C"}

_GLOBAL_GENERATOR = threading.RLock()

TOO_FAR = (
    "The predictions overflowed: X, or the support that the estimator was adapted to, holds values "
    "far outside the training rows. Check their units."
)


@dataclass(frozen=True)
class TaskBatch:
    """Many tasks in one call of ``adapt``: the task number of every support and query row.

    Tasks are numbered ``0..n_tasks - 1`` by their support; a query row of a task without support
    has the number -1 and gets the prior.
    """

    support: np.ndarray
    query: np.ndarray
    n_tasks: int


def validate_rows(estimator: Any, *data: Any, **checks: Any) -> Any:
    """scikit-learn's ``validate_data``; quiet where its sum of huge values is inf less inf."""
    if _holds_dates(data[0]):  # scikit-learn lets a frame of nothing but dates pass
        _refuse_columns(data[0])
        refuse_dates(data[0], "X")
    try:
        with np.errstate(invalid="ignore"):
            return validate_data(estimator, *data, **checks)
    except (TypeError, ValueError) as error:
        if "feature names" not in str(error):
            _refuse_columns(data[0], error)
        raise


def _refuse_columns(X: Any, cause: Exception | None = None) -> None:
    """Name the columns of a DataFrame that are not numbers, if there are any."""
    odd = _not_numbers(X)
    if odd:
        raise ValueError(
            f"X has columns that are not numbers: {odd}. Encode them first: words by a "
            "OneHotEncoder in a ColumnTransformer, dates as the time since a first day."
        ) from cause


def _not_numbers(X: Any) -> list[Any]:
    """Names of the columns of a DataFrame that hold something else than real numbers."""
    if not hasattr(X, "iloc") and not all(isinstance(c, str) for c in getattr(X, "columns", ())):
        return []  # columns of another kind than those of pandas and polars
    odd = []
    for place, name in enumerate(getattr(X, "columns", ())):
        column = np.asarray(X.iloc[:, place] if hasattr(X, "iloc") else X[name])
        if column.dtype.kind in "biuf":
            continue
        if column.dtype.kind not in "mMc":
            try:
                np.array([value for value in column if not is_missing(value)], dtype=np.float64)
                continue
            except (TypeError, ValueError):
                pass
        odd.append(name)
    return odd


def refuse_odd_targets(y: Any) -> None:
    """Say in plain words what scikit-learn's checks pass on, or stumble over."""
    if issparse(y):
        raise ValueError("y is sparse, but dense targets are required. Use y.toarray().")
    # pandas' own missing value cannot even be compared with itself; and of a list of strings with a
    # NaN numpy would make the label "nan".
    listed = isinstance(y, list | tuple) and any(v is not None and is_missing(v) for v in y)
    if listed or (hasattr(y, "isna") and np.any(y.isna())):
        raise ValueError("Input y contains NaN (missing values). Drop these rows.")


def refuse_dates(values: Any, name: str) -> None:
    """Refuse dates and durations: of a missing one scikit-learn makes a huge number."""
    if _holds_dates(values):
        raise ValueError(
            f"{name} holds dates or durations, which are not numbers. Turn them into numbers of "
            "your own choice, days since a first day, say."
        )


def _holds_dates(values: Any) -> bool:
    """Whether an array, a list, a series, or a column of a frame is of dates or durations."""
    while isinstance(values, list | tuple) and len(values):
        values = values[0]
    dtypes = getattr(values, "dtypes", None)  # of the columns of a frame
    if not np.iterable(dtypes):
        dtypes = [getattr(values, "dtype", None)]
    return any(map(_is_of_time, dtypes))


def _is_of_time(dtype: Any) -> bool:
    """Whether it is a type of dates or durations, numpy's, pandas' or polars'."""
    return getattr(dtype, "kind", None) in ("m", "M") or getattr(dtype, "is_temporal", bool)()


def refuse_odd_labels(y: np.ndarray, name: str = "y") -> None:
    """Refuse labels that are missing, or of types that cannot be sorted together."""
    missing = sum(map(is_missing, y)) if y.dtype.kind in "fO" else 0
    if y.dtype.kind in "mM":
        missing = int(np.isnat(y).sum())
    if missing:
        raise ValueError(f"{name} has {missing} missing labels (None). Drop these rows.")
    if y.dtype == object and len({isinstance(label, str) for label in y}) > 1:
        raise ValueError(f"{name} mixes strings and other labels. Convert all labels to one type.")


def task_rows(
    X: np.ndarray,
    y: np.ndarray | None,
    numbers: np.ndarray,
    n_tasks: int,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[TaskRows, np.ndarray]:
    """Sort rows by task, once; also return the order, so that outputs can be put back."""
    order = np.argsort(numbers, kind="stable")
    sizes = torch.from_numpy(np.bincount(numbers, minlength=n_tasks))
    if (order[1:] > order[:-1]).all():
        order = np.arange(len(order))
    else:
        X, y = X.take(order, 0), None if y is None else y.take(order, 0)
    targets = None if y is None else as_tensor(y, device, dtype)
    return TaskRows.from_sizes(as_tensor(X, device, dtype), targets, sizes), order


def as_tensor(values: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Copy to a tensor: integers become int64 (labels), masks stay, all else takes ``dtype``."""
    kind = {"i": torch.int64, "u": torch.int64, "b": torch.bool}.get(values.dtype.kind, dtype)
    # A copy, because the user's array may be read-only, and must not be written through.
    return torch.tensor(values, dtype=kind, device=device)


@contextmanager
def seeded_torch(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Lend out torch's global generator, seeded, and put the user's state back.

    Modules initialise themselves, and drop out, from it. There is one for all threads, so fits in
    threads take turns.
    """
    on_gpu = device is not None and device.type == "cuda"
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.manual_seed(seed)
        yield


def resolve_device(device: str) -> torch.device:
    """Turn "auto" into the best device there is, and a missing one into a plain error."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here: {error}. Use 'auto' or 'cpu'."
        ) from error
    return resolved


def inference_dtype(device: torch.device) -> torch.dtype:
    """Double precision on a CPU: there it is cheap, and predictions do not depend on batching."""
    return torch.float64 if device.type == "cpu" else torch.float32


def to_numpy(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Contiguous CPU arrays: a view would pickle its whole storage."""
    return {k: np.asarray(v.detach().cpu().numpy(), order="C") for k, v in tensors.items()}


def to_tensors(
    arrays: dict[str, np.ndarray], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Undo :func:`to_numpy`, on a device that may differ from the first one."""
    return {name: as_tensor(array, device, dtype) for name, array in arrays.items()}


def refuse_empty(X: Any) -> None:
    """Refuse a support without rows, in words of its own: transformers would use theirs."""
    shape = getattr(X, "shape", None) or (len(X) if isinstance(X, list | tuple) else 1,)
    if shape[0] == 0:
        raise ValueError(
            "adapt needs at least one support row. Before a task has shown any, call predict of "
            "the estimator as it is, not adapted: it answers for the population."
        )
