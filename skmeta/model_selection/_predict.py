"""Many tasks, one batched adaptation."""

from __future__ import annotations

import warnings
from inspect import signature
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import VotingRegressor
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from skmeta.base import MetaEstimator, adapt
from skmeta.base._adapt import can_adapt, cores, outside_in
from skmeta.base._groups import check_ids
from skmeta.base._rows import TaskBatch


def predict_tasks(
    estimator: Any,
    X_support: Any,
    y_support: Any,
    groups_support: Any,
    X: Any,
    groups: Any,
    *,
    method: str = "predict",
    return_std: bool = False,
) -> Any:
    """Adapt to each of many tasks and predict its rows, thousands of tasks in one call.

    Parameters
    ----------
    estimator : estimator
        Anything that :func:`skmeta.adapt` takes.
    X_support : array-like of shape (n_support_rows, n_features)
        Support rows of all tasks.
    y_support : array-like of shape (n_support_rows,) or (n_support_rows, n_outputs)
        Their targets.
    groups_support : array-like of shape (n_support_rows,)
        The task of every support row.
    X : array-like of shape (n_rows, n_features)
        Rows to predict.
    groups : array-like of shape (n_rows,)
        The task of every row to predict. A task without support rows gets the answer of the
        un-adapted estimator, as in a mixed model. With no support row at all, ``estimator`` answers
        as it is.
    method : {"predict", "predict_proba", "decision_function"}, default="predict"
        What to call. With task-specific classes the columns are the union of the classes, in
        sorted order; a class that a task lacks has probability 0.
    return_std : bool, default=False
        Also return standard deviations: for regressors whose ``predict`` has this option.

    Returns
    -------
    y : ndarray of shape (n_rows,) or (n_rows, n_columns)
        Predictions in the order of ``X``.
    std : ndarray of the shape of ``y``
        Only with ``return_std=True``.

    Warns
    -----
    UserWarning
        If no row to predict is of a task that has support rows.

    Raises
    ------
    ValueError
        If there is no row to predict, if ids are missing, malformed, or of different types in
        support and query, or if the estimator has no such ``method``, or ``return_std`` is asked of
        another than "predict", or of an estimator or a wrapper without standard deviations.

    Examples
    --------
    >>> from skmeta import MAMLRegressor
    >>> from skmeta.datasets import make_sinusoids
    >>> from skmeta.model_selection import predict_tasks
    >>> X, y, groups = make_sinusoids(20, 15, random_state=0)
    >>> model = MAMLRegressor(max_epochs=1, random_state=0).fit(X, y, groups=groups)
    >>> X_new, y_new, new = make_sinusoids(30, 15, random_state=1)
    >>> support = [row % 15 < 5 for row in range(len(new))]
    >>> predict_tasks(model, X_new[support], y_new[support], new[support], X_new, new).shape
    (450,)
    """
    if method not in ("predict", "predict_proba", "decision_function"):
        raise ValueError(
            f"method must be 'predict', 'predict_proba' or 'decision_function', got {method!r}."
        )
    if return_std and method != "predict":
        raise ValueError(f"return_std is for method='predict', got {method!r}.")
    if return_std:
        _refuse_without_std(estimator)
    options = {"return_std": True} if return_std else {}
    n_support = _num_samples(X_support)
    if _num_samples(X) == 0:
        raise ValueError("X has 0 rows: there is nothing to predict.")
    query_ids = check_ids(groups, _num_samples(X))
    if method != "predict" and not hasattr(estimator, method):
        raise ValueError(
            f"{type(estimator).__name__} has no {method}: with a regressor use method='predict'."
        )
    if n_support == 0:
        if options and isinstance(estimator, BaseSearchCV):
            estimator = getattr(estimator, "best_estimator_", estimator)  # a search takes none
        return getattr(estimator, method)(X, **options)
    support_ids = check_ids(groups_support, n_support, "groups_support")
    if (support_ids.dtype.kind in "US") != (query_ids.dtype.kind in "US"):
        raise ValueError(
            f"groups_support holds {support_ids.dtype} ids and groups {query_ids.dtype} ids: no "
            "task would be recognised. Convert both to one type."
        )
    ids, support = np.unique(support_ids, return_inverse=True)
    try:
        place = np.searchsorted(ids, query_ids).clip(max=len(ids) - 1)
    except TypeError as error:
        raise ValueError(
            f"groups_support holds {type(ids[0]).__name__} ids and groups "
            f"{type(query_ids[0]).__name__} ids, which do not compare. Convert both to one type."
        ) from error
    query = np.where(ids[place] == query_ids, place, -1)
    if (query < 0).all():
        warnings.warn(
            "No row to predict is of a task that has support rows: all get the answer of the "
            f"un-adapted estimator. Compare groups ({query_ids.tolist()[0]!r}, for one) with "
            f"groups_support ({support_ids.tolist()[0]!r}).",
            UserWarning,
            stacklevel=2,
        )
    batch = TaskBatch(support.astype(np.int64), query, len(ids))
    if not all(isinstance(core, MetaEstimator) or not can_adapt(core) for core in cores(estimator)):
        return _one_by_one(estimator, X_support, y_support, X, batch, method, options)
    adapted = adapt(estimator, X_support, y_support, _batch=batch)
    return getattr(adapted, method)(X, **options)


def _refuse_without_std(estimator: Any) -> None:
    """Standard deviations are for estimators that have them, and wrappers that hand them on."""
    for core in outside_in(estimator):  # ends at the heart
        if isinstance(core, TransformedTargetRegressor | VotingRegressor):
            raise ValueError(
                f"{type(core).__name__} hands on predictions, not standard deviations. Ask the "
                "estimator that it holds, or leave return_std out."
            )
    if isinstance(core, BaseSearchCV):
        return  # it is not fitted: whoever asks it says so
    options = signature(core.predict).parameters
    if "return_std" not in options and all(o.kind != o.VAR_KEYWORD for o in options.values()):
        raise ValueError(f"{type(core).__name__} has no standard deviations: leave return_std out.")


def _one_by_one(
    estimator: Any,
    X_support: Any,
    y_support: Any,
    X: Any,
    batch: TaskBatch,
    method: str,
    options: dict[str, Any],
) -> Any:
    """For estimators of other libraries, whose ``adapt`` takes one task."""
    parts, classes, order = [], [], []
    for task in np.unique(batch.query):
        rows = np.flatnonzero(batch.query == task)
        own = np.flatnonzero(batch.support == task)
        model = estimator
        if task >= 0:
            model = adapt(estimator, _safe_indexing(X_support, own), _safe_indexing(y_support, own))
        found = getattr(model, method)(_safe_indexing(X, rows), **options)
        # Means and standard deviations are alike in shape, and go the same way.
        parts.append(np.stack(found, axis=-1) if options else np.asarray(found))
        order.append(rows)
        if method != "predict":
            classes.append(np.asarray(model.classes_))
    if any(not np.array_equal(classes[0], other) for other in classes[1:]):
        if method == "decision_function":
            raise ValueError(
                "Tasks differ in their classes, so the columns of decision_function have no common "
                "meaning here. Use method='predict_proba'."
            )
        union = np.unique(np.concatenate(classes))
        for i, narrow in enumerate(parts):
            parts[i] = np.zeros((len(narrow), len(union)))
            parts[i][:, np.searchsorted(union, classes[i])] = narrow
    # Joined, not written into an array: that would cut strings to the length of the first ones.
    joined = np.concatenate(parts)[np.argsort(np.concatenate(order))]
    return (joined[..., 0], joined[..., 1]) if options else joined
