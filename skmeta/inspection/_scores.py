"""Scores of fitted estimators on held-out tasks, at several sizes of the support."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_is_fitted

from skmeta.base._adapt import can_adapt, cores, innermost
from skmeta.base._groups import task_numbers
from skmeta.exceptions import SkippedTaskWarning
from skmeta.inspection._bands import used_tasks
from skmeta.model_selection._compare import _check_counts
from skmeta.model_selection._contest import (
    Metric,
    Plan,
    _draws,
    _named,
    _score,
    mean_defined,
)
from skmeta.model_selection._draws import Draw, draw_repeats
from skmeta.model_selection._scorer import ROWS_AT_A_TIME, TaskScorer
from skmeta.model_selection._targets import check_shuffle, check_targets


class Alone(BaseEstimator):
    """A model of scikit-learn's that every task fits to its own support rows, and nothing else.

    Parameters
    ----------
    estimator : estimator
        Not fitted.
    classes : ndarray or None
        Classes that tasks share; None for regressors, and where tasks have classes of their own.
    """

    # Where classes are shared it knows them all; it must not be asked to tell more apart.
    shared_classes_: bool

    def __init__(self, estimator: Any, classes: np.ndarray | None) -> None:
        self.estimator = estimator
        self.classes = classes
        self.shared_classes_ = classes is not None
        self.classes_ = classes

    def __sklearn_tags__(self) -> Tags:
        return get_tags(self.estimator)

    def adapt(self, X: Any, y: np.ndarray) -> Alone:
        """Return the model of one task."""
        new = Alone(self.estimator, self.classes)
        one_class = is_classifier(self.estimator) and len(np.unique(y)) == 1
        # Many classifiers refuse one class; what they would say of it is not in doubt.
        new.model_ = (DummyClassifier() if one_class else clone(self.estimator)).fit(X, y)
        if self.classes is None:
            new.classes_ = getattr(new.model_, "classes_", None)
        return new

    def fit(self, X: Any, y: Any) -> Alone:
        """Do nothing: scikit-learn only asks whether it is there."""
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict as the task's model does."""
        return self.model_.predict(X)

    @available_if(lambda self: hasattr(self.estimator, "predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities as the task's model gives them, 0 for classes it has not seen."""
        found = self.model_.predict_proba(X)
        if self.classes is None:
            return found
        values = np.zeros((len(found), len(self.classes)))
        values[:, np.searchsorted(self.classes, self.model_.classes_)] = found
        return values


def score_curves(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    groups: Any,
    *,
    n_support: Any,
    n_shot: Any,
    scoring: Any,
    n_repeats: int,
    shuffle: bool,
    random_state: Any,
) -> tuple[tuple[int, ...], np.ndarray, Metric]:
    """Score all models on the same draws of the same tasks.

    Returns
    -------
    counts : tuple of int
        Support rows (of a class, with ``n_shot``), ascending.
    scores : ndarray of shape (n_models, n_counts, n_tasks)
        Means over the repeats; NaN where a task is too small, or the metric undefined.
    metric : Metric
        What was computed.
    """
    first = next(iter(models.values()))
    _check_model(first)
    classifier = is_classifier(first)
    own_classes = classifier and not getattr(innermost(first), "shared_classes_", True)
    if groups is None:
        raise ValueError("groups is missing: it names the held-out task of every row.")
    numbers, n_tasks = task_numbers(groups, _num_samples(X))
    y = check_targets(y, len(numbers), classifier)
    check_shuffle(shuffle)
    counts = _check_counts(n_support) if n_shot is None else _check_shots(n_shot, classifier)
    if own_classes and n_shot is None:
        raise ValueError(
            "Every task has classes of its own here, and a class without a support row could not "
            "be known. Count rows a class: n_shot=(1, 3, 5), say."
        )
    if not isinstance(n_repeats, Integral) or n_repeats < 1:
        raise ValueError(f"n_repeats must be an integer from 1 on, got {n_repeats!r}.")
    if scoring is None and own_classes:
        scoring = "accuracy"
    metric = Metric.make(scoring, y, classifier)
    classes = None
    if classifier and not own_classes:
        classes = np.unique(first.classes_)
        unknown = np.setdiff1d(y, classes)
        if len(unknown):
            raise ValueError(
                f"y holds label(s) {unknown.tolist()[:5]} that the estimator has not seen: it "
                f"knows {classes.tolist()}."
            )
    about = classes if classifier else metric.about(y)
    checked = {
        name: first if one is first else _baseline(name, one, classifier, own_classes, classes)
        for name, one in models.items()
    }
    plan = Plan(checked, X, y, numbers, counts, int(n_repeats), metric, shuffle)
    large = {k: _large(plan, k, n_shot is not None, classes) for k in counts}
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    scores = np.full((len(checked), len(counts), n_tasks), np.nan)
    for i, k in enumerate(counts):
        found: list[list] = [[] for _ in checked]
        for draw, n_draws in _all_draws(plan, k, large[k], n_shot is not None, seed):
            for part, (name, model) in zip(found, checked.items(), strict=True):
                if isinstance(model, Alone) and k == 0:
                    continue  # nothing to fit
                with _named(name, f"scoring at k = {k}"):
                    score = _score_own if own_classes else _score
                    values = score(plan, model, draw, n_draws, about)
                part.append(values.reshape(-1, n_tasks))
        for m, parts in enumerate(found):
            if parts:
                scores[m, i] = mean_defined(np.concatenate(parts))
    _report(scores, counts, list(large.values()))
    return counts, scores, metric


# ------------------------------------------------------------------- what is asked for


def _check_shots(n_shot: Any, classifier: bool) -> tuple[int, ...]:
    if not classifier:
        raise ValueError("n_shot counts rows a class; for a regressor use n_support.")
    counts = list(n_shot) if np.iterable(n_shot) else [n_shot]
    if not counts or not all(isinstance(k, Integral) and int(k) >= 1 for k in counts):
        raise ValueError(f"n_shot must hold numbers of rows a class, 1 or more, got {n_shot!r}.")
    return tuple(sorted({int(k) for k in counts}))


def _is_fitted(estimator: Any) -> bool:
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def _check_model(estimator: Any) -> None:
    name = type(estimator).__name__
    if not _is_fitted(estimator):
        raise ValueError(f"This {name} is not fitted. Fit it to the training tasks first.")
    if not can_adapt(estimator):
        raise ValueError(
            f"{name} cannot adapt to a task, so it has no adaptation curve. Pass it among the "
            "baselines of one that can."
        )
    _refuse_adapted(estimator)


def _would_adapt(estimator: Any) -> bool:
    """Whether it could adapt if it were fitted: it needs other tasks then, and not one alone."""
    while estimator is not None and not hasattr(estimator, "adapt"):
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, VotingRegressor | VotingClassifier):
            return any(_would_adapt(one) for _, one in estimator.estimators)
        else:
            inside = "regressor" if hasattr(estimator, "regressor") else "estimator"
            estimator = getattr(estimator, inside, None)
    return estimator is not None


def _refuse_adapted(estimator: Any) -> None:
    if any(
        getattr(core, "adapted_", False) and getattr(core, "n_tasks_", 1) > 1
        for core in cores(estimator)
    ):
        raise ValueError(
            f"This {type(innermost(estimator)).__name__} is adapted to a task: at 0 rows it would "
            "answer for that one. Pass the estimator that fit returned."
        )


def _baseline(
    name: str, estimator: Any, classifier: bool, own_classes: bool, classes: np.ndarray | None
) -> Any:
    """Check a baseline; one that is not fitted is to be fitted to every task alone."""
    if is_classifier(estimator) != classifier:
        kinds = ("classifier", "regressor") if classifier else ("regressor", "classifier")
        raise ValueError(f"The estimator is a {kinds[0]}, the baseline {name!r} a {kinds[1]}.")
    if not _is_fitted(estimator):
        if _would_adapt(estimator):
            raise ValueError(f"The baseline {name!r} is not fitted. Fit it to the training tasks.")
        return Alone(estimator, classes)
    _refuse_adapted(estimator)
    if own_classes and (
        not can_adapt(estimator) or getattr(innermost(estimator), "shared_classes_", True)
    ):
        raise ValueError(
            f"The baseline {name!r} knows the classes it was fitted to, but every task has classes "
            "of its own here. Pass it unfitted: every task then fits it to its support rows."
        )
    if classes is not None and not np.array_equal(estimator.classes_, classes):
        raise ValueError(
            f"The baseline {name!r} was fitted to other classes than the estimator: "
            f"{np.asarray(estimator.classes_).tolist()} and {classes.tolist()}."
        )
    return estimator


# ------------------------------------------------------------------- draws and scores


def _cells(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Number the classes of every task: the cell of every row, and the task of every cell."""
    _, codes = np.unique(plan.y, return_inverse=True)
    width = codes.max() + 1
    found, cells = np.unique(plan.numbers * width + codes, return_inverse=True)
    return cells, found // width


def _large(plan: Plan, k: int, per_class: bool, classes: np.ndarray | None) -> np.ndarray:
    """Which tasks have the rows: k for the support (of every class), and some for the query.

    ``classes`` are those that tasks share: a task without one of them has no row of it to show.
    """
    if not per_class:
        return np.bincount(plan.numbers) >= k + 2
    cells, task = _cells(plan)
    fewest = np.full(task.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(fewest, task, np.bincount(cells))
    if classes is not None:
        fewest[np.bincount(task) < len(classes)] = 0
    return fewest >= k + 1


def _all_draws(
    plan: Plan, k: int, large: np.ndarray, per_class: bool, seed: int
) -> Iterator[tuple[Draw, int]]:
    """Repeated draws. More support rows are the fewer ones and others, whatever the model."""
    if not per_class:
        yield from _draws(plan, plan.numbers, large, k, seed)
        return
    cells, task = _cells(plan)
    rng, n_repeats = plan.rng(seed), plan.repeats(k)
    at_once = max(1, ROWS_AT_A_TIME // len(cells))
    for start in range(0, n_repeats, at_once):
        n_now = min(at_once, n_repeats - start)
        draw = draw_repeats(plan.numbers, np.full(len(task), k), cells, n_now, rng)
        support, query = large[plan.numbers[draw.support]], large[plan.numbers[draw.query]]
        yield (
            Draw(
                draw.support[support],
                draw.support_draw[support],
                draw.query[query],
                draw.query_draw[query],
            ),
            n_now * len(large),
        )


def _score_own(plan: Plan, model: Any, draw: Draw, n_draws: int, about: Any) -> np.ndarray:
    """Score where tasks have classes of their own, as TaskScorer does."""
    if len(draw.query) == 0:
        return np.full(n_draws, np.nan)
    scores = TaskScorer(plan.metric.name)._score_draws(model, plan.X, plan.y, draw, n_draws)
    return -scores if plan.metric.lower_is_better else scores


def _report(scores: np.ndarray, counts: tuple[int, ...], large: list[np.ndarray]) -> None:
    _, used = used_tasks(scores)
    if not used.any():
        raise ValueError(
            "No task could be scored: a task needs two rows more than its support has (with "
            "n_shot, one row more of every class), and a metric that is defined for its rows."
        )
    for k, found, enough in zip(counts, used, large, strict=True):
        n_undefined = int((enough & ~found).sum())
        if not enough.any():
            text = f"No task has the rows for k = {k}: it is left out."
        elif n_undefined:
            text = (
                f"k = {k}: the metric is undefined for {n_undefined} of {len(found)} held-out "
                "tasks. They are left out."
            )
        else:
            continue
        warnings.warn(text, SkippedTaskWarning, stacklevel=4)
