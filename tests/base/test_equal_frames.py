"""The same rows as arrays, pandas and polars: the same predictions, bit for bit."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import is_classifier
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline

import skmeta
from skmeta.model_selection import (
    TaskScorer,
    compare_tasks,
    cross_validate_tasks,
    predict_tasks,
)
from tests.base.tasks import maml, wards
from tests.instances import estimator_names, small
from tests.test_contract import tasks_for

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
NAMES = estimator_names()
KINDS = ["columns first", "pandas", "polars", "polars, mixed"]


def columns(X):
    return [f"c{i}" for i in range(X.shape[1])]


def as_kind(kind, X, y, ids):
    """The same rows, targets and ids; indices of pandas are out of step: rows go by position."""
    n = len(X)
    if kind == "numpy":
        return X, y, ids
    if kind == "columns first":
        return np.asfortranarray(X), y, list(ids)
    if kind == "pandas":
        frame = pd.DataFrame(X, columns=columns(X), index=np.arange(n)[::-1])
        return frame, pd.Series(y, index=np.arange(n) + 5), pd.Series(ids, dtype="category")
    frame = pl.DataFrame({name: X[:, i] for i, name in enumerate(columns(X))})
    if kind == "polars":
        return frame, pl.Series("y", y), pl.Series("ids", ids)
    frame = frame.with_columns(pl.col(columns(X)[-1]).cast(pl.Int32))
    return frame, pl.Series("y", y), pl.Series("ids", ids).cast(pl.Categorical)


def rows_of(name, n_tasks=4):
    """A few tasks of five columns, the last of them whole numbers; ids are strings."""
    X, y, groups = tasks_for(name)
    keep = np.isin(groups, np.unique(groups)[: 2 if "Auto" in name else n_tasks])
    X, y, groups = X[keep, :2], y[keep], groups[keep]
    noise = np.random.default_rng(0).normal(size=(len(X), 5 - X.shape[1] - 1))
    X = np.column_stack([X, noise, np.arange(len(X)) % 7])
    if is_classifier(small(name)):
        y = np.array(["well", "sick"])[y]
    return X, y, np.array([f"t{g}" for g in groups])


def quick(name):
    steps = {"max_epochs": 1, "max_iter": 5}
    model = small(name)
    return model.set_params(**{k: v for k, v in steps.items() if k in model.get_params()})


def answers(name, kind):
    X, y, ids = as_kind(kind, *rows_of(name))
    model = quick(name).fit(X, y, groups=ids)
    new = model.adapt(X[:6], y[:6])
    found = [model.predict(X), new.predict(X)]
    found += [predict_tasks(model, X[::3], y[::3], ids[::3], X, ids)]
    found += [getattr(new, m)(X) for m in ("predict_proba", "transform") if hasattr(new, m)]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_equal_predictions(name):
    expected = answers(name, "numpy")
    for kind in KINDS:
        for one, other in zip(expected, answers(name, kind), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_several_outputs(kind):
    X, y, ids = rows_of("HierarchicalRidge")
    two = np.column_stack([y, y**2, X[:, 0]])
    frame, _, groups = as_kind(kind, X, y, ids)
    targets, _, _ = as_kind(kind, two, y, ids)
    if kind == "polars, mixed":
        targets = pl.DataFrame({name: two[:, i] for i, name in enumerate("abc")})
    expected = small("HierarchicalRidge").fit(X, two, groups=ids)
    found = small("HierarchicalRidge").fit(frame, targets, groups=groups)
    np.testing.assert_array_equal(expected.predict(X), found.predict(frame))
    np.testing.assert_array_equal(
        expected.adapt(X[:4], two[:4]).predict(X),
        found.adapt(frame[:4], targets[:4]).predict(frame),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_ordinary_regressor_inside(kind):
    X, y, ids = rows_of("HierarchicalRidge")
    frame, targets, groups = as_kind(kind, X, y, ids)
    model = skmeta.HierarchicalRidge(feature_regressor=sklearn.linear_model.LinearRegression())
    expected = sklearn.clone(model).fit(X, y, groups=ids).predict(X)
    np.testing.assert_array_equal(expected, model.fit(frame, targets, groups=groups).predict(frame))


@pytest.mark.parametrize("kind", KINDS)
def test_compare_tasks(kind):
    X, y, ids = rows_of("HierarchicalRidge", n_tasks=12)
    options = {"n_support": (0, 3), "cv": 2, "n_repeats": 1}
    options["baselines"] = ["pooled ridge", "per-task model"]
    models = {"ridge": skmeta.HierarchicalRidge()}
    expected = compare_tasks(models, X, y, ids, **options)
    found = compare_tasks(models, *as_kind(kind, X, y, ids), **options)
    np.testing.assert_allclose(
        found.table_["score"].to_numpy(), expected.table_["score"].to_numpy(), rtol=1e-9
    )
    own = expected.table_["method"] == "ridge"
    np.testing.assert_array_equal(found.table_["score"][own], expected.table_["score"][own])
    assert found.verdict_ == expected.verdict_


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_validation_and_search(kind):
    X, y, ids = rows_of("MAMLRegressor", n_tasks=6)
    scorer = TaskScorer(n_support=3, n_repeats=1)
    search = GridSearchCV(
        make_pipeline("passthrough", maml()),
        {"mamlregressor__n_inner_steps": [1, 2]},
        cv=GroupKFold(2),
        scoring=scorer,
        error_score="raise",
    )
    found = []
    for rows in ((X, y, ids), as_kind(kind, X, y, ids)):
        scores = cross_validate_tasks(maml(), *rows, cv=2, n_support=3, n_repeats=1)["test_score"]
        with sklearn.config_context(enable_metadata_routing=True):
            fitted = sklearn.clone(search).fit(*rows[:2], groups=rows[2])
            new = skmeta.adapt(fitted, rows[0][:4], rows[1][:4])
        found.append([scores, fitted.cv_results_["mean_test_score"], new.predict(rows[0])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- columns of polars


def test_split_task_column_of_polars():
    X, y, ids = rows_of("HierarchicalRidge")
    frame, targets, _ = as_kind("polars", X, y, ids)
    for column in (pl.Series("school", ids), pl.Series("school", ids).cast(pl.Categorical)):
        rows, groups = skmeta.split_task_column(frame.with_columns(column), "school")
        assert rows.columns == columns(X)
        found = skmeta.HierarchicalRidge().fit(rows, targets, groups=groups)
        assert found.n_tasks_ == len(set(ids))
        np.testing.assert_array_equal(found.feature_names_in_, columns(X))
        expected = skmeta.HierarchicalRidge().fit(X, y, groups=ids)
        np.testing.assert_array_equal(found.predict(rows), expected.predict(X))


@pytest.mark.parametrize(
    "convert",
    [
        lambda g: pl.Series(g, dtype=pl.UInt8),
        lambda g: pl.Series([f"w{v}" for v in g], dtype=pl.Categorical),
        lambda g: pl.Series([f"w{v}" for v in g], dtype=pl.Enum([f"w{v}" for v in range(9)])),
        lambda g: pl.Series(g).cast(pl.Date),
        lambda g: pl.Series(g) > 3,
    ],
    ids=["small integers", "categories", "enum", "dates", "booleans"],
)
def test_ids_and_labels_of_polars(convert):
    X, y, groups = wards()
    labels = pl.Series(y, dtype=pl.Categorical)
    model = quick("ProtoNetClassifier").fit(X, labels, groups=convert(groups))
    assert model.n_tasks_ == (2 if convert(groups).dtype == pl.Boolean else 8)
    assert list(model.classes_) == ["sick", "well"]
    plain = quick("ProtoNetClassifier").fit(X, y, groups=np.asarray(convert(groups)))
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))


@pytest.mark.parametrize("kind", [pl.Int64, pl.String, pl.Categorical])
def test_missing_ids_of_polars_are_refused(kind):
    X, y, groups = wards()
    ids = pl.Series(groups).cast(pl.String).cast(kind)
    ids = pl.concat([ids[:-2], pl.Series([None, None], dtype=kind)])
    with pytest.raises(ValueError, match="groups has 2 missing entries"):
        quick("ProtoNetClassifier").fit(X, y, groups=ids)


def test_missing_values_and_other_columns_of_polars_are_refused():
    X, y, ids = rows_of("HierarchicalRidge")
    frame, targets, groups = as_kind("polars", X, y, ids)
    model = skmeta.HierarchicalRidge().fit(frame, targets, groups=groups)
    holes = frame.with_columns(pl.when(pl.col("c1") > 0).then(pl.col("c1")).alias("c1"))
    with pytest.raises(ValueError, match="NaN"):
        model.predict(holes)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename({"c1": "other"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(frame)
