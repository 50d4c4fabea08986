"""Per-task metrics, the common ones computed for all tasks at once."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import Tags, get_tags


def _columns(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def _task_means(values: np.ndarray, draw: np.ndarray, n_draws: int) -> np.ndarray:
    """Mean of every column over the rows of each draw; NaN where a draw has no row."""
    counts = np.bincount(draw, minlength=n_draws).astype(float)
    counts[counts == 0] = np.nan
    sums = [np.bincount(draw, weights=column, minlength=n_draws) for column in values.T]
    return np.column_stack(sums) / counts[:, None]


def _mse(y, values, draw, n_draws):
    return _task_means((_columns(y) - _columns(values)) ** 2, draw, n_draws)


def _neg_mse(y, values, draw, n_draws):
    return -_mse(y, values, draw, n_draws).mean(1)


def _neg_rmse(y, values, draw, n_draws):
    return -np.sqrt(_mse(y, values, draw, n_draws)).mean(1)


def _neg_mae(y, values, draw, n_draws):
    return -_task_means(np.abs(_columns(y) - _columns(values)), draw, n_draws).mean(1)


def _r2(y, values, draw, n_draws):
    y = _columns(y)
    lowest = np.full((n_draws, y.shape[1]), np.inf)
    highest = -lowest
    np.minimum.at(lowest, draw, y)
    np.maximum.at(highest, draw, y)
    centred = y - _task_means(y, draw, n_draws)[draw]
    total = _task_means(centred**2, draw, n_draws)
    error = _mse(y, values, draw, n_draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = 1 - error / total
    # As in scikit-learn: a constant target predicted exactly is 1, otherwise 0. (Rounding can leave
    # its variance at 1e-34: dividing by that, one task would drown all others.)
    scores = np.where(lowest == highest, np.where(error == 0, 1.0, 0.0), scores)
    scores[np.bincount(draw, minlength=n_draws) < 2] = np.nan
    return scores.mean(1)


def _accuracy(y, values, draw, n_draws):
    right = (np.asarray(y) == np.asarray(values)).reshape(len(y), -1).all(1)
    return _task_means(right[:, None].astype(float), draw, n_draws)[:, 0]


# scikit-learn's own scorers give the same values, one task at a time.
VECTORISED: dict[str, Callable] = {
    "neg_mean_squared_error": _neg_mse,
    "neg_root_mean_squared_error": _neg_rmse,
    "neg_mean_absolute_error": _neg_mae,
    "r2": _r2,
    "accuracy": _accuracy,
}


# Measured against telling everybody the shares of the classes: of one class nobody is that wrong.
_OF_TWO_CLASSES = {"d2_log_loss_score", "d2_brier_score"}


def refuse_odd_metric(name: Any, y: np.ndarray, classifier: bool) -> None:
    """Refuse a metric of labels for numbers, and one of numbers for words.

    scikit-learn's own scorers would do so for themselves.
    """
    if not isinstance(name, str) or name not in VECTORISED:
        return
    if name == "accuracy" and not classifier:
        raise ValueError(
            "The metric 'accuracy' counts labels that are right, and a regressor gives none. Use "
            "'neg_mean_squared_error', 'r2' or the like."
        )
    if name != "accuracy" and y.dtype.kind not in "biuf":
        raise ValueError(
            f"The metric {name!r} is of numbers, and y holds labels such as {y.tolist()[0]!r}. Use "
            "'accuracy', 'neg_log_loss' or the like."
        )


class _Answers(BaseEstimator):
    """Stands for an adapted estimator in a scorer: the answers are known, whatever X is."""

    def __init__(self, estimator: Any, method: str, values: np.ndarray, classes: Any) -> None:
        self.estimator = estimator
        self.method = method
        self.values = values
        if classes is not None:
            self.classes_ = classes

        def answer(X: Any) -> np.ndarray:
            return values

        answer.__name__ = method  # older versions of scikit-learn go by the name
        setattr(self, method, answer)

    def fit(self, X: Any, y: Any = None) -> _Answers:
        """Do nothing: scikit-learn only asks whether it is there."""
        return self

    def __sklearn_tags__(self) -> Tags:
        return get_tags(self.estimator)


def response_method(scorer: Any, estimator: Any) -> str:
    """Name the method of the estimator that a scikit-learn scorer calls."""
    names = scorer._response_method
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if hasattr(estimator, name):
            return name
    raise ValueError(f"The scorer needs {' or '.join(names)}, which the estimator does not have.")


def score_each(
    scorer: Any,
    estimator: Any,
    method: str,
    y: np.ndarray,
    values: np.ndarray,
    draw: np.ndarray,
    n_draws: int,
    classes: np.ndarray | None,
    own_classes: list[np.ndarray] | None,
) -> np.ndarray:
    """Call a scikit-learn scorer once a draw: (n_draws,), NaN where the metric is undefined.

    ``classes`` are those of the columns of ``values``; ``own_classes`` names, where tasks have
    classes of their own, those of each draw.
    """
    order = np.argsort(draw, kind="stable")
    ends = np.cumsum(np.bincount(draw, minlength=n_draws))
    scores = np.full(n_draws, np.nan)
    of_two = getattr(scorer._score_func, "__name__", None) in _OF_TWO_CLASSES
    with warnings.catch_warnings():
        # What is undefined comes back as NaN and is counted by the caller.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        for i, rows in enumerate(np.split(order, ends[:-1])):
            if len(rows) == 0:
                continue
            answer, known = values[rows], classes
            if own_classes is not None and classes is not None:
                known = own_classes[i]
                if len(known) < 2 and method != "predict":
                    continue  # nothing to tell apart: no metric of probabilities is defined
                answer = _narrow(answer, method, np.searchsorted(classes, known))
            if of_two and (y[rows] == y[rows[0]]).all():
                continue
            answers = _Answers(estimator, method, answer, known)
            scores[i] = _with_labels(scorer, method, known)(answers, rows, y[rows])
    return scores


def _narrow(answer: np.ndarray, method: str, columns: np.ndarray) -> np.ndarray:
    """Keep the columns that an estimator adapted to this task alone would answer with."""
    if answer.ndim == 1:  # labels; or there are two classes in all
        return answer
    answer = answer[:, columns]
    if method == "decision_function" and len(columns) == 2:
        return answer[:, 1] - answer[:, 0]
    return answer


def _with_labels(scorer: Any, method: str, classes: np.ndarray | None) -> Any:
    """Tell a metric of scores or probabilities which classes there are: a query may lack some."""
    parameters = inspect.signature(scorer._score_func).parameters
    if classes is None or method == "predict" or "labels" not in parameters:
        return scorer
    if "labels" in scorer._kwargs:
        return scorer
    scorer = copy.copy(scorer)
    scorer._kwargs = {**scorer._kwargs, "labels": classes}
    return scorer
