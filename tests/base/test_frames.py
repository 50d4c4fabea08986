"""The door for users who hold everything in one DataFrame."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import skmeta
from tests.base.tasks import maml, waves


def table(library):
    module = pytest.importorskip(library)
    X, y, groups = waves()
    data = {"pupil": [f"p{g}" for g in groups], "hours": X[:, 0], "age": X[:, 0] ** 2}
    return module.DataFrame(data), y, groups


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_split_task_column(library):
    df, y, groups = table(library)
    X, ids = skmeta.split_task_column(df, "pupil")
    assert list(X.columns) == ["hours", "age"] and type(X) is type(df)
    assert list(ids) == [f"p{g}" for g in groups] and ids.name == "pupil"
    assert list(df.columns) == ["pupil", "hours", "age"]  # not changed
    model = maml().fit(X, y, groups=ids)
    assert model.n_tasks_ == 8
    assert_array_equal(model.feature_names_in_, ["hours", "age"])
    plain = maml().fit(np.asarray(X), y, groups=groups)
    assert_array_equal(model.predict(X), plain.predict(np.asarray(X)))


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("name", ["school", 0, None, "Pupil"])
def test_split_task_column_that_is_not_there(library, name):
    df, _, _ = table(library)
    with pytest.raises(ValueError, match=r"not at all; it has \['pupil', 'hours', 'age'\]"):
        skmeta.split_task_column(df, name)


def test_split_task_column_that_is_there_twice():
    pd = pytest.importorskip("pandas")
    df = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    with pytest.raises(ValueError, match="'a' twice or more"):
        skmeta.split_task_column(df, "a")


def test_split_task_column_keeps_index_dtypes_and_other_kinds_of_names():
    pd = pytest.importorskip("pandas")
    df = pd.DataFrame({1: pd.Categorical(["x", "y"]), "b": [1.5, None]}, index=["r", "s"])
    X, ids = skmeta.split_task_column(df, 1)
    assert list(X.index) == list(ids.index) == ["r", "s"]
    assert ids.dtype == "category" and list(X.columns) == ["b"]


@pytest.mark.parametrize("thing", [np.zeros((3, 2)), [[1, 2]], {"a": [1]}, None, "df"])
def test_split_task_column_needs_a_frame(thing):
    with pytest.raises(ValueError, match="df must be a DataFrame"):
        skmeta.split_task_column(thing, "a")
