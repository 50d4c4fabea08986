"""The automatic choice: what it chooses, and that it does so without leaking."""

from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression

from skmeta import ALPaCARegressor, AutoMetaRegressor, HierarchicalRidge
from skmeta.auto import _regressor
from skmeta.auto._blend import some_adapting
from skmeta.auto._regressor import Regressors
from skmeta.model_selection import TaskScorer, predict_tasks

FAST = {"cv": 3, "n_repeats": 2, "n_support": (0, 2, 5), "random_state": 0}


def tasks(kind, n_tasks=30, n_rows=12, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 2))
    noise = 0.3 * rng.normal(size=len(groups))
    if kind == "same":
        return X, np.sin(2 * X[:, 0]) + X[:, 1] + noise, groups
    if kind == "lines":
        slopes = rng.normal(1, 1, size=(n_tasks, 2))[groups]
        return X, (slopes * X).sum(axis=1) + rng.normal(size=n_tasks)[groups] + noise, groups
    phase = rng.uniform(0, np.pi, size=n_tasks)[groups]
    return X, 2 * np.sin(2 * X[:, 0] + phase) + noise, groups


@pytest.fixture(scope="module")
def lines():
    X, y, groups = tasks("lines")
    return AutoMetaRegressor(**FAST).fit(X, y, groups=groups), X, y, groups


@pytest.fixture
def small_net(monkeypatch):
    """A net as a member that learns little: whether it is tried is asked, not how good it is."""
    options = {"hidden_layer_sizes": (20,), "max_epochs": 3}
    monkeypatch.setattr(_regressor, "ALPaCARegressor", partial(ALPaCARegressor, **options))


@pytest.mark.slow
def test_lines_get_a_linear_member_and_curves_do_not(lines, small_net):
    model = lines[0]
    by_loss = model.scores_.drop(index="blend")[5].sort_values()
    assert by_loss.index[0] in ("linear", "gp")
    assert by_loss["pooled linear"] > 2 * by_loss.iloc[0]
    X, y, groups = tasks("curves")
    curved = AutoMetaRegressor(**FAST).fit(X, y, groups=groups)
    assert curved.scores_.loc["gp", 5] < 0.7 * curved.scores_.loc["linear", 5]
    assert sum(w for name, w in curved.selected_.items() if "gp" in name or name == "net") > 0.8
    assert "net" in curved.scores_.index
    assert "net" not in model.scores_.index


@pytest.mark.slow
def test_identical_tasks_are_no_worse_than_the_pooled_models(small_net):
    X, y, groups = tasks("same", n_tasks=40)
    train = groups < 30
    model = AutoMetaRegressor(**FAST).fit(X[train], y[train], groups=groups[train])
    support = ~train & (np.arange(len(y)) % 12 < 5)
    query = ~train & ~support
    data = (X[support], y[support], groups[support], X[query], groups[query])
    loss = np.mean((predict_tasks(model, *data) - y[query]) ** 2)
    pooled = np.mean((model.predict(X[query]) - y[query]) ** 2)
    assert loss < 1.05 * pooled
    assert loss < 0.25  # the noise alone is .09; a line leaves .5


