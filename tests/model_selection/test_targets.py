"""Targets and answers of odd kinds: told apart from a metric that is undefined."""

import datetime
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import fbeta_score, make_scorer

from skmeta import HierarchicalLogisticRegression, HierarchicalRidge
from skmeta.exceptions import SkippedTaskWarning
from skmeta.inspection import AdaptationCurveDisplay
from skmeta.model_selection import (
    TaskScorer,
    compare_tasks,
    cross_validate_tasks,
    predict_tasks,
)
from skmeta.model_selection._pooled import Columns

LOGISTIC = HierarchicalLogisticRegression(random_state=0)


def rows():
    rng = np.random.default_rng(0)
    groups, X = np.repeat(np.arange(9), 8), rng.normal(size=(72, 2))
    y = X[:, 0] + rng.normal(0, 2, 9)[groups]
    return X, y, (y > 0).astype(int), groups


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_labels_as_a_column_are_labels():
    X, _, labels, groups = rows()
    column = pd.DataFrame({"sick": labels})
    model = HierarchicalLogisticRegression().fit(X, labels, groups=groups)
    for how in ({}, {"n_shot": 2}, {"scoring": "neg_log_loss"}):
        scorer = TaskScorer(n_repeats=2, **how)
        np.testing.assert_array_equal(
            scorer.score_tasks(model, X, column, groups),
            scorer.score_tasks(model, X, labels, groups),
        )
    flat, columned = (
        compare_tasks(
            LOGISTIC, X, one, groups, cv=3, n_support=3, n_repeats=1, baselines=False
        ).table_["score"]
        for one in (labels, column)
    )
    np.testing.assert_array_equal(flat, columned)


def test_a_column_of_labels_is_named_by_fit_alone():
    X, _, labels, groups = rows()
    with pytest.warns(DataConversionWarning):
        model = HierarchicalLogisticRegression().fit(X, labels[:, None], groups=groups)
    TaskScorer(n_repeats=1, n_shot=1)(model, X, labels, groups)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=repr)
def test_missing_labels_are_counted(missing):
    X, _, labels, groups = rows()
    odd = np.array(labels, dtype=object)
    odd[3] = missing
    with pytest.raises(ValueError, match="1 missing label"):
        compare_tasks(LOGISTIC, X, odd, groups, cv=3)
    model = HierarchicalLogisticRegression().fit(X, labels, groups=groups)
    with pytest.raises(ValueError, match="1 missing label"):
        TaskScorer()(model, X, odd, groups)


def test_a_nan_in_a_list_of_words_is_no_word():
    X, _, labels, groups = rows()
    words = ["well" if label else "sick" for label in labels]
    words[3] = np.nan
    for call in (
        lambda: clone(LOGISTIC).fit(X, words, groups=groups),
        lambda: compare_tasks(LOGISTIC, X, words, groups, cv=3),
    ):
        with pytest.raises(ValueError, match="missing"):
            call()


def test_mixed_labels():
    X, _, labels, groups = rows()
    odd = np.array(labels, dtype=object)
    odd[3] = "sick"
    with pytest.raises(ValueError, match="mixes strings"):
        compare_tasks(LOGISTIC, X, odd, groups, cv=3)


def test_nan_targets_are_no_skipped_task():
    X, y, _, groups = rows()
    model = HierarchicalRidge().fit(X, y, groups=groups)
    y[3] = np.nan
    with pytest.raises(ValueError, match="y holds NaN"):
        TaskScorer(n_support=0)(model, X, y, groups)


class SometimesInfinite(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return np.where(X[:, 0] > 1.5, self.odd, 0.0)


@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_answers_that_are_no_numbers_are_the_methods_fault(odd, monkeypatch):
    monkeypatch.setattr(SometimesInfinite, "odd", odd, raising=False)
    X, y, _, groups = rows()
    with pytest.raises(ValueError, match=r"'odd' failed in fold .* predict answered with NaN"):
        compare_tasks({"odd": SometimesInfinite()}, X, y, groups, cv=3, baselines=False)
    with pytest.raises(ValueError, match=r"predict answered with NaN .* 4 of 72 rows"):
        TaskScorer(n_support=0)(SometimesInfinite().fit(X, y), X, y, groups)


@pytest.mark.parametrize(
    "ids", [[datetime.date(2020, 1, 1)] * 3, np.array(["2020-01-01"] * 3, dtype="datetime64[D]")]
)
def test_ids_of_kinds_that_do_not_compare(ids):
    X, y, _, groups = rows()
    model = HierarchicalRidge().fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="do not compare"):
        predict_tasks(model, X[:3], y[:3], ids, X[:3], [1] * 3)


