"""The mean of many logistic regressions, and their spread, against dense algebra and quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit
from torch.autograd.functional import hessian, jacobian

from skmeta.core.heads.logistic import (
    Labelled,
    contrasts,
    design_of_coefficients,
    design_under,
    find_mode,
    log_likelihood,
)
from skmeta.core.logistic_mixed import _look, fit_population, marginal_mean
from skmeta.core.tasks import TaskRows
from tests.core.labelled import draw_rows, levels

STEPS = 100


def dense(design, spread, prior):
    """Log density of labels, effects and mean, as one function of one vector."""
    n_tasks, q = len(design.y), len(spread)

    def height(v):
        mean, u = v[:q], v[q:].view(n_tasks, q)
        value = log_likelihood(design, mean + u * spread).sum()
        value = value - u.square().sum() / 2 - (prior * mean.square()).sum() / 2
        return value + prior.log().sum() / 2 - (len(v) / 2) * math.log(2 * math.pi)

    return height


@pytest.mark.parametrize("n_classes", [2, 3])
def test_population_equals_dense_laplace(n_classes):
    rows = draw_rows([6, 9, 2, 7], n_classes)
    q = (n_classes - 1) * 3
    spread = torch.tensor([1.2, 0.4, 0.4] * (n_classes - 1), dtype=torch.float64)
    prior = torch.tensor([0.01, 2.0, 2.0] * (n_classes - 1), dtype=torch.float64)
    design = design_of_coefficients(Labelled.of(rows), contrasts(n_classes))
    found = fit_population([design], spread, prior, STEPS)
    height = dense(design, spread, prior)

    def loss(v):
        v = torch.from_numpy(v).requires_grad_()
        value = -height(v)
        return value.item(), torch.autograd.grad(value, v)[0].numpy()

    best = minimize(
        loss, np.zeros(q * 5), jac=True, method="L-BFGS-B",
        options={"ftol": 1e-16, "gtol": 1e-10, "maxiter": 2000},
    ).x  # fmt: skip
    np.testing.assert_allclose(found.mean.numpy(), best[:q], atol=1e-6)
    np.testing.assert_allclose(found.effects[0].numpy().ravel(), best[q:], atol=1e-6)
    curvature = -hessian(height, torch.from_numpy(best))
    evidence = float(height(torch.from_numpy(best))) - float(torch.logdet(curvature)) / 2
    evidence += len(best) / 2 * math.log(2 * math.pi)
    assert found.log_evidence == pytest.approx(evidence, rel=1e-7)
    covariance = torch.linalg.inv(curvature)[:q, :q]
    torch.testing.assert_close(torch.linalg.inv(found.precision), covariance, rtol=1e-6, atol=1e-8)
    root = found.root(spread)
    torch.testing.assert_close(root @ root.T, covariance + spread.square().diag())


def test_population_of_an_intercept_equals_the_integral():
    """Laplace's evidence against quadrature over every task's intercept, at a known mean."""
    rng = np.random.default_rng(0)
    y = (rng.random((25, 12)) < expit(rng.normal(size=(25, 1)))).astype(int)
    design = design_of_coefficients(levels(y), contrasts(2))
    tight = torch.tensor([1e8], dtype=torch.float64)  # the mean is 0
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    for spread in (0.3, 1.0, 2.0):
        chance = expit(spread * points)[:, None]
        n_ones = y.sum(1)
        likelihood = chance**n_ones * (1 - chance) ** (12 - n_ones)
        expected = np.log(weights @ likelihood / weights.sum()).sum()
        wide = torch.tensor([spread], dtype=torch.float64)
        found = fit_population([design], wide, tight, STEPS).log_evidence
        assert found == pytest.approx(expected, rel=5e-3)


def test_population_in_several_batches_and_from_another_start():
    rows = draw_rows([6, 9, 2, 7], 2)
    spread = torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64)
    prior = torch.ones(3, dtype=torch.float64)

    def designs(*parts):
        return [
            design_of_coefficients(Labelled.of(rows.take_tasks(torch.tensor(p))), contrasts(2))
            for p in parts
        ]

    whole = fit_population(designs([0, 1, 2, 3]), spread, prior, STEPS)
    other = fit_population(designs([0, 1, 2, 3]), 3 * spread, 5 * prior, STEPS)
    halves = fit_population(designs([0, 1], [2, 3]), spread, prior, STEPS)
    warm = fit_population(designs([0, 1, 2, 3]), spread, prior, STEPS, other)
    for found in (halves, warm):
        torch.testing.assert_close(found.mean, whole.mean, rtol=1e-6, atol=1e-6)
        assert found.log_evidence == pytest.approx(whole.log_evidence, rel=1e-8)


def test_population_without_spread_is_one_regression():
    rows = draw_rows([8, 8], 2)
    prior = torch.tensor([0.5, 2.0, 2.0], dtype=torch.float64)
    design = design_of_coefficients(Labelled.of(rows), contrasts(2))
    found = fit_population([design], torch.zeros(3).double(), prior, STEPS)
    pooled = Labelled.of(TaskRows.single(rows.x, rows.y))
    root = prior.rsqrt().diag()
    alone = find_mode(design_under(pooled, contrasts(2), torch.zeros(3).double(), root), STEPS)
    torch.testing.assert_close(found.mean, (alone @ root)[0], rtol=1e-7, atol=1e-8)


# ------------------------------------------------------------- the mean, tasks integrated out


def one_by_one(rows, mean, spread, n_classes):
    """Laplace's log marginal likelihood of tasks, each with a Newton's method of its own."""
    table = contrasts(n_classes)
    total = torch.zeros((), dtype=torch.float64)
    for t in range(rows.n_tasks):
        task = rows.take_tasks(torch.tensor([t]))
        z = torch.cat([torch.ones(len(task.x), 1).double(), task.x], dim=1)

        def height(u, z=z, y=task.y):
            coef = (mean + spread * u).view(n_classes - 1, -1)
            log_proba = torch.log_softmax(z @ coef.T @ table.T, dim=1)
            return log_proba[torch.arange(len(y)), y].sum() - u.square().sum() / 2

        u = torch.zeros(len(spread), dtype=torch.float64)
        for _ in range(30):
            slope = jacobian(height, u, create_graph=True)
            curvature = hessian(height, u, create_graph=True)
            u = u - torch.linalg.solve(curvature, slope)
        total = total + height(u) - torch.logdet(-hessian(height, u, create_graph=True)) / 2
    return total


@pytest.mark.parametrize(("n_classes", "zero"), [(2, False), (3, False), (2, True)])
def test_marginal_mean_is_the_best_of_laplaces_likelihood(n_classes, zero):
    rows = draw_rows([5, 3, 4], n_classes, d=1, seed=1)
    spread = torch.tensor([1.5, 0.0 if zero else 0.7] * (n_classes - 1), dtype=torch.float64)
    prior = torch.tensor([0.2, 1.0] * (n_classes - 1), dtype=torch.float64)
    design = design_of_coefficients(Labelled.of(rows), contrasts(n_classes))
    first = fit_population([design], spread, prior, STEPS)
    found = marginal_mean([design], spread, prior, STEPS, first).requires_grad_()
    value = one_by_one(rows, found, spread, n_classes) - (prior * found.square()).sum() / 2
    (slope,) = torch.autograd.grad(value, found)
    assert float(slope.abs().max()) < 1e-4  # at a gain under 1e-10
    joint = first.mean.clone().requires_grad_()
    value = one_by_one(rows, joint, spread, n_classes) - (prior * joint.square()).sum() / 2
    assert float(torch.autograd.grad(value, joint)[0].abs().max()) > 1e-2


def test_slope_of_the_marginal_likelihood_is_exact():
    rows = draw_rows([5, 3, 4], 3, d=1, seed=2)
    spread = torch.tensor([1.5, 0.7] * 2, dtype=torch.float64)
    prior = torch.tensor([0.2, 1.0] * 2, dtype=torch.float64)
    design = design_of_coefficients(Labelled.of(rows), contrasts(3))
    mean = torch.tensor([0.3, -0.6, 0.2, 1.0], dtype=torch.float64).requires_grad_()
    value = one_by_one(rows, mean, spread, 3) - (prior * mean.square()).sum() / 2
    (slope,) = torch.autograd.grad(value, mean)
    view = _look([design], spread, prior, STEPS, mean.detach(), [torch.zeros(3, 4).double()])
    assert view.height == pytest.approx(value.item(), rel=1e-10)
    torch.testing.assert_close(view.slope, slope, rtol=1e-6, atol=1e-8)


def test_marginal_mean_in_several_batches_and_without_spread():
    rows = draw_rows([6, 9, 2, 7], 2)
    prior = torch.ones(3, dtype=torch.float64)

    def mean(spread, *parts):
        batches = [
            design_of_coefficients(Labelled.of(rows.take_tasks(torch.tensor(p))), contrasts(2))
            for p in parts
        ]
        first = fit_population(batches, spread, prior, STEPS)
        return first.mean, marginal_mean(batches, spread, prior, STEPS, first)

    spread = torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64)
    whole, halves = mean(spread, [0, 1, 2, 3])[1], mean(spread, [0, 1], [2, 3])[1]
    torch.testing.assert_close(halves, whole, rtol=1e-6, atol=1e-6)
    first, same = mean(torch.zeros(3).double(), [0, 1, 2, 3])
    torch.testing.assert_close(same, first, rtol=1e-7, atol=1e-8)


def test_the_mean_of_small_tasks_is_that_of_quadrature():
    """Tasks of two rows, a spread of 2: the mode of all is a quarter short, this one is not."""
    rng = np.random.default_rng(0)
    y = (rng.random((4000, 2)) < expit(rng.normal(-2, 2, size=(4000, 1)))).astype(int)
    design = design_of_coefficients(levels(y), contrasts(2))
    spread, prior = torch.full((1,), 2.0).double(), torch.full((1,), 1e-4).double()
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    n_ones = y.sum(1)

    def loss(mean):
        chance = expit(mean + 2.0 * points)[:, None]
        return -np.log(weights @ (chance**n_ones * (1 - chance) ** (2 - n_ones))).sum()

    truth = minimize_scalar(loss, bounds=(-4, 0), method="bounded").x
    first = fit_population([design], spread, prior, STEPS)
    found = float(marginal_mean([design], spread, prior, STEPS, first))
    assert float(first.mean) > 0.8 * truth
    assert abs(found - truth) < abs(float(first.mean) - truth) / 3
