"""Cross-validation by task, with routing taken care of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sklearn
from sklearn.model_selection import cross_validate
from sklearn.utils.validation import _num_samples

from skmeta.base._groups import task_numbers
from skmeta.model_selection._folds import task_folds
from skmeta.model_selection._scorer import TaskScorer

DEFAULTS = TaskScorer().get_params()


def cross_validate_tasks(
    estimator: Any,
    X: Any,
    y: Any,
    groups: Any,
    *,
    cv: Any = 5,
    scoring: Any = None,
    n_support: int = 5,
    n_shot: int | None = None,
    n_repeats: int = 10,
    shuffle: bool = True,
    n_jobs: int | None = None,
    random_state: Any = 0,
) -> dict[str, Any]:
    """Cross-validate by task: train on some tasks, adapt to a few rows of each other task.

    Parameters
    ----------
    estimator : estimator
        A meta-estimator, or a pipeline or search around one; cloned, not fitted.
    X : array-like of shape (n_rows, n_features)
        The rows of all tasks.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Their targets.
    groups : array-like of shape (n_rows,)
        One task id a row.
    cv : int, None or splitter, default=5
        Folds of tasks: an int is GroupKFold, with at most as many folds as tasks; None is 5. A
        splitter has to split by groups too.
    scoring : str, callable, TaskScorer, list, dict or None, default=None
        As for :class:`TaskScorer`; several as a list of names or a dict.
    n_support, n_shot, n_repeats, shuffle, random_state
        As for :class:`TaskScorer`. One that is given as ``scoring`` has its own.
    n_jobs : int or None, default=None
        Folds in parallel.

    Returns
    -------
    dict
        As from ``sklearn.model_selection.cross_validate``: ``test_score`` (or one array a metric),
        ``fit_time``, ``score_time``; one entry a fold.

    Raises
    ------
    ValueError
        If ids are missing or malformed, if there is one task, or if ``cv`` puts rows of one task on
        both sides of a split.

    Examples
    --------
    >>> from skmeta import MAMLRegressor
    >>> from skmeta.datasets import make_sinusoids
    >>> from skmeta.model_selection import cross_validate_tasks
    >>> X, y, groups = make_sinusoids(20, 15, random_state=0)
    >>> model = MAMLRegressor(max_epochs=1, random_state=0)
    >>> cross_validate_tasks(model, X, y, groups, cv=2, n_repeats=1)["test_score"].shape
    (2,)
    """
    numbers, n_tasks = task_numbers(groups, _num_samples(X))
    if n_tasks < 2:
        raise ValueError(
            "cross_validate_tasks holds out whole tasks: groups must name two or more, one id a "
            "row."
        )

    options = {
        "n_support": n_support,
        "n_shot": n_shot,
        "n_repeats": n_repeats,
        "shuffle": shuffle,
        "random_state": random_state,
    }
    changed = {name for name, value in options.items() if value != DEFAULTS[name]}

    if changed and isinstance(scoring, TaskScorer):
        raise ValueError(
            f"The TaskScorer given as scoring has its own {', '.join(sorted(changed))}: set them "
            "there."
        )

    def scorer(scoring: Any) -> TaskScorer:
        return scoring if isinstance(scoring, TaskScorer) else TaskScorer(scoring, **options)

    if isinstance(scoring, Mapping):
        scorers: Any = {name: scorer(one) for name, one in scoring.items()}
    elif isinstance(scoring, list | tuple | set):
        scorers = {name: scorer(name) for name in scoring}
    else:
        scorers = scorer(scoring)
    with sklearn.config_context(enable_metadata_routing=True):
        return cross_validate(
            estimator,
            X,
            y,
            cv=task_folds(cv, X, y, numbers),
            scoring=scorers,
            params={"groups": numbers},
            n_jobs=n_jobs,
            error_score="raise",
        )
