"""``TaskScorer`` inside searches and cross-validations, with routing on."""

import pickle

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmeta import MAMLRegressor
from skmeta.datasets import make_sinusoids
from skmeta.model_selection import TaskScorer
from tests.model_selection.cases import MeanRegressor, quick, ragged_sinusoids, regressor


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_pickle_clone_and_repr():
    scorer = TaskScorer("neg_mean_squared_error", n_support=3, n_repeats=2, random_state=4)
    data = ragged_sinusoids(1)
    expected = scorer(regressor(), *data)
    assert pickle.loads(pickle.dumps(scorer))(regressor(), *data) == expected
    assert clone(scorer)(regressor(), *data) == expected
    assert "n_support=3" in repr(scorer)


def manual_grid_scores(candidates, scorer, X, y, groups, cv):
    scores = []
    for candidate in candidates:
        for train, test in cv.split(X, y, groups):
            model = clone(candidate).fit(X[train], y[train], groups=groups[train])
            scores.append(scorer(model, X[test], y[test], groups[test]))
    return np.reshape(scores, (len(candidates), -1))


def test_grid_search_hands_over_groups(routing):
    X, y, groups = ragged_sinusoids(1)
    model, scorer, cv = quick(), TaskScorer("neg_mean_squared_error", n_repeats=2), GroupKFold(2)
    search = GridSearchCV(
        model, {"inner_lr": [0.01, 0.1]}, cv=cv, scoring=scorer, error_score="raise"
    ).fit(X, y, groups=groups)
    expected = manual_grid_scores(
        [quick(inner_lr=rate) for rate in (0.01, 0.1)], scorer, X, y, groups, cv
    )
    for i in range(2):
        np.testing.assert_allclose(
            search.cv_results_[f"split{i}_test_score"], expected[:, i], rtol=1e-9
        )
    assert search.best_estimator_.n_tasks_ == 7
    np.testing.assert_allclose(
        scorer(search, X, y, groups), scorer(search.best_estimator_, X, y, groups)
    )


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_parallel_search_gives_the_same_scores(routing, backend):
    X, y, groups = ragged_sinusoids(1)

    def search(n_jobs):
        return GridSearchCV(
            make_pipeline(StandardScaler(), quick()),
            {"mamlregressor__inner_lr": [0.01, 0.1]},
            cv=GroupKFold(2),
            scoring=TaskScorer(n_support=3, n_repeats=2),
            error_score="raise",
            n_jobs=n_jobs,
        ).fit(X, y, groups=groups)

    with joblib.parallel_config(backend=backend):
        parallel = search(2)
    alone = search(1)
    np.testing.assert_allclose(
        parallel.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-9
    )


def test_without_routing_a_search_raises_the_cure():
    X, y, groups = ragged_sinusoids(1)
    search = GridSearchCV(
        MeanRegressor(), {}, cv=GroupKFold(2), scoring=TaskScorer(), error_score="raise"
    )
    with pytest.raises(ValueError, match=r"set_config\(enable_metadata_routing=True\)"):
        search.fit(X, y, groups=groups)


def test_multimetric(routing):
    X, y, groups = ragged_sinusoids(1)
    scoring = {
        "five": TaskScorer("neg_mean_squared_error", n_repeats=2),
        "none": TaskScorer("neg_mean_squared_error", n_support=0),
        "plain": "neg_mean_squared_error",
        "plain too": "r2",
    }
    result = cross_validate(
        quick(),
        X,
        y,
        cv=GroupKFold(2),
        scoring=scoring,
        params={"groups": groups},
        error_score="raise",
        return_estimator=True,
    )
    for i, (_, test) in enumerate(GroupKFold(2).split(X, y, groups)):
        model = result["estimator"][i]
        for name in ("five", "none"):
            expected = scoring[name](model, X[test], y[test], groups[test])
            np.testing.assert_allclose(result[f"test_{name}"][i], expected, rtol=1e-9)
        expected = -mean_squared_error(y[test], model.predict(X[test]))
        np.testing.assert_allclose(result["test_plain"][i], expected, rtol=1e-9)
    assert (result["test_five"] != result["test_none"]).all()


def test_nested_cross_validation(routing):
    X, y, groups = make_sinusoids(12, 10, random_state=0)
    scorer = TaskScorer("neg_mean_squared_error", n_repeats=2)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), quick()),
        {"mamlregressor__inner_lr": [1e-4, 0.05]},
        cv=GroupKFold(2),
        scoring=scorer,
        error_score="raise",
    )
    result = cross_validate(
        search,
        X,
        y,
        cv=GroupKFold(2),
        scoring=scorer,
        params={"groups": groups},
        error_score="raise",
        return_estimator=True,
    )
    for i, (_, test) in enumerate(GroupKFold(2).split(X, y, groups)):
        best = result["estimator"][i].best_estimator_
        assert best[-1].n_tasks_ == 6
        expected = scorer(best, X[test], y[test], groups[test])
        np.testing.assert_allclose(result["test_score"][i], expected, rtol=1e-9)


def test_halving_search_over_epochs(routing):
    X, y, groups = make_sinusoids(12, 10, random_state=0)
    search = HalvingGridSearchCV(
        quick(),
        {"inner_lr": [1e-4, 0.01, 0.05, 0.1]},
        resource="max_epochs",
        max_resources=4,
        factor=2,
        cv=GroupKFold(2),
        scoring=TaskScorer("neg_mean_squared_error", n_repeats=2),
        error_score="raise",
        random_state=0,
    ).fit(X, y, groups=groups)
    assert search.n_resources_ == [1, 2, 4]
    assert search.n_candidates_ == [4, 2, 1]
    assert search.best_estimator_.n_iter_ == 4
    assert search.best_estimator_.n_tasks_ == 12


def test_the_default_scorer_picks_another_candidate(routing):
    """It never adapts, so that a rate too low to adapt with looks better than a useful one."""
    X, y, groups = make_sinusoids(100, 15, random_state=0)
    model = MAMLRegressor(
        activation="relu",
        max_epochs=4,
        tasks_per_batch=10,
        n_inner_steps=2,
        learn_inner_lr=False,
        n_query=15,
        lr=0.005,
        early_stopping=False,
        random_state=0,
    )

    def default(estimator, X, y):
        return estimator.score(X, y)

    search = GridSearchCV(
        model,
        {"inner_lr": [0.05, 0.3]},
        cv=GroupKFold(2),
        scoring={"default": default, "tasks": TaskScorer(n_repeats=3)},
        refit=False,
        error_score="raise",
    ).fit(X, y, groups=groups)
    low, high = search.cv_results_["mean_test_default"]
    assert low > high + 0.05
    low, high = search.cv_results_["mean_test_tasks"]
    assert high > low + 1


def test_cross_val_score_with_string_ids_and_frames(routing):
    pd = pytest.importorskip("pandas")
    X, y, groups = ragged_sinusoids(1)
    scorer = TaskScorer(n_repeats=2)
    plain = cross_val_score(
        quick(), X, y, cv=GroupKFold(2), scoring=scorer, params={"groups": groups}
    )
    names = np.array([f"pupil {g:03d}" for g in groups])  # sorted as the numbers are
    index = np.arange(len(X))[::-1] + 5
    framed = cross_val_score(
        quick(),
        pd.DataFrame(X, columns=["x"], index=index),
        pd.Series(y, index=index),
        cv=GroupKFold(2),
        scoring=scorer,
        params={"groups": pd.Series(names, index=index[::-1])},
        error_score="raise",
    )
    np.testing.assert_allclose(plain, framed, rtol=1e-9)
