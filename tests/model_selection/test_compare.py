"""``compare_tasks``: the same rows for all, no leak, and scores as the slow way gives them."""

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss, make_scorer, median_absolute_error, roc_auc_score
from sklearn.model_selection import (
    GroupKFold,
)

from skmeta.exceptions import SkippedTaskWarning
from skmeta.model_selection import compare_tasks
from skmeta.model_selection._draws import draw_repeats
from tests.model_selection.cases import SIZES, labelled_tasks, quick
from tests.model_selection.compare_cases import RECORD, Recorder, tasks


@pytest.fixture(autouse=True)
def _config_is_left_alone():
    before = sklearn.get_config()
    yield
    assert sklearn.get_config() == before


@pytest.fixture
def record():
    RECORD.clear()
    return RECORD


def of(record, name, verb):
    return [(rows, more) for who, what, rows, more in record if (who, what) == (name, verb)]


# ------------------------------------------------------------------- the protocol


def test_all_methods_meet_the_same_rows(record):
    X, y, groups = tasks()
    compare_tasks(
        {"a": Recorder("a"), "b": Recorder("b")}, X, y, groups,
        n_support=(0, 2, 4), n_repeats=3, cv=3, baselines=False,
    )  # fmt: skip
    first, second = of(record, "a", "predict"), of(record, "b", "predict")
    assert len(first) == len(second) == 3 + len(SIZES) * 3 * 2  # k = 0 is one call a fold
    for (query, support), (other_query, other_support) in zip(first, second, strict=True):
        np.testing.assert_array_equal(query, other_query)
        if support is None:
            continue
        np.testing.assert_array_equal(support, other_support)
        own = groups == groups[int(support[0])]
        np.testing.assert_array_equal(np.sort(np.r_[support, query]), np.flatnonzero(own))
    supports = {frozenset(s) for _, s in first if s is not None}
    assert {len(s) for s in supports} == {2, 4}
    assert len(supports) > len(SIZES) * 3  # repeats differ
    for few in supports:  # more support rows are the fewer ones and others
        assert len(few) == 4 or any(few < more for more in supports)


def test_no_task_is_seen_before_it_is_held_out(record):
    X, y, groups = tasks()
    compare_tasks(Recorder(), X, y, groups, n_support=3, n_repeats=1, cv=3, baselines=False)
    held_out, fold = [], set()
    for _, verb, rows, more in record:
        now = set(groups[rows.astype(int)].tolist())
        if verb == "fit":
            fold = now
            assert len(more) == len(now)
            assert more.max() < len(SIZES)  # numbers, not ids
        else:
            assert not now & fold
            held_out += now
    assert sorted(held_out) == sorted(np.unique(groups))


def naive(estimator, X, y, groups, score, ks, n_repeats, cv):
    """Per-task scores (k, task), by loops."""
    numbers = np.unique(groups, return_inverse=True)[1]
    folds = list(GroupKFold(cv).split(X, y, numbers))
    seeds = np.random.RandomState(0).randint(np.iinfo(np.int32).max, size=cv)
    found = np.full((len(ks), numbers.max() + 1), np.nan)
    for (train, test), seed in zip(folds, seeds, strict=True):
        model = estimator.fit(X[train], y[train], groups=numbers[train])
        held, own = np.unique(numbers[test], return_inverse=True)
        for i, k in enumerate(ks):
            rng = np.random.RandomState(seed)
            draw = draw_repeats(own, np.full(len(held), k), own, n_repeats, rng)
            for t, task in enumerate(held):
                if (own == t).sum() < k + 2:
                    continue
                values = []
                for d in range(t, n_repeats * len(held), len(held)):
                    s, q = test[draw.support[draw.support_draw == d]], test[
                        draw.query[draw.query_draw == d]]  # fmt: skip
                    new = model.adapt(X[s], y[s]) if k else model
                    values.append(score(new, X[q], y[q], y[train]))
                defined = [value for value in values if not np.isnan(value)]
                found[i, task] = np.mean(defined) if defined else np.nan
    return found


def check(result, name, expected, ks):
    part = result.scores_[result.scores_["method"] == name]
    for k, values in zip(ks, expected, strict=True):
        got = part[part["k"] == k].set_index("task")["score"]
        known = np.flatnonzero(np.isfinite(values))
        np.testing.assert_array_equal(got.index, known)
        np.testing.assert_allclose(got, values[known], rtol=1e-8)
        line = result.table_.query("method == @name and k == @k").iloc[0]
        assert line["score"] == pytest.approx(values[known].mean())
        assert (line["n_tasks"], line["n_skipped"]) == (len(known), len(values) - len(known))


