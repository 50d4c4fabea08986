"""Meta-estimators inside scikit-learn's machinery, with metadata routing on, and off where it can.

With routing off scikit-learn's searches and cross-validations fit an estimator without groups: the
warning that then comes names the cure.
"""

import functools
import pickle
import threading
import time

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import StackingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skmeta
from skmeta.datasets import make_digit_questions, make_sinusoids
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection import TaskScorer
from tests.instances import small

TASKS = TaskScorer("neg_mean_squared_error", n_repeats=2)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(params=[True, False], ids=["routing on", "routing off"])
def either(request):
    with sklearn.config_context(enable_metadata_routing=request.param):
        yield request.param


def maml(**changes):
    sizes = {"max_epochs": 2, "tasks_per_batch": 4, "n_inner_steps": 1, "early_stopping": False}
    return small("MAMLRegressor", **{**sizes, **changes})


def proto(**changes):
    return small("ProtoNetClassifier", **{"early_stopping": False, **changes})


@functools.cache
def sinusoids():
    return make_sinusoids(12, 10, random_state=0)


@functools.cache
def questions():
    X, y, groups = make_digit_questions("train", n_rows=30, random_state=0)
    keep = np.isin(groups, np.unique(groups)[:12])
    return X[keep], y[keep], groups[keep]


def fitted(name):
    model, data = {"maml": (maml(), sinusoids()), "proto": (proto(), questions())}[name]
    X, y, groups = data
    return model.fit(X, y, groups=groups), X, y, groups


# ---------------------------------------------------------------- clone, pickle, freeze, joblib


@pytest.mark.parametrize("name", ["maml", "proto"])
def test_clone(name):
    model, X, y, groups = fitted(name)
    again = clone(model)
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(
        again.fit(X, y, groups=groups).adapt(X[:5], y[:5]).predict(X),
        model.adapt(X[:5], y[:5]).predict(X),
    )


@pytest.mark.parametrize("name", ["maml", "proto"])
def test_pickled_wrappers_adapt_as_before(name):
    model, X, y, groups = fitted(name)
    pipe = make_pipeline(StandardScaler(), clone(model))
    pipe.fit(X, y, **{f"{pipe.steps[-1][0]}__groups": groups})
    frozen = FrozenEstimator(pipe)
    adapted = skmeta.adapt(frozen, X[:5], y[:5])
    expected = adapted.predict(X)
    for model in (adapted, pickle.loads(pickle.dumps(adapted))):
        np.testing.assert_array_equal(model.predict(X), expected)
    again = pickle.loads(pickle.dumps(frozen))
    np.testing.assert_array_equal(again.predict(X), frozen.predict(X))
    np.testing.assert_array_equal(skmeta.adapt(again, X[:5], y[:5]).predict(X), expected)


def test_frozen_estimator_survives_clone_and_fit():
    model, X, y, _ = fitted("maml")
    frozen = clone(FrozenEstimator(model.adapt(X[:5], y[:5]))).fit(X, -y)
    np.testing.assert_array_equal(frozen.predict(X), model.adapt(X[:5], y[:5]).predict(X))
    other = skmeta.adapt(frozen, X[10:15], y[10:15])
    np.testing.assert_array_equal(other.predict(X), model.adapt(X[10:15], y[10:15]).predict(X))


def fit_and_adapt(model, X, y, groups):
    model = clone(model).fit(X, y, groups=groups)
    return model, model.adapt(X[:5], y[:5]).predict(X)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_fit_in_workers(backend):
    seeds = [0, 1, 2]
    here = [fit_and_adapt(maml(random_state=seed), *sinusoids())[1] for seed in seeds]
    there = joblib.Parallel(n_jobs=2, backend=backend)(
        joblib.delayed(fit_and_adapt)(maml(random_state=seed), *sinusoids()) for seed in seeds
    )
    X, y, _ = sinusoids()
    for expected, (model, predictions) in zip(here, there, strict=True):
        np.testing.assert_allclose(predictions, expected, rtol=1e-9)
        # The fitted estimator came home whole.
        np.testing.assert_allclose(model.adapt(X[:5], y[:5]).predict(X), expected, rtol=1e-9)
    assert np.abs(here[0] - here[1]).max() > 1e-3


