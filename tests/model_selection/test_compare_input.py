"""``compare_tasks``: what it takes, what it refuses, and what it keeps to itself."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skmeta import HierarchicalRidge
from skmeta.exceptions import SkippedTaskWarning
from skmeta.model_selection import TaskScorer, _baselines, _pooled, compare_tasks
from skmeta.model_selection._compare import _is_mixed
from tests.model_selection.cases import SIZES, labelled_tasks, quick
from tests.model_selection.compare_cases import Recorder, tasks


@pytest.fixture(autouse=True)
def _config_is_left_alone():
    before = sklearn.get_config()
    yield
    assert sklearn.get_config() == before


# ------------------------------------------------------------------- what goes in


def test_estimators_that_cannot_adapt_are_baselines():
    X, y, groups = tasks()
    result = compare_tasks(
        {"a": Recorder(), "mine": make_pipeline(StandardScaler(), Ridge())}, X, y, groups,
        n_support=3, cv=3, baselines=False,
    )  # fmt: skip
    kinds = result.table_.set_index("method")["kind"]
    assert dict(kinds) == {"a": "yours", "mine": "baseline"}
    assert set(result.table_["reference"]) == {"mine"}


def test_pipelines_and_searches_get_groups():
    X, y, groups = tasks()
    pipe = make_pipeline(StandardScaler(), quick())
    search = GridSearchCV(
        pipe, {"mamlregressor__n_inner_steps": [1, 2]}, cv=GroupKFold(2), error_score="raise",
        scoring=TaskScorer("neg_mean_squared_error", n_support=2, n_repeats=1),
    )  # fmt: skip
    result = compare_tasks(
        {"pipe": pipe, "search": search}, X, y, groups, n_support=2, cv=3, baselines=False
    )  # without groups: SingleTaskWarning, an error here
    assert set(result.table_["kind"]) == {"yours"}
    assert not hasattr(pipe[-1], "learner_") and not hasattr(search, "best_estimator_")


@pytest.fixture
def _quick_baselines(monkeypatch):
    monkeypatch.setattr(_pooled, "ROUNDS_A_STAGE", 2)  # a fifth of the trees
    monkeypatch.setattr(_baselines, "PEERS", {})  # the same whatever is installed


@pytest.mark.usefixtures("_quick_baselines")
def test_any_table_with_all_baselines():
    X, y, groups = tasks(sizes=(8,) * 9)
    frame = pd.DataFrame({"number": X[:, 1], "word": np.where(X[:, 1] > 0, "high", "low")})
    frame.loc[3, "number"] = np.nan
    frame.index = frame.index[::-1]
    columns = make_column_transformer((OneHotEncoder(sparse_output=False), ["word"]))
    result = compare_tasks(
        {"net": make_pipeline(columns, quick())}, frame, pd.Series(y, index=frame.index + 5),
        pd.Series(groups), n_support=(0, 2), cv=2, n_repeats=1,
    )  # fmt: skip
    assert list(result.table_["method"][:5]) == [
        "net", "pooled ridge", "pooled boosting", "per-task model", "pooled + shrunken offset",
    ]  # fmt: skip
    assert {"linear mixed model"} < set(result.table_["method"])
    assert np.isfinite(result.table_["score"]).all()
    assert (result.table_["fit_seconds"] > 0).all()
    scores = result.table_.query("k == 2").set_index("method")["score"]
    assert scores["pooled + shrunken offset"] < scores["pooled ridge"]


@pytest.mark.usefixtures("_quick_baselines")
def test_a_mixed_model_is_not_compared_with_itself():
    X, y, groups = tasks()
    pipe = make_pipeline(StandardScaler(), HierarchicalRidge())
    search = GridSearchCV(pipe, {}, cv=GroupKFold(2))
    options = {"n_support": 2, "cv": 2, "n_repeats": 1}
    for model in (pipe, TransformedTargetRegressor(search)):
        assert _is_mixed(model) and not _is_mixed(Recorder())
    methods = compare_tasks(pipe, X, y, groups, **options).table_["method"]
    assert "linear mixed model" not in set(methods) and len(methods) == 5
    result = compare_tasks({"a": pipe}, X, y, groups, baselines="linear mixed model", **options)
    # It does the same on the same rows, up to the scaling: no difference may be claimed.
    assert result.table_["score"].max() - result.table_["score"].min() < 1e-6


def test_several_outputs():
    X, y, groups = tasks()
    both = np.column_stack([y, 100 * X[:, 1]])
    result = compare_tasks(
        {"net": quick()}, X, both, groups, n_support=2, cv=2, n_repeats=1,
        baselines=["pooled ridge", "per-task model"],
    )  # fmt: skip
    ridge = result.table_.set_index("method").loc["pooled ridge", "score"]
    assert 0.1 < ridge < 0.6  # the second output is known exactly, and counts one half


def test_one_estimator_and_one_count():
    X, y, groups = tasks()
    result = compare_tasks(Recorder(), X, y, groups, n_support=2, cv=3, baselines="pooled ridge")
    assert list(result.table_["method"]) == ["Recorder", "pooled ridge"]


@pytest.mark.parametrize(
    "cv", [LeaveOneGroupOut(), GroupShuffleSplit(6, test_size=2, random_state=0)]
)
def test_splitters_of_tasks(cv):
    X, y, groups = tasks()
    result = compare_tasks(
        Recorder(), X, y, groups, n_support=2, cv=cv, n_repeats=1, baselines=False
    )
    held = {t for _, test in cv.split(X, y, groups) for t in groups[test].tolist()}
    assert len(result.scores_) == len(held)  # once a task, however often it is held out
    assert set(result.scores_["task"]) == set(np.searchsorted(np.unique(groups), sorted(held)))


def test_parallel_is_the_same_and_seeds_matter():
    X, y, groups = tasks()
    options = {"n_support": (1, 3), "cv": 3, "baselines": ["pooled ridge"]}
    one = compare_tasks(Recorder(), X, y, groups, **options).scores_
    with joblib.parallel_config(backend="threading"):
        two = compare_tasks(Recorder(), X, y, groups, n_jobs=2, **options).scores_
    other = compare_tasks(Recorder(), X, y, groups, random_state=1, **options).scores_
    pd.testing.assert_frame_equal(one, two)
    assert not np.allclose(one["score"], other["score"])


def test_a_k_beyond_all_tasks():
    X, y, groups = tasks()
    options = {"cv": 3, "baselines": False}
    with pytest.warns(SkippedTaskWarning, match="No task has 52 rows: k = 50 is left out"):
        result = compare_tasks(Recorder(), X, y, groups, n_support=(1, 50), **options)
    assert set(result.table_["k"]) == {1}
    with pytest.raises(ValueError, match="the largest has 15"):
        compare_tasks(Recorder(), X, y, groups, n_support=50, **options)


class Broken(Recorder):
    def fit(self, X, y, groups):
        raise TypeError("the fuse blew")


class BrokenLater(Recorder):
    def adapt(self, X, y):
        return self

    def predict(self, X):
        raise ValueError("no answer")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"estimators": {}}, "dict of names and estimators"),
        ({"estimators": {"a": 3}}, "dict of names and estimators"),
        ({"estimators": {"a": Recorder(), "b": LogisticRegression()}}, "one kind at a time"),
        ({"estimators": {"merf": Recorder(), "pooled ridge": Recorder()}}, "name of a baseline"),
        ({"groups": None}, "three tasks or more"),
        ({"groups": [1] * 40 + [2] * 32}, "three tasks or more"),
        ({"cv": KFold(3)}, "both sides of a split"),
        ({"cv": [(np.arange(36), np.arange(72))]}, "both sides of a split"),
        ({"cv": 1}, "2 folds or more"),
        ({"groups": [1] * 40 + [2] * 30 + [3] * 2, "cv": 2}, "one task for training"),
        ({"n_support": (1, -1)}, "0 or more"),
        ({"n_support": 2.5}, "n_support"),
        ({"n_support": ()}, "n_support"),
        ({"n_repeats": 0}, "n_repeats"),
        ({"baselines": ["random forest"]}, "No baseline is called 'random forest'"),
        ({"baselines": {"mine": Recorder()}}, "goes into estimators"),
        ({"scoring": "accuracy"}, "'accuracy' counts labels"),
        ({"y": np.zeros(3)}, "y has 3 entries for 72 rows"),
        ({"y": np.full(72, np.nan)}, "NaN"),
        ({"scoring": lambda model, X, y: 0.0}, "make_scorer"),
        ({"scoring": "no such metric"}, "no such metric"),
        ({"scoring": "roc_auc"}, "'a' failed in fold 1 of 3.*predict_proba"),
        ({"estimators": {"a": Recorder(), "it": BrokenLater()}}, "'it' failed.*no answer"),
    ],
)
def test_wrong_input_is_refused_in_plain_words(changes, text):
    X, y, groups = tasks()
    given = {"estimators": {"a": Recorder()}, "X": X, "y": y, "groups": groups, "cv": 3}
    given |= {"baselines": "pooled ridge", "n_support": 2, **changes}
    with pytest.raises(ValueError, match=text):
        compare_tasks(**given)


def test_errors_name_the_estimator():
    X, y, groups = tasks()
    with pytest.raises(RuntimeError, match="'mine' failed in fold 1 of 3: TypeError: the fuse"):
        compare_tasks({"mine": Broken()}, X, y, groups, cv=3, baselines=False)


def test_labels_in_held_out_tasks_only():
    X, y, groups = labelled_tasks(labels=("no", "yes"))
    model = quick("ProtoNetClassifier")
    with pytest.raises(ValueError, match="cross_validate_tasks"):
        compare_tasks(
            {"net": model}, X, [f"{a} {b}" for a, b in zip(y, groups, strict=True)], groups
        )


def test_no_id_is_kept():
    X, y, groups = tasks()
    secret = np.array([f"pupil-{g}" for g in groups])
    result = compare_tasks(Recorder(), X, y, secret, n_support=2, cv=3, baselines="pooled ridge")
    assert set(result.scores_["task"]) == set(range(len(SIZES)))
    kept = pickle.dumps(result) + repr(result).encode() + result._repr_html_().encode()
    assert b"pupil" not in kept
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(result)).table_, result.table_)
