"""Operators to train with."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator
from torch import nn

from skmeta.operators import ForwardModel, GaussianMeasurements
from skmeta.operators._measurement import Measurement, as_measurement

# Noise is drawn within this factor of noise_std, so that adapt may be given another.
NOISE_RANGE = 4.0
# Least number of measurements that is drawn, as a share of the pixels.
FEWEST = 1 / 80
# Entries of a matrix that is drawn, at most: one a batch is.
MOST_ENTRIES = 2**22

WRAP = "wrap it in skmeta.operators.ForwardModel(function, n_measurements, n_pixels)"


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
        noise = np.asarray(self.noise_std, dtype=float) * NOISE_RANGE ** rng.uniform(-1, 1)
        if draws_operators(self.operator):
            measurement = as_measurement(drawn(self.operator, rng), self.n_pixels)
        elif rng.random() < 0.5:
            fewest = max(1, min(int(FEWEST * self.n_pixels), MOST_ENTRIES // self.n_pixels))
            most = max(fewest, min(self.n_pixels, MOST_ENTRIES // self.n_pixels))
            m = round(np.exp(rng.uniform(np.log(fewest), np.log(most))))
            seed = int(rng.integers(2**31))
            operator = GaussianMeasurements(m, self.n_pixels, random_state=seed)
            measurement, noise = as_measurement(operator, self.n_pixels), noise.mean()
        else:
            measurement = self._fixed
        if noise.shape not in ((), (measurement.n_measurements,)):
            raise ValueError(
                f"The operator drawn has {measurement.n_measurements} measurements, and noise_std "
                f"is of shape {noise.shape}. Operators of different sizes need one number."
            )
        return measurement, noise

    @cached_property
    def _fixed(self) -> Measurement:
        return as_measurement(self.operator, self.n_pixels)


def draws_operators(operator: Any) -> bool:
    """Whether it is a callable(rng) -> operator: scipy's operators can be called, too."""
    return callable(operator) and not isinstance(operator, LinearOperator | ForwardModel)


def drawn(operator: Any, rng: np.random.Generator) -> Any:
    """What a callable(rng) returns; ValueError for a callable that is none."""
    if isinstance(operator, type):
        raise ValueError(
            f"operator is the class {operator.__name__}: give an instance of it, or a function "
            "that takes a numpy Generator and returns an operator."
        )
    if isinstance(operator, nn.Module):
        raise ValueError(f"operator is a module: {WRAP}.")
    try:
        found = operator(rng)
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"operator is a callable that must take a numpy Generator and return an operator, and "
            f"it failed: {error} If it measures images, {WRAP}."
        ) from error
    if found is None:
        raise ValueError("operator is a callable that returned None: it must return an operator.")
    return found


def one_operator(operator: Any) -> Any:
    """What ``adapt`` takes; ValueError for what is not one operator, but would draw them."""
    if draws_operators(operator):
        raise ValueError(
            f"adapt takes one operator, and got a callable ({operator!r}). If it measures images, "
            f"{WRAP}; if it draws operators, hand over one that it returns."
        )
    return operator
