"""``predict_tasks`` against a loop of ``skmeta.adapt`` and ``predict``."""

import functools

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmeta
from skmeta.datasets import make_sinusoids
from skmeta.model_selection import TaskScorer, predict_tasks
from tests.model_selection.cases import (
    MeanRegressor,
    classifier,
    labelled_tasks,
    own_class_tasks,
    own_classifier,
    quick,
    ragged_sinusoids,
    regressor,
)


def split(groups, largest=5, without=0):
    """A ragged random support (1 to ``largest`` rows a task), and the rest (some have none)."""
    rng = np.random.default_rng(0)
    support = []
    for i, task in enumerate(np.unique(groups)):
        if i >= without:
            rows = np.flatnonzero(groups == task)
            support += rng.permutation(rows)[: 1 + i % largest].tolist()
    support = rng.permutation(support)
    query = rng.permutation(np.setdiff1d(np.arange(len(groups)), support))
    return support, query


def looped(estimator, X_support, y_support, groups_support, X, groups, method="predict"):
    parts = {}
    for task in np.unique(groups):
        own = groups_support == task
        model = skmeta.adapt(estimator, X_support[own], y_support[own]) if own.any() else estimator
        parts[task] = iter(getattr(model, method)(X[groups == task]))
    return np.array([next(parts[task]) for task in groups])


@functools.cache
def wrappers():
    X, y, groups = ragged_sinusoids(0)
    model = quick(max_epochs=2)
    pipe = make_pipeline(StandardScaler(), model).fit(X, y, mamlregressor__groups=groups)
    target = TransformedTargetRegressor(model, transformer=StandardScaler())
    target.fit(X, y, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), model),
            {"mamlregressor__inner_lr": [0.01, 0.05]},
            cv=GroupKFold(2),
            scoring=TaskScorer(n_repeats=1),
            error_score="raise",
        ).fit(X, y, groups=groups)
    return {
        "pipeline": pipe,
        "target": target,
        "search": search,
        "frozen": FrozenEstimator(regressor()),
        "frozen search": FrozenEstimator(search),
        "pipeline of frozen": make_pipeline(StandardScaler().fit(X), FrozenEstimator(regressor())),
    }


@pytest.mark.parametrize("n_outputs", [None, 2])
@pytest.mark.parametrize("without", [0, 2])
def test_regressor_equals_a_loop(n_outputs, without):
    X, y, groups = ragged_sinusoids(1, n_outputs)
    support, query = split(groups, without=without)
    args = (X[support], y[support], groups[support], X[query], groups[query])
    model = regressor(n_outputs)
    values = predict_tasks(model, *args)
    assert values.shape == y[query].shape
    np.testing.assert_allclose(values, looped(model, *args), rtol=1e-9, atol=1e-12)
    assert np.abs(values - model.predict(X[query])).max() > 1e-3  # it adapts


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
@pytest.mark.parametrize("labels", [("no", "perhaps", "yes"), ("no", "yes")])
@pytest.mark.parametrize("without", [0, 2])
def test_shared_classes_equal_a_loop(method, labels, without):
    X, y, groups = labelled_tasks(1, labels=labels)
    support, query = split(groups, without=without)
    args = (X[support], y[support], groups[support], X[query], groups[query])
    model = classifier(labels)
    assert model.shared_classes_
    values, expected = predict_tasks(model, *args, method=method), looped(model, *args, method)
    if method == "predict":
        np.testing.assert_array_equal(values, expected)
    else:
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)


def own_class_split():
    X, y, groups = own_class_tasks(1, first=100)
    rng = np.random.default_rng(0)
    support = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        support += rng.permutation(rows)[: rng.integers(1, 5)].tolist()
    support = rng.permutation(support)
    query = rng.permutation(np.setdiff1d(np.arange(len(y)), support))
    return X[support], y[support], groups[support], X[query], groups[query], y[query]