# ---------------------------------------------------------------- cross-validation and searches


def by_hand(model, scorer, cv):
    X, y, groups = sinusoids()
    scores = []
    for train, test in cv.split(X, y, groups):
        one = clone(model)
        one.fit(X[train], y[train], groups=groups[train])
        scores.append(scorer(one, X[test], y[test], groups[test]))
    return scores


def test_cross_validate(routing):
    X, y, groups = sinusoids()
    result = cross_validate(
        maml(),
        X,
        y,
        cv=GroupKFold(3),
        scoring=TASKS,
        params={"groups": groups},
        return_estimator=True,
        error_score="raise",
    )
    np.testing.assert_allclose(
        result["test_score"], by_hand(maml(), TASKS, GroupKFold(3)), rtol=1e-9
    )
    assert [model.n_tasks_ for model in result["estimator"]] == [8] * 3


def test_grid_search_of_a_pipeline(routing):
    X, y, groups = sinusoids()
    pipe = make_pipeline(StandardScaler(), maml())
    search = GridSearchCV(
        pipe,
        {"mamlregressor__inner_lr": [1e-4, 0.05]},
        cv=GroupKFold(2),
        scoring=TASKS,
        error_score="raise",
    ).fit(X, y, groups=groups)
    for i, rate in enumerate((1e-4, 0.05)):
        candidate = clone(pipe).set_params(mamlregressor__inner_lr=rate)
        expected = np.mean(by_hand(candidate, TASKS, GroupKFold(2)))
        np.testing.assert_allclose(search.cv_results_["mean_test_score"][i], expected, rtol=1e-9)
    assert search.best_estimator_[-1].n_tasks_ == 12
    new = skmeta.adapt(search, X[:5], y[:5])
    assert new[-1].adapted_ and not search.best_estimator_[-1].adapted_


def test_grid_search_without_routing_warns_with_the_cure():
    X, y, groups = sinusoids()
    search = GridSearchCV(maml(max_epochs=1), {"inner_lr": [0.05]}, cv=GroupKFold(2))
    with pytest.warns(SingleTaskWarning) as caught:
        search.fit(X, y, groups=groups)
    assert len(caught) == 3  # two folds and the refit
    for warning in caught:
        assert "sklearn.set_config(enable_metadata_routing=True)" in str(warning.message)
        assert "GridSearchCV" in str(warning.message) and "groups=" in str(warning.message)
    assert search.best_estimator_.n_tasks_ == 1


def test_halving_search_over_epochs(routing):
    X, y, groups = sinusoids()
    search = HalvingGridSearchCV(
        make_pipeline(StandardScaler(), maml()),
        {"mamlregressor__inner_lr": [1e-3, 0.05]},
        resource="mamlregressor__max_epochs",
        max_resources=4,
        min_resources=2,
        factor=2,
        cv=GroupKFold(2),
        scoring=TASKS,
        error_score="raise",
        random_state=0,
    ).fit(X, y, groups=groups)
    assert search.n_resources_ == [2, 4]
    assert search.best_estimator_[-1].n_iter_ == 4
    assert search.best_estimator_[-1].n_tasks_ == 12


def test_cross_val_predict_gives_the_population_answer(routing):
    X, y, groups = sinusoids()
    values = cross_val_predict(maml(), X, y, cv=GroupKFold(3), params={"groups": groups})
    for train, test in GroupKFold(3).split(X, y, groups):
        model = maml().fit(X[train], y[train], groups=groups[train])
        np.testing.assert_allclose(values[test], model.predict(X[test]), rtol=1e-9)


