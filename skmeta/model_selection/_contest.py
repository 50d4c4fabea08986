"""One fold of a comparison: all methods meet the same rows of the same tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.metrics import get_scorer
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import has_fit_parameter

from skmeta.base._adapt import can_adapt
from skmeta.core.numerics import location_and_scale
from skmeta.model_selection._baselines import Baseline
from skmeta.model_selection._draws import Draw, draw_repeats
from skmeta.model_selection._metrics import (
    VECTORISED,
    _mse,
    _task_means,
    refuse_odd_metric,
    score_each,
)
from skmeta.model_selection._predict import predict_tasks
from skmeta.model_selection._scorer import ROWS_AT_A_TIME
from skmeta.model_selection._targets import refuse_odd_answers

# Probabilities are clipped here: one sure answer that is wrong shall not outweigh all others.
LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Metric:
    """What is computed for a task; errors are positive and lower is better."""

    name: Any
    classifier: bool
    scorer: Any
    text: str
    lower_is_better: bool

    @classmethod
    def make(cls, scoring: Any, y: np.ndarray, classifier: bool) -> Metric:
        refuse_odd_metric(scoring, y, classifier)
        if scoring is None and not classifier:
            text = "mean squared error / variance of y"
            return cls(None, classifier, get_scorer("neg_mean_squared_error"), text, True)
        scoring = "neg_log_loss" if scoring is None else scoring
        scorer = get_scorer(scoring)
        if not hasattr(scorer, "_response_method"):
            raise ValueError(
                "scoring must be a name or a scorer made with sklearn.metrics.make_scorer, got "
                f"{scoring!r}."
            )
        function = getattr(scorer._score_func, "func", scorer._score_func)  # of a partial
        text = scoring if isinstance(scoring, str) else getattr(function, "__name__", "score")
        text = text.removeprefix("neg_").replace("_", " ")
        return cls(scoring, classifier, scorer, text, scorer._sign < 0)

    def about(self, y: np.ndarray) -> np.ndarray:
        """What ``scores`` needs of the training rows: the classes, or the scales of ``y``."""
        return np.unique(y) if self.classifier else location_and_scale(y.reshape(len(y), -1))[1]

    def method(self, estimator: Any) -> str:
        """Name what to call: probabilities, where scores of any kind would do."""
        wanted = self.scorer._response_method
        wanted = [wanted] if isinstance(wanted, str) else list(wanted)
        found = [name for name in wanted if hasattr(estimator, name)]
        if not found:
            raise ValueError(f"The metric needs {' or '.join(wanted)}, which it does not have.")
        return "predict_proba" if "predict_proba" in found else found[0]

    def scores(
        self,
        estimator: Any,
        method: str,
        y: np.ndarray,
        values: np.ndarray,
        draw: np.ndarray,
        n_draws: int,
        about: np.ndarray,
    ) -> np.ndarray:
        """One value a draw, NaN where it is undefined."""
        if self.name is None:
            return (_mse(y, values, draw, n_draws) / about**2).mean(axis=1)
        if self.name == "neg_log_loss":
            values = (values / values.sum(axis=1, keepdims=True)).clip(LEAST_PROBABILITY)
            chosen = np.take_along_axis(values, np.searchsorted(about, y)[:, None], axis=1)
            return _task_means(-np.log(chosen), draw, n_draws)[:, 0]
        sign = -1 if self.lower_is_better else 1
        if isinstance(self.name, str) and self.name in VECTORISED:
            return sign * VECTORISED[self.name](y, values, draw, n_draws)
        classes = about if self.classifier else None
        return sign * score_each(
            self.scorer, estimator, method, y, values, draw, n_draws, classes, None
        )


@dataclass(frozen=True)
class Plan:
    """What all folds share."""

    methods: dict[str, Any]
    X: Any
    y: np.ndarray
    numbers: np.ndarray
    n_support: tuple[int, ...]
    n_repeats: int
    metric: Metric
    shuffle: bool = True

    def rng(self, seed: int) -> np.random.RandomState | None:
        """What support rows are drawn with; None takes a task's first rows."""
        return check_random_state(seed) if self.shuffle else None

    def repeats(self, k: int) -> int:
        """Draws worth making: without support, and in order, one is like the other."""
        return self.n_repeats if k and self.shuffle else 1