def test_options_beside_a_task_scorer_are_refused():
    X, y, _, groups = rows()
    how = {"cv": 3, "scoring": TaskScorer("r2", n_repeats=1)}
    with pytest.raises(ValueError, match="its own n_support"):
        cross_validate_tasks(HierarchicalRidge(), X, y, groups, n_support=0, **how)
    assert len(cross_validate_tasks(HierarchicalRidge(), X, y, groups, **how)["test_score"]) == 3


def test_shuffle_is_true_or_false():
    X, _, labels, groups = rows()
    model = HierarchicalLogisticRegression().fit(X, labels, groups=groups)
    for call in (
        lambda: compare_tasks(LOGISTIC, X, labels, groups, cv=3, shuffle="no"),
        lambda: TaskScorer(shuffle="no")(model, X, labels, groups),
        lambda: AdaptationCurveDisplay.from_estimator(model, X, labels, groups, shuffle=None),
    ):
        with pytest.raises(ValueError, match="shuffle"):
            call()


def test_a_metric_without_a_name():
    X, _, labels, groups = rows()
    scoring = make_scorer(partial(fbeta_score, beta=2, zero_division=0.0))
    found = compare_tasks(
        LOGISTIC, X, labels, groups, cv=3, n_support=3, n_repeats=1, scoring=scoring,
        baselines="pooled logistic",
    )  # fmt: skip
    assert np.isfinite(found.table_["score"]).all()


def test_words_in_a_column_that_held_none_are_missing():
    seen = pd.DataFrame({"code": pd.Series(["1", "3", None], dtype=object), "gone": [None] * 3})
    new = pd.DataFrame({"code": pd.Series(["B", "3"], dtype=object), "gone": ["late", None]})
    found = Columns().fit(seen).transform(new.astype(object))
    np.testing.assert_allclose(found, [[0, 0], [np.sqrt(1.5), 0]])


def test_a_curve_by_class_needs_all_shared_classes():
    rng = np.random.default_rng(0)
    groups, X = np.repeat(np.arange(12), 8), rng.normal(size=(96, 1))
    labels = (np.arange(96) % 8 < 4).astype(int)
    labels[:40] = 1  # five tasks are of one class
    model = HierarchicalLogisticRegression().fit(X, labels, groups=groups)
    display = AdaptationCurveDisplay.from_estimator(model, X, labels, groups, n_shot=(1, 3))
    np.testing.assert_array_equal(np.isfinite(display.scores[0]).sum(axis=1), [7, 7])


def test_targets_of_the_other_kind_are_named():
    X, y, _, groups = rows()
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        compare_tasks(LOGISTIC, X, y, groups)
    words = np.where(y > 0, "yes", "maybe")
    with pytest.raises(ValueError, match=r"y of a regressor must be numbers: .*'yes'"):
        compare_tasks(HierarchicalRidge(), X, words, groups)


@pytest.mark.parametrize("score", [cross_validate_tasks, compare_tasks])
def test_metrics_of_the_other_kind_are_refused(score):
    X, y, labels, groups = rows()
    with pytest.raises(ValueError, match="'accuracy' counts labels"):
        score(HierarchicalRidge(), X, y.round(), groups, scoring="accuracy", cv=3)
    words = np.array(["no", "yes"])[labels]
    with pytest.raises(ValueError, match="'r2' is of numbers, and y holds labels such as '"):
        score(LOGISTIC, X, words, groups, scoring="r2", cv=3)


def test_no_row_to_predict():
    X, y, _, groups = rows()
    model = HierarchicalRidge().fit(X, y, groups=groups)
    for none in (X[:0], pd.DataFrame(X[:0])):
        with pytest.raises(ValueError, match="0 rows: there is nothing to predict"):
            predict_tasks(model, X, y, groups.astype(str), none, pd.Series([], dtype=object))


def test_d2_is_undefined_where_a_query_has_one_class():
    """Told the shares, nobody is wrong about one class: any answer would be endlessly worse."""
    X, _, _, groups = rows()
    labels = np.where(groups == 3, 0, np.arange(72) % 2)
    model = clone(LOGISTIC).fit(X, labels, groups=groups)
    scorer = TaskScorer("d2_log_loss_score", n_support=1, n_repeats=3)
    with pytest.warns(SkippedTaskWarning, match="undefined for 1 of"):
        scores = scorer.score_tasks(model, X, labels, groups)
    assert len(scores) == 8
    assert (scores > -50).all()