def test_no_member_sees_the_tasks_it_is_judged_on(monkeypatch):
    X, y, groups = tasks("lines", n_tasks=9)
    X[:, 1] = groups  # every row says whose it is
    seen = []
    original = Regressors.fit

    def spy(candidates, X, y, numbers):
        seen.append(set(X[:, 1]))
        return original(candidates, X, y, numbers)

    monkeypatch.setattr(Regressors, "fit", spy)
    judged = []
    original_predict = Regressors.predict

    def spy_predict(names, fits, population, X, **how):
        judged.append(set(X[:, 1]))
        return original_predict(names, fits, population, X, **how)

    monkeypatch.setattr(Regressors, "predict", spy_predict)
    monkeypatch.setattr(_regressor, "WORTH_BOOSTING", np.inf)  # members that are tried later, too
    AutoMetaRegressor(**FAST).fit(X, y, groups=groups)
    # Twice three folds, and all tasks; three support sizes.
    assert len(seen) == 7 and len(judged) == 18
    for i, tasks_judged in enumerate(judged):
        assert not tasks_judged & seen[i // 3]
    assert set.union(*judged) == set(range(9))


def test_update_is_adapt_on_all_rows_and_batches_are_single_tasks(lines):
    model, X, y, groups = lines
    a, b, rest = X[:3], X[3:6], X[6:12]
    once = model.adapt(X[:6], y[:6])
    assert_allclose(model.adapt(a, y[:3]).update(b, y[3:6]).predict(rest), once.predict(rest))
    assert_allclose(model.update(X[:6], y[:6]).predict(rest), once.predict(rest))
    support = np.arange(len(y)) % 12 < 1 + groups % 5
    together = predict_tasks(
        model, X[support], y[support], groups[support], X[~support], groups[~support]
    )
    for task in (0, 7, 29):
        own = groups == task
        alone = model.adapt(X[own & support], y[own & support]).predict(X[own & ~support])
        assert_allclose(together[groups[~support] == task], alone, rtol=1e-7)
    asked = np.where(np.arange(6) < 3, groups[12:18] + 100, groups[:6])
    unknown = predict_tasks(model, X[:3], y[:3], groups[:3], X[12:18], asked, return_std=True)
    assert_allclose(np.array(unknown)[:, :3], model.predict(X[12:15], return_std=True))


def test_tables_are_interpolated_in_the_number_of_rows(lines):
    model = lines[0]
    n_rows = np.array([0, 2, 3, 5, 50])
    share = (np.log(4) - np.log(3)) / (np.log(6) - np.log(3))
    weights = model._at(n_rows, model._weights)
    stored = model.weights_.to_numpy().T
    assert_allclose(weights[[0, 1, 3, 4]], stored[[0, 1, 2, 2]])
    assert_allclose(weights[2], (1 - share) * stored[1] + share * stored[2])
    assert_allclose(weights.sum(axis=1), 1)
    # Standard deviations in between are geometric means.
    for found, part in zip(
        model._spreads_at(n_rows), np.moveaxis(model._about, -1, 0), strict=True
    ):
        assert found.shape == (5, len(model._names), 1)
        assert_allclose(np.log(found[[0, 1, 3, 4]]), part[[0, 1, 2, 2]])
        assert_allclose(np.log(found[2]), (1 - share) * part[1] + share * part[2])


def test_beyond_the_sizes_that_were_judged_those_that_adapt_take_over(lines):
    model = lines[0]
    names = ["pooled linear", "linear", "gp"]
    weights = np.array([[1.0, 0.0, 0.0], [0.5, 0.2, 0.3], [0.6, 0.1, 0.3]])
    model = model._sibling(_names=names, _weights=weights)  # judged with 0, 2 and 5 rows
    found = model._weights_at(np.array([0, 2, 5, 10, 5000]))
    assert_allclose(found[:3], weights)
    own = np.array([0.0, 0.25, 0.75])
    assert_allclose(found[3], 0.5 * weights[2] + 0.5 * own)
    assert_allclose(found[4], 0.001 * weights[2] + 0.999 * own)
    assert_allclose(model._sibling(_sizes=np.zeros(1), _weights=weights[1:2])._weights_at(
        np.array([0, 1, 4])), [weights[1], weights[1], 0.25 * weights[1] + [0, 0.3, 0.45]]
    )  # fmt: skip


def test_some_member_that_adapts_stays():
    weights, losses = np.array([[1.0, 0, 0, 0], [0.7, 0.3, 0, 0]]), np.ones((2, 4))
    losses[1] = [1, 0.5, 3, 2]
    adapts = np.array([False, False, True, True])
    expected = [[1.0, 0, 0, 0], [0.98 * 0.7, 0.98 * 0.3, 0, 0.02]]
    assert_allclose(some_adapting(weights, losses, adapts), expected)
    assert some_adapting(weights, losses, np.array([False, True, True, True])) is weights


@pytest.mark.parametrize("seed", [0, 3])
def test_a_task_with_many_rows_is_learned_though_tasks_in_training_had_few(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(20), 4)
    X, coef = rng.normal(size=(80, 2)), 0.4 * rng.normal(size=(20, 3)) + [0, 1, 1]
    y = coef[groups, 0] + (coef[groups, 1:] * X).sum(1) + rng.normal(size=80)
    model = AutoMetaRegressor(cv=3, n_repeats=3, random_state=0).fit(X, y, groups=groups)
    error = {"auto": [], "pooled": [], "alone": []}
    for level, *slopes in 0.4 * rng.normal(size=(10, 3)) + [0, 1, 1]:
        X = rng.normal(size=(500, 2))
        f = level + X @ slopes
        y = f + rng.normal(size=500)
        own = LinearRegression().fit(X[:400], y[:400])
        for name, one in (
            ("auto", model.adapt(X[:400], y[:400])),
            ("pooled", model),
            ("alone", own),
        ):
            error[name].append(np.mean((one.predict(X[400:]) - f[400:]) ** 2))
    auto, pooled, alone = (np.mean(values) for values in error.values())
    assert auto < 0.06 * pooled  # .15 and more, as long as pooled models kept their say
    assert auto < alone + 0.03


@pytest.mark.parametrize("k", [0, 2, 4])
def test_predict_is_the_blend_of_what_the_members_say(lines, k):
    model, X, y, _ = lines
    adapted = model.adapt(X[:k], y[:k]) if k else model
    total, centre, second = 0.0, 0.0, 0.0
    typical, scale = model._spreads_at(np.array([k]))
    weights = model._at(np.array([k]), model._weights)[0]
    for i, name in enumerate(model._names):
        fit, adapts = Regressors.roles[name]
        member = (adapted.members_ if adapts else model._population)[fit]
        mean, std = member.predict(X[6:12], return_std=True)
        if name == "pooled boosting":
            mean = member.feature_regressors_[0].predict(X[6:12])
        ratio = np.clip(std / model.y_scale_[0] / typical[0, i, 0], 0.5, 2.0)
        share = weights[i] / ratio**2
        total = total + share
        centre = centre + share * mean
        second = second + share * ((scale[0, i, 0] * std) ** 2 + mean**2)
    centre = centre / total
    spread = np.sqrt(second / total - centre**2)
    factor = model._at(np.array([k]), model._factors)[0]
    found = adapted.predict(X[6:12], return_std=True)
    assert_allclose(found[0], centre, rtol=1e-9)
    assert_allclose(found[1], factor * spread, rtol=1e-6)
    assert_allclose(adapted.predict(X[6:12]), centre, rtol=1e-9)


@pytest.mark.parametrize(("unit", "rtol"), [(1e-3, 1e-6), (1e-170, 0.02)])
def test_units_of_y_change_nothing(lines, unit, rtol):
    """But for boosting, whose slopes are in single precision."""
    model, X, y, groups = lines
    other = AutoMetaRegressor(**FAST).fit(X, unit * y, groups=groups)
    found = other.adapt(X[:3], unit * y[:3]).predict(X[6:12], return_std=True)
    expected = model.adapt(X[:3], y[:3]).predict(X[6:12], return_std=True)
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a / unit, b, rtol=rtol)


