"""HierarchicalRidge against dense mixed models in the units of the data."""

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import block_diag
from scipy.stats import multivariate_normal

from skmeta import HierarchicalRidge
from skmeta.datasets import fetch_rdataset
from skmeta.model_selection import predict_tasks
from tests.closed_form.mixed import FULL, RAGGED, simulate, with_constant

pd = pytest.importorskip("pandas")

PRIORS = ["auto", "flat", "ridge"]


@pytest.fixture(scope="module")
def tasks():
    """Ragged tasks, one-row tasks among them, whose columns are in odd units."""
    return simulate(RAGGED, FULL, shift=[5.0, -30.0], scale=[2.0, 10.0])


@pytest.fixture(scope="module")
def model(tasks):
    X, y, groups = tasks
    return HierarchicalRidge().fit(X, y, groups=groups)


def covariance_of_mean(model, X, groups):
    """Of generalised least squares over the training rows."""
    G, noise = model.coef_cov_.to_numpy(), model.noise_var_
    total = 0
    for task in np.unique(groups):
        Z = with_constant(X[groups == task])
        total = total + Z.T @ np.linalg.solve(Z @ G @ Z.T + noise * np.eye(len(Z)), Z)
    return np.linalg.inv(total)


def condition(mean, covariance, noise, X, y):
    """Coefficients of a task given its rows, by conditioning one large normal distribution."""
    Z = with_constant(X)
    gain = np.linalg.solve(Z @ covariance @ Z.T + noise * np.eye(len(Z)), Z @ covariance).T
    return mean + gain @ (y - Z @ mean), covariance - gain @ Z @ covariance


# -- the classic table ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sleep():
    home = os.environ.get("SKMETA_DATA_HOME")
    if not home or not (Path(home) / "rdatasets/lme4").is_dir():
        pytest.skip("rdatasets/lme4 is not in SKMETA_DATA_HOME")
    frame = fetch_rdataset("lme4", "sleepstudy", data_home=home).frame
    return frame[["Days"]], frame["Reaction"], frame["Subject"]


# lme4's published fits of Reaction ~ Days + (Days | Subject).
SLEEP = {
    "reml": {"level": 24.740, "slope": 5.922, "correlation": 0.0656, "noise": 25.592},
    "ml": {"level": 23.781, "slope": 5.717, "correlation": 0.0813, "noise": 25.592},
}


@pytest.mark.data
@pytest.mark.parametrize("method", SLEEP)
def test_sleep_study(sleep, method):
    X, y, groups = sleep
    model = HierarchicalRidge(method=method).fit(X, y, groups=groups)
    assert model.coef_mean_.to_dict() == pytest.approx(
        {"intercept": 251.405, "Days": 10.467}, rel=1e-4
    )
    expected, cov = SLEEP[method], model.coef_cov_
    sd = np.sqrt(np.diag(cov))
    assert_allclose(sd, [expected["level"], expected["slope"]], rtol=0.01)
    assert cov.loc["intercept", "Days"] / sd.prod() == pytest.approx(
        expected["correlation"], abs=0.002
    )
    assert np.sqrt(model.noise_var_) == pytest.approx(expected["noise"], rel=0.01)
    assert model.n_tasks_ == 18

    # The deviance that the optimiser reports is the density of all rows at these numbers.
    deviance = model.history_[-1]["train_loss"] * len(y) + 2 * len(y) * np.log(y.std(ddof=0))
    if method == "ml":
        parts = [with_constant(X[groups == g]) for g in groups.unique()]
        V = block_diag(*[Z @ cov.to_numpy() @ Z.T for Z in parts])
        V += model.noise_var_ * np.eye(len(y))
        density = multivariate_normal(with_constant(X) @ model.coef_mean_, V).logpdf(y)
        assert deviance == pytest.approx(-2 * density, abs=1e-4)
        assert deviance == pytest.approx(1751.94, abs=0.05)  # lme4's


