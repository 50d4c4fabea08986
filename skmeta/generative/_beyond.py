"""Covariances of images: of all that they are, and of what a generator cannot draw of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from skmeta.generative._code_search import levenberg_marquardt
from skmeta.generative._latent_learner import CodeInference
from skmeta.generative._residuals import Residuals
from skmeta.operators._measurement import as_measurement

# Directions in which images leave the range of the generator, at most.
MOST_FACTORS = 300
# Directions in which images vary, at most, where a code starts from their Gaussian.
MOST_START_FACTORS = 100
# Levenberg-Marquardt steps that encode images that are known exactly.
ENCODING_STEPS = 5
# Least variance of a pixel, as a share of that of all.
FLOOR = 1e-6


def spread_of(rows: np.ndarray, most_factors: int, floor: float) -> dict[str, np.ndarray]:
    """Covariance of rows that are centred already: factors, and a diagonal of at least ``floor``.

    Returns
    -------
    dict
        ``factors`` (n_pixels, k) and ``rest`` (n_pixels,), as of
        :class:`~skmeta.generative._residuals.Spread`.
    """
    # No direction of one image alone: at most half as many as there are images.
    n_factors = min(most_factors, len(rows) // 2, rows.shape[1] - 1)
    _, lengths, directions = np.linalg.svd(rows / np.sqrt(len(rows)), full_matrices=False)
    # In the order that a file keeps: products of another one are rounded differently.
    factors = np.ascontiguousarray((lengths[:n_factors, None] * directions[:n_factors]).T)
    rest = np.square(rows).mean(axis=0) - np.square(factors).sum(axis=1)
    return {"factors": factors, "rest": np.maximum(rest, floor)}


def beyond_range(
    inference: CodeInference, batches: Iterable[tuple[slice, Tensor]]
) -> dict[str, np.ndarray]:
    """Covariance of what is left of images when their code is known: factors and a diagonal.

    Parameters
    ----------
    inference : CodeInference
        The generator.
    batches : iterable of (slice, Tensor)
        Clean images.

    Returns
    -------
    dict
        As of :func:`spread_of`.
    """
    n_pixels = len(inference.centre)
    everything = as_measurement(None, n_pixels)
    residuals = Residuals(everything, 0.0, inference.plain_spread(), inference.centre)
    gaussian = inference.gaussian(everything, 0.0)
    parts = []
    for _, y in batches:
        z = inference.first(y, gaussian)
        z = inference.descend(y, residuals, z, differentiable=False)
        z = levenberg_marquardt(inference.images, z, y, residuals, ENCODING_STEPS)
        parts.append((y - inference.images(z)).cpu().numpy())
    return spread_of(np.concatenate(parts), MOST_FACTORS, FLOOR * float(inference.scale) ** 2)
