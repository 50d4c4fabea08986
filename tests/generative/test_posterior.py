"""The closed form against the textbook with explicit inverses, and the fit of the priors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skmeta import operators as ops
from skmeta.generative import _posterior
from skmeta.generative._posterior import Posterior
from skmeta.generative._prior import (
    FEWEST_MEMBERS,
    _assign,
    fit_gaussian,
    fit_mixture,
    shrunk_covariance,
)
from skmeta.operators._measurement import as_measurement
from tests.generative.cases import dense_covariance, digits, naive_posterior, random_prior


def measured(prior, A, noise_std, n_images=6, seed=0):
    rng = np.random.default_rng(seed)
    X = prior.draw(n_images, rng)
    return X, X @ A.T + noise_std * rng.normal(size=(n_images, len(A)))


@given(
    st.integers(1, 4),
    st.integers(2, 8),
    st.integers(0, 3),
    st.integers(1, 12),
    st.booleans(),
    st.integers(0, 99),
)
def test_posterior_is_that_of_the_textbook(K, n, r, m, own_noise, seed):
    prior = random_prior(K, n, r, seed)
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(m, n))
    noise = rng.random(m) + 0.1 if own_noise else 0.3
    _, Y = measured(prior, A, noise, seed=seed)
    mean, variance = Posterior(prior, as_measurement(A, n), noise)(Y, True)
    expected_mean, expected_std = naive_posterior(prior, A, noise, Y)
    assert_allclose(mean, expected_mean, rtol=1e-6, atol=1e-8)
    assert_allclose(np.sqrt(variance), expected_std, rtol=1e-6)


@pytest.mark.parametrize("kept", [0, 2**25])
@pytest.mark.parametrize("batch", [1, 2**22])
def test_memory_changes_nothing(kept, batch, monkeypatch):
    prior = random_prior()
    A = np.random.default_rng(0).normal(size=(4, 7))
    _, Y = measured(prior, A, 0.1)
    expected = naive_posterior(prior, A, 0.1, Y)
    monkeypatch.setattr(_posterior, "KEPT", kept)
    monkeypatch.setattr(_posterior, "BATCH", batch)
    posterior = Posterior(prior, as_measurement(A, 7), 0.1)
    for _ in range(2):
        mean, variance = posterior(Y, True)
        assert_allclose(mean, expected[0], rtol=1e-6, atol=1e-9)
        assert_allclose(np.sqrt(variance), expected[1], rtol=1e-6)
    assert len(posterior._kept) == (3 if kept else 0)


def test_every_pixel_measured():
    prior = random_prior()
    X, Y = measured(prior, np.eye(7), 0.5, 200)
    mean, variance = Posterior(prior, as_measurement(None, 7), 0.5)(Y, True)
    expected = naive_posterior(prior, np.eye(7), 0.5, Y[:5])
    assert_allclose(mean[:5], expected[0], rtol=1e-6)
    assert np.mean((mean - X) ** 2) < 0.8 * np.mean((Y - X) ** 2)
    # What it says of its error is true on average, when images are as the prior has them.
    assert_allclose(np.mean((mean - X) ** 2), variance.mean(), rtol=0.1)


def test_rows_do_not_see_each_other():
    prior = random_prior()
    A = np.random.default_rng(0).normal(size=(4, 7))
    _, Y = measured(prior, A, 0.1)
    posterior = Posterior(prior, as_measurement(A, 7), 0.1)
    mean, variance = posterior(Y, True)
    for i in range(len(Y)):
        one_mean, one_variance = posterior(Y[i : i + 1], True)
        assert_allclose(one_mean[0], mean[i], rtol=1e-9)
        assert_allclose(one_variance[0], variance[i], rtol=1e-9)
    huge, _ = posterior(1e6 * Y, False)
    assert np.isfinite(huge).all()


def test_without_noise_and_with_equal_measurements():
    prior = random_prior(K=2, n=5)
    A = np.random.default_rng(0).normal(size=(3, 5))
    X, _ = measured(prior, A, 0.0)
    twice = np.vstack([A, A, np.zeros((1, 5))])
    once, _ = Posterior(prior, as_measurement(A, 5), 0)(X @ A.T)
    again, _ = Posterior(prior, as_measurement(twice, 5), 0)(X @ twice.T)
    assert_allclose(once @ A.T, X @ A.T, atol=1e-4)
    assert_allclose(once, again, atol=1e-4)
    exact, variance = Posterior(prior, as_measurement(None, 5), 0)(X, True)
    assert_allclose(exact, X, atol=1e-5)
    assert (variance < 1e-8).all()
    nothing, _ = Posterior(prior, as_measurement(np.zeros((1, 5)), 5), 0)(np.zeros((6, 1)))
    assert_allclose(nothing, np.tile(prior.weights @ prior.means, (len(X), 1)), atol=1e-9)


def test_draws_have_the_moments_of_the_prior():
    prior = random_prior()
    X = prior.draw(200_000, np.random.default_rng(0))
    mean = prior.weights @ prior.means
    second = sum(
        w * (dense_covariance(prior, k) + np.outer(prior.means[k], prior.means[k]))
        for k, w in enumerate(prior.weights)
    )
    assert_allclose(X.mean(axis=0), mean, atol=0.03)
    assert_allclose(X.T @ X / len(X), second, atol=0.1)
    for k in range(3):
        S = dense_covariance(prior, k)
        assert_allclose(prior.variances(k), np.diag(S))
        rows = np.random.default_rng(1).normal(size=(4, 7))
        assert_allclose(prior.times(k, rows), rows @ S)


# ---------------------------------------------------------------- how priors are fitted


def test_shrinkage_against_loops():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(15, 4)) @ rng.normal(size=(4, 4))
    D = X - X.mean(axis=0)
    N, S = len(X), D.T @ D / len(X)
    top = bottom = 0.0
    for i in range(4):
        for j in range(4):
            if i != j:
                products = D[:, i] * D[:, j]
                top += np.mean((products - products.mean()) ** 2) / N
                bottom += S[i, j] ** 2
    expected = (1 - min(1, top / bottom)) * S
    expected[np.diag_indices(4)] = np.diag(S)
    assert 0.05 < top / bottom < 0.95
    assert_allclose(shrunk_covariance(D, np.ones(N), N), expected)
    # A row of weight two is two rows.
    weights = np.where(np.arange(N) < 5, 2.0, 1.0)
    repeated = np.repeat(D, weights.astype(int), axis=0)
    assert_allclose(
        shrunk_covariance(D, weights, weights.sum()),
        shrunk_covariance(repeated, np.ones(len(repeated)), len(repeated)),
    )


def test_gaussian_of_many_rows_is_their_covariance():
    X = digits()
    prior = fit_gaussian(X)
    expected = np.cov(X.T, bias=True)
    assert_allclose(dense_covariance(prior, 0), expected, atol=0.03 * np.abs(expected).max())
    assert_allclose(np.diag(prior.pooled), np.diag(expected))
    # Two rows are no reason to believe in any correlation.
    assert np.linalg.matrix_rank(fit_gaussian(np.random.default_rng(0).random((3, 9))).pooled) == 9


def test_mixture_with_all_factors_has_the_shrunk_covariances():
    rng = np.random.default_rng(0)
    centres = 10 * rng.normal(size=(3, 5))
    labels = np.arange(300) % 3
    X = centres[labels] + rng.normal(size=(300, 5)) * (1 + labels)[:, None]
    prior, _ = fit_mixture(X, 3, 5, 20.0, 20, 0)
    order = np.argmin(((centres[:, None] - prior.means) ** 2).sum(axis=2), axis=1)
    assert_allclose(prior.weights, 1 / 3)
    deviations = np.concatenate([X[labels == j] - X[labels == j].mean(axis=0) for j in range(3)])
    expected = shrunk_covariance(deviations, np.ones(300), 300)
    assert_allclose(prior.pooled, expected, atol=1e-6)
    for j, k in enumerate(order):
        own = X[labels == j]
        assert_allclose(prior.means[k], own.mean(axis=0), atol=1e-6)
        S = (100 * np.cov(own.T, bias=True) + 20 * prior.pooled) / 120
        assert_allclose(dense_covariance(prior, k), S, atol=1e-6)
    fewer, _ = fit_mixture(X, 3, 2, 20.0, 20, 0)
    for k in range(3):  # what factors leave stays with the pixels
        assert_allclose(fewer.variances(k), prior.variances(k), rtol=1e-6)
        assert fewer.loadings.shape == (3, 5, 2)


@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 20), st.integers(0, 99))
def test_no_component_is_small(n_rows, n_pixels, K, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_pixels)).round(1) * (rng.random((n_rows, 1)) < 0.5)
    shares, n_iter = _assign(X, K, 10.0, 5, 0)
    assert_allclose(shares.sum(axis=1), 1)
    assert shares.shape[1] == 1 or shares.sum(axis=0).min() >= FEWEST_MEMBERS
    assert 1 <= n_iter <= 5
    prior, _ = fit_mixture(X, K, 3, 10.0, 5, 0)
    prior.check()
    mean, variance = Posterior(prior, as_measurement(None, n_pixels), 0.1)(X, True)
    assert np.isfinite(mean).all() and (variance >= 0).all()


def test_expectation_maximisation_improves_on_k_means():
    X = digits()[:1500]
    found = []
    for max_iter in (1, 10):
        prior, n_iter = fit_mixture(X, 6, 20, 60.0, max_iter, 0)
        A = ops.GaussianMeasurements(8, 64, random_state=0).matrix
        Y = digits()[1500:] @ A.T
        mean, _ = Posterior(prior, as_measurement(A, 64), 0.05)(Y)
        found.append(np.mean((mean - digits()[1500:]) ** 2))
    assert n_iter > 1
    assert found[1] < found[0]


def test_the_same_seed_is_the_same_mixture():
    X = digits()[:300]
    first, second = (fit_mixture(X, 5, 10, 60.0, 5, 0)[0].arrays() for _ in range(2))
    for name, array in first.items():
        assert_array_equal(array, second[name])


def test_noise_is_told_in_units_of_a_pixel():
    prior = random_prior(1, 7)

    def noise(A, std):
        return Posterior(prior, as_measurement(A, 7), std).noise

    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(7, 7)))[0]
    assert_allclose([noise(A, 0.3) for A in (None, rotation, 2 * rotation)], [0.3, 0.3, 0.15])
    # Of what is measured twice the noise is less; where little is measured there is more.
    assert_allclose(noise(np.vstack([np.eye(7)] * 2), 0.3), 0.3 / 2**0.5)
    assert_allclose(noise(np.eye(7)[:1], 0.3), 0.3 * 7**0.5)
    assert noise(np.zeros((2, 7)), 0.3) > 1e5
