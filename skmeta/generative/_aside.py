"""Images that ``fit`` sets aside and measures in many ways, to learn how far answers err."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from skmeta.generative._draws import OperatorDraws
from skmeta.operators._measurement import Measurement

# How many images are set aside, by how many operators they are measured, and how many by each.
SHARE, MOST_IMAGES, N_OPERATORS, MOST_BY_ONE = 0.1, 300, 48, 100


def set_aside(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the images set aside, and the others.

    They are never the first rows alone: data often come sorted.
    """
    order = np.random.default_rng(0).permutation(len(X))
    n_aside = min(MOST_IMAGES, int(SHARE * len(X)))
    return X[order[:n_aside]], X[order[n_aside:]]


def measured(
    images: np.ndarray, operator: Any, noise_std: Any, seed: int
) -> Iterator[tuple[np.ndarray, Measurement, Any, np.ndarray]]:
    """Some of the images, an operator as training draws it, its noise, and measurements."""
    rng = np.random.default_rng(seed)
    draw = OperatorDraws(operator, noise_std, images.shape[1])
    for _ in range(N_OPERATORS if len(images) else 0):
        measurement, noise = draw(rng)
        some = images[rng.permutation(len(images))[:MOST_BY_ONE]]
        Y = measurement.forward(some)
        yield some, measurement, noise, Y + noise * rng.normal(size=Y.shape)