def test_intervals_cover_new_tasks():
    X, y, groups = tasks("lines", n_tasks=80, seed=3)
    train = groups < 40
    model = AutoMetaRegressor(**FAST).fit(X[train], y[train], groups=groups[train])
    inside = []
    for task in range(40, 80):
        own = np.flatnonzero(groups == task)
        mean, std = model.adapt(X[own[:5]], y[own[:5]]).predict(X[own[5:]], return_std=True)
        inside.append(np.abs(y[own[5:]] - mean) < 1.645 * std)
    assert 0.82 < np.mean(inside) < 0.97


def test_several_outputs():
    X, y, groups = tasks("lines", n_tasks=8)
    both = np.column_stack([y, -3 * y + 1])
    model = AutoMetaRegressor(**FAST).fit(X, both, groups=groups)
    mean, std = model.adapt(X[:6], both[:6]).predict(X[6:12], return_std=True)
    assert mean.shape == std.shape == (6, 2)
    assert_allclose(mean[:, 1], -3 * mean[:, 0] + 1, atol=0.35)


def test_two_tasks_and_one():
    X, y, groups = tasks("lines", n_tasks=2)
    two = AutoMetaRegressor(**FAST).fit(X, y, groups=groups)
    assert two.selected_ == {"linear": 1.0}
    expected = HierarchicalRidge().fit(X, y, groups=groups).adapt(X[:5], y[:5]).predict(X[5:12])
    assert_allclose(two.adapt(X[:5], y[:5]).predict(X[5:12]), expected)


