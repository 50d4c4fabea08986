"""GANReconstructor: what it is good for."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from skorch.callbacks import Callback
from torch import nn

from skmeta import GANReconstructor, GaussianPriorReconstructor
from skmeta import operators as ops
from skmeta.generative import _residuals
from skmeta.generative._draws import OperatorDraws
from skmeta.generative._latent_learner import CodeInference, LatentLearner
from skmeta.training._adversarial import MIN_STEPS
from tests.generative.cases import digits


@pytest.fixture(scope="module")
def trained():
    """Digits, a minute's worth of training in small."""
    return reconstructor(max_epochs=12).fit(digits()[:1500])


def reconstructor(**changes):
    given = {
        "hidden_layer_sizes": (64, 64),
        "latent_size": 16,
        "n_latent_steps": 4,
        "lr": 0.003,
        "noise_std": 0.05,
        "random_state": 0,
    }
    return GANReconstructor(**{**given, **changes})


def mse(model, X, noise, seed=0):
    Y = model._measurement.forward(X)
    Y = Y + noise * np.random.default_rng(seed).normal(size=Y.shape)
    return np.square(model.predict(Y) - X).mean()


def with_options(model, **changes):
    """As if fitted with other options of what happens after training."""
    return model._sibling(frozen_params_={**model.frozen_params_, **changes})


def test_error_falls_with_measurements_and_the_residual_helps(trained):
    X = digits()[1500:]
    mean = np.square(X - digits()[:1500].mean(axis=0)).mean()
    errors = {"mixture": [], "gaussian": [], None: []}
    for m in (4, 16, 48):
        A = ops.GaussianMeasurements(m, 64, random_state=m)
        for residual, found in errors.items():
            model = with_options(trained, residual=residual)
            if residual != "mixture":
                model.prior_ = {}
            found.append(mse(model.adapt(operator=A, noise_std=0.03), X, 0.03))
    for found in errors.values():
        assert mean > found[0] > found[1] > found[2]
    assert errors[None][0] < 0.9 * mean  # four numbers, and four steps to use them
    assert errors["gaussian"][2] < 0.6 * errors[None][2]
    assert errors["mixture"][2] < errors["gaussian"][2]


@pytest.mark.parametrize("m", [6, 16, 40])
def test_intervals_hold_what_they_promise(trained, m):
    X, varies = digits()[1500:], digits()[:1500].std(axis=0) > 0.01
    model = trained.adapt(operator=ops.GaussianMeasurements(m, 64, random_state=m))
    Y = model._measurement.forward(X)
    Y = Y + 0.05 * np.random.default_rng(0).normal(size=Y.shape)
    images, std = model.predict(Y, return_std=True)
    within = np.abs(images - X) <= 1.645 * std
    assert 0.85 < within.mean() < 0.95 and 0.85 < within[:, varies].mean() < 0.95


@pytest.mark.parametrize("kind", ["saturation", "gamma"])
def test_nonlinear_operators(trained, kind):
    X = digits()[1500:1560]
    A = np.abs(ops.GaussianMeasurements(40, 64, random_state=0) @ np.eye(64))
    model = {
        "saturation": lambda: ops.Saturation(A, 3.5),
        "gamma": lambda: ops.Gamma(2.0),
    }[kind]()
    new = trained.adapt(operator=model, noise_std=0.02)
    bare = with_options(trained, residual=None).adapt(operator=model, noise_std=0.02)
    flat = np.square(X - digits()[:1500].mean(axis=0)).mean()
    assert mse(new, X, 0.02) < mse(bare, X, 0.02) < flat
    assert mse(new, X, 0.02) < 0.4 * flat
    _, std = new.predict(new._measurement.forward(X), return_std=True)
    assert np.isfinite(std).all() and (std > 0).all()


def test_options_after_training_lower_the_misfit(trained):
    X = digits()[1500:1520]
    A = ops.GaussianMeasurements(48, 64, random_state=1)
    Y = X @ A.matmat(np.eye(64)).T
    misfit = {}
    for name, changes in {
        "steps": {},
        "refined": {"n_refine_steps": 10},
        "tuned": {"n_refine_steps": 10, "n_tune_steps": 60, "tune_lr": 0.003},
    }.items():
        model = with_options(trained, residual=None, **changes).adapt(operator=A, noise_std=0.01)
        residual = Y - model._measurement.forward(model._both(Y, with_std=False).images)
        misfit[name] = np.square(residual).mean()
    assert misfit["steps"] > misfit["refined"] > 1.2 * misfit["tuned"]


def test_restarts_find_what_one_start_misses(trained):
    """Signs are lost: from one start some images end in another one that measures alike."""
    X = digits()[1500:1560]
    A = ops.GaussianMeasurements(40, 64, random_state=1)
    errors, energies = [], []
    for n_restarts in (1, 6):
        changes = {"residual": None, "n_refine_steps": 10, "n_restarts": n_restarts}
        model = with_options(trained, **changes).adapt(
            operator=ops.PhaseRetrieval(A), noise_std=0.05
        )
        errors.append(mse(model, X, 0.05))
        Y = model._measurement.forward(X)
        whole = model.predict(Y)
        assert_allclose(model.predict(Y[3:5]), whole[3:5], rtol=1e-6, atol=1e-8)
        misfit = Y - model._measurement.forward(whole)
        energies.append(np.square(misfit).sum())
    assert errors[1] < errors[0] and energies[1] < energies[0]


