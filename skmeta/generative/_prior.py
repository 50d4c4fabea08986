"""Gaussians and mixtures of Gaussians as priors of images: how they are fitted and what they hold.

A component has the covariance ``share * pooled + loadings @ loadings.T + diag(rest)``: a part that
all components share, directions of its own, and what these leave of the variance of every pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

# A component of fewer images would give them away: its mean is one, or nearly.
FEWEST_MEMBERS = 5
# Components are told apart in this many principal components.
PCA_DIMENSIONS = 60
# Below this an image has no say in a component.
NEGLIGIBLE = 1e-4


@dataclass(frozen=True)
class Prior:
    """A mixture of K Gaussians on images of n pixels.

    Parameters
    ----------
    weights : ndarray of shape (K,)
        They sum to one.
    means : ndarray of shape (K, n)
        Of the components.
    pooled : ndarray of shape (n, n)
        Covariance that all components share.
    share : ndarray of shape (K,)
        How much of it each has.
    loadings : ndarray of shape (K, n, r)
        Directions of its own.
    rest : ndarray of shape (K, n)
        Further variance of every pixel.
    """

    weights: np.ndarray
    means: np.ndarray
    pooled: np.ndarray
    share: np.ndarray
    loadings: np.ndarray
    rest: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Return its arrays by name, as an estimator keeps them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
        if not all(isinstance(v, np.ndarray) and v.dtype == float for v in self.arrays().values()):
            raise ValueError("its prior holds something other than numbers")
        K, n = self.means.shape
        shapes = {"weights": (K,), "share": (K,), "rest": (K, n), "pooled": (n, n)}
        odd = [name for name, shape in shapes.items() if getattr(self, name).shape != shape]
        if odd or self.loadings.shape[:2] != (K, n) or self.loadings.ndim != 3:
            raise ValueError(f"parts of its prior do not fit: {odd or ['loadings']}")

    def times(self, k: int, rows: np.ndarray) -> np.ndarray:
        """Rows times the covariance of a component."""
        product = rows * self.rest[k]
        if self.loadings.shape[2]:
            product += rows @ self.loadings[k] @ self.loadings[k].T
        if self.share[k]:
            product += self.share[k] * (rows @ self.pooled)
        return product

    def variances(self, k: int) -> np.ndarray:
        """Variance of every pixel in a component."""
        own = np.square(self.loadings[k]).sum(axis=1)
        return self.share[k] * np.diag(self.pooled) + own + self.rest[k]

    def draw(self, n_images: int, rng: np.random.Generator) -> np.ndarray:
        """Images as the prior imagines them."""
        numbers = rng.choice(len(self.weights), size=n_images, p=self.weights)
        values, vectors = eigh(self.pooled)
        root = vectors * np.sqrt(values.clip(0))
        images = self.means[numbers]
        shared = rng.normal(size=images.shape) @ root.T
        images = images + np.sqrt(self.share[numbers])[:, None] * shared
        images += np.sqrt(self.rest[numbers]) * rng.normal(size=images.shape)
        own = rng.normal(size=(n_images, self.loadings.shape[2]))
        for k in np.unique(numbers):
            images[numbers == k] += own[numbers == k] @ self.loadings[k].T
        return images


def fit_gaussian(X: np.ndarray) -> Prior:
    """One Gaussian; its covariance is shrunk towards the variances of the pixels."""
    mean = X.mean(axis=0)
    n_pixels = X.shape[1]
    return Prior(
        weights=np.ones(1),
        means=mean[None],
        pooled=shrunk_covariance(X - mean, np.ones(len(X)), len(X)),
        share=np.ones(1),
        loadings=np.zeros((1, n_pixels, 0)),
        rest=np.zeros((1, n_pixels)),
    )


def shrunk_covariance(D: np.ndarray, weights: np.ndarray, total: float) -> np.ndarray:
    """Covariance of centred rows with its off-diagonal part shrunk.

    By how much is the estimate of Schaefer and Strimmer (2005, target D) of what minimises the
    squared error: nothing where rows are many.
    """
    weighted = D * np.sqrt(weights)[:, None]
    S = weighted.T @ weighted / total
    # Variance of each entry, from how the products of two pixels vary over rows.
    squares = weighted * D
    noise = (squares.T @ squares / total - S**2).clip(0) / total
    size = S**2
    for matrix in (noise, size):
        np.fill_diagonal(matrix, 0)
    amount = min(1.0, noise.sum() / size.sum()) if size.sum() > 0 else 0.0
    shrunk = (1 - amount) * S
    np.fill_diagonal(shrunk, np.diag(S))
    return shrunk


def fit_mixture(
    X: np.ndarray,
    n_components: int,
    n_factors: int,
    shrinkage: float,
    max_iter: int,
    random_state: Any,
) -> tuple[Prior, int]:
    """Return a mixture, and the number of iterations.

    Images are assigned to components in the space of their first principal components, by k-means
    and then by expectation-maximisation; covariances are then taken from all pixels. In both,
    ``shrinkage`` counts as so many further images that vary as all images do about their
    component's mean.
    """
    shares, n_iter = _assign(X, n_components, shrinkage, max_iter, random_state)
    members = shares.sum(axis=0)
    means = shares.T @ X / members[:, None]
    n_pixels, K = X.shape[1], len(members)
    n_factors = min(n_factors, n_pixels, max(int(np.ceil(members.max())), 1))
    loadings, rest = np.zeros((K, n_pixels, n_factors)), np.zeros((K, n_pixels))
    deviations, weights = [], []
    for k, total in enumerate(members + shrinkage):
        own = shares[:, k] > NEGLIGIBLE
        D = X[own] - means[k]
        deviations.append(D)
        weights.append(shares[own, k])
        D = D * np.sqrt(weights[-1] / total)[:, None]
        V = _principal(D, n_factors)
        loadings[k, :, : V.shape[1]] = V
        rest[k] = (np.square(D).sum(axis=0) - np.square(V).sum(axis=1)).clip(0)
    pooled = shrunk_covariance(np.concatenate(deviations), np.concatenate(weights), len(X))
    prior = Prior(
        weights=members / members.sum(),
        means=means,
        pooled=pooled,
        share=shrinkage / (members + shrinkage),
        loadings=loadings,
        rest=rest,
    )
    return prior, n_iter


def _principal(D: np.ndarray, rank: int) -> np.ndarray:
    """Directions V of which V V' is the best of that rank for D' D."""
    n_rows, n_pixels = D.shape
    rank = min(rank, n_rows, n_pixels)
    if n_rows < n_pixels:
        _, vectors = eigh(D @ D.T, subset_by_index=(n_rows - rank, n_rows - 1))
        return D.T @ vectors
    values, vectors = eigh(D.T @ D, subset_by_index=(n_pixels - rank, n_pixels - 1))
    return vectors * np.sqrt(values.clip(0))


def _assign(
    X: np.ndarray, K: int, shrinkage: float, max_iter: int, random_state: Any
) -> tuple[np.ndarray, int]:
    """Shares (n_images, K) of the images in the components, of which none is small."""
    spread = X.var(axis=0).sum()
    K = min(K, len(X) // FEWEST_MEMBERS)
    if K < 2 or not spread > 0:
        return np.ones((len(X), 1)), 1
    n_dimensions = min(PCA_DIMENSIONS, X.shape[1], len(X) - 1)
    Z = PCA(n_dimensions, random_state=random_state).fit_transform(X)
    Z = Z / np.sqrt(spread)
    K = min(K, len(np.unique(Z, axis=0)))  # k-means cannot part what is the same
    labels = KMeans(K, n_init=1, random_state=random_state).fit(Z).labels_
    shares = _without_small(np.eye(K)[labels])
    n_iter = 0
    while n_iter < max_iter and shares.shape[1] > 1:
        n_iter += 1
        before, shares = shares, _without_small(_expectation(Z, shares, shrinkage))
        if before.shape == shares.shape and np.abs(before - shares).mean() < NEGLIGIBLE:
            break
    return shares, max(n_iter, 1)


def _expectation(Z: np.ndarray, shares: np.ndarray, shrinkage: float) -> np.ndarray:
    """One step of expectation-maximisation: new shares from the Gaussians of the old ones."""
    members = shares.sum(axis=0)
    means = shares.T @ Z / members[:, None]
    scatters = []
    for k, mean in enumerate(means):
        own = shares[:, k] > NEGLIGIBLE
        D = (Z[own] - mean) * np.sqrt(shares[own, k])[:, None]
        scatters.append(D.T @ D)
    # The variances add up to one: a floor for directions in which nothing varies.
    floor = 1e-6 / Z.shape[1] * np.eye(Z.shape[1])
    pooled = sum(scatters) / len(Z) + floor
    scores = np.empty_like(shares)
    for k, total in enumerate(members + shrinkage):
        factor = cholesky((scatters[k] + shrinkage * pooled) / total + floor, lower=True)
        distance = np.square(solve_triangular(factor, (Z - means[k]).T, lower=True)).sum(axis=0)
        scores[:, k] = np.log(members[k]) - distance / 2 - np.log(np.diag(factor)).sum()
    return softmax_rows(scores)


def softmax_rows(scores: np.ndarray) -> np.ndarray:
    """Shares from log scores, row by row."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _without_small(shares: np.ndarray) -> np.ndarray:
    """Dissolve the smallest component until all have members enough; the others take its share."""
    while shares.shape[1] > 1 and (members := shares.sum(axis=0)).min() < FEWEST_MEMBERS:
        smallest = int(members.argmin())
        others = np.delete(shares, smallest, axis=1)
        left = others.sum(axis=1, keepdims=True)
        # An image that was all its own goes to the others as they are sized.
        sizes = others.sum(axis=0) / others.sum()
        shares = np.where(left > NEGLIGIBLE, others / np.maximum(left, NEGLIGIBLE), sizes)
    return shares
