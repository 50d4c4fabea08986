"""Sums along rays: computed tomography."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from skmeta.operators._base import RealOperator, finite_array, image_sides, positive_int


class Radon(RealOperator):
    """Projections of an image under several angles, as a tomograph measures them.

    The detector is a line of bins as wide as pixels, centred under the image, and turns with the
    angle. Every pixel is shared between the two bins next to where its centre falls, by linear
    interpolation: the sum of a projection is the sum of the image under every angle.

    Parameters
    ----------
    image_shape : tuple of (int, int)
        Height and width.
    angles : array-like of shape (n_angles,)
        In degrees. At 0 the columns are summed, at 90 the rows, the lowest first.
    n_bins : int or None, default=None
        Bins of the detector. None is enough for all pixels under every angle; what falls beside a
        shorter detector is not measured.

    Notes
    -----
    The operator is a sparse matrix with at most two entries a pixel and angle. Measurements are
    projection after projection.

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta.operators import Radon
    >>> A = Radon((2, 2), angles=[0, 90], n_bins=2)
    >>> (A @ np.array([1.0, 2.0, 3.0, 4.0])).round(12).tolist()
    [4.0, 6.0, 7.0, 3.0]
    """

    def __init__(
        self, image_shape: tuple[int, int], angles: Any, *, n_bins: int | None = None
    ) -> None:
        height, width = self.image_shape = image_sides(image_shape)
        self.angles = np.atleast_1d(finite_array(angles, "angles"))
        if self.angles.ndim != 1 or not self.angles.size:
            raise ValueError("angles must be a list of angles, at least one.")
        if n_bins is None:
            n_bins = int(np.ceil(np.hypot(height, width))) + 1
        self.n_bins = n_bins = positive_int(n_bins, "n_bins")
        down, across = np.indices(self.image_shape).reshape(2, -1)
        x, y = across - (width - 1) / 2, (height - 1) / 2 - down
        pixels = np.arange(height * width)
        entries: list[tuple[np.ndarray, ...]] = []
        for i, angle in enumerate(np.deg2rad(self.angles)):
            # Rounded: at 90 degrees pixels of one row fall on one place, whatever the cosine says.
            place = (x * np.cos(angle) + y * np.sin(angle) + (n_bins - 1) / 2).round(9)
            left = np.floor(place).astype(np.int64)
            for bin_, share in ((left, 1 - (place - left)), (left + 1, place - left)):
                seen = (bin_ >= 0) & (bin_ < n_bins) & (share > 0)
                entries.append((share[seen], i * n_bins + bin_[seen], pixels[seen]))
        values, rows, columns = (np.concatenate(part) for part in zip(*entries, strict=True))
        shape = len(self.angles) * n_bins, height * width
        self.matrix = csr_array((values, (rows, columns)), shape=shape)
        super().__init__(*shape)

    def _forward(self, rows: np.ndarray) -> np.ndarray:
        return (self.matrix @ rows.T).T

    def _backward(self, rows: np.ndarray) -> np.ndarray:
        return (self.matrix.T @ rows.T).T
