"""Ragged tasks, dtypes and labels of all kinds: finite answers of the right shape, or a reason."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skmeta.exceptions import SingleTaskWarning
from tests.base.tasks import finite, maml, proto

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=8)
DTYPES = st.sampled_from([np.float32, np.float64, np.int64, bool])


def rows_of(sizes, dtype, n_columns, seed):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (rng.normal(size=(len(groups), n_columns)) * 2).astype(dtype), groups, rng


def fit_counting_warnings(model, X, y, groups):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y, groups=groups)
    return [w.category for w in caught]


@given(
    sizes=SIZES,
    dtype=DTYPES,
    y_dtype=DTYPES,
    n_columns=st.integers(1, 3),
    n_outputs=st.sampled_from([None, 1, 2]),
    n_new=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_ragged_regression_tasks(sizes, dtype, y_dtype, n_columns, n_outputs, n_new, seed):
    X, groups, rng = rows_of(sizes, dtype, n_columns, seed)
    shape = (len(X),) if n_outputs is None else (len(X), n_outputs)
    y = (rng.normal(size=shape) * 2).astype(y_dtype)
    model = maml(n_inner_steps=1)
    if max(sizes) < 2:
        text = "minimum of 2" if len(X) < 2 else "single row"
        with pytest.raises(ValueError, match=text):
            model.fit(X, y, groups=groups)
        return
    caught = fit_counting_warnings(model, X, y, groups)
    assert caught == [SingleTaskWarning] * (len(sizes) == 1)
    assert model.n_tasks_ == len(sizes)
    new = model.adapt(X[:n_new], y[:n_new])
    for fitted in (model, new):
        predicted = fitted.predict(X)
        assert finite(predicted) and predicted.shape == shape and predicted.dtype == np.float64


@given(
    sizes=SIZES,
    dtype=DTYPES,
    labels=st.sampled_from(["int", "str", "object", "bool", "float"]),
    n_labels=st.integers(1, 4),
    own=st.booleans(),
    n_columns=st.integers(1, 3),
    n_new=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_ragged_classification_tasks(sizes, dtype, labels, n_labels, own, n_columns, n_new, seed):
    X, groups, rng = rows_of(sizes, dtype, n_columns, seed)
    codes = rng.integers(n_labels, size=len(X))
    if labels == "bool":
        y = codes % 2 == 0
    else:
        codes = codes + 10 * groups * own  # labels of a task's own, or the same in all
        y = codes.astype({"int": int, "float": float}.get(labels, str))
        y = y.astype(object) if labels == "object" else y
    cells, counts = np.unique(np.column_stack([groups, y.astype(str)]), axis=0, return_counts=True)
    usable = any(
        (cells[:, 0] == task).sum() >= 2 and counts[cells[:, 0] == task].max() >= 2
        for task in set(cells[:, 0])
    )
    model = proto()
    if not usable:
        with pytest.raises(ValueError, match=r"minimum of 2|only one class|No task can give"):
            fit_counting_warnings(model, X, y, groups)
        return
    caught = fit_counting_warnings(model, X, y, groups)
    assert caught.count(SingleTaskWarning) == (len(sizes) == 1)
    assert model.shared_classes_ == (len(sizes) == 1 or len(cells) > len(np.unique(y)))
    new = model.adapt(X[:n_new], y[:n_new])
    assert_array_equal(new.classes_, np.unique(y if model.shared_classes_ else y[:n_new]))
    for fitted in (model, new):
        proba, predicted = fitted.predict_proba(X), fitted.predict(X)
        assert finite(proba) and proba.shape == (len(X), len(fitted.classes_))
        assert_allclose(proba.sum(1), 1)
        assert finite(fitted.decision_function(X))
        assert predicted.dtype == y.dtype and set(predicted) <= set(fitted.classes_)