def test_scores_of_regressors_are_the_naive_ones():
    X, y, groups = tasks()
    ks = (0, 3, 8)  # at the last one only tasks of ten rows or more
    result = compare_tasks({"a": Recorder()}, X, y, groups, n_support=ks, cv=3, baselines=False)

    def score(model, X, y, y_train):
        return np.mean((model.predict(X) - y) ** 2) / y_train.var()

    expected = naive(Recorder(), X, y, groups, score, ks, 5, 3)
    assert np.isnan(expected[2]).sum() == sum(size < 10 for size in SIZES)
    check(result, "a", expected, ks)
    assert result.lower_is_better_ and set(result.table_["better"]) == {"lower"}


@pytest.mark.parametrize(
    ("scoring", "lower", "score"),
    [
        ("neg_mean_absolute_error", True, lambda y, p: np.abs(y - p).mean()),
        ("r2", False, sklearn.metrics.r2_score),
        (make_scorer(median_absolute_error, greater_is_better=False), True, median_absolute_error),
    ],
    ids=["name", "higher", "scorer"],
)
def test_other_metrics_of_regressors(scoring, lower, score):
    X, y, groups = tasks()
    result = compare_tasks(
        {"a": Recorder()},
        X,
        y,
        groups,
        n_support=3,
        cv=3,
        scoring=scoring,
        baselines="pooled ridge",
    )
    expected = naive(
        Recorder(), X, y, groups, lambda m, X, y, _: score(y, m.predict(X)), (3,), 5, 3
    )
    check(result, "a", expected, (3,))
    ours, base = result.table_.set_index("method").loc[["a", "pooled ridge"]].itertuples()
    assert result.lower_is_better_ == lower
    assert np.sign(ours.gain) == np.sign(
        base.score - ours.score if lower else ours.score - base.score
    )


@pytest.mark.parametrize("labels", [("no", "yes"), ("no", "perhaps", "yes")], ids=["two", "three"])
def test_scores_of_classifiers_are_the_naive_ones(labels):
    X, y, groups = labelled_tasks(labels=labels)
    model = quick("ProtoNetClassifier")
    result = compare_tasks({"net": model}, X, y, groups, n_support=(0, 4), cv=3, n_repeats=2,
                           baselines=False)  # fmt: skip

    def score(model, X, y, _):
        proba = model.predict_proba(X).clip(1e-6)
        return log_loss(y, proba / proba.sum(axis=1, keepdims=True), labels=list(labels))

    expected = naive(model, X, y, groups, score, (0, 4), 2, 3)
    part = result.scores_.pivot(index="k", columns="task", values="score")
    np.testing.assert_allclose(part, expected, rtol=1e-4)  # clipped before or after normalising
    assert result.metric_ == "log loss"


def test_undefined_metrics_are_skipped_and_counted():
    X, y, groups = labelled_tasks(labels=("no", "yes"))
    y[groups == 100] = "yes"
    with pytest.warns(SkippedTaskWarning, match="k = 2: the metric is undefined for 1 of 7"):
        result = compare_tasks(
            {"net": quick("ProtoNetClassifier")}, X, y, groups,
            n_support=2, cv=3, scoring="roc_auc", n_repeats=2, baselines="pooled logistic",
        )  # fmt: skip
    model = quick("ProtoNetClassifier")

    def score(model, X, y, _):
        return roc_auc_score(y, model.predict_proba(X)[:, 1]) if len(set(y)) > 1 else np.nan

    expected = naive(model, X, y, groups, score, (2,), 2, 3)
    check(result, "net", expected, (2,))
    assert not result.lower_is_better_
    assert (result.table_["n_skipped"] == 1).all()


class OwnClasses(ClassifierMixin, BaseEstimator):
    """Knows the classes of its support alone, all equally likely."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def adapt(self, X, y):
        return OwnClasses().fit(X, y)

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


def test_classes_that_a_method_leaves_out_have_no_chance():
    X, y, groups = labelled_tasks(labels=("no", "yes"))
    result = compare_tasks(
        {"own": OwnClasses()}, X, y, groups, n_support=1, cv=3, n_repeats=20, baselines=False
    )
    own = result.scores_.query("method == 'own'").set_index("task")["score"]
    # One row, one class, and half of the other rows are of the other: -log(1e-6) for these.
    assert own.mean() == pytest.approx(-np.log(1e-6) / 2, rel=0.15)
