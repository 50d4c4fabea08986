"""Operators that act on pixels and their neighbours: missing pixels, blur, coarser images."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.signal import fftconvolve
from scipy.sparse import csr_array

from skmeta.operators._base import (
    RealOperator,
    boolean_mask,
    finite_array,
    image_sides,
    positive_int,
    positive_number,
)

# How images go on beyond their border -> numpy's name for it.
BOUNDARIES = {
    "reflect": "reflect",
    "symmetric": "symmetric",
    "edge": "edge",
    "wrap": "wrap",
    "zero": "constant",
}


class Inpainting(RealOperator):
    """Missing pixels: only those of a mask are seen.

    Parameters
    ----------
    mask : array-like of bool
        True where a pixel is seen; of the shape of the image or flat.

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta.operators import Inpainting
    >>> A = Inpainting([[True, False], [True, True]])
    >>> (A @ np.array([1.0, 2.0, 3.0, 4.0])).tolist()
    [1.0, 3.0, 4.0]
    """

    def __init__(self, mask: Any) -> None:
        self.mask = boolean_mask(mask)
        super().__init__(int(self.mask.sum()), self.mask.size)

    def _forward(self, rows: np.ndarray) -> np.ndarray:
        return rows[:, self.mask]

    def _backward(self, rows: np.ndarray) -> np.ndarray:
        images = np.zeros((len(rows), self.mask.size))
        images[:, self.mask] = rows
        return images


class Downsampling(RealOperator):
    """A coarser image: the mean of every block of pixels.

    Parameters
    ----------
    image_shape : tuple of (int, int)
        Height and width; both must be multiples of the factor.
    factor : int
        Side of a block.

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta.operators import Downsampling
    >>> A = Downsampling((2, 4), 2)
    >>> (A @ np.arange(8.0)).tolist()
    [2.5, 4.5]
    """

    def __init__(self, image_shape: tuple[int, int], factor: int) -> None:
        self.image_shape, self.factor = image_sides(image_shape), positive_int(factor, "factor")
        height, width = self.image_shape
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"A factor of {self.factor} does not divide images of {height} x {width}. Crop or "
                "pad them."
            )
        self._coarse = height // self.factor, width // self.factor
        super().__init__(self._coarse[0] * self._coarse[1], height * width)

    def _forward(self, rows: np.ndarray) -> np.ndarray:
        (height, width), factor = self._coarse, self.factor
        blocks = rows.reshape(-1, height, factor, width, factor)
        return blocks.mean(axis=(2, 4)).reshape(len(rows), -1)

    def _backward(self, rows: np.ndarray) -> np.ndarray:
        coarse = rows.reshape(-1, *self._coarse) / self.factor**2
        images = coarse.repeat(self.factor, axis=1).repeat(self.factor, axis=2)
        return images.reshape(len(rows), -1)


class Blur(RealOperator):
    """Convolution with a kernel; as many measurements as pixels.

    Parameters
    ----------
    image_shape : tuple of (int, int)
        Height and width.
    kernel : array-like of shape (height, width) or None, default=None
        The kernel; its middle, at half its sides rounded down, stays where it is. It is taken as
        it is: weights that do not sum to one change the brightness.
    sigma : float or None, default=None
        Instead of a kernel: standard deviation, in pixels, of a Gaussian one, cut at four of them.
    boundary : {"reflect", "symmetric", "edge", "wrap", "zero"}, default="reflect"
        How the image goes on beyond its border: mirrored at the middle of the last pixels, or at
        their outer side, with the last pixel repeated, with the opposite side, or black.

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta.operators import Blur
    >>> A = Blur((1, 4), kernel=[[0.5, 0.5]], boundary="zero")
    >>> (A @ np.array([2.0, 4.0, 0.0, 0.0])).round(12).tolist()
    [3.0, 2.0, 0.0, 0.0]
    """

    def __init__(
        self,
        image_shape: tuple[int, int],
        *,
        kernel: Any = None,
        sigma: float | None = None,
        boundary: str = "reflect",
    ) -> None:
        self.image_shape = image_sides(image_shape)
        if (kernel is None) == (sigma is None):
            raise ValueError("Blur takes a kernel or a sigma, one of the two.")
        if not isinstance(boundary, str) or boundary not in BOUNDARIES:
            raise ValueError(f"boundary must be one of {sorted(BOUNDARIES)}, got {boundary!r}.")
        if sigma is not None:
            kernel = _gaussian_kernel(sigma)
        self.kernel, self.boundary = finite_array(kernel, "kernel"), boundary
        if self.kernel.ndim != 2 or not self.kernel.size:
            raise ValueError(f"kernel must be 2-d and not empty, got shape {self.kernel.shape}.")
        # Padding is a matrix with ones, so that its transpose is at hand.
        sides = zip(self.image_shape, self.kernel.shape, strict=True)
        self._pads = [_padding(n, k, BOUNDARIES[boundary]) for n, k in sides]
        n_pixels = self.image_shape[0] * self.image_shape[1]
        super().__init__(n_pixels, n_pixels)

    def _forward(self, rows: np.ndarray) -> np.ndarray:
        images = _along_sides(rows.reshape(-1, *self.image_shape), *self._pads)
        images = fftconvolve(images, self.kernel[None], mode="valid", axes=(1, 2))
        return images.reshape(len(rows), -1)

    def _backward(self, rows: np.ndarray) -> np.ndarray:
        images = rows.reshape(-1, *self.image_shape)
        images = fftconvolve(images, self.kernel[None, ::-1, ::-1], mode="full", axes=(1, 2))
        images = _along_sides(images, *(pad.T for pad in self._pads))
        return images.reshape(len(rows), -1)


def _gaussian_kernel(sigma: Any) -> np.ndarray:
    spread = positive_number(sigma, "sigma")
    reach = max(1, round(4 * spread))
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2)
    line /= line.sum()
    return np.outer(line, line)


def _padding(n: int, size: int, mode: str) -> csr_array:
    """The matrix (n + size - 1, n) that lets a line of n pixels go on beyond both ends."""
    # A convolution looks back: what comes before the middle of the kernel is needed at the end.
    after, before = size // 2, size - 1 - size // 2
    outside = {"constant_values": -1} if mode == "constant" else {}
    source = np.pad(np.arange(n), (before, after), mode=mode, **outside)  # type: ignore[call-overload]
    inside = np.flatnonzero(source >= 0)
    ones = np.ones(len(inside))
    return csr_array((ones, (inside, source[inside])), shape=(len(source), n))


def _along_sides(images: np.ndarray, first: Any, second: Any) -> np.ndarray:
    """Multiply the columns of every image by one matrix and its rows by the other."""
    k, height, width = images.shape
    columns = images.transpose(1, 0, 2).reshape(height, -1)
    images = (first @ columns).reshape(-1, k, width).transpose(1, 0, 2)
    lines = images.reshape(-1, width)
    return (second @ lines.T).T.reshape(k, -1, second.shape[0])