def test_learning_curve_over_tasks(routing):
    X, y, groups = sinusoids()  # ordered by task: a share of the rows is a share of the tasks
    sizes, _, test_scores = learning_curve(
        maml(),
        X,
        y,
        cv=GroupKFold(2),
        train_sizes=[20, 60],
        scoring=TASKS,
        params={"groups": groups},
        error_score="raise",
    )
    assert sizes.tolist() == [20, 60]
    train, test = next(GroupKFold(2).split(X, y, groups))
    for i, n in enumerate(sizes):
        model = maml().fit(X[train[:n]], y[train[:n]], groups=groups[train[:n]])
        expected = TASKS(model, X[test], y[test], groups[test])
        np.testing.assert_allclose(test_scores[i, 0], expected, rtol=1e-9)


def test_cross_validation_without_routing_warns_with_the_cure():
    X, y, groups = sinusoids()
    with pytest.warns(SingleTaskWarning, match=r"cross_validate.*set_config\(enable_metadata"):
        cross_val_predict(maml(max_epochs=1), X, y, cv=GroupKFold(2), groups=groups)


# ---------------------------------------------------------------- around an adapted estimator


def test_permutation_importance_of_an_adapted_estimator(either):
    X, y, groups = sinusoids()
    X = np.column_stack([X, np.zeros(len(X))])
    model = maml(max_epochs=20).fit(X, y, groups=groups)
    own = groups == 3
    adapted = model.adapt(X[own], y[own])
    result = permutation_importance(adapted, X[own], y[own], n_repeats=5, random_state=0)
    assert result.importances.shape == (2, 5)
    assert result.importances_mean[0] > 0
    assert (result.importances[1] == 0).all()  # a constant column tells nothing


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_of_an_adapted_classifier(either, method):
    model, X, y, groups = fitted("proto")
    own = np.flatnonzero(groups == groups[0])
    adapted = model.adapt(X[own[:10]], y[own[:10]])
    rest = own[10:]
    calibrated = CalibratedClassifierCV(FrozenEstimator(adapted), method=method)
    proba = calibrated.fit(X[rest], y[rest]).predict_proba(X[rest])
    assert proba.shape == (len(rest), 2)
    np.testing.assert_allclose(proba.sum(1), 1)
    # Calibration is monotone: it keeps the order of the scores.
    order = np.argsort(adapted.decision_function(X[rest]), kind="stable")
    assert (np.diff(proba[order, 1]) >= -1e-12).all() and np.ptp(proba[:, 1]) > 0.1


# ---------------------------------------------------------------- inside other estimators


class Final(LinearRegression):
    """scikit-learn hands the metadata of the others to the final estimator too."""

    def fit(self, X, y, groups=None):
        return super().fit(X, y)


def test_stacking(routing):
    X, y, groups = sinusoids()
    folds = list(GroupKFold(3).split(X, y, groups))  # stacking hands its splitter no groups
    stack = StackingRegressor([("maml", maml()), ("ridge", Ridge())], Final(), cv=folds)
    stack.fit(X, y, groups=groups)
    assert stack.named_estimators_["maml"].n_tasks_ == 12
    columns = np.column_stack(
        [
            cross_val_predict(maml(), X, y, cv=folds, params={"groups": groups}),
            cross_val_predict(Ridge(), X, y, cv=folds),
        ]
    )
    expected = LinearRegression().fit(columns, y)
    np.testing.assert_allclose(stack.final_estimator_.coef_, expected.coef_, rtol=1e-6)
    with pytest.raises(TypeError, match=r"StackingRegressor cannot adapt.*adapt\.register"):
        skmeta.adapt(stack, X[:5], y[:5])


def test_stacking_without_routing_warns_with_the_cure():
    X, y, _ = sinusoids()
    stack = StackingRegressor([("maml", maml(max_epochs=1))], LinearRegression(), cv=KFold(2))
    with pytest.warns(SingleTaskWarning, match="enable_metadata_routing"):
        stack.fit(X, y)


