"""Small images and naive answers for the tests of reconstruction."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from skmeta.generative._prior import Prior
from tests.instances import small


def digits():
    """Images of 8 x 8 between 0 and 1."""
    return load_digits().data / 16


def secret_images(n_images=60, n_pixels=12, seed=0):
    """Smooth rows in which every number is its own."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(n_images, n_pixels)).cumsum(axis=1)
    return steps + 3 * (np.arange(n_images) % 3)[:, None]


@cache
def fitted_small(name):
    """A small reconstructor that knows the secret images; tests share it."""
    return small(name).fit(secret_images())


def random_prior(K=3, n=7, r=2, seed=0):
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(n, n))
    weights = rng.random(K) + 0.2
    return Prior(
        weights=weights / weights.sum(),
        means=rng.normal(size=(K, n)),
        pooled=B @ B.T / n,
        share=rng.random(K),
        loadings=rng.normal(size=(K, n, r)),
        rest=rng.random((K, n)) * 0.1,
    )


def dense_covariance(prior, k):
    V = prior.loadings[k]
    return prior.share[k] * prior.pooled + V @ V.T + np.diag(prior.rest[k])


def naive_posterior(prior, A, noise_std, Y):
    """Posterior mean and standard deviation by the textbook, one image at a time."""
    N = np.diag(np.broadcast_to(noise_std, len(A)).astype(float) ** 2)
    means, stds = [], []
    for y in Y:
        logs, centres, spreads = [], [], []
        for k, weight in enumerate(prior.weights):
            S, mu = dense_covariance(prior, k), prior.means[k]
            C = A @ S @ A.T + N
            residual = y - A @ mu
            logs.append(
                np.log(weight)
                - 0.5 * residual @ np.linalg.inv(C) @ residual
                - 0.5 * np.linalg.slogdet(2 * np.pi * C)[1]
            )
            precision = np.linalg.inv(S) + A.T @ np.linalg.inv(N) @ A
            P = np.linalg.inv(precision)
            spreads.append(P)
            centres.append(mu + P @ A.T @ np.linalg.inv(N) @ residual)
        shares = np.exp(np.array(logs) - max(logs))
        shares /= shares.sum()
        mean = shares @ np.array(centres)
        second = sum(
            r * (P + np.outer(c, c)) for r, P, c in zip(shares, spreads, centres, strict=True)
        )
        means.append(mean)
        stds.append(np.sqrt(np.diag(second - np.outer(mean, mean))))
    return np.array(means), np.array(stds)
