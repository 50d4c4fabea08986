"""Operators to train with."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmeta.generative._reconstructor import draws_operators
from skmeta.operators import GaussianMeasurements
from skmeta.operators._measurement import Measurement, as_measurement

# Noise is drawn within this factor of noise_std, so that adapt may be given another.
NOISE_RANGE = 4.0
# Least number of measurements that is drawn, as a share of the pixels.
FEWEST = 1 / 80
# Entries of a matrix that is drawn, at most: one a batch is.
MOST_ENTRIES = 2**22


class OperatorDraws:
    """Draws a measurement and the noise's standard deviation.

    Parameters
    ----------
    operator : operator, callable or None
        A callable draws it. With any other, every second draw is of random Gaussian measurements:
        who trains with one operator alone is of no use under another.
    noise_std : float or array of shape (n_measurements,)
        The middle of what is drawn.
    n_pixels : int
        Of an image.
    """

    def __init__(self, operator: Any, noise_std: Any, n_pixels: int) -> None:
        self.operator = operator
        self.noise_std = noise_std
        self.n_pixels = n_pixels

    def __call__(self, rng: np.random.Generator) -> tuple[Measurement, Any]:
        """Draw once."""
        operator = self.operator
        noise = np.asarray(self.noise_std, dtype=float) * NOISE_RANGE ** rng.uniform(-1, 1)
        if draws_operators(operator):
            operator = operator(rng)
        elif rng.random() < 0.5:
            fewest = max(1, min(int(FEWEST * self.n_pixels), MOST_ENTRIES // self.n_pixels))
            most = max(fewest, min(self.n_pixels, MOST_ENTRIES // self.n_pixels))
            m = round(np.exp(rng.uniform(np.log(fewest), np.log(most))))
            seed = int(rng.integers(2**31))
            operator = GaussianMeasurements(m, self.n_pixels, random_state=seed)
            noise = noise.mean()
        return as_measurement(operator, self.n_pixels), noise
