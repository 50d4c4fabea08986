"""Some of an image's frequencies: magnetic resonance imaging."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmeta.operators._base import RealOperator, boolean_mask, image_sides


class SubsampledFourier(RealOperator):
    """Some frequencies of an image, as a magnetic resonance scanner measures them.

    The two-dimensional Fourier transform is unitary: it keeps lengths, so that noise has the same
    standard deviation on frequencies as it would have on pixels. Measurements are real: the real
    parts of the frequencies kept, then their imaginary parts.

    Parameters
    ----------
    image_shape : tuple of (int, int)
        Height and width.
    mask : array-like of bool of shape (height, width)
        True where a frequency is measured, in the order of :func:`numpy.fft.fft2`: frequency zero
        stands first. ``numpy.fft.ifftshift`` turns a mask with the zero in the middle into it.

    Notes
    -----
    Real images are symmetric: the frequencies at (i, j) and (-i, -j) are conjugate, and a mask that
    keeps both measures the same thing twice, with independent noise. The imaginary parts of
    frequencies that are their own partner, zero among them, are always zero.

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta.operators import SubsampledFourier
    >>> mask = np.zeros((4, 4), dtype=bool)
    >>> mask[0, 0] = True
    >>> (SubsampledFourier((4, 4), mask) @ np.ones(16)).tolist()
    [4.0, 0.0]
    """

    def __init__(self, image_shape: tuple[int, int], mask: Any) -> None:
        self.image_shape = image_sides(image_shape)
        self.mask = boolean_mask(mask, self.image_shape)
        super().__init__(2 * int(self.mask.sum()), self.mask.size)

    def _forward(self, rows: np.ndarray) -> np.ndarray:
        images = rows.reshape(-1, *self.image_shape)
        kept = np.fft.fft2(images, norm="ortho").reshape(len(rows), -1)[:, self.mask]
        return np.hstack([kept.real, kept.imag])

    def _backward(self, rows: np.ndarray) -> np.ndarray:
        half = rows.shape[1] // 2
        frequencies = np.zeros((len(rows), self.mask.size), dtype=np.complex128)
        frequencies[:, self.mask] = rows[:, :half] + 1j * rows[:, half:]
        images = np.fft.ifft2(frequencies.reshape(-1, *self.image_shape), norm="ortho")
        return images.real.reshape(len(rows), -1)