@pytest.mark.data
def test_sleep_study_effects_and_a_new_subject(sleep):
    X, y, groups = sleep
    known = groups != 308
    model = HierarchicalRidge().fit(X[known], y[known], groups=groups[known])
    effects = model.task_effects(X, y, groups)
    assert list(effects.index) == sorted(groups.unique())
    for task in (308, 335):
        rows = groups == task
        mean, _ = condition(
            model.coef_mean_, model.coef_cov_.to_numpy(), model.noise_var_, X[rows], y[rows]
        )
        assert_allclose(effects.loc[task, "effect"], mean - model.coef_mean_, rtol=1e-6, atol=1e-6)
    new = model.adapt(X[~known][:5], y[~known][:5])
    later = X[~known][5:], y[~known][5:]
    errors = [np.mean((one.predict(later[0]) - later[1]) ** 2) for one in (model, new)]
    assert errors[1] < errors[0] / 2


# -- units, effects, posteriors -------------------------------------------------------------------


def test_mean_covariance_and_noise_are_in_the_units_of_the_data(model, tasks):
    X, y, groups = tasks
    by, plus = np.array([0.01, 300.0]), np.array([-7.0, 50.0])
    other = HierarchicalRidge().fit(X * by + plus, 40 * y - 3, groups=groups)
    # y = z @ b in old units; z = M z' in new ones.
    M = np.eye(3)
    M[1:, 1:] = np.diag(1 / by)
    M[1:, 0] = -plus / by
    mean = 40 * M.T @ model.coef_mean_
    mean[0] -= 3
    assert_allclose(other.coef_mean_, mean, rtol=1e-4)
    assert_allclose(
        other.coef_cov_, 1600 * M.T @ model.coef_cov_.to_numpy() @ M, rtol=1e-3, atol=1e-2
    )
    assert other.noise_var_ == pytest.approx(1600 * model.noise_var_, rel=1e-4)
    assert list(other.coef_mean_.index) == ["intercept", "x0", "x1"]
    assert list(other.coef_cov_.index) == list(other.coef_cov_.columns) == ["intercept", "x0", "x1"]


def test_the_fit_is_at_the_maximum_of_the_dense_likelihood(tasks):
    X, y, groups = tasks
    order = np.argsort(groups, kind="stable")
    X, y, groups = X[order], y[order], groups[order]
    model = HierarchicalRidge(method="ml").fit(X, y, groups=groups)
    Z, mean = with_constant(X), model.coef_mean_.to_numpy()
    root, noise = np.linalg.cholesky(model.coef_cov_), model.noise_var_

    def deviance(root, mean, noise):
        parts = [Z[groups == t] @ root for t in np.unique(groups)]
        V = block_diag(*[part @ part.T for part in parts]) + noise * np.eye(len(y))
        return -2 * multivariate_normal(Z @ mean, V).logpdf(y)

    least = deviance(root, mean, noise)
    scale = 2 * len(y) * np.log(y.std())
    assert model.history_[-1]["train_loss"] * len(y) + scale == pytest.approx(least, abs=1e-3)
    for i, j in zip(*np.tril_indices(3), strict=True):
        for step in (-0.02, 0.02):
            moved = root.copy()
            moved[i, j] += step * root[i, i]
            assert deviance(moved, mean, noise) > least - 1e-3
    for step in (0.98, 1.02):
        assert deviance(root, mean * step, noise) > least
        assert deviance(root, mean, noise * step) > least


def test_task_effects_are_the_conditional_means_and_deviations(model, tasks):
    X, y, groups = tasks
    names = np.array([f"school {g:02d}" for g in groups])
    effects = model.task_effects(X, y, names)
    assert effects.index.name == "task"
    assert_array_equal(effects.index, np.unique(names))
    G = model.coef_cov_.to_numpy()
    for name in np.unique(names):
        rows = names == name
        mean, left = condition(model.coef_mean_, G, model.noise_var_, X[rows], y[rows])
        assert_allclose(effects.loc[name, "effect"], mean - model.coef_mean_, rtol=1e-6, atol=1e-7)
        assert_allclose(effects.loc[name, "std"] ** 2, np.diag(left), rtol=1e-6)
    # Of one task alone the same, and nothing is remembered.
    alone = model.task_effects(X[groups == 2], y[groups == 2], ["a"] * RAGGED[2])
    assert_allclose(alone.loc["a"], effects.iloc[2], rtol=1e-9)
    assert not any("school" in str(value) for value in vars(model).values())
    with pytest.raises(ValueError, match="entries"):
        model.task_effects(X, y, names[1:])


