"""Hierarchical Gaussian processes are trained in batches: which tasks share one does not matter."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from skmeta import HierarchicalGPClassifier, HierarchicalGPRegressor
from skmeta.closed_form import _gp_learner
from skmeta.closed_form._gp_learner import GPLearner
from skmeta.core.tasks import TaskRows

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
