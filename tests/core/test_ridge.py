"""Batched ridge regression and its posterior against one task at a time, from the textbook."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skmeta.core.heads.ridge import posterior_at, ridge_weights, unit_variance


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    p=st.integers(1, 7),
    m=st.integers(1, 3),
    penalty=st.sampled_from([0.01, 1.0, 30.0]),
)
def test_weights_solve_the_normal_equations(sizes, p, m, penalty):
    n = max(sizes)
    z, y = draw(len(sizes), n, p), draw(len(sizes), n, m, seed=1)
    for t, k in enumerate(sizes):
        z[t, k:], y[t, k:] = 0, 0
    found = ridge_weights(z, y, torch.tensor(penalty).double())
    for t, k in enumerate(sizes):
        own = z[t, :k]
        expected = torch.linalg.solve(own.T @ own + penalty * torch.eye(p), own.T @ y[t, :k])
        torch.testing.assert_close(found[t], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 6, 2)])
def test_gradients(shape):
    z, y = draw(*shape).requires_grad_(), draw(*shape[:2], 2, seed=1).requires_grad_()
    penalty = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ridge_weights, (z, y, penalty))


@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    p=st.integers(1, 6),
    n_query=st.integers(1, 4),
)
def test_posterior_is_that_of_the_textbook(sizes, p, n_query):
    n = max(*sizes, 1)
    z, rest = draw(len(sizes), n, p), draw(len(sizes), n, 2, seed=1)
    query = draw(len(sizes), n_query, p, seed=2)
    for t, k in enumerate(sizes):
        z[t, k:], rest[t, k:] = 0, 0
    mean, variance = posterior_at(z, rest, query)
    for t, k in enumerate(sizes):
        own = z[t, :k]
        covariance = torch.linalg.inv(torch.eye(p).double() + own.T @ own)
        torch.testing.assert_close(mean[t], query[t] @ covariance @ own.T @ rest[t, :k])
        expected = (query[t] @ covariance * query[t]).sum(1)
        torch.testing.assert_close(variance[t], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e8])
def test_rows_of_any_size_have_finite_weights(scale):
    z = (scale * draw(2, 4, 6)).requires_grad_()
    found = ridge_weights(z, draw(2, 4, 1), torch.tensor(1.0).double())
    (gradient,) = torch.autograd.grad(found.sum(), z)
    assert torch.isfinite(found).all() and torch.isfinite(gradient).all()


def test_large_rows_in_single_precision_are_solved_and_nan_is_not_hidden():
    z = 1e3 * draw(1, 10, 40).float()
    z[0, 5:] = z[0, :5] * (1 + 1e-5)  # nearly the same rows again
    mean, variance = posterior_at(z, draw(1, 10, 1, seed=1).float(), z[:, :3])
    assert torch.isfinite(mean).all() and (variance < 1.1).all()
    assert torch.isfinite(ridge_weights(z, draw(1, 10, 1).float(), torch.tensor(1e-3))).all()
    z[0, 0, 0] = torch.nan
    assert torch.isnan(posterior_at(z, draw(1, 10, 1).float(), z)[0]).any()


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e6])
@pytest.mark.parametrize("shape", [(3, 2, 5), (3, 5, 5), (3, 9, 4)])
def test_without_a_gradient_weights_are_those_of_the_singular_values(shape, scale):
    z, y = draw(*shape), draw(*shape[:2], 2, seed=1)
    z[1] *= scale  # one task of long rows among others
    z[2, 0] *= scale
    penalty = torch.tensor(0.3, dtype=torch.float64)
    with torch.no_grad():
        found = ridge_weights(z, y, penalty)
    for t in range(3):
        u, s, v = torch.linalg.svd(z[t], full_matrices=False)
        expected = v.T @ ((s / (s**2 + 0.3))[:, None] * (u.T @ y[t]))
        torch.testing.assert_close(found[t], expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e6, 1e9])
def test_variance_of_long_rows_at_long_rows(scale):
    z = scale * draw(2, 3, 5)
    query = torch.cat([z[:, :2], draw(2, 1, 5, seed=1)], 1)
    found = unit_variance(z, query)
    for t in range(2):
        _, s, v = torch.linalg.svd(z[t])
        across = query[t] @ v.T
        expected = (across[:, :3] ** 2 / (1 + s**2)).sum(1)
        expected[2] += (across[2, 3:] ** 2).sum()  # the rows themselves have nothing across
        torch.testing.assert_close(found[t], expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("bad", [1e15, 1e30, 1e200, torch.inf, torch.nan])
def test_rows_too_long_to_tell_the_penalty_are_refused(bad):
    z = draw(2, 3, 5)
    z[1, 0, 0] = bad
    with torch.no_grad(), pytest.raises(ValueError, match="far outside"):
        ridge_weights(z, draw(2, 3, 1), torch.tensor(1.0).double())
    z[1, 0, 0] = 1e6
    with torch.no_grad(), pytest.raises(ValueError, match="far outside"):
        ridge_weights(z.float(), draw(2, 3, 1).float(), torch.tensor(1.0))