@pytest.mark.parametrize("k", [0, 1, 2, 9])
def test_predictions_and_their_deviations_equal_dense_conditioning(model, tasks, k):
    X, y, groups = tasks
    # A new task: between-task covariance, and what is not known of the mean.
    prior = model.coef_cov_.to_numpy() + covariance_of_mean(model, X, groups)
    rng = np.random.default_rng(3)
    new = rng.choice(len(X), 12)
    support = X[new[:k]], y[new[:k]]
    mean, left = condition(model.coef_mean_, prior, model.noise_var_, *support)
    Z = with_constant(X[new])
    adapted = model.adapt(*support) if k else model
    found, std = adapted.predict(X[new], return_std=True)
    assert_allclose(found, Z @ mean, rtol=1e-6)
    assert_allclose(std**2, np.einsum("ip,pq,iq->i", Z, left, Z) + model.noise_var_, rtol=1e-6)
    assert_array_equal(adapted.predict(X[new]), found)


# -- update ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(1,), (5,), (1, 2, 3), (2, 6)])
def test_updates_equal_one_adaptation_to_all_rows(model, tasks, cuts):
    X, y, _ = tasks
    X, y, new = X[:9], y[:9], X[20:]
    grown = model
    for Xs, ys in zip(np.split(X, cuts), np.split(y, cuts), strict=True):
        grown = grown.update(Xs, ys)  # before adapt, it is adapt
    once = model.adapt(X, y)
    for a, b in zip(
        grown.predict(new, return_std=True), once.predict(new, return_std=True), strict=True
    ):
        assert_allclose(a, b, rtol=1e-9)
    assert grown.adapted_ and grown.learner_ is model.learner_
    # Adapting starts again from what all tasks share.
    assert_array_equal(
        grown.adapt(X[:2], y[:2]).predict(new), model.adapt(X[:2], y[:2]).predict(new)
    )


def test_update_leaves_the_estimator_alone(model, tasks):
    X, y, _ = tasks
    adapted = model.adapt(X[:4], y[:4])
    before = pickle.dumps(model), pickle.dumps(adapted)
    longer = adapted.update(X[4:9], y[4:9])
    assert (pickle.dumps(model), pickle.dumps(adapted)) == before
    assert not np.allclose(longer.predict(X), adapted.predict(X))
    assert_allclose(
        pickle.loads(pickle.dumps(adapted)).update(X[4:9], y[4:9]).predict(X), longer.predict(X)
    )
    with pytest.raises(ValueError, match="at least one support row"):
        adapted.update(X[:0], y[:0])
    with pytest.raises(ValueError, match="features"):
        adapted.update(X[:3, :1], y[:3])


@given(
    seed=st.integers(0, 2**16),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_more_rows_never_make_a_prediction_less_sure(model, seed, sizes, scale):
    rng = np.random.default_rng(seed)
    fixed = rng.normal(size=(5, 2)) * 20
    grown, last = model, model.predict(fixed, return_std=True)[1]
    for size in sizes:
        grown = grown.update(rng.normal(size=(size, 2)) * scale, rng.normal(size=size))
        std = grown.predict(fixed, return_std=True)[1]
        assert (std <= last * (1 + 1e-9)).all()
        assert (std**2 >= model.noise_var_ * (1 - 1e-9)).all()
        last = std


# -- many tasks, several outputs, frames ----------------------------------------------------------


def test_thousands_of_tasks_in_one_call_equal_the_loop(model):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, size=10_000)
    sizes[::1000] = 50
    groups = rng.permutation(np.repeat(np.arange(10_000), sizes))
    X, y = rng.normal(size=(len(groups), 2)), rng.normal(size=len(groups))
    X_new, new = rng.normal(size=(10_007, 2)), rng.permutation(np.arange(-7, 10_000))
    found = predict_tasks(model, X, y, groups, X_new, new)
    assert found.shape == (10_007,) and np.isfinite(found).all()
    for task in (0, 1, 77, 5000, 9999):
        alone = model.adapt(X[groups == task], y[groups == task]).predict(X_new[new == task])
        assert_allclose(found[new == task], alone, rtol=1e-9)
    assert_allclose(found[new < 0], model.predict(X_new[new < 0]), rtol=1e-12)