def test_an_operator_known_by_its_products_alone(trained, monkeypatch):
    monkeypatch.setattr(_residuals, "MOST_FACTORISED", 10)
    X = digits()[1500:1540]
    blur = ops.Blur((8, 8), sigma=0.8)
    model = with_options(trained, residual=None).adapt(operator=blur, noise_std=0.02)
    assert mse(model, X, 0.02) < 0.7 * np.square(X - digits()[:1500].mean(axis=0)).mean()


def test_rows_do_not_see_each_other(trained):
    A = ops.GaussianMeasurements(10, 64, random_state=0)
    model = trained.adapt(operator=A, noise_std=0.05)
    Y = np.random.default_rng(0).normal(size=(30, 10))
    whole, std = model.predict(Y, return_std=True)
    for rows in ([3], [29, 1, 3], range(30)):
        part, part_std = model.predict(Y[list(rows)], return_std=True)
        assert_allclose(part, whole[list(rows)], rtol=1e-7, atol=1e-9)
        assert_allclose(part_std, std[list(rows)], rtol=1e-6, atol=1e-9)


def test_training_draws_the_operators_it_is_given():
    seen = []

    def draw(rng):
        seen.append(ops.GaussianMeasurements(int(rng.integers(3, 9)), 64, random_state=0).shape[0])
        return ops.GaussianMeasurements(seen[-1], 64, random_state=int(rng.integers(99)))

    reconstructor(operator=draw, max_epochs=1).fit(digits()[:200])
    assert set(seen) == set(range(3, 9)) and len(seen) > 20


@pytest.mark.parametrize(("max_epochs", "n_measured"), [(1, 1), (2, 1), (3, 1), (6, 2)])
def test_operators_come_in_the_last_epochs(monkeypatch, max_epochs, n_measured):
    losses = {"bound": 0, "_reconstruction": 0}

    def spied(name, plain):
        def spy(self, *args):
            losses[name] += 1
            return plain(self, *args)

        return spy

    for owner, name in ((CodeInference, "bound"), (LatentLearner, "_reconstruction")):
        monkeypatch.setattr(owner, name, spied(name, getattr(owner, name)))
    # Without a game, too.
    model = reconstructor(max_epochs=max_epochs, adversarial_weight=0.0).fit(digits()[:60])
    assert losses["_reconstruction"] == n_measured * MIN_STEPS
    assert losses["bound"] == (max_epochs - n_measured) * MIN_STEPS
    assert "discriminator_loss" not in model.history_[-1]


def test_large_images_take_bounded_memory(monkeypatch):
    """No matrix of pixels by pixels, and no operator of as many entries, is ever made."""
    monkeypatch.setattr("skmeta.generative._gan_reconstructor.MOST_PIXELS", 63)
    monkeypatch.setattr("skmeta.generative._draws.MOST_ENTRIES", 64 * 9)
    model = reconstructor(max_epochs=1).fit(digits()[:100])
    assert model.prior_ == {} and np.isfinite(model.predict(digits()[:3])).all()
    draw = OperatorDraws(None, 0.1, 64)
    shapes = {draw(np.random.default_rng(i))[0].n_measurements for i in range(200)}
    assert shapes - {64} and max(shapes - {64}) <= 9
    noisy = [draw(np.random.default_rng(i))[1] for i in range(200)]
    assert min(noisy) >= 0.025 and max(noisy) <= 0.4 and max(noisy) > 5 * min(noisy)
    tiny = OperatorDraws(None, 0.1, 1)
    assert {tiny(np.random.default_rng(i))[0].n_measurements for i in range(9)} == {1}


def test_a_killed_fit_ends_in_the_same_weights(tmp_path):
    class Kill(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 3:
                raise RuntimeError("killed")

    X = digits()[:200]
    whole = reconstructor(max_epochs=4).fit(X)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skmeta.training._checkpoint.SECONDS_BETWEEN", 0.0)
        with pytest.raises(RuntimeError, match="killed"):
            reconstructor(max_epochs=4, checkpoint=str(tmp_path), callbacks=[Kill()]).fit(X)
    resumed = reconstructor(max_epochs=4, checkpoint=str(tmp_path)).fit(X)
    for name, value in whole.meta_params_.items():
        np.testing.assert_array_equal(resumed.meta_params_[name], value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generator": nn.Linear(5, 64)}, "generator failed"),
        ({"generator": nn.Linear(16, 63)}, "generator must turn"),
        ({"discriminator": nn.Sequential(nn.Linear(64, 1), nn.BatchNorm1d(1))}, "discriminator"),
        ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes"),
        ({"residual": "lasso"}, "residual"),
        ({"operator": np.ones((3, 63))}, "63"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        reconstructor(max_epochs=1, **changes).fit(digits()[:50])


def test_measurements_that_are_not_finite_are_refused(trained):
    model = trained.adapt(operator=ops.ForwardModel(torch.log1p, 64, 64))
    with pytest.raises(ValueError, match=r"finite|overflow"):
        model.score(digits()[:3] - 2)
    with pytest.raises(ValueError, match="NaN"):
        model.predict(np.full((1, 64), np.nan))


def test_it_beats_a_gaussian_where_images_are_not(trained):
    X = digits()[1500:]
    A = ops.GaussianMeasurements(12, 64, random_state=5)
    gaussian = GaussianPriorReconstructor().fit(digits()[:1500])
    errors = [mse(m.adapt(operator=A, noise_std=0.03), X, 0.03) for m in (trained, gaussian)]
    assert errors[0] < 0.9 * errors[1]
