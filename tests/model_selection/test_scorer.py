"""``TaskScorer`` against loops over tasks and repeats; inside searches: ``test_searches.py``."""

import numpy as np
import pytest
import sklearn
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.metrics import (
    brier_score_loss,
    get_scorer,
    log_loss,
    make_scorer,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    top_k_accuracy_score,
)

from skmeta.exceptions import SkippedTaskWarning
from skmeta.model_selection import TaskScorer, _scorer
from skmeta.model_selection._metrics import VECTORISED
from tests.model_selection.cases import (
    classifier,
    labelled_tasks,
    naive_scores,
    own_class_tasks,
    own_classifier,
    ragged_sinusoids,
    regressor,
)

REGRESSION = [name for name in VECTORISED if name != "accuracy"]
TWO = ("no", "yes")


# ---------------------------------------------------------------- values


def assert_same_scores(scorer, estimator, data, score):
    X, y, groups = data
    expected = naive_scores(
        estimator,
        X,
        y,
        groups,
        score,
        n_support=scorer.n_support,
        n_shot=scorer.n_shot,
        n_repeats=scorer.n_repeats,
        random_state=scorer.random_state,
    )
    assert not np.isnan(expected).any()
    np.testing.assert_allclose(
        scorer.score_tasks(estimator, X, y, groups), expected, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(scorer(estimator, X, y, groups), expected.mean(), rtol=1e-9)
    assert np.ptp(expected) > 0


@pytest.mark.parametrize("n_outputs", [None, 2])
@pytest.mark.parametrize("name", REGRESSION)
def test_vectorised_regression_metrics(name, n_outputs):
    scorer = TaskScorer(name, n_support=4, n_repeats=3, random_state=5)
    data = ragged_sinusoids(1, n_outputs)
    assert_same_scores(scorer, regressor(n_outputs), data, get_scorer(name))


@pytest.mark.parametrize("kind", ["shared", "own"])
def test_vectorised_accuracy(kind):
    model, data = {
        "shared": (classifier(), labelled_tasks(1)),
        "own": (own_classifier(), own_class_tasks(1, first=50)),
    }[kind]
    assert_same_scores(TaskScorer("accuracy", n_repeats=3), model, data, get_scorer("accuracy"))


@pytest.mark.parametrize("name", REGRESSION)
def test_constant_targets(name):
    X, y, groups = ragged_sinusoids(1)
    y = np.where(groups == groups.max(), 2.0, y)
    y = np.where(groups == groups.min(), 0.0, y)
    data = (X, y, groups)
    assert_same_scores(TaskScorer(name, n_repeats=3), regressor(), data, get_scorer(name))


def test_r2_of_constants_whatever_their_rounding():
    """A mean of ten times 0.1 is not 0.1: the variance that is left must not be divided by."""
    y = np.tile(np.repeat([0.1, 1 / 3, 1e8 + 0.1], 10), 2)
    draw = np.repeat(np.arange(6), 10)
    off = np.where(draw < 3, y, y + 1)
    assert VECTORISED["r2"](y, off, draw, 6).tolist() == [1, 1, 1, 0, 0, 0]
    # A target that varies, however little, is no constant.
    y = 1 + 1e-6 * np.arange(10.0)
    expected = r2_score(y, y[::-1])
    np.testing.assert_allclose(VECTORISED["r2"](y, y[::-1], np.zeros(10, int), 1), expected)


def test_metrics_without_a_vectorised_form():
    scorer = TaskScorer("neg_median_absolute_error", n_repeats=3)
    data = ragged_sinusoids(1)
    assert_same_scores(scorer, regressor(), data, get_scorer("neg_median_absolute_error"))
    scaled = make_scorer(mean_absolute_error, greater_is_better=False, multioutput=[0.2, 0.8])
    data = ragged_sinusoids(1, 2)
    assert_same_scores(TaskScorer(scaled, n_repeats=3), regressor(2), data, scaled)


@pytest.mark.parametrize("name", ["f1_macro", "matthews_corrcoef"])
def test_label_metrics(name):
    data = labelled_tasks(1)
    assert_same_scores(TaskScorer(name, n_repeats=3), classifier(), data, get_scorer(name))


def test_f1_of_two_classes():
    scorer = make_scorer(sklearn.metrics.f1_score, pos_label="yes")
    data = labelled_tasks(1, labels=TWO)
    assert_same_scores(TaskScorer(scorer, n_repeats=3), classifier(TWO), data, scorer)
    model, data = classifier((0, 1)), labelled_tasks(1, labels=(0, 1))
    assert_same_scores(TaskScorer("f1", n_repeats=3), model, data, get_scorer("f1"))


def test_probability_metrics_know_all_classes():
    X, y, groups = labelled_tasks(1, sizes=(7, 7, 7, 7))  # a query of two rows lacks a class
    model = classifier()
    reference = make_scorer(
        log_loss, greater_is_better=False, response_method="predict_proba", labels=model.classes_
    )
    scorer = TaskScorer("neg_log_loss", n_repeats=3)
    assert_same_scores(scorer, model, (X, y, groups), reference)
    reference = make_scorer(
        top_k_accuracy_score, response_method="decision_function", labels=model.classes_, k=1
    )
    scorer = make_scorer(top_k_accuracy_score, response_method="decision_function", k=1)
    assert_same_scores(TaskScorer(scorer, n_repeats=3), model, (X, y, groups), reference)
    reference = make_scorer(
        brier_score_loss,
        greater_is_better=False,
        response_method="predict_proba",
        labels=model.classes_,
    )
    scorer = TaskScorer("neg_brier_score", n_repeats=3)
    assert_same_scores(scorer, model, (X, y, groups), reference)
    # The user's own labels are kept.
    scorer = make_scorer(
        log_loss,
        greater_is_better=False,
        response_method="predict_proba",
        labels=["no", "perhaps", "yes"],
    )
    assert_same_scores(TaskScorer(scorer, n_repeats=3), model, (X, y, groups), scorer)


def test_roc_auc():
    data = labelled_tasks(1, labels=TWO, sizes=(14, 18, 15, 20))
    scorer = get_scorer("roc_auc")
    assert_same_scores(TaskScorer("roc_auc", n_repeats=3), classifier(TWO), data, scorer)


@pytest.mark.parametrize("name", ["roc_auc", "neg_log_loss", "f1_macro"])
def test_task_specific_classes_are_scored_among_themselves(name):
    data = own_class_tasks(1, ways=(2, 2, 2, 2), first=50)
    model, scorer = own_classifier(), TaskScorer(name, n_support=2, n_repeats=3)
    assert_same_scores(scorer, model, data, get_scorer(name))


def test_task_specific_classes_of_different_number():
    X, y, groups = own_class_tasks(1, first=50)
    scorer = TaskScorer("neg_log_loss", n_support=2, n_repeats=3)
    assert_same_scores(scorer, own_classifier(), (X, y, groups), get_scorer("neg_log_loss"))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_plain_callable_meets_adapted_estimators(frozen):
    def score(estimator, X, y):
        return -float(np.abs(estimator.predict(X) - y).max())

    model = FrozenEstimator(regressor()) if frozen else regressor()
    data = ragged_sinusoids(1)
    assert_same_scores(TaskScorer(score, n_repeats=3), model, data, score)


def test_the_default_metric():
    assert_same_scores(TaskScorer(n_repeats=2), regressor(), ragged_sinusoids(1), get_scorer("r2"))
    scorer = TaskScorer(n_repeats=2)
    assert_same_scores(scorer, classifier(), labelled_tasks(1), get_scorer("accuracy"))


def test_n_shot():
    data = labelled_tasks(1)
    scorer = TaskScorer("accuracy", n_shot=1, n_repeats=3)
    assert_same_scores(scorer, classifier(), data, get_scorer("accuracy"))
    with pytest.raises(ValueError, match="use n_support"):
        TaskScorer(n_shot=1)(regressor(), *ragged_sinusoids(1))


def test_draws_taken_in_pieces_are_the_same_draws(monkeypatch):
    whole, data = TaskScorer(n_repeats=5), ragged_sinusoids(1)
    expected = whole.score_tasks(regressor(), *data)
    monkeypatch.setattr(_scorer, "ROWS_AT_A_TIME", 2 * len(data[0]))
    np.testing.assert_allclose(whole.score_tasks(regressor(), *data), expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["neg_mean_squared_error", "neg_median_absolute_error"])
def test_no_support_scores_the_unadapted_estimator(name):
    X, y, groups = ragged_sinusoids(1)
    expected = [
        get_scorer(name)(regressor(), X[groups == t], y[groups == t]) for t in np.unique(groups)
    ]
    scorer = TaskScorer(name, n_support=0)
    np.testing.assert_allclose(scorer.score_tasks(regressor(), X, y, groups), expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["accuracy", "neg_log_loss"])
def test_no_support_with_task_specific_classes(name):
    X, y, groups = own_class_tasks(0)
    model = own_classifier()
    metric = get_scorer(name)
    if name == "neg_log_loss":
        metric = make_scorer(
            log_loss,
            greater_is_better=False,
            response_method="predict_proba",
            labels=model.classes_,
        )
    expected = [metric(model, X[groups == t], y[groups == t]) for t in np.unique(groups)]
    scores = TaskScorer(name, n_support=0).score_tasks(model, X, y, groups)
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


# ---------------------------------------------------------------- what cannot be scored


def test_tasks_that_are_too_small_are_counted_and_left_out():
    X, y, groups = ragged_sinusoids(1)  # 7, 12, 9, 15, 8, 11 and 10 rows
    scorer = TaskScorer("neg_mean_squared_error", n_support=9, n_repeats=2)
    with pytest.warns(SkippedTaskWarning, match=r"^3 of 7 tasks .*n_support=9.* 0 of the others"):
        scores = scorer.score_tasks(regressor(), X, y, groups)
    assert len(scores) == 4
    expected = naive_scores(
        regressor(), X, y, groups, get_scorer(scorer.scoring), n_support=9, n_repeats=2
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-9)
    with pytest.raises(ValueError, match="No task could be scored: 7 of 7"):
        TaskScorer(n_support=15)(regressor(), X, y, groups)
    # Exactly one query row is left: fine for an error, undefined for R2.
    error = TaskScorer("neg_mean_squared_error", n_support=6)
    assert len(error.score_tasks(regressor(), X, y, groups)) == 7
    with pytest.warns(SkippedTaskWarning, match=r"^0 of 7 .* undefined for 1 of the others"):
        assert len(TaskScorer("r2", n_support=6).score_tasks(regressor(), X, y, groups)) == 6


def test_area_under_the_curve_of_one_class_is_skipped_and_counted():
    X, y, groups = labelled_tasks(1, labels=TWO, sizes=(14, 16, 15, 18))
    y = np.where(groups == groups.max(), "no", y)
    with pytest.warns(SkippedTaskWarning, match=r"^0 of 4 .* undefined for 1 of the others"):
        scores = TaskScorer("roc_auc", n_repeats=3).score_tasks(classifier(TWO), X, y, groups)
    expected = naive_scores(classifier(TWO), X, y, groups, get_scorer("roc_auc"), n_repeats=3)
    assert np.isnan(expected[-1])
    np.testing.assert_allclose(scores, expected[:-1], rtol=1e-9)
    with pytest.raises(ValueError, match=r"No task could be scored: 0 of 4.*undefined for 4"):
        TaskScorer("roc_auc")(classifier(TWO), X, np.full(len(y), "no"), groups)


def test_draws_that_are_undefined_are_left_out_of_their_task():
    X, y, groups = labelled_tasks(1, labels=TWO, sizes=(14, 16))
    rare = np.flatnonzero(groups == groups.max())
    y[rare] = "no"
    y[rare[0]] = "yes"  # in the query of some draws only
    expected = naive_scores(classifier(TWO), X, y, groups, get_scorer("roc_auc"))
    np.testing.assert_allclose(
        TaskScorer("roc_auc").score_tasks(classifier(TWO), X, y, groups), expected, rtol=1e-9
    )


def test_without_groups_the_error_names_the_cure():
    X, y, _ = ragged_sinusoids(1)
    with pytest.raises(ValueError, match=r"set_config\(enable_metadata_routing=True\)"):
        TaskScorer()(regressor(), X, y)


def test_bad_arguments_are_refused():
    X, y, groups = ragged_sinusoids(1)
    for bad in ({"n_support": -1}, {"n_shot": 0}, {"n_repeats": 0}, {"random_state": "x"}):
        with pytest.raises(ValueError, match=f"The '{next(iter(bad))}' parameter"):
            TaskScorer(**bad)(regressor(), X, y, groups)
    with pytest.raises(ValueError, match="scoring"):
        TaskScorer("no such metric")(regressor(), X, y, groups)
    with pytest.raises(ValueError, match="make_scorer"):
        TaskScorer(mean_squared_error)(regressor(), X, y, groups)
    with pytest.raises(ValueError, match="predict_proba"):
        TaskScorer("neg_log_loss")(regressor(), X, y, groups)
    with pytest.raises(ValueError, match="y has 3 entries"):
        TaskScorer()(regressor(), X, y[:3], groups)
    with pytest.raises(ValueError, match="groups has 3 entries"):
        TaskScorer()(regressor(), X, y, groups[:3])
    with pytest.raises(TypeError, match="cannot adapt"):
        TaskScorer("neg_mean_squared_error")(Ridge().fit(X, y), X, y, groups)