def test_several_outputs_equal_one_model_an_output(tasks):
    X, y, groups = tasks
    Y = np.column_stack([y, X[:, 0] ** 2 - y / 3, np.full(len(y), 4.0)])
    both = HierarchicalRidge().fit(X, Y, groups=groups)
    adapted = both.adapt(X[:5], Y[:5]).update(X[5:7], Y[5:7])
    mean, std = adapted.predict(X, return_std=True)
    assert mean.shape == std.shape == Y.shape
    prior = both.predict(X, return_std=True)
    effects = both.task_effects(X, Y, groups)
    assert both.noise_var_.shape == (3,) and both.coef_mean_.shape == (3, 3)
    for o in range(3):
        one = HierarchicalRidge().fit(X, Y[:, o], groups=groups)
        assert_allclose(both.coef_mean_.loc[o], one.coef_mean_, rtol=1e-6, atol=1e-8)
        assert_allclose(both.coef_cov_.loc[o], one.coef_cov_, rtol=1e-5, atol=1e-8)
        assert_allclose(both.noise_var_[o], one.noise_var_, rtol=1e-6)
        expected = one.adapt(X[:7], Y[:7, o]).predict(X, return_std=True)
        assert_allclose(mean[:, o], expected[0], rtol=1e-6, atol=1e-8)
        assert_allclose(std[:, o], expected[1], rtol=1e-6)
        for ours, alone in zip(prior, one.predict(X, return_std=True), strict=True):
            assert_allclose(ours[:, o], alone, rtol=1e-6)
        alone = one.task_effects(X, Y[:, o], groups)
        assert_allclose(effects["effect"][o], alone["effect"], rtol=1e-5, atol=1e-7)
        assert_allclose(effects["std"][o], alone["std"], rtol=1e-5, atol=1e-7)


def test_a_target_of_one_column_keeps_its_shape(tasks):
    X, y, groups = tasks
    model = HierarchicalRidge().fit(X, y[:, None], groups=groups).adapt(X[:3], y[:3, None])
    mean, std = model.predict(X, return_std=True)
    assert mean.shape == std.shape == (len(X), 1)
    assert model.task_effects(X, y[:, None], groups).shape == (len(RAGGED), 6)


def test_frames_and_floats_of_single_precision(tasks):
    X, y, groups = tasks
    frame = pd.DataFrame(X, columns=["age", "dose"])
    model = HierarchicalRidge().fit(frame, pd.Series(y), groups=pd.Series(groups, index=y))
    assert list(model.coef_mean_.index) == ["intercept", "age", "dose"]
    assert list(model.task_effects(frame, y, groups)["effect"]) == ["intercept", "age", "dose"]
    plain = HierarchicalRidge().fit(X.astype(np.float32), y.astype(np.float32), groups=groups)
    predicted = plain.adapt(X[:4].astype(np.float32), y[:4].astype(np.float32)).predict(X)
    assert predicted.dtype == np.float64
    assert_allclose(predicted, model.adapt(frame[:4], y[:4]).predict(frame), rtol=1e-3)


# -- what was simulated is found ------------------------------------------------------------------

