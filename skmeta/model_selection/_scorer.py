"""Scoring by adaptation: the score of an estimator on tasks it has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.metrics import check_scoring
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import _num_samples

from skmeta.base import adapt
from skmeta.base._adapt import innermost
from skmeta.base._groups import task_numbers
from skmeta.exceptions import SkippedTaskWarning
from skmeta.model_selection._draws import Draw, draw_repeats
from skmeta.model_selection._metrics import (
    VECTORISED,
    refuse_odd_metric,
    response_method,
    score_each,
)
from skmeta.model_selection._predict import predict_tasks
from skmeta.model_selection._targets import check_targets, refuse_odd_answers

# Rows times repeats that are adapted to in one go.
ROWS_AT_A_TIME = 2**20


class TaskScorer(BaseEstimator):
    """Scores an estimator on held-out tasks: adapt to a few rows of each, score the rest.

    Pass it as ``scoring`` to GridSearchCV, cross_validate and the like, with metadata routing on,
    so that it receives ``groups``. (The default scorer scores the un-adapted estimator, and picks
    the wrong hyperparameters.) Each task is scored by itself; the score is the mean over tasks.

    Parameters
    ----------
    scoring : str, callable or None, default=None
        What to compute for a task: a name or a scorer of scikit-learn's, or a callable with the
        signature ``(estimator, X, y)``. None is R2 for regressors and accuracy for classifiers.
    n_support : int, default=5
        Support rows of a task. 0 scores the un-adapted estimator. Where classes
        are specific to a task, they are spread over its classes, one a class at least.
    n_shot : int or None, default=None
        Support rows a class, instead of ``n_support``.
    n_repeats : int, default=10
        Draws of the support of every task.
    shuffle : bool, default=True
        Whether support rows are drawn at random. False takes the first rows of every task (of every
        class, with ``n_shot``), in the order of ``X``: for tasks whose rows come in time, and whose
        future is to be predicted. There is one draw then.
    random_state : int, RandomState instance or None, default=0
        Seeds the draws. With an int every candidate of a search meets the same draws.

    Raises
    ------
    ValueError
        If called without groups, or if no task is large enough to be scored.

    Warns
    -----
    SkippedTaskWarning
        With the number of tasks that are too small, or for which the metric is undefined (the area
        under the ROC curve of one class, or its D2).

    Examples
    --------
    >>> import sklearn
    >>> from sklearn.model_selection import GridSearchCV, GroupKFold
    >>> from skmeta import MAMLRegressor
    >>> from skmeta.datasets import make_sinusoids
    >>> from skmeta.model_selection import TaskScorer
    >>> X, y, groups = make_sinusoids(20, 15, random_state=0)
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     search = GridSearchCV(
    ...         MAMLRegressor(max_epochs=1, random_state=0),
    ...         {"n_inner_steps": [1, 2]},
    ...         cv=GroupKFold(2),
    ...         scoring=TaskScorer("neg_mean_squared_error", n_repeats=2),
    ...         error_score="raise",
    ...     ).fit(X, y, groups=groups)
    >>> sorted(search.best_params_)
    ['n_inner_steps']
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "scoring": [str, callable, None],
        "n_support": [Interval(Integral, 0, None, closed="left")],
        "n_shot": [Interval(Integral, 1, None, closed="left"), None],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        scoring: str | Callable | None = None,
        *,
        n_support: int = 5,
        n_shot: int | None = None,
        n_repeats: int = 10,
        shuffle: bool = True,
        random_state: Any = 0,
    ) -> None:
        self.scoring = scoring
        self.n_support = n_support
        self.n_shot = n_shot
        self.n_repeats = n_repeats
        self.shuffle = shuffle
        self.random_state = random_state

    def get_metadata_routing(self) -> MetadataRequest:
        """Ask searches and cross-validations to hand over ``groups``.

        Returns
        -------
        MetadataRequest
            Requests ``groups`` for scoring.
        """
        request = MetadataRequest(owner=self)
        request.score.add_request(param="groups", alias=True)
        return request

    def __call__(self, estimator: Any, X: Any, y: Any, groups: Any = None) -> float:
        """Return the mean over tasks of the score after adaptation.

        Parameters
        ----------
        estimator : estimator
            Fitted; anything that :func:`skmeta.adapt` takes.
        X : array-like of shape (n_rows, n_features)
            Rows of tasks that ``fit`` has not seen.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their targets.
        groups : array-like of shape (n_rows,)
            One task id a row.

        Returns
        -------
        float
        """
        return float(np.mean(self.score_tasks(estimator, X, y, groups)))

    def score_tasks(self, estimator: Any, X: Any, y: Any, groups: Any) -> np.ndarray:
        """Return the score of every task that could be scored, as :meth:`__call__` averages them.

        Parameters
        ----------
        estimator, X, y, groups : as for a call

        Returns
        -------
        ndarray of shape (n_scored_tasks,)
            Means over the repeats, in the order of the sorted task ids.
        """
        self._validate_params()
        if groups is None:
            raise ValueError(
                "TaskScorer got no groups. Inside a search or a cross-validation switch routing on "
                "first, sklearn.set_config(enable_metadata_routing=True), and pass groups= to fit "
                "(or params={'groups': groups} to cross_validate)."
            )
        n_rows = _num_samples(X)
        numbers, n_tasks = task_numbers(groups, n_rows)
        y = check_targets(y, n_rows, is_classifier(estimator))
        if self.n_shot is not None and not is_classifier(estimator):
            raise ValueError("n_shot counts rows a class; for a regressor use n_support.")
        quota, cells = self._quota(estimator, y, numbers, n_tasks)
        sizes = np.bincount(numbers, minlength=n_tasks)
        needed = np.zeros(n_tasks, dtype=np.int64)
        task_of_cell = np.zeros(len(quota), dtype=np.int64)
        task_of_cell[cells] = numbers
        np.add.at(needed, task_of_cell, quota)
        large = sizes > needed
        scores = np.full(n_tasks, np.nan)
        if large.any():
            kept = np.flatnonzero(large[numbers])
            scores[large] = self._mean_scores(estimator, X, y, numbers, quota, cells, kept)
        self._report(n_tasks, int((~large).sum()), int(np.isnan(scores[large]).sum()))
        return scores[~np.isnan(scores)]

    def _quota(
        self, estimator: Any, y: np.ndarray, numbers: np.ndarray, n_tasks: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """How many support rows to draw from which cell of rows."""
        own_classes = is_classifier(estimator) and not getattr(
            innermost(estimator), "shared_classes_", True
        )
        if self.n_shot is None and not (own_classes and self.n_support):
            return np.full(n_tasks, self.n_support), numbers
        # Stratified by class only on demand, or where a class without support could not be known.
        _, codes = np.unique(y, return_inverse=True)
        found, cells = np.unique(numbers * (codes.max() + 1) + codes, return_inverse=True)
        task = found // (codes.max() + 1)
        n_classes = np.bincount(task, minlength=n_tasks)
        n_shot = np.maximum(1, self.n_support // np.maximum(n_classes, 1))[task]
        if self.n_shot is not None:
            n_shot = np.full(len(found), self.n_shot)
        return np.minimum(n_shot, np.maximum(np.bincount(cells) - 1, 1)), cells

    def _mean_scores(
        self,
        estimator: Any,
        X: Any,
        y: np.ndarray,
        numbers: np.ndarray,
        quota: np.ndarray,
        cells: np.ndarray,
        kept: np.ndarray,
    ) -> np.ndarray:
        """Mean over the repeats for every task that is large enough."""
        rng = check_random_state(self.random_state) if self.shuffle else None
        _, own = np.unique(numbers[kept], return_inverse=True)
        used, own_cells = np.unique(cells[kept], return_inverse=True)
        n_tasks = int(own.max()) + 1
        n_repeats = self.n_repeats if self.shuffle and quota[used].any() else 1
        at_once = max(1, ROWS_AT_A_TIME // len(kept))
        parts = []
        for start in range(0, n_repeats, at_once):
            n_now = min(at_once, n_repeats - start)
            draw = draw_repeats(own, quota[used], own_cells, n_now, rng)
            draw = Draw(kept[draw.support], draw.support_draw, kept[draw.query], draw.query_draw)
            parts.append(self._score_draws(estimator, X, y, draw, n_now * n_tasks))
        scores = np.concatenate(parts).reshape(n_repeats, n_tasks)
        defined = ~np.isnan(scores)
        total = np.where(defined, scores, 0.0).sum(0)
        with np.errstate(invalid="ignore"):
            return total / defined.sum(0)

    def _score_draws(
        self, estimator: Any, X: Any, y: np.ndarray, draw: Draw, n_draws: int
    ) -> np.ndarray:
        name = self.scoring
        if name is None:
            name = "accuracy" if is_classifier(estimator) else "r2"
        refuse_odd_metric(name, y, is_classifier(estimator))
        scorer: Any = check_scoring(estimator, name)  # refuses metrics, which are no scorers
        if not hasattr(scorer, "_response_method"):
            return self._call_each(scorer, estimator, X, y, draw, n_draws)
        method = response_method(scorer, estimator)
        values = predict_tasks(
            estimator,
            _safe_indexing(X, draw.support),
            y[draw.support],
            draw.support_draw,
            _safe_indexing(X, draw.query),
            draw.query_draw,
            method=method,
        )
        values = np.asarray(values)
        refuse_odd_answers(values, method)
        target = y[draw.query]
        if isinstance(name, str) and name in VECTORISED:
            return VECTORISED[name](target, values, draw.query_draw, n_draws)
        classes = own = None
        if is_classifier(estimator):
            classes = estimator.classes_
            if not getattr(innermost(estimator), "shared_classes_", True) and len(draw.support):
                classes, codes = np.unique(y[draw.support], return_inverse=True)
                pairs = np.unique(draw.support_draw * len(classes) + codes)
                ends = np.cumsum(np.bincount(pairs // len(classes), minlength=n_draws))
                own = np.split(classes[pairs % len(classes)], ends[:-1])
        return score_each(
            scorer, estimator, method, target, values, draw.query_draw, n_draws, classes, own
        )

    def _call_each(
        self, score: Callable, estimator: Any, X: Any, y: np.ndarray, draw: Draw, n_draws: int
    ) -> np.ndarray:
        """A callable of the user's wants adapted estimators: one task at a time."""
        scores = np.full(n_draws, np.nan)
        for i in np.unique(draw.query_draw):
            own, rows = draw.support[draw.support_draw == i], draw.query[draw.query_draw == i]
            model = adapt(estimator, _safe_indexing(X, own), y[own]) if len(own) else estimator
            scores[i] = score(model, _safe_indexing(X, rows), y[rows])
        return scores

    def _report(self, n_tasks: int, n_small: int, n_undefined: int) -> None:
        if n_small + n_undefined == 0:
            return
        wanted = f"n_shot={self.n_shot}" if self.n_shot else f"n_support={self.n_support}"
        text = (
            f"{n_small} of {n_tasks} tasks have too few rows for {wanted} and a query row; the "
            f"metric is undefined for {n_undefined} of the others."
        )
        if n_small + n_undefined == n_tasks:
            raise ValueError(f"No task could be scored: {text}")
        warnings.warn(f"{text} They are left out of the mean.", SkippedTaskWarning, stacklevel=4)