def test_task_specific_classes_have_the_union_of_the_columns():
    *args, _ = own_class_split()
    X_support, y_support, groups_support, X, groups = args
    model = own_classifier()
    union = np.unique(y_support)
    proba = predict_tasks(model, *args, method="predict_proba")
    decision = predict_tasks(model, *args, method="decision_function")
    assert proba.shape == decision.shape == (len(X), len(union))
    np.testing.assert_array_equal(predict_tasks(model, *args), looped(model, *args))
    np.testing.assert_array_equal(predict_tasks(model, *args), union[decision.argmax(1)])
    for task in np.unique(groups):
        own, rows = groups_support == task, groups == task
        adapted = model.adapt(X_support[own], y_support[own])
        columns = np.searchsorted(union, adapted.classes_)
        expected = adapted.predict_proba(X[rows])
        np.testing.assert_allclose(proba[rows][:, columns], expected, rtol=1e-9, atol=1e-12)
        assert (np.delete(proba[rows], columns, axis=1) == 0).all()
        scores = adapted.decision_function(X[rows])
        both = decision[rows][:, columns]
        if len(columns) == 2:
            both = both[:, 1] - both[:, 0]
        np.testing.assert_allclose(both, scores, rtol=1e-9, atol=1e-12)


def test_task_specific_classes_and_a_task_without_support():
    X_support, y_support, groups_support, X, groups, _ = own_class_split()
    model = own_classifier()
    lost = groups == groups[0]
    groups = np.where(lost, 5, groups)
    args = (X_support, y_support, groups_support, X, groups)
    union = np.union1d(np.unique(y_support), model.classes_)
    proba = predict_tasks(model, *args, method="predict_proba")
    assert proba.shape == (len(X), len(union))
    prior = np.searchsorted(union, model.classes_)
    np.testing.assert_allclose(proba[lost][:, prior], model.predict_proba(X[lost]), atol=1e-12)
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_array_equal(predict_tasks(model, *args)[lost], model.predict(X[lost]))


@pytest.mark.parametrize(
    "name", ["pipeline", "target", "search", "frozen", "frozen search", "pipeline of frozen"]
)
def test_wrappers_equal_a_loop(name):
    X, y, groups = ragged_sinusoids(1)
    support, query = split(groups, without=1)
    args = (X[support], y[support], groups[support], X[query], groups[query])
    model = wrappers()[name]
    values, expected = predict_tasks(model, *args), looped(model, *args)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)


def test_empty_support_and_unknown_tasks_get_the_prior():
    X, y, groups = ragged_sinusoids(1)
    model = regressor()
    prior = model.predict(X)
    for empty in (
        predict_tasks(model, X[:0], y[:0], groups[:0], X, groups),
        predict_tasks(model, [], [], [], X, groups),
    ):
        np.testing.assert_array_equal(empty, prior)
    support, query = split(groups)
    ids = groups[query].copy()
    unknown = np.arange(len(ids)) % 3 == 0
    ids[unknown] += 1000
    values = predict_tasks(model, X[support], y[support], groups[support], X[query], ids)
    np.testing.assert_allclose(values[unknown], prior[query][unknown], rtol=1e-9)
    known = looped(model, X[support], y[support], groups[support], X[query], groups[query])
    np.testing.assert_allclose(values[~unknown], known[~unknown], rtol=1e-9)


def test_support_tasks_without_query_rows_change_nothing():
    X, y, groups = ragged_sinusoids(1)
    support, query = split(groups)
    query = query[groups[query] == groups[query[0]]]
    args = (X[support], y[support], groups[support], X[query], groups[query])
    np.testing.assert_allclose(
        predict_tasks(regressor(), *args), looped(regressor(), *args), rtol=1e-9
    )


