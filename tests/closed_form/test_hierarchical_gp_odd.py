"""HierarchicalGPRegressor in odd corners: tables that are nearly singular, far off, or small."""

import warnings

import numpy as np
import pytest

from skmeta import HierarchicalGPClassifier, HierarchicalGPRegressor
from skmeta.exceptions import SingleTaskWarning, TrainingDivergedError
from tests.closed_form.curves import RAGGED, quick, simulate

pytest.importorskip("pandas")  # of kernel_summary_


@pytest.fixture(scope="module")
def tasks():
    return simulate(RAGGED)


@pytest.fixture(scope="module")
def model(tasks):
    X, y, groups = tasks
    return quick(n_inducing=6).fit(X, y, groups=groups)


ODD = {
    "constant column": lambda X, y: (np.column_stack([X, np.full(len(X), 7.0)]), y),
    "all columns constant": lambda X, y: (np.zeros_like(X), y),
    "equal columns": lambda X, y: (np.column_stack([X, X]), y),
    "two distinct values": lambda X, y: (X[:, :1] > 0, y),
    "every row twice": lambda X, y: (np.repeat(X[::2], 2, axis=0)[: len(X)], y),
    "no noise": lambda X, y: (X, np.sin(X[:, 0])),
    "a line without noise": lambda X, y: (X, 2 * X[:, 0] - X[:, 1]),
    "constant y": lambda X, y: (X, np.full(len(y), 3.0)),
    "huge X": lambda X, y: (X * 1e100, y),
    "tiny X": lambda X, y: (X * 1e-100, y),
    "huge y": lambda X, y: (X, y * 1e100),
    "one value far off": lambda X, y: (np.where(np.arange(len(X))[:, None] == 3, 1e9, X), y),
    "one target far off": lambda X, y: (X, np.where(np.arange(len(X)) == 3, 1e9, y)),
    "many columns": lambda X, y: (np.random.default_rng(0).normal(size=(len(X), 60)), y),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_tables_give_finite_answers(tasks, odd):
    X, y, groups = tasks
    X, y = ODD[odd](X, y)
    for n_inducing in ("auto", 40):
        model = quick(n_inducing=n_inducing).fit(X, y, groups=groups)
        for one in (model, model.adapt(X[:3], y[:3]), model.adapt(X[:1].repeat(9, 0), y[:9])):
            mean, std = one.predict(X, return_std=True)
            assert np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()
        assert np.isfinite(model.kernel_summary_["sd"]).all()


@pytest.mark.parametrize("scale", [1e4, 1e8, 1e12, 1e100, 1e160])
def test_a_support_far_from_the_training_rows_gives_finite_answers_or_a_reason(model, scale):
    X, y, _ = simulate([30], seed=4)
    for k in (1, 3, 10):
        found, reason = 0.0, "far outside"
        try:
            found = model.adapt(X[:k] * scale, y[:k]).predict(X, return_std=True)
        except ValueError as error:
            reason = str(error)
        assert np.isfinite(found).all() and "far outside" in reason


def test_more_inducing_points_than_rows_that_can_be_told_apart(tasks):
    X, y, groups = tasks
    near = np.repeat(X[::2], 2, axis=0) + 1e-13 * np.random.default_rng(0).normal(size=X.shape)
    model = quick(n_inducing=len(X), max_iter=2).fit(near, y, groups=groups)
    assert np.isfinite(model.predict(near)).all()


@pytest.mark.parametrize("sizes", [[6, 6], [5, 1, 1], [2, 1], [5] * 5, [12], [300]], ids=str)
def test_few_tasks(sizes):
    X, y, groups = simulate(sizes)
    model = quick()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if len(sizes) == 1 else "error", SingleTaskWarning)
        model.fit(X, y, groups=groups)
    assert model.adapted_ == (len(sizes) == 1) and model.n_tasks_ == len(sizes)
    for one in (model, model.adapt(X[:2], y[:2]), model.update(X[:2], y[:2])):
        assert np.isfinite(one.predict(X, return_std=True)).all()


def test_every_task_of_one_row_is_refused():
    with pytest.raises(ValueError, match="single row"):
        quick().fit([[1.0], [2.0], [3.0]], [1.0, 2, 3], groups=[0, 1, 2])


@pytest.mark.parametrize("labels", [False, True])
def test_a_rate_that_is_absurd_is_named(tasks, labels):
    X, y, groups = tasks
    model = (HierarchicalGPClassifier if labels else HierarchicalGPRegressor)(lr=1e4, max_iter=5)
    with pytest.raises(TrainingDivergedError, match="Lower lr"):
        model.fit(X, y > 0 if labels else y, groups=groups)
