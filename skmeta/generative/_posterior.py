"""What linear measurements with Gaussian noise say of images, given a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import cholesky, qr, solve_triangular

from skmeta.generative._prior import Prior, softmax_rows
from skmeta.generative._projection import project
from skmeta.operators._measurement import Measurement

# Numbers that factors may take to be kept from one call to the next.
KEPT = 2**25
# Numbers in a batch of images.
BATCH = 2**22
# Components with a smaller share in an image have no say.
NEGLIGIBLE = 1e-12
# Those with a smaller share are cut off where others are pushed into the range.
MINOR = 0.1
# Noise is taken to be at least this, relative to the spread of the measurements.
LEAST_NOISE = 1e-6


class Posterior:
    """Mean and variance of images given their measurements, in closed form.

    Factors are made when they are first needed.

    Parameters
    ----------
    prior : Prior
        Of the images.
    measurement : Measurement
        Linear.
    noise_std : float or ndarray of shape (n_measurements,)
        Standard deviation of the noise of a measurement.
    """

    def __init__(
        self, prior: Prior, measurement: Measurement, noise_std: float | np.ndarray
    ) -> None:
        self.prior = prior
        self._measurement = measurement
        self._noise_std = noise_std
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._variances: dict[int, np.ndarray] = {}
        self._whitened: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None

    @property
    def noise(self) -> float:
        """Standard deviation of the noise, in units of a pixel: as if each were measured alone."""
        A = self._operator()[0]
        return float(np.sqrt(A.shape[1] / np.square(A).sum())) if A.any() else 1 / LEAST_NOISE

    def __call__(
        self,
        Y: np.ndarray,
        with_variance: bool = False,
        bounds: tuple[float, float] | None = None,
        n_steps: int = 0,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return posterior means and, if asked, variances: (n_images, n_pixels).

        With ``bounds`` the mean of each component is pushed into them, in so many steps, before
        means are averaged. Variances are those without bounds.
        """
        A, scale, rotation = self._operator()
        Y = Y / scale
        if rotation is not None:
            Y = Y @ rotation
        shares, means = self._shares(Y), self.prior.means
        mean, seen = np.zeros((len(Y), means.shape[1])), np.zeros((len(Y), 1))
        variance = np.zeros_like(mean) if with_variance else None
        pushed = np.zeros_like(mean) if bounds is not None else None
        for k in range(len(means)):
            active = np.flatnonzero(~(shares[:, k] <= NEGLIGIBLE))  # NaN must come out as NaN
            if not len(active):
                continue
            factor, gain = self._factors(k)
            covariance = None
            for rows in _batches(active, max(A.shape)):
                solved = _solve(factor, Y[rows] - A @ means[k])
                own = means[k] + _solve(factor, solved.T, "T").T @ gain
                # Means and variances are merged one component after another: no difference of
                # large squares is ever taken.
                share, before = shares[rows, k, None], seen[rows]
                part = share / (before + share)
                step = own - mean[rows]
                if variance is not None:
                    spread = self._variance(k, factor, gain) + before * part / share * step**2
                    variance[rows] += part * (spread - variance[rows])
                mean[rows] += part * step
                seen[rows] += share
                if bounds is not None and pushed is not None:
                    inside, major = own.clip(*bounds), share[:, 0] > MINOR
                    if n_steps and (inside[major] != own[major]).any():
                        if covariance is None:
                            covariance = self._covariance(k, factor, gain)
                        inside[major] = project(own[major], covariance, bounds, n_steps)
                    pushed[rows] += share * inside
        return mean if pushed is None else pushed, variance

    def _shares(self, Y: np.ndarray) -> np.ndarray:
        """How much the measurements, whitened, speak for each component: (n_images, K)."""
        A, prior, K = self._operator()[0], self.prior, len(self.prior.weights)
        if K == 1:
            return np.ones((len(Y), 1))
        scores = np.empty((len(Y), K))
        for k in range(K):
            factor, _ = self._factors(k)
            normaliser = np.log(prior.weights[k]) - np.log(np.diag(factor)).sum()
            for rows in _batches(np.arange(len(Y)), max(A.shape)):
                solved = _solve(factor, Y[rows] - A @ prior.means[k])
                scores[rows, k] = normaliser - np.square(solved).sum(axis=0) / 2
        return softmax_rows(scores)

    def _operator(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Matrix, scale and rotation that make the noise of the measurements standard normal."""
        if self._whitened is None:
            A = self._measurement.dense()
            noise = np.broadcast_to(np.asarray(self._noise_std, dtype=float), len(A))
            # Without any noise two equal measurements would make a singular matrix.
            weights = self.prior.weights
            spread = sum(w * self.prior.variances(k) for k, w in enumerate(weights))
            typical = np.sqrt(np.square(A) @ np.asarray(spread)).max()
            noise = np.maximum(noise, LEAST_NOISE * typical if typical > 0 else LEAST_NOISE)
            A, rotation = A / noise[:, None], None
            if len(A) > A.shape[1]:  # no more numbers than pixels say all that is to be known
                rotation, A = qr(A, mode="economic")
            self._whitened = A, noise, rotation
        return self._whitened

    def _factors(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Cholesky factor of the covariance of the measurements, and their covariance with pixels.

        For one component.
        """
        if k in self._kept:
            return self._kept[k]
        A = self._operator()[0]
        gain = self.prior.times(k, A)
        covariance = gain @ A.T
        covariance[np.diag_indices(len(A))] += 1
        factor = cholesky(covariance, lower=True, overwrite_a=True)
        if len(self.prior.weights) * (factor.size + gain.size) <= KEPT:
            self._kept[k] = factor, gain
        return factor, gain

    def _covariance(self, k: int, factor: np.ndarray, gain: np.ndarray) -> np.ndarray:
        explained = solve_triangular(factor, gain, lower=True)
        return self.prior.times(k, np.eye(gain.shape[1])) - explained.T @ explained

    def _variance(self, k: int, factor: np.ndarray, gain: np.ndarray) -> np.ndarray:
        if k not in self._variances:
            explained = np.square(solve_triangular(factor, gain, lower=True)).sum(axis=0)
            self._variances[k] = (self.prior.variances(k) - explained).clip(0)
        return self._variances[k]


def _solve(factor: np.ndarray, rows: np.ndarray, trans: str = "N") -> np.ndarray:
    return solve_triangular(factor, rows.T, lower=True, trans=trans, check_finite=False)


def _batches(rows: np.ndarray, n_numbers: int) -> Iterator[np.ndarray]:
    """Row numbers, so many at a time that rows of so many numbers make a batch."""
    step = max(1, BATCH // n_numbers)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
