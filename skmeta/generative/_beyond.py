"""What a generator cannot draw of images."""

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
# Levenberg-Marquardt steps that encode images that are known exactly.
ENCODING_STEPS = 5
# Least variance of a pixel, as a share of that of all.
FLOOR = 1e-6


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
        ``factors`` (n_pixels, k) and ``rest`` (n_pixels,), as of
        :class:`~skmeta.generative._residuals.Spread`.
    """
    n_pixels = len(inference.centre)
    residuals = Residuals(
        as_measurement(None, n_pixels), 0.0, inference.plain_spread(), inference.centre
    )
    parts = []
    for _, y in batches:
        z = inference.descend(y, residuals, differentiable=False)
        z = levenberg_marquardt(inference.images, z, y, residuals, ENCODING_STEPS)
        parts.append((y - inference.images(z)).cpu().numpy())
    left = np.concatenate(parts)
    # No direction of one image alone: at most half as many as there are images.
    n_factors = min(MOST_FACTORS, len(left) // 2, n_pixels - 1)
    _, lengths, directions = np.linalg.svd(left / np.sqrt(len(left)), full_matrices=False)
    # In the order that a file keeps: products of another one are rounded differently.
    factors = np.ascontiguousarray((lengths[:n_factors, None] * directions[:n_factors]).T)
    floor = FLOOR * float(inference.scale) ** 2
    rest = np.square(left).mean(axis=0) - np.square(factors).sum(axis=1)
    return {"factors": factors, "rest": np.maximum(rest, floor)}
