"""``skmeta.adapt``: adapt whatever holds a meta-estimator, however deep."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from skmeta.base._rows import refuse_empty


@singledispatch
def adapt(estimator: Any, X: Any = None, y: Any = None, **task: Any) -> Any:
    """Adapt a fitted estimator to a new task; the estimator itself is left as it is.

    Goes through ``Pipeline`` (the fitted steps transform ``X``, the last step adapts),
    ``TransformedTargetRegressor`` (``y`` is transformed), ``GridSearchCV`` and the other searches
    (the best estimator adapts), ``VotingRegressor`` and ``VotingClassifier`` (all members adapt
    that can) and ``FrozenEstimator``. Other wrappers can be taught: ``skmeta.adapt.register``.

    Parameters
    ----------
    estimator : estimator
        A fitted meta-estimator, or a wrapper around one.
    X : array-like of shape (n_support, n_features)
        The support rows of the new task, as the estimator would take them in ``predict``.
    y : array-like of shape (n_support,) or (n_support, n_outputs)
        Their targets.
    **task : dict
        What else the method takes to describe a task.

    Returns
    -------
    estimator
        A new fitted estimator of the same kind, for this task. A search gives its adapted
        ``best_estimator_``.

    Raises
    ------
    TypeError
        If there is nothing inside that can adapt.
    ValueError
        If there is no support row, or if members vote on classes of the task's own.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import skmeta
    >>> from skmeta.datasets import make_sinusoids
    >>> X, y, groups = make_sinusoids(20, 15, random_state=0)
    >>> pipe = make_pipeline(StandardScaler(), skmeta.MAMLRegressor(max_epochs=1))
    >>> pipe = pipe.fit(X, y, mamlregressor__groups=groups)
    >>> new = skmeta.adapt(pipe, X[:5], y[:5])
    >>> new.predict(X[5:7]).shape
    (2,)
    """
    if not hasattr(estimator, "adapt"):
        raise TypeError(
            f"{type(estimator).__name__} cannot adapt to a task: it is not a meta-estimator, and "
            "not a wrapper that skmeta.adapt knows. Teach it with skmeta.adapt.register."
        )
    return estimator.adapt(X, y, **task)


@adapt.register
def _(estimator: Pipeline, X: Any = None, y: Any = None, **task: Any) -> Pipeline:
    check_is_fitted(estimator)
    refuse_empty(X)
    for _, step in estimator.steps[:-1]:
        if X is not None and step is not None and step != "passthrough":
            X = step.transform(X)
    name, last = estimator.steps[-1]
    return _replace(estimator, steps=[*estimator.steps[:-1], (name, adapt(last, X, y, **task))])


@adapt.register
def _(
    estimator: TransformedTargetRegressor, X: Any = None, y: Any = None, **task: Any
) -> TransformedTargetRegressor:
    check_is_fitted(estimator)
    if y is not None:
        y = np.asarray(y)
        columns = estimator.transformer_.transform(y.reshape(-1, 1) if y.ndim == 1 else y)
        y = columns[:, 0] if y.ndim == 1 and columns.ndim == 2 else columns
    return _replace(estimator, regressor_=adapt(estimator.regressor_, X, y, **task))


@adapt.register
def _(estimator: BaseSearchCV, X: Any = None, y: Any = None, **task: Any) -> Any:
    check_is_fitted(estimator)
    if not hasattr(estimator, "best_estimator_"):
        raise ValueError(
            f"This {type(estimator).__name__} was run with refit=False: there is no best estimator "
            "to adapt. Use refit=True."
        )
    return adapt(estimator.best_estimator_, X, y, **task)


@adapt.register
def _(estimator: FrozenEstimator, X: Any = None, y: Any = None, **task: Any) -> FrozenEstimator:
    return FrozenEstimator(adapt(estimator.estimator, X, y, **task))


@adapt.register
def _(estimator: VotingRegressor, X: Any = None, y: Any = None, **task: Any) -> VotingRegressor:
    return _adapt_members(estimator, X, y, **task)


@adapt.register
def _(estimator: VotingClassifier, X: Any = None, y: Any = None, **task: Any) -> VotingClassifier:
    if not all(getattr(core, "shared_classes_", True) for core in cores(estimator)):
        raise ValueError(
            "The members of this VotingClassifier take the classes of every task for its own, so "
            "there is nothing to vote on. Fit them with shared_classes=True."
        )
    if y is not None:  # members know numbers of classes
        y = estimator.le_.transform(np.asarray(y))
    return _adapt_members(estimator, X, y, **task)


def _adapt_members(estimator: Any, X: Any, y: Any, **task: Any) -> Any:
    if not can_adapt(estimator):
        raise TypeError(f"No member of this {type(estimator).__name__} can adapt to a task.")
    refuse_empty(X)
    members = [adapt(one, X, y, **task) if can_adapt(one) else one for one in estimator.estimators_]
    kept = [name for name, one in estimator.estimators if not isinstance(one, str)]
    named = Bunch(**estimator.named_estimators_)
    named.update(zip(kept, members, strict=True))
    return _replace(estimator, estimators_=members, named_estimators_=named)


def innermost(estimator: Any) -> Any:
    """Return the estimator at the heart of pipelines, searches and the like."""
    *_, heart = outside_in(estimator)
    return heart


def outside_in(estimator: Any) -> Iterator[Any]:
    """Pipelines, searches and the like, one inside the other, and the estimator at their heart."""
    while True:
        yield estimator
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "regressor_"):
            estimator = estimator.regressor_
        else:
            return


def cores(estimator: Any) -> list[Any]:
    """What :func:`innermost` finds; of a committee, that of every member."""
    core = innermost(estimator)
    if not isinstance(core, VotingRegressor | VotingClassifier):
        return [core]
    check_is_fitted(core)
    return [one for member in core.estimators_ for one in cores(member)]


def can_adapt(estimator: Any) -> bool:
    """Whether :func:`adapt` finds something in a fitted estimator that can."""
    return any(map(_is_adaptive, cores(estimator)))


def _is_adaptive(core: Any) -> bool:
    return hasattr(core, "adapt") or adapt.dispatch(type(core)) is not adapt.dispatch(object)


def _replace(estimator: Any, **changes: Any) -> Any:
    """Share every attribute but the changed ones (``copy.copy`` would go through pickling)."""
    new = object.__new__(type(estimator))
    new.__dict__.update(estimator.__dict__, **changes)
    return new
