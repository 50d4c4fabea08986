"""Intervals are as wide as tasks that were left out say that they have to be."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import skmeta
from skmeta import ALPaCARegressor, AutoMetaRegressor
from skmeta.auto._regressor import Regressors
from skmeta.base._rows import TaskBatch
from skmeta.base._width import (
    FACTORS,
    REACH,
    SHARE,
    SHARES,
    SUPPORT_ROWS,
    TASKS_WORTH,
    judge_widths,
    needed_factor,
    widths_of,
)
from skmeta.closed_form._alpaca_learner import ALPaCALearner
from skmeta.core.learner import SpreadLearner
from skmeta.core.sampling import RowSampler
from skmeta.core.tasks import TaskRows
from tests.instances import small


class MeanOfSupport(SpreadLearner):
    """Predicts the mean of the support, with a standard deviation of its own choice."""

    def __init__(self, std):
        super().__init__()
        self.std = std

    def episode_loss(self, episodes, generator):
        raise NotImplementedError

    def condition(self, support):
        padded = support.padded()
        return {"mean": padded.y.sum(1) / support.sizes[:, None]}

    def before_any_row(self):
        return {"mean": torch.zeros(1, 2, dtype=torch.float64)}

    def merge(self, state, more):
        raise NotImplementedError

    def predict(self, state, query):
        return (
            state["mean"][query.task_of_row if len(state["mean"]) > 1 else 0] + 0 * query.x[:, :2]
        )

    def predict_variance(self, state, query):
        return self.std**2 * (1 + query.x[:, :2].square())


def lines(n_tasks, n_rows=20, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 2))
    level = rng.normal(size=n_tasks)[groups]
    return X, level + X[:, 0] + 0.5 * rng.normal(size=len(groups)), groups


# ---------------------------------------------------------------- against a slow reference


@given(
    z=st.lists(st.floats(0, 100), min_size=1, max_size=20),
    share=st.floats(0.05, 0.99),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_the_factor_is_the_least_that_reaches_enough_rows(z, share, seed):
    z, weight = np.array(z), np.random.default_rng(seed).random(len(z)) + 0.01
    weight /= weight.sum()
    found = float(needed_factor(z[:, None], weight, share)[0]) * REACH
    enough = [c for c in z if weight[z <= c].sum() >= share - 1e-12]
    assert found == pytest.approx(min(enough, default=z.max()))


@pytest.mark.parametrize("std", [0.3, 1.0])
def test_judged_are_the_errors_of_tasks_left_out(std):
    """Many rows of ragged tasks: what is drawn does not matter much, the truth is known."""
    rng = np.random.default_rng(0)
    sizes = torch.tensor([30, 45, 60] * 30)
    n = int(sizes.sum())
    x = torch.tensor(rng.normal(size=(n, 2)))
    noise = torch.tensor(rng.normal(size=(n, 2)) * [1.0, 2.0]) * (1 + x.square()).sqrt()
    level = torch.tensor(rng.normal(size=(len(sizes), 2)) * 0.1)
    y = torch.repeat_interleave(level, sizes, 0) + noise
    found = judge_widths(MeanOfSupport(std), RowSampler(TaskRows.from_sizes(x, y, sizes), 5, 5), 0)
    assert [line[0] for line in found] == list(SUPPORT_ROWS)
    assert all(line[1] == 90 for line in found)
    # Before any row the error is that of level and noise; of 20 rows the mean is nearly known.
    for size, _, logs in found:
        if size in (0, 20):
            np.testing.assert_allclose(np.exp(logs[0]), np.array([1.0, 2.0]) / std, rtol=0.12)
        assert (np.diff(logs, axis=0) >= 0).all()
        assert (np.log(FACTORS[0]) <= np.array(logs)).all()


def test_tasks_that_have_too_few_rows_are_not_judged():
    x = torch.zeros(9, 2, dtype=torch.float64)
    rows = TaskRows.from_sizes(x, torch.arange(18.0).double().reshape(9, 2), torch.tensor([3, 6]))
    found = judge_widths(MeanOfSupport(1.0), RowSampler(rows, 5, 5), 0)
    assert [(size, n_tasks) for size, n_tasks, _ in found] == [(0, 2), (1, 2), (2, 1)]


def test_trials_count_by_their_tasks():
    rng = np.random.default_rng(0)
    logs = np.sort(rng.normal(size=(3, len(SHARES), 2)), axis=1)
    trials = [
        [(0, 4, logs[0].tolist()), (5, 30, logs[1].tolist())],
        [(5, 20, logs[2].tolist())],
        [],
    ]
    found = widths_of(trials)
    np.testing.assert_array_equal(found["sizes"], [0, 5])
    np.testing.assert_allclose(found["logs"][0], 4 * logs[0, 0] / (4 + TASKS_WORTH))
    both = 30 * logs[1, 0] + 20 * logs[2, 0]
    np.testing.assert_allclose(found["logs"][1], both / (50 + TASKS_WORTH))
    assert widths_of([[], []]) is None


def test_few_tasks_held_out_for_good_have_to_hold_more():
    logs = np.arange(len(SHARES))[:, None] * [1.0, 2.0]
    found = widths_of([[(0, 3, logs.tolist()), (5, 20, logs.tolist())]])["logs"]
    np.testing.assert_allclose(found[0], 0.5 * logs[-1])
    part = SHARE * 0.5 / 20 / (SHARES[1] - SHARES[0])
    np.testing.assert_allclose(found[1], 20 / (20 + TASKS_WORTH) * part * logs[1])


# ---------------------------------------------------------------- in the estimator


@pytest.fixture(scope="module")
def fitted():
    X, y, groups = lines(30)
    return small("ALPaCARegressor", max_epochs=5).fit(X, y, groups=groups)


def test_standard_deviations_are_stretched_by_what_is_between_the_sizes(fitted):
    X, y, _ = lines(4, seed=1)
    logs = np.linspace(-1, 1, len(fitted._widths["sizes"]))[:, None]
    model = fitted._sibling(_widths={**fitted._widths, "logs": logs})
    plain = fitted._sibling(_widths=None)

    def factor(k):
        at, known = np.log1p(k), np.log1p(model._widths["sizes"])
        return np.exp(np.interp(at, known, logs[:, 0]))

    for k in (0, 1, 3, 20):
        pair = [m.adapt(X[:k], y[:k]) if k else m for m in (model, plain)]
        (mean, std), (same, narrow) = (m.predict(X[40:], return_std=True) for m in pair)
        np.testing.assert_array_equal(mean, same)
        np.testing.assert_allclose(std, factor(k) * narrow, rtol=1e-12)
    more = model.adapt(X[:3], y[:3]).update(X[3:9], y[3:9])
    whole = model.adapt(X[:9], y[:9])
    expected = whole.predict(X[40:], return_std=True)[1]
    np.testing.assert_allclose(more.predict(X[40:], return_std=True)[1], expected, rtol=1e-9)
    assert more.update(X[:1], y[:1])._n_rows == 10


def test_every_task_of_a_batch_has_its_own_width(fitted):
    X, y, _ = lines(4, seed=1)
    logs = np.linspace(-1, 1, len(fitted._widths["sizes"]))[:, None]
    model = fitted._sibling(_widths={**fitted._widths, "logs": logs})
    batch = TaskBatch(np.array([0, 0, 0, 1]), np.array([1, 0, -1, 0]), 2)
    found = model.adapt(X[:4], y[:4], _batch=batch).predict(X[10:14], return_std=True)[1]
    ones = [model.adapt(X[3:4], y[3:4]), model.adapt(X[:3], y[:3]), model, None]
    ones[3] = ones[1]
    one_by_one = [m.predict(X[10 + i : 11 + i], return_std=True)[1][0] for i, m in enumerate(ones)]
    np.testing.assert_allclose(found, one_by_one, rtol=1e-9)


def test_a_net_that_is_too_sure_is_made_less_so(monkeypatch):
    right = ALPaCALearner.predict_variance
    X, y, groups = lines(60)
    X_new, y_new, new = lines(60, n_rows=30, seed=1)
    shown = np.arange(len(y_new)) % 30 < 5
    inside = {}
    for shrink in (1.0, 16.0):
        monkeypatch.setattr(
            ALPaCALearner, "predict_variance", lambda *args, by=shrink: right(*args) / by
        )
        model = ALPaCARegressor(max_epochs=30, validation_fraction=0.4, random_state=0)
        model.fit(X, y, groups=groups)
        for one in (model, model._sibling(_widths=None)):
            held = []
            for task in range(60):
                own, rest = shown & (new == task), ~shown & (new == task)
                adapted = one.adapt(X_new[own], y_new[own])
                mean, std = adapted.predict(X_new[rest], return_std=True)
                held.append(np.mean(np.abs(y_new[rest] - mean) < 1.645 * std))
            inside[shrink, one is model] = np.mean(held)
    assert inside[16.0, False] < 0.5
    assert 0.82 < inside[16.0, True] < 0.96  # the prior of no change still counts
    assert 0.85 < inside[1.0, True] < 0.96


def test_without_tasks_left_out_there_is_nothing_to_go_by():
    X, y, groups = lines(12)
    model = small("ALPaCARegressor", max_epochs=1, early_stopping=False)
    assert model.fit(X, y, groups=groups)._widths is None
    model.fit(X, y, groups=groups).adapt(X[:2], y[:2]).predict(X[:3], return_std=True)
    # After trials, each of which leaves out a third of few tasks.
    assert (
        small("ALPaCARegressor", max_epochs=2).fit(*(v[:160] for v in (X, y)), groups[:160])._widths
    )
    with pytest.warns(skmeta.exceptions.SingleTaskWarning):
        assert small("ALPaCARegressor").fit(X, y)._widths is None


def test_a_new_fit_forgets_and_a_warm_start_does_not():
    X, y, groups = lines(12)
    model = small("ALPaCARegressor", warm_start=True)
    known = model.fit(X, y, groups=groups)._widths
    assert known is not None
    model.set_params(early_stopping=False)
    assert model.fit(X, y, groups=groups)._widths is known
    fresh = model.set_params(warm_start=False).fit(X, y, groups=groups)
    assert fresh._widths is None
    adapted = small("ALPaCARegressor").fit(X, y, groups=groups).adapt(X[:7], y[:7])
    assert adapted.fit(X, y, groups=groups)._n_rows == 0
    # Many tasks, and then one, which it answers for at once.
    model = small("ALPaCARegressor", warm_start=True).fit(X, y, groups=groups)
    with pytest.warns(skmeta.exceptions.SingleTaskWarning):
        model.fit(X[:20], y[:20])
    once = model.adapt(X[:20], y[:20]).predict(X[:3], return_std=True)
    np.testing.assert_allclose(model.predict(X[:3], return_std=True), once, rtol=1e-6)
    assert model.update(X[:1], y[:1])._n_rows == 21


def test_it_is_kept_in_pickles_and_files(fitted, tmp_path):
    X, y, _ = lines(1, seed=2)
    adapted = fitted.adapt(X[:3], y[:3])
    skmeta.save(adapted, tmp_path / "model")
    expected = adapted.predict(X, return_std=True)[1]
    for copy in (pickle.loads(pickle.dumps(adapted)), skmeta.load(tmp_path / "model")):
        np.testing.assert_array_equal(copy.predict(X, return_std=True)[1], expected)
        more = copy.update(X[3:5], y[3:5]).predict(X, return_std=True)[1]
        np.testing.assert_allclose(
            more, fitted.adapt(X[:5], y[:5]).predict(X, return_std=True)[1], rtol=1e-9
        )


def test_the_automatic_choice_calibrates_by_itself(monkeypatch):
    monkeypatch.setattr(
        Regressors, "candidates", classmethod(lambda *args: {"net": small("ALPaCARegressor")})
    )
    monkeypatch.setattr(Regressors, "afterthoughts", classmethod(lambda *args: {}))
    X, y, groups = lines(12)
    model = AutoMetaRegressor(cv=2, n_support=(0, 3), random_state=0).fit(X, y, groups=groups)
    assert model.members_["net"]._widths is None
