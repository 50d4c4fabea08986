"""The parts of GANReconstructor against formulas and loops."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from skmeta import operators as ops
from skmeta.generative import _residuals
from skmeta.generative._beyond import beyond_range
from skmeta.generative._code_search import (
    jacobian,
    laplace_std,
    levenberg_marquardt,
    tune_generator,
)
from skmeta.generative._latent_learner import CodeInference
from skmeta.generative._residuals import Residuals, Spread, along
from skmeta.operators._measurement import as_measurement

P, D = 6, 3


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def inference(*, linear=False, n_steps=3):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = [nn.Linear(D, P)] if linear else [nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, P)]
        net, encoder = nn.Sequential(*layers), nn.Sequential(nn.Linear(P, D), nn.Tanh())
        found = CodeInference(net, encoder, spread(), numbers(P, seed=2), 1.7, D, n_steps)
    found = found.double()
    with torch.no_grad():
        found.start.copy_(0.3 * numbers(D, seed=3))
        found.step_sizes.copy_(1 + 0.2 * numbers(n_steps, D, seed=4))
    return found


def spread():
    return Spread(0.3 * numbers(P, 2, seed=5), 0.05 + numbers(P, seed=6).square() / 10)


def dense(spread):
    return spread.factors @ spread.factors.T + torch.diag(spread.rest)


def naive_descend(model, y, A, S, starts):
    """One image at a time, with the derivative of the generator written out."""
    precision = torch.linalg.inv(S)
    codes = []
    for row, z in zip(y, starts, strict=True):
        direction = torch.zeros(D, dtype=torch.float64)
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
    starts = model.start + 0.1 * numbers(4, D, seed=9)
    ours = model.descend(y, residuals, starts, differentiable=True)
    naive = naive_descend(model, y, A, S, starts)
    torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-8)
    unused = ("encoder.0.weight", "encoder.0.bias", "log_widths")
    weights = [p for name, p in model.named_parameters() if name not in unused]
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), weights),
        torch.autograd.grad(naive.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    plain = model.descend(y, residuals, starts, differentiable=False)
    assert not plain.requires_grad
    torch.testing.assert_close(plain, ours.detach())


@pytest.mark.parametrize("m", [2, 5, 9])
def test_codes_start_from_the_mean_of_a_gaussian(m, monkeypatch):
    model, A, y = inference(), numbers(m, P, seed=7), numbers(4, m, seed=8)
    measurement, C = as_measurement(A.numpy(), P), dense(spread())
    gain = C @ A.T @ torch.linalg.inv(A @ C @ A.T + 0.09 * torch.eye(m))
    mean = (y - model.centre @ A.T) @ gain.T
    found = model.first(y, model.gaussian(measurement, 0.3))
    torch.testing.assert_close(found, model.encoder(mean / 1.7), rtol=1e-5, atol=1e-8)
    # Where it has no closed form, all start at one place.
    monkeypatch.setattr(_residuals, "MOST_FACTORISED", 0)
    for kind in (measurement, as_measurement(ops.PhaseRetrieval(A.numpy()), P)):
        found = model.first(y, model.gaussian(kind, 0.3))
        assert torch.equal(found, model.start.expand(4, -1))


def test_the_bound_of_known_images_equals_densities():
    """Of the draws that it makes, with the divergence by integration over one axis at a time."""
    model, X = inference(), numbers(5, P, seed=8)
    with torch.no_grad():
        model.log_widths.copy_(0.3 * numbers(D, seed=9))
    found = model.bound(X, torch.Generator().manual_seed(3))
    drawn = torch.randn(5, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    variance, widths = model.log_beyond.exp(), model.log_widths.exp()
    expected, grid = 0.0, torch.linspace(-12, 12, 20001, dtype=torch.float64)
    for row, own in zip(X, drawn, strict=True):
        standard = (row - model.centre) / 1.7
        mean = model.encoder(standard)
        normal = torch.distributions.Normal(model.net(mean + widths * own), variance.sqrt())
        expected -= normal.log_prob(standard).sum()
        for m, w in zip(mean, widths, strict=True):
            code, prior = torch.distributions.Normal(m, w), torch.distributions.Normal(0.0, 1.0)
            gap = code.log_prob(grid) - prior.log_prob(grid)
            expected += torch.trapezoid(code.log_prob(grid).exp() * gap, grid)
    expected = 2 * expected / (5 * P) - np.log(2 * np.pi)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    slopes = [
        torch.autograd.grad(value, (model.log_beyond, model.log_widths, *model.net.parameters()))
        for value in (found, expected)
    ]
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-8)


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
