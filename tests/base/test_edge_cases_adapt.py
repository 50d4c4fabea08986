"""The edge-case table, second part: adapting, small tasks, the scale and the shape of y."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmeta
from skmeta.exceptions import SkippedTaskWarning
from skmeta.model_selection import TaskScorer, predict_tasks
from tests.base.tasks import alphabets, finite, maml, proto, wards, waves
from tests.base.test_edge_cases import generator, spy_on_samplers

CASES = {
    "regressor": (maml, waves),
    "shared classes": (proto, wards),
    "task-specific classes": (proto, alphabets),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    make, data = CASES[request.param]
    X, y, groups = data()
    return make().fit(X, y, groups=groups), X, y, groups


def raw(model, X):
    """Numbers behind the predictions."""
    return model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)


# ---- several tasks, then predict; a known task later


def test_several_tasks_then_predict_is_the_answer_of_all_rows_as_one_task(case):
    model, X, y, _ = case
    assert not model.adapted_
    assert_allclose(raw(model, X), raw(model.adapt(X, y), X), rtol=1e-8, atol=1e-12)


def test_known_task_later(case):
    model, X, y, groups = case
    one = groups == 2
    new = model.adapt(X[one], y[one])
    together = predict_tasks(model, X[one], y[one], groups[one], X[one], groups[one])
    assert_array_equal(new.predict(X[one]), together)
    if raw(new, X).shape == raw(model, X).shape:  # and it is not the population's answer
        assert np.abs(raw(new, X[one]) - raw(model, X[one])).max() > 1e-3


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_unknown_id_in_predict_tasks_gets_the_prior(case, method):
    model, X, y, groups = case
    if not hasattr(model, method):
        pytest.skip("a regressor has no such method")
    known = groups == 0
    values = predict_tasks(model, X[known], y[known], groups[known], X, groups, method=method)
    assert_array_equal(values[~known], getattr(model, method)(X[~known]))


# ---- adapt: never cumulative, one row, no row


def test_adapt_on_an_adapted_estimator_starts_from_meta_params_again(case):
    model, X, y, groups = case
    a, b = groups == 0, groups == 1
    assert_array_equal(
        raw(model.adapt(X[a], y[a]).adapt(X[b], y[b]), X), raw(model.adapt(X[b], y[b]), X)
    )


def test_adapt_on_a_batched_adaptation_is_a_single_one_again(case):
    from skmeta.base._rows import TaskBatch

    model, X, y, _ = case
    batch = TaskBatch(np.arange(4) // 2, np.arange(6) // 3, 2)
    new = model.adapt(X[:4], y[:4], _batch=batch).adapt(X[:5], y[:5])
    assert_array_equal(raw(new, X), raw(model.adapt(X[:5], y[:5]), X))


def test_adapt_with_one_row(case):
    model, X, y, _ = case
    assert finite(raw(model.adapt(X[:1], y[:1]), X))


def test_adapt_with_no_row(case):
    model, X, y, _ = case
    pipe = make_pipeline(StandardScaler().fit(X), FrozenEstimator(model))
    for how in (model.adapt, partial(skmeta.adapt, pipe)):
        for empty in (X[:0], X[:0].tolist(), pd.DataFrame(X[:0])):
            with pytest.raises(ValueError, match="at least one support row"):
                how(empty, y[:0])


@pytest.mark.parametrize(("X", "y"), [(None, None), (None, [1.0]), ([[1.0]], None)])
def test_adapt_without_rows_at_all(case, X, y):
    with pytest.raises(ValueError, match="X and y"):
        case[0].adapt(X, y)


def test_adapt_before_fit():
    with pytest.raises(NotFittedError):
        maml().adapt([[1.0]], [1.0])


# ---- tasks of one row, classes of one row


def with_loners(data, n_loners=3):
    """Tasks, some of one row; a last column numbers the rows."""
    X, y, groups = data()
    groups = groups.copy()
    loners = np.arange(0, 5 * n_loners, 5)
    groups[loners] = 1000 + loners
    return np.column_stack([X, np.arange(len(X))]), y, groups, loners


def numbers_of(rows, model):
    """Undo the standardisation of the column that numbers the rows."""
    last = rows.x[:, -1].double().numpy()
    return np.rint(last * model.x_scale_[-1] + model.x_mean_[-1]).astype(int)


@pytest.mark.parametrize("name", CASES)
def test_task_of_one_row_is_never_on_the_query_side(name, monkeypatch):
    make, data = CASES[name]
    sampler = spy_on_samplers(monkeypatch)
    X, y, groups, loners = with_loners(data)
    model = make().fit(X, y, groups=groups)
    assert model.n_tasks_ == len(np.unique(groups))  # it counts as a task all the same
    episodes = sampler().draw(sampler().eligible.repeat(200), generator())
    asked = set(numbers_of(episodes.query, model))
    assert not asked & set(loners)
    # The check can fail: all the other rows of the regressor come up, and most of a classifier's.
    assert len(asked) > 0.9 * (len(X) - len(loners))


@pytest.mark.parametrize("make", [maml, proto])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_every_task_has_one_row(make, early_stopping):
    X = np.arange(8.0)[:, None]
    y = np.arange(8) % 2
    with pytest.raises(ValueError, match=r"single row|No task can give an episode"):
        make(early_stopping=early_stopping).fit(X, y, groups=np.arange(8))


def test_class_with_one_row_in_a_task_is_support_only(monkeypatch):
    sampler = spy_on_samplers(monkeypatch)
    X, y, groups = wards()
    X = np.column_stack([X, np.arange(len(X))])
    first = np.flatnonzero((groups == 3) & (y == "sick"))[0]
    keep = (groups != 3) | (y == "well") | (np.arange(len(X)) == first)
    model = proto().fit(X[keep], y[keep], groups=groups[keep])
    episodes = sampler().draw(sampler().eligible.repeat(100), generator())
    assert first in numbers_of(episodes.support, model)
    assert first not in numbers_of(episodes.query, model)


@pytest.mark.parametrize("seed", range(5))
def test_early_stopping_never_holds_out_what_gives_no_episode(seed):
    X, y, groups = wards()
    y = np.where(groups < 5, "well", y)  # most tasks hold one class
    model = proto(early_stopping=True, random_state=seed).fit(X, y, groups=groups)
    assert "valid_loss" in model.history_[0]
    X, y, _ = alphabets()
    keep = np.union1d(np.flatnonzero(y < "3"), np.unique(y, return_index=True)[1])
    model = proto(early_stopping=True, random_state=seed).fit(X[keep], y[keep])
    assert "valid_loss" in model.history_[0]


def test_tasks_of_one_class_only_give_no_episode():
    X, _, groups = wards()
    with pytest.raises(ValueError, match="No task can give an episode"):
        proto().fit(X, groups % 2, groups=groups)


# ---- the scale of y


@pytest.mark.parametrize("constant", [0.0, 3.5, -1e6, 1e30])
def test_constant_y_overall(constant):
    X, _, groups = waves()
    model = maml(max_epochs=5).fit(X, np.full(len(X), constant), groups=groups)
    assert model.y_scale_ == 1 and model.y_mean_ == pytest.approx(constant)
    assert_allclose(model.predict(X), constant, rtol=1e-6, atol=0.5)
    assert finite(model.adapt(X[:3], np.full(3, constant)).predict(X))


def test_constant_y_in_a_task():
    X, y, groups = waves()
    y = np.where(groups == 0, 2.0, y)
    model = maml().fit(X, y, groups=groups)
    assert finite(model.adapt(X[:10], y[:10]).predict(X))


def test_one_constant_column_of_y():
    X, y, groups = waves()
    model = maml().fit(X, np.column_stack([y, np.full(len(y), 7.0)]), groups=groups)
    assert model.y_scale_[0] == pytest.approx(y.std()) and model.y_scale_[1] == 1
    assert finite(model.predict(X))


def test_y_scaling_is_learnt_at_fit_and_not_again_at_adapt(case):
    model, X, y, groups = case
    if hasattr(model, "classes_"):
        pytest.skip("classes have no scale")
    assert_allclose([model.y_mean_[0], model.y_scale_[0]], [y.mean(), y.std()])
    far = model.adapt(X[:5], y[:5] * 1000 + 50)
    assert far.y_mean_ is model.y_mean_ and far.y_scale_ is model.y_scale_
    # Powers of two scale without rounding: the same net answers in the other unit.
    other = maml().fit(X, 8 * y, groups=groups)
    assert_array_equal(
        other.adapt(X[:5], 8 * y[:5]).predict(X), 8 * model.adapt(X[:5], y[:5]).predict(X)
    )


# ---- several outputs


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_multi_output_keeps_its_shape(n_outputs):
    X, y, groups = waves()
    y = y[:, None] * np.arange(1, n_outputs + 1)
    model = maml(max_epochs=4).fit(X, y, groups=groups)
    assert model.n_outputs_ == n_outputs
    for fitted in (model, model.adapt(X[:4], y[:4])):
        assert fitted.predict(X).shape == (len(X), n_outputs)
        assert fitted.predict(X[:1]).shape == (1, n_outputs)
    with pytest.raises(ValueError, match=rf"y was \(n, {n_outputs}\) in fit"):
        model.adapt(X[:4], y[:4, 0])
    with pytest.raises(ValueError, match=rf"shape \(4, {n_outputs + 1}\)"):
        model.adapt(X[:4], np.zeros((4, n_outputs + 1)))


def test_one_dimensional_y_refuses_a_column_at_adapt():
    X, y, groups = waves()
    model = maml().fit(X, y, groups=groups)
    assert model.predict(X).shape == (len(X),)
    with pytest.raises(ValueError, match="y was one-dimensional in fit"):
        model.adapt(X[:4], y[:4, None])


# ---- clone, FrozenEstimator, another device


def test_clone_unfits_and_frozen_estimator_keeps(case):
    model, X, y, _ = case
    new = model.adapt(X[:5], y[:5])
    with pytest.raises(NotFittedError):
        clone(new).predict(X)
    kept = clone(FrozenEstimator(new))
    assert_array_equal(kept.predict(X), new.predict(X))
    assert kept.fit(X, y).estimator is kept.estimator
    assert_array_equal(kept.predict(X), new.predict(X))


def test_fitted_on_cuda_loads_where_there_is_none(case, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model, X, y, _ = case
    adapted = model.adapt(X[:5], y[:5])
    state = adapted.__getstate__()
    state["frozen_params_"] = {**state["frozen_params_"], "device": "no-such-device:3"}
    loaded = object.__new__(type(model))
    loaded.__setstate__(pickle.loads(pickle.dumps(state)))
    assert_array_equal(raw(loaded, X), raw(adapted, X))
    assert next(loaded.learner_.parameters()).device.type == "cpu"


# ---- TaskScorer, task too small for the split


def test_task_too_small_to_score_is_counted_or_an_error_if_none_is_left(case):
    model, X, y, groups = case
    _, starts = np.unique(groups, return_index=True)
    keep = np.ones(len(X), dtype=bool)
    keep[starts[0] + 1 : starts[1]] = False  # one task is left with a single row
    with pytest.warns(SkippedTaskWarning, match=r"^1 of \d+ tasks"):
        score = TaskScorer(n_support=3, n_repeats=2)(model, X[keep], y[keep], groups[keep])
    assert np.isfinite(score)
    with pytest.raises(ValueError, match="No task could be scored"):
        TaskScorer(n_support=3)(model, X[starts], y[starts], groups[starts])


def test_log_probabilities_are_logarithms_of_probabilities(case):
    model, X, y, _ = case
    if not hasattr(model, "classes_"):
        assert not hasattr(model, "predict_log_proba")
        return
    for one in (model, model.adapt(X[:9], y[:9])):
        assert_allclose(np.exp(one.predict_log_proba(X)), one.predict_proba(X), rtol=1e-9)
