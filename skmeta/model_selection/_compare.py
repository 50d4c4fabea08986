"""Does meta-learning help on these tasks? The referee that may say no."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples

from skmeta.base._groups import task_numbers
from skmeta.closed_form._hierarchical_ridge import HierarchicalRidge
from skmeta.exceptions import SkippedTaskWarning
from skmeta.model_selection._baselines import LINEAR_MIXED, choose_baselines, make_baseline
from skmeta.model_selection._contest import Metric, Plan, mean_defined, run_fold
from skmeta.model_selection._folds import task_folds
from skmeta.model_selection._targets import check_shuffle, check_targets
from skmeta.model_selection._verdict import TaskComparison, summarise


def compare_tasks(
    estimators: Any,
    X: Any,
    y: Any,
    groups: Any,
    *,
    n_support: Any = (0, 1, 3, 5, 10),
    cv: Any = 5,
    scoring: Any = None,
    baselines: Any = True,
    n_repeats: int = 5,
    shuffle: bool = True,
    n_jobs: int | None = None,
    random_state: Any = 0,
) -> TaskComparison:
    """Compare meta-learners, on tasks held out, with what one would use without them.

    In every fold all methods are fitted to the training tasks; then each held-out task shows them
    the same few rows, and they are scored on its other rows.

    Parameters
    ----------
    estimators : dict of str to estimator, or estimator
        What to compare, by name; cloned, not fitted. Pipelines and searches work: ``groups`` reach
        them. An estimator that cannot adapt (your present model, say) counts as a baseline.
    X : array-like of shape (n_rows, n_features)
        The rows of all tasks; the baselines take words and missing values in a DataFrame.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Their targets.
    groups : array-like of shape (n_rows,)
        One task id a row.
    n_support : int or sequence of int, default=(0, 1, 3, 5, 10)
        Numbers of support rows k; 0 is the estimator as fitted. Tasks with fewer than k + 2 rows
        are left out at that k, so compare methods inside one k, not along it.
    cv : int or splitter, default=5
        Folds of tasks: an int is GroupKFold, with at most as many folds as tasks. A splitter must
        hold out whole tasks, which is checked.
    scoring : str, scorer or None, default=None
        What to compute for a task: a name or a scorer of scikit-learn's. Names that begin with
        "neg_" are shown as errors, lower is better. None is, for regressors, the mean squared error
        in units of the variance of ``y`` over the training tasks; for classifiers the log loss.
        Probabilities below 1e-6 count as 1e-6 in the log loss.
    baselines : bool, str or list of str, default=True
        For regressors "pooled ridge", "pooled boosting", "per-task model" (a ridge), "pooled +
        shrunken offset", "linear mixed model" (HierarchicalRidge), and where the packages are
        installed "GPBoost, intercept" and "merf"; for classifiers "pooled logistic", "pooled
        boosting", "per-task logistic" and "pooled logistic + shrunken offset". True is all of them,
        but no linear mixed model where one of ``estimators`` is a HierarchicalRidge. They are tuned
        on training tasks alone.
    n_repeats : int, default=5
        Draws of the support rows of every task.
    shuffle : bool, default=True
        Whether support rows are drawn at random. False takes the first rows of every task, in the
        order of ``X``, also for the tuning of the baselines: for tasks whose rows come in time, and
        whose future is to be predicted. There is one draw then.
    n_jobs : int or None, default=None
        Folds in parallel.
    random_state : int, RandomState instance or None, default=0
        Seeds the draws.

    Returns
    -------
    TaskComparison
        With ``verdict_`` in plain sentences, ``table_``, ``scores_`` and ``plot()``.

    Raises
    ------
    ValueError
        If the protocol would leak (a task on both sides of a split), if there are fewer than three
        tasks, or if labels occur in held-out tasks only.

    Warns
    -----
    SkippedTaskWarning
        With the number of tasks for which the metric is undefined (the area under the ROC curve of
        one class), and for a k that no task is large enough for.

    See Also
    --------
    cross_validate_tasks : Scores of one estimator.

    Notes
    -----
    The best baseline is picked at every k after the fact, which favours it. A word is said only
    where the paired interval over tasks supports it; among many comparisons a few will look clear
    by chance.

    Examples
    --------
    >>> from skmeta import HierarchicalRidge
    >>> from skmeta.datasets import make_sinusoids
    >>> from skmeta.model_selection import compare_tasks
    >>> X, y, groups = make_sinusoids(12, 15, random_state=0)
    >>> result = compare_tasks(
    ...     HierarchicalRidge(), X, y, groups, n_support=(0, 5), cv=3, baselines="pooled ridge"
    ... )
    >>> print(result.verdict_.splitlines()[0])
    Meta-learning ...
    >>> result.table_[["k", "method", "score", "low", "high"]].shape
    (4, 5)
    """
    if find_spec("pandas") is None:
        raise ImportError("compare_tasks needs pandas: pip install pandas.")
    estimators, classifier = _check_estimators(estimators)
    numbers, n_tasks = task_numbers(groups, _num_samples(X))
    y = check_targets(y, len(numbers), classifier)
    if groups is None or n_tasks < 3:
        raise ValueError(
            "compare_tasks trains on several tasks and is scored on others: groups must name three "
            "tasks or more, one id a row."
        )
    ks = _check_counts(n_support)
    if not isinstance(n_repeats, Integral) or n_repeats < 1:
        raise ValueError(f"n_repeats must be an integer from 1 on, got {n_repeats!r}.")
    names = choose_baselines(baselines, classifier, int(np.prod(y.shape[1:])))
    if baselines is True and any(_is_mixed(one) for one in estimators.values()):
        names = [name for name in names if name != LINEAR_MIXED]
    for name in estimators:
        if name in names:
            raise ValueError(f"{name!r} is the name of a baseline: give your estimator another.")
    folds = _folds(cv, X, y, numbers, classifier)
    check_shuffle(shuffle)
    own = {name: make_baseline(name, classifier, ks, shuffle) for name in names}
    metric = Metric.make(scoring, y, classifier)
    plan = Plan({**estimators, **own}, X, y, numbers, ks, int(n_repeats), metric, shuffle)
    seeds = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=len(folds))
    found = Parallel(n_jobs=n_jobs)(
        delayed(run_fold)(plan, *fold, int(seed), f"fold {i + 1} of {len(folds)}")
        for i, (fold, seed) in enumerate(zip(folds, seeds, strict=True))
    )
    # A task that several folds hold out counts once.
    scores = mean_defined([scores for scores, _, _ in found])
    held = np.unique(np.concatenate([numbers[test] for _, test in folds]))
    _report(scores, ks, np.bincount(numbers)[held], held)
    can_adapt = found[0][2]
    return summarise(
        scores,
        methods=list(plan.methods),
        is_baseline=[name in names or not can_adapt[i] for i, name in enumerate(plan.methods)],
        n_support=ks,
        n_held_out=len(held),
        fit_seconds=np.mean([seconds for _, seconds, _ in found], axis=0),
        metric=metric.text,
        lower_is_better=metric.lower_is_better,
    )


# ------------------------------------------------------------------- what is asked for


def _check_estimators(estimators: Any) -> tuple[dict[str, Any], bool]:
    if not isinstance(estimators, Mapping):
        estimators = {type(estimators).__name__: estimators}
    if not estimators or not all(hasattr(one, "fit") for one in estimators.values()):
        raise ValueError(
            "estimators must be a dict of names and estimators, {'MAML': MAMLRegressor()} say, or "
            "one estimator."
        )
    kinds = {is_classifier(one) for one in estimators.values()}
    if len(kinds) > 1:
        raise ValueError("estimators mixes classifiers and regressors: compare one kind at a time.")
    return {str(name): one for name, one in estimators.items()}, kinds.pop()


def _is_mixed(estimator: Any) -> bool:
    """Whether it is a linear mixed model: it would be compared with itself."""
    while estimator is not None and not isinstance(estimator, HierarchicalRidge):
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        else:
            name = "regressor" if hasattr(estimator, "regressor") else "estimator"
            estimator = getattr(estimator, name, None)
    return estimator is not None


def _check_counts(n_support: Any) -> tuple[int, ...]:
    ks = list(n_support) if np.iterable(n_support) else [n_support]
    if not ks or not all(isinstance(k, Integral) and int(k) >= 0 for k in ks):
        raise ValueError(f"n_support must hold numbers of rows, 0 or more, got {n_support!r}.")
    return tuple(sorted({int(k) for k in ks}))


def _folds(
    cv: Any, X: Any, y: np.ndarray, numbers: np.ndarray, classifier: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split, and refuse splits that leak or from which nothing can be learned across tasks."""
    folds = task_folds(cv, X, y, numbers)
    for train, test in folds:
        if len(np.unique(numbers[train])) < 2:
            raise ValueError(
                "cv leaves one task for training, and nothing can be learned across tasks. Use "
                "more folds."
            )
        unknown = np.setdiff1d(y[test], y[train])
        if classifier and len(unknown):
            raise ValueError(
                f"Label(s) {unknown.tolist()[:5]} occur only in tasks that a fold holds out: no "
                "pooled model could know them. Drop or merge rare labels. If every task has "
                "classes of its own, there is nothing to pool: use cross_validate_tasks."
            )
    return folds


# ------------------------------------------------------------------- all folds


def _report(scores: np.ndarray, ks: Sequence[int], sizes: np.ndarray, held: np.ndarray) -> None:
    scored = np.isfinite(scores[:, :, held]).all(axis=1)
    if not scored.any():
        raise ValueError(
            f"No task could be scored: a task needs k + 2 rows, and the largest has {sizes.max()}; "
            "or the metric is undefined for every task."
        )
    for k, found in zip(ks, scored, strict=True):
        large = sizes >= k + 2
        n_undefined = int((large & ~found).sum())
        if not large.any():
            text = f"No task has {k + 2} rows: k = {k} is left out."
        elif n_undefined:
            text = (
                f"k = {k}: the metric is undefined for {n_undefined} of {len(found)} held-out "
                "tasks. They are left out."
            )
        else:
            continue
        warnings.warn(text, SkippedTaskWarning, stacklevel=3)
