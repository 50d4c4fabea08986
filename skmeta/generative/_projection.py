"""Images pushed into their range, in the metric of what is known of them."""

from __future__ import annotations

import numpy as np

# Iterations that find the largest eigenvalue, and by how much it may have been missed.
POWER_ITERATIONS, MARGIN = 50, 1.1


def project(
    rows: np.ndarray, covariance: np.ndarray, bounds: tuple[float, float], n_steps: int
) -> np.ndarray:
    """Most likely images within bounds, under normal distributions around the rows.

    Where one pixel must move into its range, pixels that vary with it move along. Accelerated
    projected gradient steps on the dual problem, which needs the covariance and not its inverse;
    what they leave outside is cut off.

    Parameters
    ----------
    rows : ndarray of shape (n_images, n_pixels)
        Means.
    covariance : ndarray of shape (n_pixels, n_pixels)
        The covariance of all of them.
    bounds : tuple of (float, float)
        Smallest and largest value of a pixel.
    n_steps : int
        How many steps; the same for all, as rows must not see each other.
    """
    images = rows.clip(*bounds)
    odd = np.flatnonzero((images != rows).any(axis=1))
    largest = _largest_eigenvalue(covariance)
    if not len(odd) or not n_steps or not largest > 0:
        return images
    start, step = rows[odd], 1 / (MARGIN * largest)
    dual = np.zeros_like(start)
    ahead, momentum = dual, 1.0
    for _ in range(n_steps):
        moved = ahead + step * (start - ahead @ covariance)
        before, dual = dual, moved - step * (moved / step).clip(*bounds)
        momentum, last = (1 + np.sqrt(1 + 4 * momentum**2)) / 2, momentum
        ahead = dual + (last - 1) / momentum * (dual - before)
    images[odd] = (start - dual @ covariance).clip(*bounds)
    return images


def _largest_eigenvalue(covariance: np.ndarray) -> float:
    vector = np.random.default_rng(0).normal(size=len(covariance))
    length = 0.0
    for _ in range(POWER_ITERATIONS):
        vector = covariance @ vector
        length = float(np.linalg.norm(vector))
        if not length > 0:
            return 0.0
        vector /= length
    return length
