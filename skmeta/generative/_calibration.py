"""A linear operator from a few pairs of images and measurements, and how sure that is."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

# The strength of the prior is looked for within this factor of what the measurements suggest.
RANGE = 1e8


class Calibration:
    """Bayesian linear regression of measurements on images, all measurements at once.

    Every row of the operator has independent normal entries around ``centre``, of one variance for
    all rows: the one with the largest marginal likelihood.

    Parameters
    ----------
    X : ndarray of shape (n_pairs, n_pixels)
        The images.
    Y : ndarray of shape (n_pairs, n_measurements)
        Their measurements.
    noise_std : float or ndarray of shape (n_measurements,)
        Standard deviation of the noise of a measurement.
    centre : ndarray of shape (n_measurements, n_pixels) or None
        What the operator is thought to be before any pair is seen; None is zero.

    Attributes
    ----------
    operator : ndarray of shape (n_measurements, n_pixels)
        The most likely operator.
    evidence : float
        Logarithm of the marginal likelihood, up to a constant that ``centre`` does not change.
    """

    def __init__(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        noise_std: float | np.ndarray,
        centre: np.ndarray | None = None,
    ) -> None:
        missing = Y if centre is None else Y - X @ centre.T
        size = np.sqrt(np.mean(Y**2))
        floor = 1e-6 * (size if size > 0 else 1.0)
        noise = np.maximum(np.broadcast_to(np.asarray(noise_std, float), Y.shape[1]), floor) ** 2
        left, values, self._directions = np.linalg.svd(X, full_matrices=False)
        self._values, self._noise = values**2, noise
        seen = left.T @ missing
        # What no direction of the images explains is noise, whatever the variance.
        unexplained = (np.square(missing).sum(axis=0) - np.square(seen).sum(axis=0)).clip(0)

        def log_likelihood(log_variance: float) -> float:
            total = np.exp(log_variance) * self._values[:, None] + noise
            return -0.5 * float((np.log(total) + seen**2 / total).sum())

        energy = self._values.sum()
        # The variance with which the images alone would give measurements of that size.
        typical = np.log(max(np.mean(Y**2), floor**2) * len(X) / energy) if energy > 0 else 0.0
        span = np.log(RANGE)
        found = minimize_scalar(
            lambda v: -log_likelihood(v), bounds=(typical - span, typical + span), method="bounded"
        )
        self._variance = float(np.exp(found.x))
        others = (len(X) - len(values)) * np.log(noise).sum() + (unexplained / noise).sum()
        self.evidence = log_likelihood(float(found.x)) - 0.5 * float(others)
        total = self._variance * self._values[:, None] + noise
        weights = self._variance * np.sqrt(self._values)[:, None] * seen / total
        step = weights.T @ self._directions
        self.operator = step if centre is None else centre + step

    def error_variance(self, images: np.ndarray) -> np.ndarray:
        """Variance that the error of the operator adds to each measurement of typical images."""
        total = self._variance * self._values[:, None] + self._noise
        share = self._variance * self._values[:, None] / total
        known = np.square(images @ self._directions.T).mean(axis=0)
        left = np.square(images).sum(axis=1).mean() - known @ share
        return self._variance * left.clip(0)


def calibrate(
    X: np.ndarray,
    Y: np.ndarray,
    noise_std: float | np.ndarray,
    centre: np.ndarray | None,
    images: np.ndarray,
) -> tuple[np.ndarray, float | np.ndarray]:
    """Return the operator, and the noise with the error of the operator in it.

    ``centre`` is used where the pairs are likelier with it than with zero.
    """
    candidates = [Calibration(X, Y, noise_std)]
    if centre is not None:
        candidates.append(Calibration(X, Y, noise_std, centre))
    best = max(candidates, key=lambda candidate: candidate.evidence)
    noise = np.sqrt(np.square(noise_std) + best.error_variance(images))
    return best.operator, float(noise[0]) if np.ptp(noise) == 0 else noise