def run_fold(
    plan: Plan, train: np.ndarray, test: np.ndarray, seed: int, fold: str
) -> tuple[np.ndarray, list[float], list[bool]]:
    """Scores (n_ks, n_methods, n_tasks), NaN for other tasks; seconds a fit; who can adapt."""
    with sklearn.config_context(enable_metadata_routing=True):
        fitted, seconds = _fit_all(plan, train, fold)
        scores = np.full((len(plan.n_support), len(fitted), int(plan.numbers.max()) + 1), np.nan)
        about = plan.metric.about(plan.y[train])
        held, own = np.unique(plan.numbers[test], return_inverse=True)
        large = np.bincount(own)
        for i, k in enumerate(plan.n_support):
            found: list[list] = [[] for _ in fitted]
            for draw, n_draws in _draws(plan, own, large >= k + 2, k, seed):
                draw = Draw(
                    test[draw.support], draw.support_draw, test[draw.query], draw.query_draw
                )
                for m, (name, model) in enumerate(fitted.items()):
                    with _named(name, fold):
                        part = _score(plan, model, draw, n_draws, about)
                    found[m].append(part.reshape(-1, len(held)))
            for m, parts in enumerate(found):
                scores[i, m, held] = mean_defined(np.concatenate(parts))
    return scores, seconds, [can_adapt(model) for model in fitted.values()]


def _fit_all(plan: Plan, train: np.ndarray, fold: str) -> tuple[dict[str, Any], list[float]]:
    X, y, numbers = _safe_indexing(plan.X, train), plan.y[train], plan.numbers[train]
    fitted, seconds, shared = {}, [], {}  # type: dict, list, dict
    for name, method in plan.methods.items():
        start = perf_counter()
        with _named(name, fold):
            model = clone(method)
            if isinstance(model, Baseline):
                model.fit(X, y, numbers, shared)
            elif _takes_groups(model):
                model.fit(X, y, groups=numbers)
            else:
                model.fit(X, y)
        fitted[name] = model
        seconds.append(getattr(model, "fit_seconds_", perf_counter() - start))
    return fitted, seconds


def _takes_groups(estimator: Any) -> bool:
    if has_fit_parameter(estimator, "groups"):
        return True
    return bool(get_routing_for_object(estimator).consumes("fit", ["groups"]))


def _draws(
    plan: Plan, own: np.ndarray, large: np.ndarray, k: int, seed: int
) -> Iterator[tuple[Draw, int]]:
    """Repeated draws, some repeats at a time. More support rows are the fewer ones and others."""
    rng = plan.rng(seed)
    n_tasks, n_repeats = len(large), plan.repeats(k)
    at_once = max(1, ROWS_AT_A_TIME // len(own))
    for start in range(0, n_repeats, at_once):
        n_now = min(at_once, n_repeats - start)
        draw = draw_repeats(own, np.full(n_tasks, k), own, n_now, rng)
        support, query = large[own[draw.support]], large[own[draw.query]]
        yield (
            Draw(
                draw.support[support],
                draw.support_draw[support],
                draw.query[query],
                draw.query_draw[query],
            ),
            n_now * n_tasks,
        )


def _score(plan: Plan, model: Any, draw: Draw, n_draws: int, about: np.ndarray) -> np.ndarray:
    if len(draw.query) == 0:
        return np.full(n_draws, np.nan)
    method = plan.metric.method(model)
    Xs, ys = _safe_indexing(plan.X, draw.support), plan.y[draw.support]
    Xq, yq = _safe_indexing(plan.X, draw.query), plan.y[draw.query]
    if len(draw.support) == 0 or not can_adapt(model):
        values = getattr(model, method)(Xq)
    elif isinstance(model, Baseline):
        values = model.predict_tasks_(Xs, ys, draw.support_draw, Xq, draw.query_draw, method)
    else:
        values = predict_tasks(model, Xs, ys, draw.support_draw, Xq, draw.query_draw, method=method)
    values = np.asarray(values)
    refuse_odd_answers(values, method)
    if method == "predict_proba" and values.shape[1] < len(about):
        # Some estimators answer with the classes of the supports alone.
        known, narrow = np.unique(ys), values
        if len(known) != narrow.shape[1]:
            raise ValueError(f"it gave {narrow.shape[1]} probabilities for {len(about)} classes.")
        values = np.zeros((len(narrow), len(about)))
        values[:, np.searchsorted(about, known)] = narrow
    return plan.metric.scores(model, method, yq, values, draw.query_draw, n_draws, about)


@contextmanager
def _named(name: str, fold: str) -> Iterator[None]:
    """Say whose error it is."""
    try:
        yield
    except Exception as error:
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        raise kind(f"{name!r} failed in {fold}: {type(error).__name__}: {error}") from error


def mean_defined(values: Any) -> np.ndarray:
    """Mean over the first axis of what is not NaN."""
    values = np.asarray(values)
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(axis=0) / defined.sum(axis=0)