FORMS = {
    "full": FULL,
    "diag": np.diag([1.0, 0.3, 0.02]),
    "isotropic": np.diag([1.0, 0.25, 0.25]),
    "low_rank": np.outer([1.0, 0.6, -0.3], [1.0, 0.6, -0.3]),
}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("form", FORMS)
def test_the_covariance_of_a_simulation_is_found(form, prior):
    X, y, groups = simulate([8] * 250, FORMS[form])
    model = HierarchicalRidge(covariance=form, rank=1, mean_prior=prior)
    model.fit(X, y, groups=groups)
    assert_allclose(model.coef_cov_, FORMS[form], atol=0.15, rtol=0.25)
    assert_allclose(model.coef_mean_, [1, 2, 3], atol=0.25)
    assert model.noise_var_ == pytest.approx(0.09, rel=0.1)
    automatic = HierarchicalRidge(mean_prior=prior).fit(X, y, groups=groups)
    assert_allclose(automatic.coef_cov_, FORMS[form], atol=0.15, rtol=0.25)
    if form in ("diag", "isotropic"):
        units = np.diag(X.std(0))  # of standardised columns the covariances are zero
        slopes = units @ model.coef_cov_.to_numpy()[1:, 1:] @ units
        assert_allclose(slopes[0, 1], 0, atol=1e-9)
        assert (form == "diag") == (abs(slopes[0, 0] - slopes[1, 1]) > 0.1)
    if form == "low_rank":
        assert np.linalg.matrix_rank(model.coef_cov_, tol=1e-6) == 1


def test_auto_takes_the_form_that_earns_its_number():
    shared = simulate([6] * 60, np.diag([1.0, *[0.2] * 5]), seed=1)
    auto = HierarchicalRidge().fit(*shared[:2], groups=shared[2])
    simple = HierarchicalRidge(covariance="isotropic").fit(*shared[:2], groups=shared[2])
    assert_allclose(auto.coef_cov_, simple.coef_cov_, rtol=1e-6, atol=1e-9)
    own = simulate([20] * 60, np.diag([1.0, 2.0, 0.0, 0.0, 0.0, 0.0]), seed=1)
    auto = HierarchicalRidge().fit(*own[:2], groups=own[2])
    assert auto.coef_cov_.loc["x0", "x0"] > 50 * auto.coef_cov_.loc["x1", "x1"]


def test_a_ridge_prior_shrinks_slopes_that_are_noise():
    X, y, groups = simulate([4] * 12, 0.1 * np.eye(31), mean=np.zeros(31), noise=2.0)
    found = {
        prior: HierarchicalRidge(covariance="isotropic", mean_prior=prior).fit(X, y, groups=groups)
        for prior in PRIORS
    }
    size = {prior: np.linalg.norm(model.coef_mean_[1:]) for prior, model in found.items()}
    assert size["ridge"] < 0.6 * size["flat"]
    assert size["auto"] == size["ridge"]  # twelve tasks do not carry thirty-one flat coefficients


@pytest.mark.parametrize("n_support", [0, 2, 6])
def test_nine_of_ten_new_rows_lie_in_their_interval(n_support):
    X, y, groups = simulate([8] * 60, FULL, noise=0.5)
    model = HierarchicalRidge().fit(X, y, groups=groups)
    X, y, groups = simulate([n_support + 5] * 200, FULL, noise=0.5, seed=1)
    inside = []
    for task in range(200):
        Xt, yt = X[groups == task], y[groups == task]
        adapted = model.adapt(Xt[:n_support], yt[:n_support]) if n_support else model
        mean, std = adapted.predict(Xt[n_support:], return_std=True)
        inside.append(np.abs(yt[n_support:] - mean) < 1.645 * std)
    assert 0.86 < np.mean(inside) < 0.94


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_agrees_with_statsmodels(method):
    sm = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    X, y, groups = simulate(RAGGED, FULL)
    model = HierarchicalRidge(method=method).fit(X, y, groups=groups)
    Z = with_constant(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = sm.MixedLM(y, Z, groups, exog_re=Z).fit(reml=method == "reml")
    assert other.converged
    assert_allclose(model.coef_mean_, other.fe_params, rtol=1e-3)
    assert_allclose(model.coef_cov_, other.cov_re, rtol=0.01, atol=0.005)
    assert model.noise_var_ == pytest.approx(other.scale, rel=0.01)
    effects = model.task_effects(X, y, groups)["effect"]
    theirs = np.array([other.random_effects[g] for g in range(len(RAGGED))])
    assert_allclose(effects, theirs, atol=0.01)
