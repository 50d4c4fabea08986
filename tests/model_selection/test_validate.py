"""``cross_validate_tasks``: whole tasks are held out, with routing switched on and back."""

import numpy as np
import pytest
import sklearn
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmeta.model_selection import TaskScorer, cross_validate_tasks
from tests.model_selection.cases import quick, ragged_sinusoids


@pytest.fixture(autouse=True)
def _config_is_left_alone():
    """Routing is off, as users have it, and no test may find it changed."""
    before = sklearn.get_config()
    assert not before["enable_metadata_routing"]
    yield
    assert sklearn.get_config() == before


def expected(cv, scorer, model=None):
    X, y, groups = ragged_sinusoids(1)
    with sklearn.config_context(enable_metadata_routing=True):
        return cross_validate(
            quick() if model is None else model,
            X,
            y,
            cv=cv,
            scoring=scorer,
            params={"groups": groups},
            error_score="raise",
        )["test_score"]


@pytest.mark.parametrize(
    ("cv", "splitter"),
    [
        (3, GroupKFold(3)),
        (np.int64(3), GroupKFold(3)),
        (None, GroupKFold(5)),
        (50, GroupKFold(7)),
        (LeaveOneGroupOut(), LeaveOneGroupOut()),
    ],
    ids=["int", "numpy int", "none", "more than tasks", "splitter"],
)
def test_folds_are_of_whole_tasks(cv, splitter):
    scorer = TaskScorer("neg_mean_squared_error", n_repeats=2)
    result = cross_validate_tasks(
        quick(), *ragged_sinusoids(1), cv=cv, scoring="neg_mean_squared_error", n_repeats=2
    )
    np.testing.assert_allclose(result["test_score"], expected(splitter, scorer), rtol=1e-9)
    assert set(result) == {"fit_time", "score_time", "test_score"}


def test_default_is_five_folds_of_the_default_metric():
    result = cross_validate_tasks(quick(), *ragged_sinusoids(1))
    np.testing.assert_allclose(
        result["test_score"], expected(GroupKFold(5), TaskScorer()), rtol=1e-9
    )


def test_arguments_reach_the_scorer():
    given = {"n_support": 3, "n_repeats": 2, "random_state": 7}
    result = cross_validate_tasks(quick(), *ragged_sinusoids(1), cv=2, scoring="r2", **given)
    np.testing.assert_allclose(
        result["test_score"], expected(GroupKFold(2), TaskScorer("r2", **given)), rtol=1e-9
    )
    ready = TaskScorer("r2", n_support=2, n_repeats=1)
    result = cross_validate_tasks(quick(), *ragged_sinusoids(1), cv=2, scoring=ready)
    np.testing.assert_allclose(result["test_score"], expected(GroupKFold(2), ready), rtol=1e-9)


@pytest.mark.parametrize("container", [list, tuple, set])
def test_several_metrics_by_name(container):
    names = ["neg_mean_squared_error", "neg_median_absolute_error"]
    result = cross_validate_tasks(
        quick(), *ragged_sinusoids(1), cv=2, scoring=container(names), n_repeats=2
    )
    for name in names:
        scorer = TaskScorer(name, n_repeats=2)
        np.testing.assert_allclose(
            result[f"test_{name}"], expected(GroupKFold(2), scorer), rtol=1e-9
        )


def worst(estimator, X, y):
    return -float(np.abs(estimator.predict(X) - y).max())


def test_several_metrics_in_a_dict():
    bare = TaskScorer("neg_mean_squared_error", n_support=0)
    scoring = {"error": "neg_mean_absolute_error", "before": bare, "worst": worst}
    result = cross_validate_tasks(quick(), *ragged_sinusoids(1), cv=2, scoring=scoring, n_repeats=2)
    scorers = {
        "error": TaskScorer("neg_mean_absolute_error", n_repeats=2),
        "before": bare,
        "worst": TaskScorer(worst, n_repeats=2),
    }
    for name, scorer in scorers.items():
        np.testing.assert_allclose(
            result[f"test_{name}"], expected(GroupKFold(2), scorer), rtol=1e-9
        )


def test_a_search_inside_a_pipeline_inside():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), quick()),
        {"mamlregressor__inner_lr": [1e-4, 0.05]},
        cv=GroupKFold(2),
        scoring=TaskScorer(n_support=3, n_repeats=1),
        error_score="raise",
    )
    result = cross_validate_tasks(search, *ragged_sinusoids(1), cv=3, n_support=3, n_repeats=2)
    scorer = TaskScorer(n_support=3, n_repeats=2)
    np.testing.assert_allclose(
        result["test_score"], expected(GroupKFold(3), scorer, search), rtol=1e-9
    )


def test_string_ids_and_parallel_folds():
    X, y, groups = ragged_sinusoids(1)
    alone = cross_validate_tasks(quick(), X, y, groups, cv=2, n_repeats=2)
    names = np.array([f"pupil {g:03d}" for g in groups], dtype=object)
    parallel = cross_validate_tasks(quick(), X, y, names, cv=2, n_repeats=2, n_jobs=2)
    np.testing.assert_allclose(alone["test_score"], parallel["test_score"], rtol=1e-9)


@pytest.mark.parametrize("groups", ["one", None])
def test_one_task_cannot_be_held_out(groups):
    X, y, _ = ragged_sinusoids(1)
    ids = None if groups is None else np.full(len(X), groups)
    with pytest.raises(ValueError, match="two or more"):
        cross_validate_tasks(quick(), X, y, ids)


def test_an_error_is_raised_and_the_config_restored():
    X, y, groups = ragged_sinusoids(1)
    with pytest.raises(ValueError, match="No task could be scored"):
        cross_validate_tasks(quick(), X, y, groups, cv=2, n_support=50)
    with pytest.raises(ValueError, match="groups has 3 entries"):
        cross_validate_tasks(quick(), X, y, groups[:3])


@pytest.mark.parametrize("cv", [KFold(3, shuffle=True, random_state=0), [(range(9), range(3, 30))]])
def test_folds_of_rows_are_refused(cv):
    X, y, groups = ragged_sinusoids(1)
    with pytest.raises(ValueError, match="both sides of a split"):
        cross_validate_tasks(quick(), X, y, groups, cv=cv)
