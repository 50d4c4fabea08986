"""Large images: a prior of their patches, and expected patch log-likelihood (EPLL)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from scipy.fft import dctn, idctn

from skmeta.generative._posterior import LEAST_NOISE, Posterior
from skmeta.generative._prior import Prior
from skmeta.operators._measurement import Measurement, as_measurement

# Patches that a prior is fitted to.
PATCHES = 20_000
# Rounds of EPLL; what patches may differ from the image falls from the first to the last, in units
# of the typical difference of neighbouring pixels.
ROUNDS, FIRST, LAST = 10, 3.0, 0.5
# Conjugate gradients stop after so many steps, or at this relative residual.
CG_STEPS, CG_TOLERANCE = 50, 1e-4
# No measurement is taken to be so many times as exact as others: these would not be heard.
MOST_EXACT = 100
# Its square is a number yet.
TINY = 1e-100


def check_shapes(image_shape: Any, patch_shape: Any, n_pixels: int) -> None:
    """ValueError where images do not have that shape, or no room for a patch."""
    for name, shape in (("image_shape", image_shape), ("patch_shape", patch_shape)):
        if shape is None or len(shape) != 2 or not all(_is_side(side) for side in shape):
            raise ValueError(
                f"With patches, {name} must be (height, width) in pixels, got {shape!r}."
            )
    if image_shape[0] * image_shape[1] != n_pixels:
        raise ValueError(f"Images of shape {tuple(image_shape)} do not have {n_pixels} pixels.")
    if patch_shape[0] > image_shape[0] or patch_shape[1] > image_shape[1]:
        raise ValueError(f"patch_shape {patch_shape} is larger than image_shape {image_shape}.")


def _is_side(side: object) -> bool:
    return isinstance(side, Integral) and not isinstance(side, bool) and int(side) > 0


def draw_patches(X: np.ndarray, image_shape: tuple, patch_shape: tuple) -> np.ndarray:
    """Patches from random places of the images, one a row; all there are, if they are few."""
    windows = np.lib.stride_tricks.sliding_window_view(
        X.reshape(-1, *image_shape), patch_shape, axis=(1, 2)
    )
    n_places = int(np.prod(windows.shape[:3]))
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(n_places, size=min(n_places, PATCHES), replace=False))
    places = np.unravel_index(chosen, windows.shape[:3])
    return windows[places].reshape(len(chosen), -1)


def with_brightness(prior: Prior, levels: np.ndarray) -> Prior:
    """Add a brightness of its own, normally distributed, to a prior of patches of mean zero."""
    K, n, _ = prior.loadings.shape
    column = np.full((K, n, 1), levels.std())
    return Prior(
        **{
            **prior.arrays(),
            "means": prior.means + levels.mean(),
            "loadings": np.concatenate([prior.loadings, column], axis=2),
        }
    )


class PatchPosterior:
    """Images from measurements, given a prior of their patches.

    Where every pixel is measured, patches are reconstructed one by one and averaged. Else rounds
    alternate between two steps, as in half-quadratic splitting: every patch is reconstructed as if
    the image of the last round were a noisy measurement, and the image is fitted to measurements
    and patches.

    Parameters
    ----------
    prior : Prior
        Of the patches.
    measurement : Measurement
        Linear; of whole images.
    noise_std : float or ndarray of shape (n_measurements,)
        Standard deviation of the noise of a measurement.
    image_shape, patch_shape : tuple of (int, int)
        Height and width.
    """

    def __init__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise_std: float | np.ndarray,
        image_shape: tuple[int, int],
        patch_shape: tuple[int, int],
    ) -> None:
        self.prior = prior
        self._measurement = measurement
        self._image_shape = image_shape
        self._patch_shape = patch_shape
        self._size = patch_shape[0] * patch_shape[1]
        self._level = float(prior.weights @ prior.means.mean(axis=1))
        self._spread, self._difference = _roughness(prior, self._level, patch_shape)
        self._noise = self._bounded(np.asarray(noise_std, dtype=float))
        self._levels = self._difference * np.geomspace(FIRST, LAST, ROUNDS)
        self._denoisers: dict[float, Posterior] = {}

    def __call__(
        self,
        Y: np.ndarray,
        with_variance: bool = False,
        bounds: tuple[float, float] | None = None,
        n_steps: int = 0,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return images and, where every pixel is measured, variances: (n_images, n_pixels).

        The variance of a pixel is the mean of those of its patches, which is no less than that of
        their mean.
        """
        even = self._measurement.identity and self._noise.ndim == 0
        if with_variance and not even:
            raise ValueError(
                "There are standard deviations with patch_shape only where every pixel is measured "
                "with the same noise. Fit without patches to have them for any operator."
            )
        images = np.empty((len(Y), self._measurement.n_features))
        variance = np.empty_like(images) if with_variance else None
        for i, y in enumerate(Y):
            if even:
                images[i], own = self._patchwise(y, float(self._noise), 1, with_variance)
                if variance is not None:
                    variance[i] = own
            else:
                images[i] = self._split(y)
        return (images if bounds is None else images.clip(*bounds)), variance

    def _patchwise(
        self, image: np.ndarray, noise_std: float, stride: int, with_variance: bool, offset: int = 0
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean over patches of their reconstructions, and of their variances."""
        pixels = self._places(stride, offset)
        if noise_std not in self._denoisers:
            identity = as_measurement(None, self._size)
            self._denoisers[noise_std] = Posterior(self.prior, identity, noise_std)
        patches, variances = self._denoisers[noise_std](image[pixels], with_variance)
        counts = np.bincount(pixels.ravel(), minlength=image.size)
        found = [
            np.bincount(pixels.ravel(), weights=values.ravel(), minlength=image.size) / counts
            for values in (patches, variances)
            if values is not None
        ]
        return found[0], (found[1] if with_variance else None)

    def _places(self, stride: int, offset: int) -> np.ndarray:
        """Numbers of the pixels of patches, one patch a row; short strides leave none out."""
        (height, width), (h, w) = self._image_shape, self._patch_shape
        corners = [
            np.unique(np.r_[0, np.arange(offset % stride, most + 1, stride), most])
            for most in (height - h, width - w)
        ]
        first = (corners[0][:, None] * width + corners[1]).reshape(-1, 1)
        return first + (np.arange(h)[:, None] * width + np.arange(w)).ravel()

    def _bounded(self, noise: np.ndarray) -> np.ndarray:
        """Noise as equations can bear it, relative to what is measured of a smooth image."""
        image = self._smooth(np.random.default_rng(0).normal(size=self._measurement.n_features))
        typical = np.sqrt(np.square(self._measurement.forward(image[None])).mean())
        others = min(float(noise.max()), typical) / MOST_EXACT
        return np.maximum(noise, max(others, LEAST_NOISE * typical, TINY))

    def _split(self, y: np.ndarray) -> np.ndarray:
        """Half-quadratic splitting for one image."""
        # First guess: a smooth image, whose neighbouring pixels differ as they usually do.
        image = self._fit(y, np.full(self._measurement.n_features, self._level), self._smooth)
        # A pixel is in about as many patches as a patch has pixels, whatever the stride.
        stride = max(1, min(self._patch_shape) // 4)
        for i, std in enumerate(self._levels):
            denoised, _ = self._patchwise(image, float(std), stride, False, offset=i)
            image = self._fit(y, denoised, partial(np.multiply, std))
        return image

    def _fit(
        self, y: np.ndarray, centre: np.ndarray, root: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Most likely image around a centre, given measurements, by conjugate gradients.

        ``root`` multiplies by the symmetric root of the covariance around the centre. What is
        sought is the change of the centre, divided by that root, and it starts at zero: so what no
        measurement sees stays as it is, however soon the steps stop, and little noise does no harm.
        """
        measure, least = self._measurement, self._noise.min()
        weight = np.square(least / self._noise)

        def back(measured: np.ndarray) -> np.ndarray:
            return root(measure.backward((weight * measured)[None])[0])

        residual = back(y - measure.forward(centre[None])[0])
        change = np.zeros_like(residual)
        direction, size = residual.copy(), residual @ residual
        enough = CG_TOLERANCE**2 * size
        for _ in range(CG_STEPS):
            if size <= enough:
                break
            product = back(measure.forward(root(direction)[None])[0]) + least**2 * direction
            step = size / (direction @ product)
            change += step * direction
            residual -= step * product
            size, before = residual @ residual, size
            direction = residual + size / before * direction
        return centre + root(change)

    def _smooth(self, image: np.ndarray) -> np.ndarray:
        """Multiply by the root of a covariance: pixels vary, and neighbours differ, as usual.

        Its inverse is a share of every pixel and one of the difference of all neighbours, which the
        cosine transform makes diagonal.
        """
        rows, columns = (4 * np.sin(np.pi * np.arange(n) / (2 * n)) ** 2 for n in self._image_shape)
        precision = self._spread**-2 + (rows[:, None] + columns) * self._difference**-2
        waves = dctn(image.reshape(self._image_shape), norm="ortho")
        return idctn(waves / np.sqrt(precision), norm="ortho").ravel()


def _roughness(prior: Prior, level: float, patch_shape: tuple) -> tuple[float, float]:
    """Standard deviations of pixels about a level, and of the difference of two neighbours."""
    n = prior.means.shape[1]
    second = np.zeros((n, n))
    for k, weight in enumerate(prior.weights):
        second += weight * prior.times(k, np.eye(n))
    shifted = prior.means - level
    second += (shifted * prior.weights[:, None]).T @ shifted
    spread = float(np.sqrt(np.diag(second).mean()))
    numbers = np.arange(n).reshape(patch_shape)
    pairs = [(numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])]
    one, other = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    square = second[one, one] + second[other, other] - 2 * second[one, other]
    spread = spread if spread > 0 else 1.0
    difference = float(np.sqrt(square.mean().clip(0))) if len(one) else 0.0
    return spread, max(difference, 1e-3 * spread)
