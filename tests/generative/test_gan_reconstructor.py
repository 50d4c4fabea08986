"""GANReconstructor: its parts against formulas and loops, and what it is good for."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from skorch.callbacks import Callback
from torch import nn

from skmeta import GANReconstructor, GaussianPriorReconstructor
from skmeta import operators as ops
from skmeta.generative import _residuals
from skmeta.generative._beyond import beyond_range
from skmeta.generative._code_search import (
    jacobian,
    laplace_std,
    levenberg_marquardt,
    tune_generator,
)
from skmeta.generative._draws import OperatorDraws
from skmeta.generative._latent_learner import CodeInference
from skmeta.generative._residuals import Residuals, Spread, along
from skmeta.operators._measurement import as_measurement
from tests.generative.cases import digits

P, D = 6, 3


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def inference(*, linear=False, n_steps=3):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = [nn.Linear(D, P)] if linear else [nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, P)]
        found = CodeInference(nn.Sequential(*layers).double(), numbers(P, seed=2), 1.7, D, n_steps)
    found = found.double()
    with torch.no_grad():
        found.start.copy_(0.3 * numbers(D, seed=3))
        found.step_sizes.copy_(1 + 0.2 * numbers(n_steps, D, seed=4))
    return found


def spread():
    return Spread(0.3 * numbers(P, 2, seed=5), 0.05 + numbers(P, seed=6).square() / 10)


def dense(spread):
    return spread.factors @ spread.factors.T + torch.diag(spread.rest)


def naive_descend(model, y, A, S):
    """One image at a time, with the derivative of the generator written out."""
    precision = torch.linalg.inv(S)
    codes = []
    for row in y:
        z, direction = model.start, torch.zeros(D, dtype=torch.float64)
        for sizes, momentum in zip(model.step_sizes, model.momenta, strict=True):
            single = lambda c: model.images(c[None])[0]  # noqa: E731
            J = A @ torch.autograd.functional.jacobian(single, z, create_graph=True)
            slope = -J.T @ precision @ (row - A @ single(z)) + z
            direction = momentum * direction - slope
            pushed = J @ direction
            curvature = pushed @ precision @ pushed + direction @ direction
            z = z + sizes * (-(slope @ direction) / curvature) * direction
        codes.append(z)
    return torch.stack(codes)


@pytest.mark.parametrize("m", [2, 5, 9])
def test_learned_steps_equal_a_loop_in_values_and_gradients(m):
    model, A, y = inference(), numbers(m, P, seed=7), numbers(4, m, seed=8)
    noise = 0.2 + torch.rand(m, generator=torch.Generator().manual_seed(0)).double()
    measurement = as_measurement(A.numpy(), P)
    residuals = Residuals(measurement, noise.numpy(), model.plain_spread(), model.centre)
    S = A @ dense(model.plain_spread()) @ A.T + torch.diag(noise**2)
    ours = model.descend(y, residuals, differentiable=True)
    naive = naive_descend(model, y, A, S)
    torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-8)
    weights = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), weights),
        torch.autograd.grad(naive.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    plain = model.descend(y, residuals, differentiable=False)
    assert not plain.requires_grad
    torch.testing.assert_close(plain, ours.detach())


@pytest.mark.parametrize("m", [2, 5, 9])
def test_a_linear_generator_gives_the_posterior_of_a_gaussian(m):
    """With x = c + W z + r everything is normal: the textbook has the answer."""
    model, A, y, noise = inference(linear=True), numbers(m, P, seed=7), numbers(4, m, seed=8), 0.3
    beyond = spread()
    residuals = Residuals(as_measurement(A.numpy(), P), noise, beyond, model.centre)
    z = levenberg_marquardt(model.images, model.start.expand(4, -1), y, residuals, 30)
    x = model.images(z)
    W = jacobian(model.images, z)[0]
    centre = model.images(torch.zeros(1, D, dtype=torch.float64))[0]
    C = W @ W.T + dense(beyond)
    gain = C @ A.T @ torch.linalg.inv(A @ C @ A.T + noise**2 * torch.eye(m))
    torch.testing.assert_close(
        (x + residuals.correction(y, x)).detach(),
        (centre + (y - centre @ A.T) @ gain.T).detach(),
        rtol=1e-5,
        atol=1e-5,
    )
    variance = torch.diagonal(C - gain @ A @ C)
    std = laplace_std(model.images, z, residuals)
    torch.testing.assert_close(std, variance.sqrt().expand_as(std).detach(), rtol=1e-4, atol=1e-6)


def test_levenberg_marquardt_ends_where_the_slope_is_zero_and_never_gets_worse():
    model, A = inference(), numbers(4, P, seed=7)
    with torch.no_grad():
        y = model.images(numbers(5, D, seed=8)) @ A.T + 0.1 * numbers(5, 4, seed=9)
    residuals = Residuals(as_measurement(A.numpy(), P), 0.1, spread(), model.centre)
    energies = []
    for n_steps in (0, 1, 3, 60):
        start = model.start.expand(5, -1)
        z = levenberg_marquardt(model.images, start, y, residuals, n_steps).requires_grad_()
        energy = residuals.misfit(y, model.images(z)).square().sum(1) + z.square().sum(1)
        energies.append(energy.detach())
    for before, after in zip(energies, energies[1:], strict=False):
        assert (after <= before + 1e-12).all()
    (slope,) = torch.autograd.grad(energy.sum(), z)
    assert slope.abs().max() < 1e-5
    assert (energies[-1] < energies[0]).all()


def test_derivatives_along_directions():
    model, z, direction = inference(), numbers(4, D, seed=9), numbers(4, D, seed=10)
    single = lambda c: model.images(c[None])[0]  # noqa: E731
    expected = torch.stack(
        [
            torch.autograd.functional.jacobian(single, c) @ d
            for c, d in zip(z, direction, strict=True)
        ]
    )
    point = z.clone().requires_grad_()
    found = along(model.images(point), point, direction, differentiable=False)
    torch.testing.assert_close(found, expected)
    wide = jacobian(model.images, z)
    torch.testing.assert_close(torch.einsum("npd,nd->np", wide, direction), expected)


def test_a_function_that_is_linear_is_taken_like_a_matrix(monkeypatch):
    A, x, step = numbers(4, P, seed=7), numbers(3, P), numbers(3, P, seed=1)
    centre, beyond = numbers(P, seed=2), spread()
    function = ops.ForwardModel(nn.Linear(P, 4, bias=False).double(), 4, P)
    with torch.no_grad():
        function.function.weight.copy_(A)
    monkeypatch.setattr(_residuals, "MOST_FACTORISED", 0)  # neither is factorised then
    a, b = (
        Residuals(as_measurement(kind, P), 0.3, beyond, centre) for kind in (A.numpy(), function)
    )
    y = numbers(3, 4, seed=3)
    torch.testing.assert_close(a.misfit(y, x), b.misfit(y, x).detach(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(a.push(x, step), b.push(x, step).detach(), rtol=1e-6, atol=1e-9)
    # Measurements count as independent, of the mean variance that probes find.
    scale = (y - x @ A.T) / a.misfit(y, x)
    assert scale.std() < 1e-9 and scale.mean() > 0.3


def test_every_image_tunes_as_it_would_alone():
    model, A, y = inference(), numbers(4, P, seed=7), numbers(3, 4, seed=8)
    residuals = Residuals(as_measurement(A.numpy(), P), 0.5, spread(), model.centre)
    z = 0.1 * numbers(3, D, seed=9)
    before = [p.clone() for p in model.net.parameters()]
    together = tune_generator(model.net, model.decode, z, y, residuals, 6, 0.01)
    assert all(torch.equal(a, b) for a, b in zip(before, model.net.parameters(), strict=True))
    for i in range(3):
        own = inference()
        code = z[i : i + 1].clone().requires_grad_()
        adam = torch.optim.Adam([*own.net.parameters(), code], lr=0.01, betas=(0.0, 0.99))
        for _ in range(6):
            adam.zero_grad()
            misfit = residuals.misfit(y[i : i + 1], own.images(code))
            ((misfit.square().sum() + code.square().sum()) / 2).backward()
            adam.step()
        torch.testing.assert_close(together[i], own.images(code)[0].detach(), rtol=1e-6, atol=1e-8)


def test_what_lies_beyond_the_range_has_its_covariance():
    model = inference(linear=True).requires_grad_(False)
    with torch.no_grad():
        codes = numbers(400, D, seed=1)
        off = numbers(400, 1, seed=2) * torch.linspace(-1, 1, P).double()
        X = model.images(codes) + off
    found = beyond_range(model, [(slice(0, 400), X)])
    residuals = Residuals(as_measurement(None, P), 0.0, model.plain_spread(), model.centre)
    z = levenberg_marquardt(model.images, model.start.expand(400, -1), X, residuals, 50)
    left = (X - model.images(z)).detach().numpy()
    covariance = found["factors"] @ found["factors"].T + np.diag(found["rest"])
    floor = 1e-5 * 1.7**2
    assert_allclose(covariance, left.T @ left / 400, rtol=1e-2, atol=floor + 1e-3)


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
