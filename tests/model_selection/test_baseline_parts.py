"""What baselines are built of: solvers for many tasks at once, and columns of any kind."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import Ridge

from skmeta.model_selection._pooled import Columns
from skmeta.model_selection._shots import fit_tasks, solve_logistic, solve_ridge

# ------------------------------------------------------------------- solvers


@pytest.mark.parametrize(("k", "p"), [(6, 2), (3, 7)], ids=["more rows", "more columns"])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("penalty", [1e-2, 1.0])
def test_logistic_part_is_the_minimum(k, p, n_classes, penalty):
    rng = np.random.default_rng(0)
    F, out = 3 * rng.normal(size=(2 * k, p)), rng.normal(size=(2 * k, n_classes))
    Y = np.eye(n_classes)[rng.integers(n_classes, size=2 * k)]
    rows = np.arange(2 * k).reshape(2, k)
    found = next(fit_tasks(solve_logistic, F, out, Y, rows, [penalty]))
    for task, own in enumerate(rows):

        def loss(flat, own=own):
            weights = flat.reshape(p, n_classes)
            log_proba = log_softmax(out[own] + F[own] @ weights, axis=1)
            return -(Y[own] * log_proba).sum() + penalty / 2 * (flat**2).sum()

        best = minimize(loss, np.zeros(p * n_classes), method="BFGS", options={"gtol": 1e-7})
        np.testing.assert_allclose(found[task].ravel(), best.x, atol=2e-4)


def test_ridge_part_with_more_columns_than_rows():
    rng = np.random.default_rng(0)
    F, Y = rng.normal(size=(8, 6)), rng.normal(size=(8, 2))
    F[1] = F[0]  # two equal rows: a direction less
    out, rows = np.zeros_like(Y), np.arange(8).reshape(2, 4)
    penalties = [0.1, 10.0]
    found_each = fit_tasks(solve_ridge, F, out, Y, rows, penalties)
    for penalty, found in zip(penalties, found_each, strict=True):
        for task, own in enumerate(rows):
            ridge = Ridge(alpha=penalty, fit_intercept=False).fit(F[own], Y[own])
            np.testing.assert_allclose(found[task], ridge.coef_.T, atol=1e-10)


# ------------------------------------------------------------------- any table


def test_columns_take_words_and_gaps():
    frame = pd.DataFrame(
        {
            "number": [1.0, np.nan, 3.0, 4.0],
            "whole": pd.array([1, None, 3, 8], dtype="Int64"),
            "word": ["a", "b", None, "a"],
            "kind": pd.Categorical([1, 2, 1, 2]),
            "flag": [True, False, True, True],
            "empty": [np.nan] * 4,
        }
    )
    columns = Columns().fit(frame)
    Z = columns.transform(frame)
    assert Z.shape == (4, 1 + 1 + 3 + 2 + 1 + 1)  # a missing word is a word
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(Z.std(axis=0)[np.ptp(Z, axis=0) > 0], 1)
    assert Z[1, 0] == pytest.approx(0)  # the mean stands in for what is missing
    unseen = frame.iloc[:1].assign(word="never seen")
    assert np.isfinite(columns.transform(unseen)).all()
    assert np.isfinite(columns.transform(frame.iloc[[2]])).all()  # not a kind changes with a row


@pytest.mark.parametrize("words", [True, False])
def test_columns_take_object_arrays(words):
    X = np.array(
        [[1, "a"], [2, "b"], [None, "a"]] if words else [[1, 5], [2, 6], [None, 7]], object
    )
    Z = Columns().fit(X).transform(X)
    assert Z.shape == (3, 3 if words else 2)
    assert Columns().fit_transform(np.zeros((5, 2, 2))).shape == (5, 4)
