"""Hierarchical Gaussian processes are trained in batches of few rows: whose, does not matter."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skmeta import HierarchicalGPClassifier, HierarchicalGPRegressor
from skmeta.closed_form import _gp_base, _gp_learner
from skmeta.closed_form._gp_learner import GPLearner, _thin
from skmeta.core.tasks import TaskRows
from skmeta.model_selection import predict_tasks
from tests.closed_form.curves import quick, simulate

LARGEST = 12
OPTIONS = {"max_iter": 5, "lr": 0.1, "rows_per_step": 1000, "max_task_rows": LARGEST}


@given(sizes=st.lists(st.integers(1, 20), min_size=2, max_size=30), cells=st.integers(1, 2000))
def test_every_task_is_in_one_batch_and_batches_are_small(sizes, cells):
    learner = GPLearner(1, 1, 3, **OPTIONS)
    task = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).double()
    rows = TaskRows.from_sizes(task[:, None], task, torch.tensor(sizes))
    generator = torch.Generator().manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_gp_learner, "CELLS_AT_A_TIME", cells)
        batches = list(learner._batches(rows, generator))
    seen = []
    for batch in batches:
        n_tasks, widest = batch.x.shape[:2]
        # A task of its own may be larger than a batch should be; 5 shared features are wider
        # than small tasks.
        assert n_tasks == 1 or n_tasks * widest * max(widest, 5) <= cells
        real = torch.ones(n_tasks, widest) if batch.mask is None else batch.mask.double()
        for x, y, own in zip(batch.x, batch.y, real.bool(), strict=True):
            (number,) = set(x[own, 0].tolist())
            assert (y[own] == number).all()
            seen.append((int(number), int(own.sum())))
    assert sorted(seen) == [(i, min(size, LARGEST)) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("kind", [HierarchicalGPRegressor, HierarchicalGPClassifier])
def test_a_fit_does_not_depend_on_the_batches(kind, monkeypatch):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(15), rng.integers(1, 12, size=15))
    X = rng.normal(size=(len(groups), 2))
    y = np.sin(X[:, 0]) + rng.normal(size=15)[groups] + 0.1 * rng.normal(size=len(groups))
    if kind is HierarchicalGPClassifier:
        y = y > 0
    found = []
    for cells in (1, 500, 2**30):
        monkeypatch.setattr(_gp_learner, "CELLS_AT_A_TIME", cells)
        model = kind(n_inducing=10, random_state=0).fit(X, y, groups=groups)
        found.append(model.meta_params_)
    for name, value in found[0].items():
        assert_allclose(found[1][name], value, rtol=1e-6, atol=1e-8, err_msg=name)
        assert_allclose(found[2][name], value, rtol=1e-6, atol=1e-8, err_msg=name)


# -- many rows ------------------------------------------------------------------------------------


def test_large_tasks_are_thinned(monkeypatch):
    X, y, groups = simulate([400, 5, 300, 20], d=1)
    model = quick(max_iter=3).fit(X, y, groups=groups)
    assert np.isfinite(model.predict(X, return_std=True)).all()
    # A task of five hundred rows can still be adapted to, with every row.
    new = model.adapt(X[:500], y[:500])
    assert new.state_["x"].shape == (1, 500, 1)
    assert_allclose(
        quick(max_iter=3).fit(X, y, groups=groups).predict(X[:9]), model.predict(X[:9]), rtol=1e-12
    )
    monkeypatch.setattr(_gp_base, "MAX_TASK_ROWS", 400)
    whole = quick(max_iter=3).fit(X, y, groups=groups)
    assert np.mean((whole.predict(X) - model.predict(X)) ** 2) < 0.05 * np.var(y)


def test_some_tasks_a_step_come_near_all_tasks_a_step(monkeypatch):
    X, y, groups = simulate([6, 10, 3] * 20, d=1)
    options = {"n_inducing": 8, "max_iter": 40, "random_state": 0}
    whole = HierarchicalGPRegressor(**options).fit(X, y, groups=groups)
    monkeypatch.setattr(_gp_base, "ROWS_PER_STEP", 120)
    model = HierarchicalGPRegressor(**options).fit(X, y, groups=groups)
    assert not np.array_equal(model.predict(X), whole.predict(X))
    X_new, y_new, _ = simulate([25], d=1, seed=1)
    for k in (0, 5):
        pairs = [m.adapt(X_new[:k], y_new[:k]) if k else m for m in (model, whole)]
        (mean, std), (expected, spread) = (m.predict(X_new, return_std=True) for m in pairs)
        assert np.abs(mean - expected).max() < 0.25 * y.std()
        assert_allclose(std, spread, rtol=0.3)
    again = HierarchicalGPRegressor(**options).fit(X, y, groups=groups)
    assert_array_equal(model.predict(X), again.predict(X))
    # One task may be larger than a step.
    monkeypatch.setattr(_gp_base, "ROWS_PER_STEP", 2)
    tiny = quick(max_iter=3).fit(X, y, groups=groups)
    assert np.isfinite(tiny.predict(X)).all()


def test_any_part_of_equal_tasks_stands_for_all_of_them(monkeypatch):
    X, y, _ = simulate([7])
    X, y, groups = np.tile(X, (12, 1)), np.tile(y, 12), np.repeat(np.arange(12), 7)
    whole = quick(n_inducing=5).fit(X, y, groups=groups)
    monkeypatch.setattr(_gp_base, "ROWS_PER_STEP", 21)
    model = quick(n_inducing=5).fit(X, y, groups=groups)
    assert model.n_inducing_ > 0
    losses = [[record["train_loss"] for record in one.history_] for one in (model, whole)]
    assert_allclose(losses[0], losses[1], rtol=1e-6, atol=1e-8)
    assert_allclose(model.predict(X[:7]), whole.predict(X[:7]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [HierarchicalGPRegressor, HierarchicalGPClassifier])
def test_one_task_of_many_rows_does_not_make_the_others_as_wide(kind, monkeypatch):
    X, y, groups = simulate([20] * 10, d=1)
    labels = y > np.median(y) if kind is HierarchicalGPClassifier else y
    model = kind(n_inducing=4, max_iter=3, random_state=0).fit(X, labels, groups=groups)
    sizes = [3, 2, 150, 1, 3, 3, 2, 1]
    own = np.repeat(np.arange(8), sizes)
    rows = np.arange(len(own))
    cells = []
    factor = GPLearner._support_factor

    def seen(self, output, x, *others):
        cells.append(x.shape[0] * x.shape[1] ** 2)
        return factor(self, output, x, *others)

    monkeypatch.setattr(GPLearner, "_support_factor", seen)
    query = np.append(np.arange(8), 8)  # the last has no support row
    how = "predict" if kind is HierarchicalGPRegressor else "predict_proba"
    found = predict_tasks(model, X[rows], labels[rows], own, X[20:29], query, method=how)
    assert max(cells) == 150**2
    for i in range(8):
        one = model.adapt(X[rows][own == i], labels[rows][own == i])
        assert_allclose(found[i], getattr(one, how)(X[20 + i : 21 + i])[0], rtol=1e-6)
    assert_allclose(found[8], getattr(model, how)(X[28:29])[0], rtol=1e-6)


@pytest.mark.parametrize("most", [1, 3, 5, 100])
def test_thinning_keeps_rows_with_their_task(most):
    sizes = torch.tensor([2, 40, 1, 5, 5])
    task = torch.repeat_interleave(torch.arange(5), sizes)
    x = torch.stack([task, torch.arange(53)], dim=1).double()
    kept = [
        _thin(TaskRows.from_sizes(x, 2 * x[:, 1], sizes), most, torch.Generator().manual_seed(seed))
        for seed in range(20)
    ]
    for rows in kept:
        assert_array_equal(rows.sizes, sizes.clamp(max=most))
        assert_array_equal(rows.x[:, 0], torch.repeat_interleave(torch.arange(5), rows.sizes))
        assert len(torch.unique(rows.x[:, 1])) == len(rows.x)
        assert_array_equal(rows.y, 2 * rows.x[:, 1])
    seen = torch.unique(torch.cat([rows.x[:, 1] for rows in kept]))
    assert len(seen) > 12 + 20 * (most > 1)  # other rows every time
