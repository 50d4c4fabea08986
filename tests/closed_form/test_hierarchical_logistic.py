"""HierarchicalLogisticRegression: what it learns, updates, one-class supports, one task."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from skmeta import HierarchicalLogisticRegression
from skmeta.closed_form import _logistic_learner
from skmeta.core.logistic_mixed import fit_population, marginal_mean
from skmeta.core.tasks import TaskRows
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection import predict_tasks

SCALE, SHIFT = np.array([1.0, 5.0, 0.2]), np.array([0.0, 3.0, -1.0])


def wards(n_tasks=30, n_rows=40, seed=0, level=1.5, slope=0.0):
    """Tasks that share two labels; their levels (at the mean columns), and slopes, differ."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    Z = rng.normal(size=(len(groups), 3))
    own = np.array([1.0, 1.0, -0.5]) + slope * rng.normal(size=(n_tasks, 3))
    levels = level * rng.normal(size=n_tasks)
    odds = levels[groups] + (Z * own[groups]).sum(1)
    y = np.where(rng.random(len(groups)) < expit(odds), "well", "ill")
    return Z * SCALE + SHIFT, y, groups, levels


def flowers(n_tasks=12, n_rows=25, seed=0):
    """Three classes; how frequent they are differs between tasks."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 2))
    level = 1.5 * rng.normal(size=(n_tasks, 3))[groups]
    logits = level + X @ np.array([[2.0, 0.0, -2.0], [0.0, 1.0, -1.0]])
    y = np.array([rng.choice(3, p=softmax(row)) for row in logits])
    return X, np.array(["a", "b", "c"])[y], groups


@pytest.fixture(scope="module")
def fitted():
    X, y, groups, _ = wards()
    return HierarchicalLogisticRegression().fit(X, y, groups=groups)


@pytest.fixture(scope="module")
def three():
    return HierarchicalLogisticRegression().fit(*flowers()[:2], groups=flowers()[2])


# ------------------------------------------------------------------- what fit learns


def test_it_finds_mean_and_spread():
    X, y, groups, _ = wards(150, 60, level=1.0, slope=0.5)
    frame = pd.DataFrame(X, columns=["age", "dose", "time"])
    model = HierarchicalLogisticRegression().fit(frame, y, groups=groups)
    mean, sd = model.coef_mean_, model.coef_sd_
    assert list(mean.index) == list(sd.index) == ["intercept", "age", "dose", "time"]
    np.testing.assert_allclose(mean[1:] * SCALE, [1.0, 1.0, -0.5], atol=0.15)
    np.testing.assert_allclose(sd[1:] * SCALE, 0.5, atol=0.1)
    # The intercept's also holds what slopes do at zero, away from the columns' means.
    at_zero = np.sqrt(1 + (0.5 * SHIFT / SCALE) @ (0.5 * SHIFT / SCALE))
    np.testing.assert_allclose(sd["intercept"], at_zero, rtol=0.2)
    assert model.classes_.tolist() == ["ill", "well"]


@pytest.mark.parametrize("method", ["laplace", "simulate"])
def test_it_beats_a_pooled_model_on_new_tasks(method):
    X, y, groups, _ = wards(12, 60)
    model = HierarchicalLogisticRegression(method=method, random_state=0)
    model.fit(X, y, groups=groups)
    pooled = LogisticRegression().fit(X, y)
    X, y, groups, _ = wards(40, 60, seed=1)
    support = np.arange(len(X)) % 60 < 8
    proba = predict_tasks(
        model, X[support], y[support], groups[support], X[~support], groups[~support],
        method="predict_proba",
    )  # fmt: skip
    theirs = log_loss(y[~support], pooled.predict_proba(X[~support]))
    assert log_loss(y[~support], proba) < 0.9 * theirs
    # Before any support it knows no level, and says so.
    assert log_loss(y[~support], model.predict_proba(X[~support])) < 1.01 * theirs


def simulate(n_tasks, n_rows, center, slope, sd, seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 1))
    logit = center + rng.normal(scale=sd, size=n_tasks)[groups] + slope * X[:, 0]
    return X, (rng.random(len(X)) < expit(logit)).astype(int), groups


def test_slopes_are_found_in_tasks_of_three_rows():
    """Where the mode of everything together is at three quarters of them."""
    model = HierarchicalLogisticRegression()
    found = [
        model.fit(*data[:2], groups=data[2]).coef_mean_.to_numpy()
        for data in (simulate(300, 3, -1.0, 2.0, 1.5, seed) for seed in range(4))
    ]
    np.testing.assert_allclose(np.mean(found, axis=0), [-1.0, 2.0], rtol=0.2)


def test_few_tasks_move_the_mean_in_part():
    """From the mode of everything towards the marginal mean, by the share of their skewness."""
    X, y, groups = simulate(10, 4, -1.0, 2.0, 2.0, 0)
    model = HierarchicalLogisticRegression().fit(X, y, groups=groups)
    learner = model.learner_
    numbers = torch.tensor(np.bincount(groups))
    rows = TaskRows.from_sizes(torch.tensor(model._scaled(X)), torch.tensor(y), numbers)
    batches = learner.batches(rows)
    hyper = torch.cat([learner.precision[None], learner.spread]).log()
    both = learner._spread_and_prior(hyper, True)
    mode = fit_population(batches, *both, 100)
    mean = marginal_mean(batches, *both, 100, mode)
    assert float((mean - mode.mean).abs().max()) > 0.1
    expected = mode.mean + 10 / 30 * (mean - mode.mean)
    # (The intercept is moved once more, see below.)
    np.testing.assert_allclose(model.meta_params_["mean"][1:], expected[1:], rtol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(("n_rare", "n_tasks"), [(1, 20), (12, 20), (6, 100)])
def test_rows_before_any_support_are_told_the_shares_of_the_classes(n_classes, n_rare, n_tasks):
    """By chance alone: the mode of the level said one label in 300 to be one in 40."""
    rng = np.random.default_rng(n_rare)
    groups = np.repeat(np.arange(n_tasks), 15)
    X, y = rng.normal(size=(len(groups), 2)), rng.integers(n_classes - 1, size=len(groups))
    y[rng.permutation(len(y))[:n_rare]] = n_classes - 1
    model = HierarchicalLogisticRegression().fit(X, y, groups=groups)
    told = model.predict_proba(X).mean(axis=0)
    np.testing.assert_allclose(told, np.bincount(y) / len(y), rtol=1e-3)


def test_a_rare_label_is_told_as_often_as_it_comes():
    """One row in a hundred: not twice as often for tasks of which nothing is known."""
    X, y, groups = simulate(150, 40, -7.0, 1.0, 2.0, 0)
    model = HierarchicalLogisticRegression().fit(X, y, groups=groups)
    X, y, groups = simulate(2000, 20, -7.0, 1.0, 2.0, 1)
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), rel=0.3)


def test_tasks_that_are_alike_cost_little():
    X, y, groups, _ = wards(20, 40, level=0.0)
    model = HierarchicalLogisticRegression().fit(X, y, groups=groups)
    assert (model.meta_params_["spread"] < 0.4).all()
    pooled = LogisticRegression(C=1e3).fit(X, y)
    X, y, groups, _ = wards(40, 40, seed=1, level=0.0)
    support = np.arange(len(X)) % 40 < 10
    proba = predict_tasks(
        model, X[support], y[support], groups[support], X[~support], groups[~support],
        method="predict_proba",
    )  # fmt: skip
    theirs = log_loss(y[~support], pooled.predict_proba(X[~support]))
    assert log_loss(y[~support], proba) < 1.02 * theirs


def test_small_batches_make_no_difference(monkeypatch, fitted):
    X, y, groups, _ = wards()
    monkeypatch.setattr(_logistic_learner, "CELLS_AT_A_TIME", 1000)
    again = HierarchicalLogisticRegression().fit(X, y, groups=groups)
    np.testing.assert_allclose(again.coef_mean_, fitted.coef_mean_, rtol=1e-3)
    new, other = (m.adapt(X[:10], y[:10]).predict_proba(X) for m in (fitted, again))
    np.testing.assert_allclose(new, other, rtol=1e-3)


def test_a_part_of_very_many_tasks_is_taken(monkeypatch):
    X, y, groups, _ = wards()
    monkeypatch.setattr(_logistic_learner, "CELLS_IN_ALL", 16 * 10)
    one, two = (
        HierarchicalLogisticRegression(random_state=seed).fit(X, y, groups=groups)
        for seed in (0, 1)
    )
    assert one.n_tasks_ == 30
    assert (one.coef_mean_ != two.coef_mean_).any()


def test_simulation_of_small_tasks_and_of_tiny_ones():
    X, y, groups, _ = wards(30, 40)
    for n_rows in (12, 4, 2):
        few = np.arange(len(X)) % 40 < n_rows
        model = HierarchicalLogisticRegression(method="simulate", max_iter=5, random_state=0)
        model.fit(X[few], y[few], groups=groups[few])
        assert np.isfinite(model.predict_proba(X)).all()


def test_simulation_depends_on_its_seed_alone():
    X, y, groups, _ = wards(8, 20)
    models = [
        HierarchicalLogisticRegression(method="simulate", random_state=seed).fit(
            X, y, groups=groups
        )
        for seed in (0, 0, 1)
    ]
    means = [model.coef_mean_ for model in models]
    assert (means[0] == means[1]).all() and (means[0] != means[2]).any()


@pytest.mark.parametrize("n_support", [(), (0, 5), (2.5,), ("a",)])
def test_odd_support_sizes_are_refused(n_support):
    X, y, groups, _ = wards(4, 10)
    with pytest.raises(ValueError, match="n_support"):
        HierarchicalLogisticRegression(n_support=n_support).fit(X, y, groups=groups)


def test_tasks_of_one_row_are_refused():
    X, y, _, _ = wards(4, 10)
    with pytest.raises(ValueError, match="single row"):
        HierarchicalLogisticRegression().fit(X, y, groups=np.arange(len(X)))


# ------------------------------------------------------------------- one task


@pytest.mark.parametrize("ids", [None, 0])
def test_one_task_is_a_ridge_logistic_regression(ids):
    X, y = load_iris(return_X_y=True)
    groups = None if ids is None else np.zeros(len(y))
    with pytest.warns(SingleTaskWarning):
        model = HierarchicalLogisticRegression().fit(X, y, groups=groups)
    assert model.adapted_ and model.score(X, y) > 0.95
    assert (model.coef_sd_ == 0).all()
    assert model.predict_proba(X[:4]).shape == (4, 3)


def test_one_task_equals_scikit_learn():
    X, y, _, _ = wards(1, 300)
    with pytest.warns(SingleTaskWarning):
        model = HierarchicalLogisticRegression().fit(X, y)
    penalty = float(model.meta_params_["precision"])
    Z = StandardScaler().fit_transform(X)
    theirs = LogisticRegression(C=1 / penalty, tol=1e-10).fit(Z, y)
    np.testing.assert_allclose(model.meta_params_["mean"][1:], theirs.coef_[0], rtol=1e-3)
    # The posterior is narrow here, and hardly draws probabilities towards a half.
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(Z), atol=0.03)


# ------------------------------------------------------------------- adapt and update


@given(split=st.integers(1, 14), seed=st.integers(0, 3))
def test_update_equals_adapt_on_all_rows(fitted, split, seed):
    X, y, _, _ = wards(1, 40, seed=seed + 10)
    whole = fitted.adapt(X[:15], y[:15])
    parts = fitted.adapt(X[:split], y[:split]).update(X[split:15], y[split:15])
    for a, b in zip(parts.state_.values(), whole.state_.values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(parts.predict_proba(X), whole.predict_proba(X), rtol=1e-9)


def test_update_with_three_classes_before_adapt_and_after_a_pickle(three):
    X, y, _ = flowers(1, 40, seed=3)
    whole = three.adapt(X[:20], y[:20]).predict_proba(X)
    first = pickle.loads(pickle.dumps(three.update(X[:7], y[:7])))
    np.testing.assert_allclose(first.update(X[7:20], y[7:20]).predict_proba(X), whole, rtol=1e-9)


def test_a_support_of_one_class_keeps_all_columns(fitted, three):
    X, _, _, _ = wards(1, 40, seed=5)
    before = fitted.predict_proba(X)[:, 1]
    for label, sign in (("well", 1), ("ill", -1)):
        seen = before
        for n in (1, 3, 10, 40):
            proba = fitted.adapt(X[:n], [label] * n).predict_proba(X)
            assert proba.shape == (40, 2) and np.isfinite(proba).all()
            assert (sign * (proba[:, 1] - seen) > 0).mean() > 0.9
            seen = proba[:, 1]
    X, _, _ = flowers(1, 40, seed=3)
    proba = three.adapt(X[:5], ["b"] * 5).predict_proba(X)
    assert proba.shape == (40, 3) and (proba > 0).all()
    assert proba[:, 1].mean() > three.predict_proba(X)[:, 1].mean()


def test_separable_rows_stay_finite():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 20)
    X = rng.normal(size=(120, 2))
    y = (X[:, 0] > 0).astype(int)
    model = HierarchicalLogisticRegression().fit(X, y, groups=groups)
    proba = model.adapt(X[:20], y[:20]).predict_proba(X)
    assert np.isfinite(proba).all() and np.isfinite(model.decision_function(X)).all()
    assert model.score(X, y) > 0.97


def test_three_classes(three):
    X, y, groups = flowers(30, 60, seed=1)
    support = np.arange(len(X)) % 60 < 20
    args = (X[support], y[support], groups[support], X[~support], groups[~support])
    proba = predict_tasks(three, *args, method="predict_proba")
    np.testing.assert_allclose(proba.sum(1), 1)
    assert log_loss(y[~support], proba) < 0.95 * log_loss(
        y[~support], three.predict_proba(X[~support])
    )
    assert (predict_tasks(three, *args) == three.classes_[proba.argmax(1)]).all()
    mean = three.coef_mean_
    assert mean.index.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(mean.sum(axis=0), 0, atol=1e-12)
    assert three.coef_sd_.shape == (3,)


def test_two_classes_in_other_words():
    """Names of classes and units of columns change nothing but themselves."""
    X, y, groups, _ = wards(10, 30)
    one = HierarchicalLogisticRegression().fit(X, y, groups=groups)
    other = HierarchicalLogisticRegression().fit(100 * X + 7, np.where(y == "ill", 1, 0), groups)
    first = one.adapt(X[:9], y[:9]).predict_proba(X)
    second = other.adapt(100 * X[:9] + 7, np.where(y[:9] == "ill", 1, 0)).predict_proba(100 * X + 7)
    np.testing.assert_allclose(first, second[:, ::-1], rtol=1e-5)
    np.testing.assert_allclose(one.coef_mean_[1:], -100 * other.coef_mean_[1:], rtol=1e-4)
    np.testing.assert_allclose(one.coef_sd_[1:], 100 * other.coef_sd_[1:], rtol=1e-4)


@pytest.mark.parametrize("method", ["predict_proba", "decision_function"])
def test_many_tasks_equal_one_by_one(fitted, three, method):
    rng = np.random.default_rng(0)
    for model, (X, y, groups) in ((fitted, wards(12, 40, seed=2)[:3]), (three, flowers(seed=2))):
        place = np.arange(len(X)) - np.searchsorted(groups, groups)
        support = place < rng.integers(0, 20, size=12)[groups]  # ragged, some have none
        together = predict_tasks(
            model, X[support], y[support], groups[support], X[~support], groups[~support],
            method=method,
        )  # fmt: skip
        for t in range(12):
            own, query = support & (groups == t), ~support & (groups == t)
            alone = model.adapt(X[own], y[own]) if own.any() else model
            np.testing.assert_allclose(
                together[groups[~support] == t],
                getattr(alone, method)(X[query]),
                rtol=1e-7,
                atol=1e-9,
            )


def test_unknown_labels_are_named(fitted):
    X, y, groups, _ = wards(2, 10)
    with pytest.raises(ValueError, match="dead"):
        fitted.adapt(X, np.where(groups == 0, y, "dead"))
    with pytest.raises(ValueError, match="dead"):
        fitted.task_effects(X, np.where(groups == 0, y, "dead"), groups)


@pytest.mark.parametrize("far", [1e8, -1e8, 1e200, -1e200, 1e307, -1e307])
def test_rows_far_away_give_finite_answers_or_plain_words(fitted, far):
    X, y, _, _ = wards(1, 10)
    X[0, 0] = far
    text = ""
    try:
        proba = fitted.adapt(X, y).predict_proba(X[1:])
    except ValueError as error:
        text = str(error)
    if abs(far) == 1e8 or not text:
        assert np.isfinite(proba).all()
    else:
        assert "far outside" in text


# ------------------------------------------------------------------- task_effects


def test_task_effects_find_the_levels(fitted):
    X, y, groups, levels = wards()
    frame = fitted.task_effects(X, y, np.array([f"w{g:02}" for g in groups]))
    assert frame.index.name == "task" and frame.index[3] == "w03"
    assert frame.shape == (30, 8)
    effect = frame["effect"] @ [1.0, *SHIFT]
    assert np.corrcoef(effect, levels)[0, 1] > 0.9
    assert (frame["std"] > 0).all(axis=None)


def test_task_effects_of_three_classes(three):
    X, y, groups = flowers()
    frame = three.task_effects(X, y, groups)
    assert frame.shape == (12, 2 * 3 * 3)
    total = sum(frame["effect"][label] for label in "abc")
    np.testing.assert_allclose(total, 0, atol=1e-10)


def test_a_fitted_estimator_holds_no_row(fitted):
    assert all(value.shape[1] == 0 for name, value in fitted.state_.items() if name != "mode")


def test_max_iter_counts_steps():
    X, y, groups, _ = wards(6, 10)
    for method in ("laplace", "simulate"):
        model = HierarchicalLogisticRegression(method=method, max_iter=1).fit(X, y, groups=groups)
        assert model.n_iter_ == len(model.history_) == (2 if method == "simulate" else 1)
        assert np.isfinite([row["train_loss"] for row in model.history_]).all()