@pytest.mark.parametrize("n_support", [(), (-1, 2), (1.5,), "ab", [[]]])
def test_odd_support_sizes_are_refused(n_support):
    X, y, groups = tasks("lines", n_tasks=4)
    with pytest.raises(ValueError, match="n_support"):
        AutoMetaRegressor(**{**FAST, "n_support": n_support}).fit(X, y, groups=groups)


@pytest.mark.parametrize(
    ("n_rows", "n_support"), [(2, (0, 1, 3)), (3, (0, 5)), (6, (0, 5)), (6, (50,))]
)
def test_small_tasks_are_judged_by_what_they_have(n_rows, n_support, small_net):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), n_rows)
    X = rng.normal(size=(len(groups), 1))
    y = X[:, 0] + rng.normal(0, 2, 30)[groups] + 0.1 * rng.normal(size=len(groups))
    train = groups < 15
    model = AutoMetaRegressor(cv=2, n_support=n_support, n_repeats=2, random_state=0)
    model.fit(X[train], y[train], groups=groups[train])
    asked = [size for size in n_support if 0 < size < n_rows]
    assert model.weights_.columns.max() == max(asked, default=n_rows - 1)
    new = X[~train], y[~train], groups[~train]
    error = {
        size: -TaskScorer("neg_mean_squared_error", n_support=size)(model, *new)
        for size in (0, n_rows - 1)
    }
    assert error[n_rows - 1] < 0.2 * error[0]


def test_below_the_smallest_size_that_was_judged_weights_are_shares():
    X, y, groups = tasks("lines")
    model = AutoMetaRegressor(**{**FAST, "n_support": (3,)}).fit(X, y, groups=groups)
    expected = np.zeros(len(X))
    for name, share in model.weights_[3].items():
        member = model.members_[Regressors.roles[name][0]]
        predictor = member.feature_regressors_[0] if name == "pooled boosting" else member
        expected += share * predictor.predict(X)
    assert_allclose(model.predict(X), expected, rtol=1e-9)


def test_folds_in_parallel_and_a_bar_change_nothing(small_net, capsys):
    X, y, groups = tasks("lines", n_tasks=9, n_rows=6)
    alone = AutoMetaRegressor(**FAST).fit(X, y, groups=groups)
    assert capsys.readouterr().err == ""
    both = AutoMetaRegressor(n_jobs=2, verbose=1, **FAST).fit(X, y, groups=groups)
    assert "compare linear, gp, boosted linear: 100%" in capsys.readouterr().err
    assert_allclose(both.scores_, alone.scores_, rtol=1e-9)
    assert_allclose(both.predict(X), alone.predict(X), rtol=1e-9)