def test_string_ids_and_series_by_position():
    pd = pytest.importorskip("pandas")
    X, y, groups = ragged_sinusoids(1)
    support, query = split(groups)
    names = np.array([f"pupil {g}" for g in groups])
    expected = predict_tasks(
        regressor(), X[support], y[support], groups[support], X[query], groups[query]
    )
    series = pd.Series(names[query], index=np.arange(len(query))[::-1])
    for ids in (names[query], names[query].astype(object), list(names[query]), series):
        values = predict_tasks(regressor(), X[support], y[support], names[support], X[query], ids)
        np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_what_makes_no_sense_is_refused():
    X, y, groups = ragged_sinusoids(1)
    model = regressor()
    with pytest.raises(ValueError, match="Convert both to one type"):
        predict_tasks(model, X, y, groups, X, groups.astype(str))
    with pytest.raises(ValueError, match="Convert both to one type"):
        predict_tasks(model, X, y, groups.astype(str), X, groups)
    with pytest.raises(ValueError, match="groups_support has 3 entries"):
        predict_tasks(model, X, y, groups[:3], X, groups)
    with pytest.raises(ValueError, match="groups has 3 entries"):
        predict_tasks(model, X, y, groups, X, groups[:3])
    with pytest.raises(ValueError, match="missing"):
        predict_tasks(model, X, y, groups, X, np.full(len(X), np.nan))
    with pytest.raises(ValueError, match="method must be"):
        predict_tasks(model, X, y, groups, X, groups, method="transform")
    for estimator in (model, make_pipeline(StandardScaler(), FrozenEstimator(model)).fit(X, y)):
        with pytest.raises(ValueError, match=r"has no predict_proba.*use method='predict'"):
            predict_tasks(estimator, X, y, groups, X, groups, method="predict_proba")


def test_an_estimator_that_cannot_adapt_is_refused():
    X, y, groups = ragged_sinusoids(1)
    with pytest.raises(TypeError, match="cannot adapt"):
        predict_tasks(StandardScaler().fit(X), X, y, groups, X, groups)


def test_two_thousand_tasks_are_a_few_calls_of_the_learner(monkeypatch):
    model = regressor()
    cls, calls = type(model.learner_), []
    condition, predict = cls.condition, cls.predict
    monkeypatch.setattr(
        cls, "condition", lambda self, rows: calls.append("c") or condition(self, rows)
    )
    monkeypatch.setattr(
        cls, "predict", lambda self, state, rows: calls.append("p") or predict(self, state, rows)
    )
    X, y, groups = make_sinusoids(2000, 5, random_state=0)
    support = np.arange(len(X)) % 5 < 2
    values = predict_tasks(
        model, X[support], y[support], groups[support], X[~support], groups[~support]
    )
    assert 1 <= calls.count("c") <= 8 and 1 <= calls.count("p") <= 8
    for task in (0, 777, 1999):
        own = groups == task
        one = model.adapt(X[own & support], y[own & support])
        np.testing.assert_allclose(
            values[groups[~support] == task], one.predict(X[own & ~support]), rtol=1e-9
        )


# ---------------------------------------------------------------- estimators of other libraries


def test_a_foreign_estimator_equals_a_loop():
    X, y, groups = ragged_sinusoids(1)
    support, query = split(groups, without=2)
    args = (X[support], y[support], groups[support], X[query], groups[query])
    model = MeanRegressor().fit(X, y)
    np.testing.assert_allclose(predict_tasks(model, *args), looped(model, *args), rtol=1e-12)
    pipe = make_pipeline(StandardScaler(), MeanRegressor()).fit(X, y)
    np.testing.assert_allclose(predict_tasks(pipe, *args), looped(pipe, *args), rtol=1e-12)


class GreedyKeywords(MeanRegressor):
    """Swallows any keyword: it must not be mistaken for an estimator that adapts to many tasks."""

    def adapt(self, X, y, **task):
        return super().adapt(X, y)


def test_a_foreign_adapt_that_takes_any_keyword_gets_one_task_at_a_time():
    X, y, groups = ragged_sinusoids(1)
    support, query = split(groups)
    args = (X[support], y[support], groups[support], X[query], groups[query])
    model = GreedyKeywords().fit(X, y)
    np.testing.assert_allclose(predict_tasks(model, *args), looped(model, *args), rtol=1e-12)


class MajorityClassifier(ClassifierMixin, BaseEstimator):
    """Answers with the class frequencies of the support."""

    def fit(self, X, y):
        self.classes_, counts = np.unique(y, return_counts=True)
        self.shares_ = counts / counts.sum()
        return self

    def adapt(self, X, y):
        return MajorityClassifier().fit(X, y)

    def predict(self, X):
        return self.classes_[np.full(len(X), self.shares_.argmax())]

    def predict_proba(self, X):
        return np.tile(self.shares_, (len(X), 1))

    def decision_function(self, X):
        return self.predict_proba(X)


