"""Batched logistic and softmax regression against one task at a time."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax, logsumexp
from torch.autograd.functional import hessian, jacobian

from skmeta.core.heads.logistic import (
    Labelled,
    answer,
    cholesky_of_sum,
    contrasts,
    derivatives,
    design_of_coefficients,
    design_under,
    find_mode,
    latent,
    log_likelihood,
    log_proba,
    posterior,
    reduce,
    under,
)
from skmeta.core.tasks import TaskRows
from tests.core.labelled import draw_prior, draw_rows, levels
from tests.core.sigmoids import log_odds

STEPS = 100
sizes_of_tasks = st.lists(st.integers(1, 9), min_size=1, max_size=4)
class_counts = st.integers(2, 4)


def tasks_of(rows):
    """Constant and columns, and labels, of every task; numpy."""
    bounds = rows.offsets.tolist()
    for a, b in zip(bounds[:-1], bounds[1:], strict=True):
        x = rows.x[a:b].numpy()
        yield np.column_stack([np.ones(b - a), x]), rows.y[a:b].numpy()


# ------------------------------------------------------------------- contrasts and derivatives


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_contrasts_treat_all_classes_alike(n_classes):
    table = contrasts(n_classes).numpy()
    np.testing.assert_allclose(table.sum(0), 0, atol=1e-14)
    between = table @ table.T
    differences = between.diagonal()[:, None] + between.diagonal() - 2 * between
    np.testing.assert_allclose(differences, 1 - np.eye(n_classes), atol=1e-14)


def test_with_two_classes_the_latent_score_is_the_log_odds():
    np.testing.assert_allclose(contrasts(2).numpy(), [[-0.5], [0.5]], rtol=1e-15)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_derivatives_equal_autograd(n_classes):
    rows = draw_rows([4, 7], n_classes)
    mean, root = draw_prior((n_classes - 1) * 3)
    design = design_under(Labelled.of(rows), contrasts(n_classes), mean, root)
    u = torch.randn(2, len(mean), dtype=torch.float64)
    gradient, curvature = derivatives(design, u)
    for t in range(2):

        def value(v, t=t):
            return log_likelihood(design.take(torch.tensor([t])), v.unsqueeze(0))[0]

        torch.testing.assert_close(gradient[t], jacobian(value, u[t]))
        torch.testing.assert_close(curvature[t], -hessian(value, u[t]))


# ------------------------------------------------------------------- mode


@given(sizes=sizes_of_tasks, n_classes=class_counts, seed=st.integers(0, 20))
def test_mode_equals_softmax_regression_task_by_task(sizes, n_classes, seed):
    """One weight vector a class, with independent priors; its sum over classes is free to move."""
    rows = draw_rows(sizes, n_classes, seed=seed)
    table = contrasts(n_classes)
    mean, _ = draw_prior((n_classes - 1) * 3, seed)
    spread = np.array([1.5, 0.7, 0.3])
    root = torch.diag(torch.from_numpy(np.tile(spread, n_classes - 1)))
    design = design_under(Labelled.of(rows), table, mean, root)
    found = (mean + find_mode(design, STEPS) @ root).unflatten(1, (-1, 3))
    center = table.numpy() @ mean.view(-1, 3).numpy()
    for t, (z, y) in enumerate(tasks_of(rows)):

        def loss(w, z=z, y=y):
            w = w.reshape(n_classes, 3)
            logits = z @ w.T
            fit = logits[np.arange(len(y)), y] - logsumexp(logits, axis=1)
            return -fit.sum() + ((w - center) ** 2 / spread**2).sum()  # variances spread^2 / 2

        best = minimize(loss, center.ravel(), method="BFGS", options={"gtol": 1e-9}).x
        expected = best.reshape(n_classes, 3)
        np.testing.assert_allclose(expected.mean(0), center.mean(0), atol=1e-6)
        np.testing.assert_allclose(table.numpy() @ found[t].numpy(), expected, atol=2e-6)


@given(sizes=sizes_of_tasks, n_classes=class_counts)
def test_mode_under_a_dense_prior_has_no_slope(sizes, n_classes):
    rows = draw_rows(sizes, n_classes)
    mean, root = draw_prior((n_classes - 1) * 3)
    u = find_mode(design_under(Labelled.of(rows), contrasts(n_classes), mean, root), STEPS)
    coefficients = design_of_coefficients(Labelled.of(rows), contrasts(n_classes))
    gradient, _ = derivatives(coefficients, mean + u @ root.T)
    torch.testing.assert_close(gradient @ root, u, rtol=1e-8, atol=1e-9)


def test_a_task_has_the_same_answer_in_any_batch():
    rows = draw_rows([3, 9, 1], 3)
    mean, root = draw_prior(6)
    table = contrasts(3)
    together = find_mode(design_under(Labelled.of(rows), table, mean, root), STEPS)
    for t in range(3):
        alone = Labelled.of(rows.take_tasks(torch.tensor([t])))
        found = find_mode(design_under(alone, table, mean, root), STEPS)[0]
        torch.testing.assert_close(found, together[t], rtol=1e-10, atol=1e-12)


def test_a_prior_a_task():
    rows = draw_rows([3, 5], 2)
    priors = [draw_prior(3, seed) for seed in (0, 1)]
    mean, root = (torch.stack(parts) for parts in zip(*priors, strict=True))
    labelled = Labelled.of(rows)
    together = find_mode(design_under(labelled, contrasts(2), mean, root), STEPS)
    for t in range(2):
        design = design_under(labelled, contrasts(2), *priors[t])
        torch.testing.assert_close(find_mode(design, STEPS)[t], together[t])


def test_newton_is_damped():
    """Where plain Newton steps grow without bound."""
    rows = Labelled.of(draw_rows([30], 2))
    mean, root = torch.zeros(3, dtype=torch.float64), 20 * torch.eye(3, dtype=torch.float64)
    design = design_under(rows, contrasts(2), mean, root)
    far = torch.full((1, 3), 50.0, dtype=torch.float64)
    torch.testing.assert_close(find_mode(design, STEPS, far), find_mode(design, STEPS))


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e8])
def test_separable_rows_have_a_finite_mode(scale):
    x = scale * torch.linspace(-1, 1, 10, dtype=torch.float64).unsqueeze(1)
    rows = Labelled.of(TaskRows.single(x, (x[:, 0] > 0).long()))
    mean, root = torch.zeros(2, dtype=torch.float64), 3 * torch.eye(2, dtype=torch.float64)
    design = design_under(rows, contrasts(2), mean, root)
    u = find_mode(design, STEPS)
    center, chol = posterior(design, u, 1.0)
    assert torch.isfinite(u).all() and torch.isfinite(center).all() and torch.isfinite(chol).all()
    assert ((latent(design, u)[0, :, 0] > 0) == (x[:, 0] > 0)).all()


def test_overflow_gives_nan_and_no_error():
    x = torch.tensor([[1e200], [0.0]], dtype=torch.float64)
    rows = Labelled.of(TaskRows.single(x, torch.tensor([0, 1])))
    mean, root = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    u = find_mode(design_under(rows, contrasts(2), mean, root), STEPS)
    assert torch.isnan(u).any()


def test_cholesky_where_rounding_has_eaten_the_unit_matrix():
    v = torch.tensor([[[1.0, 1.0 + 1e-9, -2.0]]], dtype=torch.float64) * 1e12
    assert torch.isfinite(cholesky_of_sum(v.mT @ v)).all()


# ------------------------------------------------------------------- posterior and probabilities


@given(sizes=sizes_of_tasks, n_classes=class_counts)
def test_posterior_equals_dense_derivatives(sizes, n_classes):
    rows = draw_rows(sizes, n_classes)
    mean, root = draw_prior((n_classes - 1) * 3)
    design = design_under(Labelled.of(rows), contrasts(n_classes), mean, root)
    u = find_mode(design, STEPS)
    found, chol = posterior(design, u, 0.1)
    for t in range(len(sizes)):

        def height(v, t=t):
            own = log_likelihood(design.take(torch.tensor([t])), v.unsqueeze(0))[0]
            return own - v.square().sum() / 2

        curvature = -hessian(height, u[t])
        covariance = torch.linalg.inv(curvature)
        torch.testing.assert_close(chol[t] @ chol[t].T, curvature)
        third = jacobian(functools.partial(hessian, height, create_graph=True), u[t])
        shift = 0.05 * covariance @ torch.einsum("abc,bc->a", third, covariance)
        torch.testing.assert_close(found[t], u[t] + shift)


@pytest.mark.parametrize("n_rows", [1, 3, 10])
def test_the_mean_is_closer_to_the_truth_than_the_mode(n_rows):
    """An intercept with a wide prior, all labels 1: integrated on a grid."""
    rows = levels(np.ones((1, n_rows), dtype=int))
    mean, root = torch.zeros(1, dtype=torch.float64), torch.full((1, 1), 2.0, dtype=torch.float64)
    design = design_under(rows, contrasts(2), mean, root)
    mode = find_mode(design, STEPS)
    center, chol = posterior(design, mode, 1.0)
    grid = np.linspace(-8, 8, 20001)
    weight = np.exp(-(grid**2) / 2 + n_rows * np.log(expit(2 * grid)))
    truth = (grid * weight).sum() / weight.sum()
    assert abs(float(center) - truth) < 0.5 * abs(float(mode) - truth)
    assert abs(float(center - mode) * float(chol)) <= 1 + 1e-12


def test_the_correction_is_at_most_a_standard_deviation():
    root = torch.full((1, 1), 50.0, dtype=torch.float64)
    design = design_under(levels([[1]]), contrasts(2), torch.zeros(1).double(), root)
    mode = find_mode(design, STEPS)
    center, chol = posterior(design, mode, 1.0)
    np.testing.assert_allclose(float((center - mode) * chol), 1.0)


@given(
    sizes=sizes_of_tasks, n_classes=class_counts, n_query=st.integers(1, 5), d=st.integers(1, 12)
)
def test_answers_equal_dense_algebra(sizes, n_classes, n_query, d):
    """With more columns than rows the sides differ: few directions here, all of them there."""
    rows = Labelled.of(draw_rows(sizes, n_classes, d))
    mean, root = draw_prior((n_classes - 1) * (d + 1))
    table = contrasts(n_classes)
    design = design_under(rows, table, mean, root)
    u = find_mode(design, STEPS)
    z = torch.randn(len(sizes), n_query, d + 1, dtype=torch.float64)
    phi, offset = under(z, n_classes - 1, mean, root)
    found = answer(design, u, 0.7, phi, offset).numpy()
    center, chol = posterior(design, u, 0.7)
    for t in range(len(sizes)):
        covariance = root @ torch.linalg.inv(chol[t] @ chol[t].T) @ root.T
        coef = (mean + root @ center[t]).view(n_classes - 1, -1)
        for i in range(n_query):
            logits = (table @ coef @ z[t, i]).numpy()
            wide = torch.kron(table, z[t, i])  # (C, q)
            spread = (wide @ covariance @ wide.T).numpy()
            odds = np.zeros((n_classes, n_classes))
            for a in range(n_classes):
                for b in range(n_classes):
                    variance = spread[a, a] + spread[b, b] - 2 * spread[a, b]
                    odds[a, b] = log_odds(logits[b] - logits[a], max(variance, 0))
            expected = log_softmax(-logsumexp(odds, axis=1))
            np.testing.assert_allclose(found[t, i], expected, rtol=1e-6, atol=1e-9)


@given(n_classes=class_counts, sizes=sizes_of_tasks)
def test_fewer_unknowns_give_the_same_mode(n_classes, sizes):
    rows = Labelled.of(draw_rows(sizes, n_classes, d=40))
    mean, root = draw_prior((n_classes - 1) * 41)
    design = design_under(rows, contrasts(n_classes), mean, root)
    fewer, basis = reduce(design)
    assert basis is not None and basis.shape[2] == rows.y.shape[1] * (n_classes - 1)
    found = (basis @ find_mode(fewer, STEPS).unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(found, find_mode(design, STEPS), rtol=1e-7, atol=1e-8)


def test_two_classes_are_the_integral():
    mean = torch.linspace(-9, 9, 10, dtype=torch.float64)
    variance = torch.linspace(0, 25, 10, dtype=torch.float64)
    found = log_proba(mean[:, None], variance[:, None, None], contrasts(2)).numpy()
    odds = [log_odds(*pair) for pair in zip(mean.tolist(), variance.tolist(), strict=True)]
    expected = np.column_stack([log_expit(-np.array(odds)), log_expit(odds)])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_probabilities_are_near_the_integral(n_classes):
    rng = np.random.default_rng(0)
    m = n_classes - 1
    mean, half = rng.normal(size=m), 0.5 * rng.normal(size=(m, m))
    table = contrasts(n_classes)
    draws = mean + rng.normal(size=(100_000, m)) @ half.T
    expected = np.exp(log_softmax(draws @ table.numpy().T, axis=1)).mean(0)
    found = log_proba(torch.from_numpy(mean), torch.from_numpy(half @ half.T), table).exp()
    np.testing.assert_allclose(found.numpy(), expected, atol=0.04)
    assert float(found.sum()) == pytest.approx(1)
