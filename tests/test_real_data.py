"""Real tasks, end to end: a table, a pipeline, a search over tasks, a new task from ten rows."""

import os
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skmeta
from skmeta.datasets import fetch_heart_disease, fetch_rdataset
from skmeta.model_selection import TaskScorer

pytest.importorskip("pandas")
pytestmark = pytest.mark.data

N_SUPPORT = 10


@pytest.fixture
def data_home():
    """Function: folder of one data set -> the data home that holds it, or skip."""

    def find(folder):
        home = os.environ.get("SKMETA_DATA_HOME")
        if not home:
            pytest.skip("SKMETA_DATA_HOME is not set")
        if not (Path(home) / folder).is_dir():
            pytest.skip(f"{folder} is not in SKMETA_DATA_HOME")
        return home

    return find


def search_over_tasks(pipe, grid, scoring, X, y, groups):
    """Choose by adapting to ten rows of tasks that the candidate has not seen."""
    search = GridSearchCV(
        pipe,
        grid,
        cv=GroupKFold(3),
        scoring=TaskScorer(scoring, n_support=N_SUPPORT, n_repeats=5),
        error_score="raise",
    )
    with sklearn.config_context(enable_metadata_routing=True):
        return search.fit(X, y, groups=groups)


def draws(rows, n_draws, rng):
    """Support and query rows of one task, drawn anew each time."""
    for _ in range(n_draws):
        order = rng.permutation(rows)
        yield order[:N_SUPPORT], order[N_SUPPORT:]


MODELS = {
    "protonetclassifier": (
        skmeta.ProtoNetClassifier((16,), max_epochs=2, early_stopping=False, random_state=0),
        {"lr": [0.001, 0.01]},
    ),
    "metasvc": (
        skmeta.MetaSVC((16,), max_epochs=3, early_stopping=False, random_state=0),
        {"C": [0.1, 1.0]},
    ),
}


@pytest.mark.parametrize(
    "name", ["protonetclassifier", pytest.param("metasvc", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "hospital", [pytest.param("hungarian", marks=pytest.mark.slow), "cleveland"]
)
def test_heart_disease_at_a_new_hospital(data_home, hospital, name):
    heart = fetch_heart_disease(data_home=data_home("heart_disease"))
    held_out = (heart.groups == hospital).to_numpy()
    X, y = heart.data, heart.target.to_numpy()
    categorical = heart.categorical_features
    # Whole columns are missing at some hospitals, and so in some folds.
    columns = make_column_transformer(
        (
            make_pipeline(
                SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
            ),
            [name for name in heart.feature_names if name not in categorical],
        ),
        (
            make_pipeline(
                SimpleImputer(strategy="most_frequent", keep_empty_features=True),
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            ),
            categorical,
        ),
    )
    model, grid = MODELS[name]
    search = search_over_tasks(
        make_pipeline(columns, model),
        {f"{name}__{option}": values for option, values in grid.items()},
        "roc_auc",
        X[~held_out],
        y[~held_out],
        heart.groups[~held_out],
    )
    fitted = search.best_estimator_[-1]
    assert fitted.shared_classes_ and fitted.n_tasks_ == 3 and not fitted.adapted_
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.6  # Swiss patients, 93 % sick, are among the held-out ones

    areas, right = [], []
    for support, query in draws(np.flatnonzero(held_out), 20, np.random.default_rng(0)):
        new = skmeta.adapt(search, X.iloc[support], y[support])
        np.testing.assert_array_equal(new.classes_, [0, 1])
        areas.append(roc_auc_score(y[query], new.predict_proba(X.iloc[query])[:, 1]))
        right.append(new.score(X.iloc[query], y[query]))
    most_common = max(np.mean(y[held_out]), 1 - np.mean(y[held_out]))
    assert np.mean(areas) > 0.8  # chance is 0.5
    assert np.mean(right) > most_common + 0.05


@pytest.fixture
def exam(data_home):
    """Pupils, their scores and schools; fifteen schools held out; and what makes columns of it."""
    table = fetch_rdataset("mlmRev", "Exam", data_home=data_home("rdatasets/mlmRev")).frame
    size = table.groupby("school")["school"].transform("size")
    table = table[size > 2 * N_SUPPORT]
    X, groups = skmeta.split_task_column(table.drop(columns="normexam"), "school")
    groups = groups.to_numpy()
    schools = np.random.default_rng(0).permutation(np.unique(groups))[:15]
    columns = make_column_transformer(
        (StandardScaler(), ["standLRT", "schavg"]),
        (OneHotEncoder(sparse_output=False), ["sex", "vr", "schgend", "type"]),
    )
    return X, table["normexam"].to_numpy(), groups, schools, columns


def test_exam_scores_in_a_new_school(exam):
    X, y, groups, schools, columns = exam
    held_out = np.isin(groups, schools)
    model = skmeta.MAMLRegressor(
        (20,),
        max_epochs=2,
        lr=0.01,
        n_support=N_SUPPORT,
        n_query=15,
        early_stopping=False,
        random_state=0,
    )
    search = search_over_tasks(
        make_pipeline(columns, model),
        {"mamlregressor__n_inner_steps": [1, 3]},
        "neg_mean_squared_error",
        X[~held_out],
        y[~held_out],
        groups[~held_out],
    )
    assert search.best_estimator_[-1].n_tasks_ == len(np.unique(groups)) - 15

    rng = np.random.default_rng(0)
    errors = []
    for school in schools:
        for support, query in draws(np.flatnonzero(groups == school), 5, rng):
            new = skmeta.adapt(search, X.iloc[support], y[support])
            guesses = new.predict(X.iloc[query]), y[~held_out].mean(), y[support].mean()
            errors.append([np.mean((y[query] - guess) ** 2) for guess in guesses])
    adapted, mean_of_training, mean_of_support = np.mean(errors, axis=0)
    assert adapted < 0.75 * mean_of_training
    assert adapted < 0.8 * mean_of_support
    # What the search promised for new schools is what new schools give.
    assert -search.best_score_ == pytest.approx(adapted, rel=0.2)


def test_who_passes_the_exam_in_a_new_school(exam):
    X, scores, groups, schools, columns = exam
    held_out = np.isin(groups, schools)
    y = np.where(scores > np.median(scores[~held_out]), "above", "below")
    model = skmeta.MetaSVC(
        (8,), max_epochs=2, n_shot=3, tasks_per_batch=8, early_stopping=False, random_state=0
    )
    search = search_over_tasks(
        make_pipeline(columns, model),
        {"metasvc__C": [0.1, 1.0]},
        "roc_auc",
        X[~held_out],
        y[~held_out],
        groups[~held_out],
    )
    assert search.best_estimator_[-1].n_tasks_ == len(np.unique(groups)) - 15

    rng = np.random.default_rng(0)
    areas, right, most_common = [], [], []
    for school in schools:
        for support, query in draws(np.flatnonzero(groups == school), 5, rng):
            new = skmeta.adapt(search, X.iloc[support], y[support])
            below = new.predict_proba(X.iloc[query])[:, 1]
            areas.append(roc_auc_score(y[query] == "below", below))
            right.append(new.score(X.iloc[query], y[query]))
            labels, counts = np.unique(y[support], return_counts=True)
            most_common.append(np.mean(y[query] == labels[counts.argmax()]))
    assert np.mean(areas) > 0.75  # chance is 0.5
    assert np.mean(right) > np.mean(most_common) + 0.05
    assert search.best_score_ == pytest.approx(np.mean(areas), abs=0.08)
