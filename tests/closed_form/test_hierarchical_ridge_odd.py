"""HierarchicalRidge in odd corners: tables that are nearly singular, far off, or small."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import block_diag
from scipy.stats import multivariate_normal
from sklearn.base import clone

from skmeta import HierarchicalRidge
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection import predict_tasks
from tests.closed_form.mixed import COVARIANCES, FULL, RAGGED, simulate, with_constant

pd = pytest.importorskip("pandas")


def finite_in_every_way(model, X, y, groups):
    numbers = [*model.predict(X, return_std=True)]
    adapted = model.adapt(X[:2], y[:2])
    numbers += [*adapted.predict(X, return_std=True)]
    numbers += [model.coef_mean_, model.coef_cov_, model.noise_var_]
    if groups is not None:
        numbers += [model.task_effects(X, y, groups)]
    for values in numbers:
        assert np.isfinite(np.asarray(values)).all()
    assert np.linalg.eigvalsh(model.coef_cov_)[0] >= -1e-9 * np.trace(model.coef_cov_)


ODD = {
    "collinear": lambda X, y: (np.column_stack([X, X.sum(1)]), y),
    "equal columns": lambda X, y: (np.column_stack([X, X]), y),
    "constant column": lambda X, y: (np.column_stack([X, np.full(len(X), 7.0)]), y),
    "all columns constant": lambda X, y: (np.zeros_like(X), y),
    "constant y": lambda X, y: (X, np.full(len(y), 3.0)),
    "huge X": lambda X, y: (X * 1e100, y),
    "tiny X": lambda X, y: (X * 1e-100, y),
    "huge y": lambda X, y: (X, y * 1e100),
    "tiny y": lambda X, y: (X, y * 1e-100),
    "far from zero": lambda X, y: (X + 1e6, y + 1e6),
    "one value far off": lambda X, y: (np.where(np.arange(len(X))[:, None] == 3, 1e9, X), y),
    "one target far off": lambda X, y: (X, np.where(np.arange(len(X)) == 3, 1e9, y)),
    "binary": lambda X, y: (X.mean(0) < X, y > y.mean()),
    "no noise": lambda X, y: (X, X @ [1.0, -2.0] + 3),
}


@pytest.mark.parametrize("prior", ["auto", "flat"])
@pytest.mark.parametrize("odd", ODD)
def test_odd_tables_give_finite_answers(odd, prior):
    X, y, groups = simulate(RAGGED[:12], FULL)
    X, y = ODD[odd](X, y)
    for covariance in COVARIANCES if prior == "auto" else ["auto"]:
        model = HierarchicalRidge(covariance=covariance, mean_prior=prior, max_iter=15)
        finite_in_every_way(model.fit(X, y, groups=groups), X, y, groups)


@pytest.mark.parametrize("odd", ["constant column", "equal columns"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_columns_that_say_nothing_new_change_nothing(method, odd):
    X, y, groups = simulate(RAGGED, FULL)
    more = X[:, 1] if odd == "equal columns" else np.full(len(X), 1e4)
    wide = np.column_stack([X, more])
    options = {"method": method, "covariance": "full", "mean_prior": "flat"}
    plain = HierarchicalRidge(**options).fit(X, y, groups=groups)
    model = HierarchicalRidge(**options).fit(wide, y, groups=groups)
    assert model.noise_var_ == pytest.approx(plain.noise_var_, rel=1e-4)
    for one, other in (
        (model, plain),
        (model.adapt(wide[:4], y[:4]), plain.adapt(X[:4], y[:4])),
    ):
        found, expected = one.predict(wide, return_std=True), other.predict(X, return_std=True)
        assert_allclose(found[0], expected[0], rtol=1e-3, atol=1e-3)
        assert_allclose(found[1], expected[1], rtol=1e-3)
    if odd == "constant column":
        names = ["intercept", "x0", "x1"]
        found = model.coef_cov_.loc[names, names]
        assert_allclose(found, plain.coef_cov_, rtol=0.01, atol=0.005)
        effects = [m.task_effects(Z, y, groups) for m, Z in ((model, wide), (plain, X))]
        for what in ("effect", "std"):
            assert_allclose(effects[0][what][names], effects[1][what], rtol=0.01, atol=0.005)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_targets_that_are_the_level_of_their_task(covariance, method):
    for seed in (5, 13) if covariance == "auto" else (0,):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(5), 8)
        level = rng.normal(size=5)[groups]
        X = rng.normal(size=(40, 3))
        X[:, 0] = groups
        model = HierarchicalRidge(method=method, covariance=covariance, max_iter=50)
        model.fit(X, level, groups=groups)
        finite_in_every_way(model, X, level, groups)
        assert_allclose(model.adapt(X[:2], [7.0, 7.0]).predict(X[:2]), 7, atol=0.1)


def test_one_row_far_from_the_others():
    X, y, groups = simulate(RAGGED, FULL, shift=[5.0, -30.0], scale=[2.0, 10.0])
    X[3] = 1e9
    finite_in_every_way(HierarchicalRidge().fit(X, y, groups=groups), X, y, groups)


@pytest.mark.parametrize("scale", [1e4, 1e8, 1e12, 1e100, 1e160])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_support_far_from_the_training_rows_gives_finite_answers_or_a_reason(noise, scale):
    X, y, groups = simulate([8] * 20, FULL, noise=noise)
    model = HierarchicalRidge().fit(X, y, groups=groups)
    for k in (1, 3, 10):
        found, reason = 0.0, "far outside"
        try:
            found = model.adapt(X[:k] * scale, y[:k]).predict(X, return_std=True)
        except ValueError as error:
            reason = str(error)
        assert np.isfinite(found).all() and "far outside" in reason


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("sizes", [[4, 4], [5, 1, 1], [2] * 5, [2, 1], [9]], ids=str)
@pytest.mark.parametrize("d", [1, 10], ids=["p < n", "p > n"])
def test_few_tasks_and_few_rows(sizes, covariance, d):
    X, y, groups = simulate(sizes, np.eye(d + 1))
    for method, prior in (("reml", "auto"), ("ml", "auto"), ("reml", "flat")):
        if "auto" not in (covariance, prior):
            continue
        model = HierarchicalRidge(
            method=method, covariance=covariance, mean_prior=prior, max_iter=12
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if len(sizes) == 1 else "error", SingleTaskWarning)
            model.fit(X, y, groups=groups)
        assert model.adapted_ == (len(sizes) == 1) and model.n_tasks_ == len(sizes)
        finite_in_every_way(model, X, y, groups)


def test_one_task_is_a_bayesian_regression():
    X, y, _ = simulate([200], 0 * np.eye(3))
    with pytest.warns(SingleTaskWarning):
        model = HierarchicalRidge(mean_prior="flat").fit(X, y)
    Z = with_constant(X)
    coef, (rss,), *_ = np.linalg.lstsq(Z, y, rcond=None)
    assert_allclose(model.coef_mean_, coef, rtol=1e-6)
    assert model.noise_var_ == pytest.approx(rss / 197, rel=1e-6)
    assert_allclose(model.coef_cov_, 0)
    _, std = model.predict(X, return_std=True)
    spread = np.einsum("ip,pq,iq->i", Z, np.linalg.inv(Z.T @ Z), Z)
    assert_allclose(std**2, (1 + spread) * rss / 197, rtol=1e-6)


def test_low_rank_with_more_columns_than_rows():
    rng = np.random.default_rng(0)
    X, y, groups = rng.normal(size=(20, 20)), rng.normal(size=20), np.arange(20) % 10
    model = HierarchicalRidge(covariance="low_rank").fit(X, y, groups=groups)
    finite_in_every_way(model, X, y, groups)


def test_every_task_of_one_row_is_refused():
    with pytest.raises(ValueError, match="single row"):
        HierarchicalRidge().fit([[1.0], [2.0], [3.0]], [1.0, 2, 3], groups=[0, 1, 2])


def test_many_more_columns_than_rows():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(60, 70)), np.repeat(np.arange(12), 5)
    y = 2 * X[:, 0] + rng.normal(size=12)[groups] + 0.1 * rng.normal(size=60)
    model = HierarchicalRidge(max_iter=15).fit(X, y, groups=groups)
    finite_in_every_way(model, X, y, groups)


def test_intervals_hold_with_more_columns_than_rows():
    """Most of a new row lies where no row of training was: there its slopes are as the prior."""
    held = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        slopes = rng.normal(size=120) / np.sqrt(60)
        groups, X = np.repeat(np.arange(72), 5), rng.normal(size=(360, 120))
        y = X @ slopes + rng.normal(size=72)[groups] + 0.5 * rng.normal(size=360)
        new = groups >= 12
        model = HierarchicalRidge().fit(X[~new], y[~new], groups=groups[~new])
        shown = new & (np.arange(360) % 5 < 3)
        rest = new & ~shown
        mean, std = predict_tasks(
            model, X[shown], y[shown], groups[shown], X[rest], groups[rest], return_std=True
        )
        held.append(np.mean(np.abs(mean - y[rest]) < 1.645 * std))
    assert 0.82 < np.mean(held) < 0.97


def test_what_no_row_says_is_held_at_zero_or_as_wide_as_the_prior():
    X, y, groups = simulate([8] * 20, FULL)
    wide = np.column_stack([X, np.zeros(len(X))])
    there = np.zeros((2, wide.shape[1]))
    there[1, -1] = 5.0
    for prior in ("flat", "ridge"):
        model = HierarchicalRidge(mean_prior=prior, covariance="isotropic")
        mean, std = model.fit(wide, y, groups=groups).predict(there, return_std=True)
        assert_allclose(mean[1], mean[0], rtol=1e-6)
        if prior == "flat":
            assert_allclose(std[1], std[0], rtol=0.01)
        else:
            slopes = model.coef_mean_.to_numpy()[1:]
            spread = np.sqrt((std[1] ** 2 - std[0] ** 2) / 25 - model.coef_cov_.iloc[-1, -1])
            assert 0.5 < spread / np.sqrt(np.mean(slopes[:-1] ** 2)) < 2


@pytest.mark.parametrize("covariance", ["diag", "full", "low_rank"])
def test_a_constant_column_leaves_the_fit_alone_with_hardly_any_noise(covariance):
    """The search begins where noise is next to nothing, too, whatever is unknown."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        groups, X = np.repeat(np.arange(12), 8), rng.normal(size=(96, 2))
        y = rng.normal(size=12)[groups] + (rng.normal(1, 0.5, (12, 2))[groups] * X).sum(1)
        y += 1e-4 * rng.normal(size=96)
        model = HierarchicalRidge(covariance=covariance, mean_prior="ridge")
        noise = model.fit(X, y, groups=groups).noise_var_
        wide = np.column_stack([X, np.full(96, 3.0)])
        assert model.fit(wide, y, groups=groups).noise_var_ == pytest.approx(noise, rel=0.05)
        assert_allclose(model.coef_cov_.iloc[-1], 0, atol=1e-6)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("extra", ["constant", "copies"])