def test_a_foreign_classifier_with_classes_of_each_task():
    X = np.zeros((6, 1))
    y = np.array(["b", "b", "a", "a", "longer", "longer"])
    groups = np.array([0, 0, 1, 1, 1, 1])
    model = MajorityClassifier().fit(X, y)
    values = predict_tasks(model, X, y, groups, X, groups[::-1])
    assert values.tolist() == ["a"] * 4 + ["b"] * 2
    proba = predict_tasks(model, X, y, groups, X, groups, method="predict_proba")
    np.testing.assert_allclose(proba, [[0, 1, 0]] * 2 + [[0.5, 0, 0.5]] * 4)
    y[3] = "longer"
    values = predict_tasks(model, X, y, groups, X, groups)
    assert values.tolist() == ["b"] * 2 + ["longer"] * 4  # not cut to the length of "b"
    with pytest.raises(ValueError, match="predict_proba"):
        predict_tasks(model, X, y, groups, X, groups, method="decision_function")


def test_only_unknown_tasks_get_the_prior():
    X, y, groups = make_sinusoids(6, 8, random_state=0)
    model = skmeta.MAMLRegressor(max_epochs=1, random_state=0).fit(X, y, groups=groups)
    data = X[:5], y[:5], [0, 0, 1, 1, 1], X[:3]
    with pytest.warns(UserWarning, match=r"No row to predict .* groups \(7, for one"):
        found = predict_tasks(model, *data, [7, 8, 9])
    np.testing.assert_allclose(found, model.predict(X[:3]), rtol=1e-12)
    assert len(predict_tasks(model, *data, [7, 1, 9])) == 3  # one is known: no warning


@pytest.mark.parametrize("foreign", [False, True])
def test_standard_deviations_of_many_tasks(foreign):
    X, y, groups = make_sinusoids(8, 8, random_state=0)
    model = make_pipeline(StandardScaler(), skmeta.HierarchicalRidge())
    model.fit(X, y, hierarchicalridge__groups=groups)
    support = np.arange(len(y)) % 8 < 3 + groups % 2
    support[groups == 7] = False
    data = X[support], y[support], groups[support], X[~support], groups[~support]
    model = Foreign(model) if foreign else model
    mean, std = predict_tasks(model, *data, return_std=True)
    assert mean.shape == std.shape == (len(data[3]),)
    for task in (0, 3, 7):
        own, shown = data[4] == task, data[2] == task
        alone = skmeta.adapt(model, data[0][shown], data[1][shown]) if task < 7 else model
        expected = alone.predict(data[3][own], return_std=True)
        np.testing.assert_allclose(np.array([mean[own], std[own]]), expected, rtol=1e-9)
    none = predict_tasks(model, X[:0], y[:0], [], X[:4], groups[:4], return_std=True)
    np.testing.assert_allclose(none, model.predict(X[:4], return_std=True))
    with pytest.raises(ValueError, match="return_std is for method='predict'"):
        predict_tasks(model, *data, method="predict_proba", return_std=True)
    with pytest.raises(ValueError, match="MAMLRegressor has no standard deviations"):
        predict_tasks(regressor(), *data, return_std=True)
    ridge = skmeta.HierarchicalRidge()
    search = GridSearchCV(ridge, {"max_iter": [50]}, cv=GroupKFold(2), error_score="raise")
    with sklearn.config_context(enable_metadata_routing=True):
        search.fit(X, y, groups=groups)
        expected = search.best_estimator_.predict(X[:4], return_std=True)
        none = predict_tasks(search, X[:0], y[:0], [], X[:4], groups[:4], return_std=True)
        np.testing.assert_allclose(none, expected)
    logs = TransformedTargetRegressor(ridge, func=np.arcsinh, inverse_func=np.sinh)
    with sklearn.config_context(enable_metadata_routing=True):
        logs = make_pipeline(StandardScaler(), logs).fit(X, y, groups=groups)
        with pytest.raises(ValueError, match="TransformedTargetRegressor hands on predictions"):
            predict_tasks(logs, *data, return_std=True)


class Foreign(BaseEstimator):
    """An estimator of another library, which adapts to one task at a time."""

    def __init__(self, model):
        self.model = model

    def __sklearn_is_fitted__(self):
        return True

    def adapt(self, X, y):
        return Foreign(skmeta.adapt(self.model, X, y))

    def predict(self, X, **options):
        return self.model.predict(X, **options)