def test_stacking_of_adapted_estimators(either):
    model, X, y, groups = fitted("maml")
    own = groups == 3
    adapted = FrozenEstimator(model.adapt(X[own], y[own]))
    stack = StackingRegressor([("maml", adapted)], LinearRegression(), cv="prefit")
    stack.fit(X[own], y[own])
    expected = LinearRegression().fit(adapted.predict(X[own])[:, None], y[own])
    np.testing.assert_allclose(
        stack.predict(X[own]), expected.predict(adapted.predict(X[own])[:, None]), rtol=1e-9
    )


def test_transformed_target(either):
    X, y, groups = sinusoids()
    y = np.exp(y)
    model = TransformedTargetRegressor(maml(), func=np.log, inverse_func=np.exp)
    model.fit(X, y, groups=groups)
    plain = maml().fit(X, np.log(y), groups=groups)
    np.testing.assert_allclose(model.predict(X), np.exp(plain.predict(X)), rtol=1e-9)
    new = skmeta.adapt(model, X[:5], y[:5])
    expected = np.exp(plain.adapt(X[:5], np.log(y[:5])).predict(X))
    np.testing.assert_allclose(new.predict(X), expected, rtol=1e-9)
    assert (new.predict(X) > 0).all()


@pytest.mark.parametrize("output", ["pandas", "default"])
def test_frames_through_a_column_transformer(either, output):
    pd = pytest.importorskip("pandas")
    X, y, groups = sinusoids()
    frame = pd.DataFrame({"x": X[:, 0], "where": np.where(groups % 2, "north", "south")})
    columns = ColumnTransformer(
        [
            ("number", StandardScaler(), ["x"]),
            ("word", OneHotEncoder(sparse_output=False), ["where"]),
        ]
    ).set_output(transform=output)
    pipe = make_pipeline(columns, maml())
    names = pd.Series([f"pupil {g:02d}" for g in groups], index=np.arange(len(X))[::-1])
    pipe.fit(frame, pd.Series(y), **{("" if either else "mamlregressor__") + "groups": names})
    core = pipe[-1]
    assert core.n_tasks_ == 12 and core.n_features_in_ == 3
    if output == "pandas":
        assert core.feature_names_in_.tolist() == [
            "number__x",
            "word__where_north",
            "word__where_south",
        ]
    plain = np.column_stack([(X - X.mean()) / X.std(), groups % 2 == 1, groups % 2 == 0])
    expected = maml().fit(plain, y, groups=groups).adapt(plain[:5], y[:5]).predict(plain)
    new = skmeta.adapt(pipe, frame[:5], pd.Series(y[:5]))
    np.testing.assert_allclose(new.predict(frame), expected, rtol=1e-6)


def test_an_embedding_feeds_another_estimator(either):
    pd = pytest.importorskip("pandas")
    X, y, groups = questions()
    pipe = make_pipeline(proto(hidden_layer_sizes=(16, 4)).set_output(transform="pandas"), Ridge())
    key = "groups" if either else "protonetclassifier__groups"
    pipe.fit(X, y, **{key: groups})
    embedded = pipe[0].transform(X)
    assert isinstance(embedded, pd.DataFrame)
    assert embedded.columns.tolist() == [f"protonetclassifier{i}" for i in range(4)]
    np.testing.assert_allclose(pipe.predict(X), Ridge().fit(embedded, y).predict(embedded))


def test_fits_in_threads_equal_fits_alone_and_leave_the_global_generator():
    X, y, groups = make_sinusoids(6, 8, random_state=0)

    def slow(n_inputs, n_outputs):
        time.sleep(0.2)  # long enough for the other fit to come in between
        return torch.nn.Linear(n_inputs, n_outputs)

    def fit():
        model = skmeta.MAMLRegressor(module=slow, max_epochs=1, n_inner_steps=1, random_state=0)
        return model.fit(X, y, groups=groups).meta_params_

    alone, before, found = fit(), torch.random.get_rng_state(), [None, None]

    def run(i):
        time.sleep(0.05 * i)
        found[i] = fit()

    threads = [threading.Thread(target=run, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(before, torch.random.get_rng_state())
    for parameters in found:
        for name, value in alone.items():
            np.testing.assert_array_equal(parameters[name], value)