def test_columns_that_say_nothing_leave_the_others_alone(extra, method):
    rng = np.random.default_rng(12)
    groups, X = np.repeat(np.arange(12), 10), rng.normal(size=(120, 2))
    slopes = rng.normal(1, 0.5, size=(12, 2))[groups]
    y = rng.normal(size=12)[groups] + (slopes * X).sum(1) + 0.3 * rng.normal(size=120)
    ridge = HierarchicalRidge(method=method, mean_prior="ridge", covariance="isotropic")
    plain = clone(ridge).fit(X, y, groups=groups)
    for n in (3, 20):
        more = np.zeros((120, n)) if extra == "constant" else np.tile(X, (1, n))
        wide = np.column_stack([X, more])
        model = clone(ridge).fit(wide, y, groups=groups)
        assert_allclose(model.predict(wide), plain.predict(X), atol=5e-3)
        if extra == "constant":
            assert_allclose(model.coef_mean_.iloc[:3], plain.coef_mean_, atol=1e-3)


@pytest.mark.parametrize(
    ("d", "n_tasks", "covariance"), [*((1, 10, form) for form in COVARIANCES), (3, 25, "auto")]
)
@pytest.mark.parametrize("sd", [0.0, 0.3], ids=["one slope", "slopes vary"])
@pytest.mark.parametrize("noise", [0.0, 1e-4, 1.0])
def test_mean_slopes_are_found_whatever_the_noise(d, n_tasks, noise, sd, covariance):
    """The ridge prior of the mean is as wide as the slopes, be they 1e5 times the noise."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(n_tasks), 10)
        X = rng.uniform(0, 10, size=(len(groups), d))
        level = rng.normal(1, 0.5, size=n_tasks)[groups]
        slopes = 2 + (sd * rng.normal(size=(n_tasks, d)) if sd else np.zeros((n_tasks, d)))
        y = level + (slopes[groups] * X).sum(1) + noise * rng.normal(size=len(X))
        model = HierarchicalRidge(covariance=covariance, mean_prior="ridge")
        found = model.fit(X, y, groups=groups).coef_mean_.to_numpy()
        assert_allclose(found[1:], slopes.mean(0), atol=0.02 + 0.1 * noise)


def test_the_record_is_that_of_one_search():
    X, y, groups = simulate([8] * 20, FULL)
    losses = [row["train_loss"] for row in HierarchicalRidge().fit(X, y, groups=groups).history_]
    assert (np.diff(losses) <= 1e-9).all()


def test_a_column_may_be_called_intercept():
    X, y, groups = simulate([8] * 12, FULL)
    named = pd.DataFrame(X, columns=["intercept", "slope"][: X.shape[1]])
    model = HierarchicalRidge().fit(named, y, groups=groups)
    assert model.coef_mean_.index.tolist() == ["(intercept)", *named.columns]
    effects = model.task_effects(named, y, groups)
    assert effects.shape == (12, 2 * len(model.coef_mean_))
    plain = HierarchicalRidge().fit(X, y, groups=groups)
    assert_allclose(model.coef_mean_, plain.coef_mean_)
    assert plain.coef_mean_.index[0] == "intercept"


# ---------------------------------------------------------------- tasks of one to three rows


def patients(seed, n_tasks, n_rows=(1, 4), noise=0.5):
    """Levels, slopes and noise; a function that draws the rows of one more patient."""
    rng = np.random.default_rng(seed)

    def one(n):
        X, coef = rng.normal(size=(n, 2)), rng.normal(size=3) * [2.0, 0.5, 0.5]
        return X, coef[0] + X @ (1 + coef[1:]) + noise * rng.normal(size=n)

    drawn = [one(rng.integers(*n_rows)) for _ in range(n_tasks)]
    groups = np.repeat(np.arange(n_tasks), [len(y) for _, y in drawn])
    return (*map(np.concatenate, zip(*drawn, strict=True)), groups, one)


@pytest.mark.parametrize("n_tasks", [10, 20])
def test_intervals_after_training_on_tiny_tasks(n_tasks):
    """Noise that has hardly a row to be told by must not come out as nothing."""
    inside, noise = [], []
    for seed in range(20):
        X, y, groups, one = patients(seed, n_tasks)
        model = HierarchicalRidge().fit(X, y, groups=groups)
        noise.append(model.noise_var_)
        for _ in range(5):
            X, y = one(60)
            mean, std = model.adapt(X[:20], y[:20]).predict(X[20:], return_std=True)
            inside.append(np.mean(np.abs(y[20:] - mean) < 1.645 * std))
    assert 0.74 < np.mean(inside) < 0.95
    assert np.quantile(noise, 0.1) ** 0.5 > 0.2  # half a thousandth to .15 without the prior


@pytest.mark.parametrize(("n_tasks", "n_rows"), [(18, (1, 4)), (25, (2, 4)), (60, (3, 5))])
def test_few_rows_give_the_noise_a_prior_and_many_do_not(n_tasks, n_rows):
    """At the maximum the dense deviance rises with the log noise as fast as the prior falls."""
    X, y, groups, _ = patients(1, n_tasks, n_rows)
    model = HierarchicalRidge(method="ml", covariance="full", mean_prior="flat")
    model.fit(X, y, groups=groups)
    Z, mean = with_constant(X), model.coef_mean_.to_numpy()
    parts = [Z[groups == task] for task in range(n_tasks)]
    between = block_diag(*[part @ model.coef_cov_.to_numpy() @ part.T for part in parts])

    def deviance(noise):
        within = between + noise * np.eye(len(y))
        return -2 * multivariate_normal(Z @ mean, within).logpdf(y)

    noise, step = model.noise_var_, 1e-4
    slope = (deviance(noise * np.exp(step)) - deviance(noise * np.exp(-step))) / (2 * step)
    power = min(1.0, max(0.0, 10 / (len(y) - n_tasks) - 0.1))
    assert (power > 0) == (n_tasks < 60)
    assert slope == pytest.approx(power, abs=2e-3)


def test_without_rows_enough_free_covariances_have_to_earn_their_number():
    X, y, groups, _ = patients(0, 40, (2, 3))
    assert np.count_nonzero(HierarchicalRidge().fit(X, y, groups=groups).coef_cov_) < 9
    X, y, groups, _ = patients(0, 40, (6, 7))
    free = HierarchicalRidge().fit(X, y, groups=groups)
    full = HierarchicalRidge(covariance="full").fit(X, y, groups=groups)
    assert_allclose(free.coef_cov_, full.coef_cov_)
