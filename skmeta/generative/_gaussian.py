"""Reconstruction with a Gaussian as the prior of images."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, cast

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from skmeta.generative._aside import measured, set_aside
from skmeta.generative._blend import Blend, check_learned, fit_blend, varying
from skmeta.generative._patches import (
    PatchPosterior,
    check_shapes,
    draw_patches,
    with_brightness,
)
from skmeta.generative._posterior import Posterior
from skmeta.generative._prior import Prior, fit_gaussian
from skmeta.generative._reconstructor import RECONSTRUCTOR, ImageReconstructor
from skmeta.operators._measurement import Measurement

# A covariance is a matrix of pixels by pixels: of more it does not fit into memory.
MOST_PIXELS = 8192

CLOSED_FORM: dict[str, list] = {
    **RECONSTRUCTOR,
    "n_projection_steps": [Interval(Integral, 0, None, closed="left")],
    "image_shape": [None, tuple, list],
    "patch_shape": [None, tuple, list],
    "std": [StrOptions({"posterior", "calibrated"})],
}


class PriorReconstructor(ImageReconstructor):
    """Base of reconstructors whose prior is a mixture of Gaussians."""

    _derived: ClassVar[tuple[str, ...]] = ("_measurement", "_posterior")

    image_shape: tuple[int, int] | None
    patch_shape: tuple[int, int] | None
    std: str
    prior_: dict[str, np.ndarray]
    widths_: dict[str, np.ndarray]
    _posterior: Posterior | PatchPosterior

    def _fit_prior(self, X: np.ndarray) -> Prior:
        raise NotImplementedError

    def _fit_images(self, X: np.ndarray, groups: Any) -> None:
        size = X.shape[1]
        if self.patch_shape is not None:
            check_shapes(self.image_shape, self.patch_shape, size)
            size = self.patch_shape[0] * self.patch_shape[1]
        if size > MOST_PIXELS:
            raise ValueError(
                f"{size} pixels are too many for one covariance of all of them: at most "
                f"{MOST_PIXELS}. Give image_shape and a small patch_shape, (8, 8) say."
            )
        self.widths_ = {}
        if self.patch_shape is None:
            if self.std == "calibrated":
                self.widths_ = self._fit_widths(X)
            self.prior_ = self._fit_prior(X).arrays()
            return
        if self.std == "calibrated":
            raise ValueError(
                "std='calibrated' is for priors of whole images. With patch_shape leave it at "
                "'posterior'."
            )
        patches = draw_patches(X, cast(tuple, self.image_shape), self.patch_shape)
        levels = patches.mean(axis=1)
        prior = self._fit_prior(patches - levels[:, None])
        self.prior_ = with_brightness(prior, levels).arrays()

    def _fit_widths(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """How far the answers of a prior err, of images that it has not seen."""
        aside, kept = set_aside(X)
        if not len(aside):
            raise ValueError(
                f"std='calibrated' sets a tenth of the images aside, and {len(X)} are too few: at "
                "least 10. Use std='posterior'."
            )
        # A clone: nothing that it draws or notes may change the prior of all images.
        prior, scale = clone(self)._fit_prior(kept), float(X.std()) or 1.0
        answers = []
        for truth, measurement, noise, Y in measured(aside, self.operator, self.noise_std, 0):
            self._check_measurement(measurement)
            posterior = Posterior(prior, measurement, noise)
            images, std = self._answer(posterior, Y, True)
            answers.append((truth, Blend(images, std, None, None, scale, posterior.noise)))
        return {**fit_blend(answers, varying(X)), "scale": np.array(scale)}

    def _derive(self) -> None:
        super()._derive()
        prior = Prior(**self.prior_)
        prior.check()
        check_learned(self.widths_)
        noise_std, size = self.frozen_params_["noise_std"], self.n_pixels_
        image_shape, patch_shape = (self.frozen_params_[f"{n}_shape"] for n in ("image", "patch"))
        if patch_shape is None:
            self._posterior = Posterior(prior, self._measurement, noise_std)
        else:
            check_shapes(image_shape, patch_shape, size)
            size = patch_shape[0] * patch_shape[1]
            self._posterior = PatchPosterior(
                prior, self._measurement, noise_std, image_shape, patch_shape
            )
        if prior.means.shape[1] != size:
            raise ValueError("its prior is not one of its images")

    def _check_measurement(self, measurement: Measurement) -> None:
        if not measurement.linear:
            raise ValueError(
                f"{type(self).__name__} inverts linear operators, in closed form. Use "
                "GANReconstructor for a ForwardModel."
            )

    def _reconstruct(self, Y: np.ndarray, return_std: bool) -> tuple[np.ndarray, np.ndarray | None]:
        images, std = self._answer(self._posterior, Y, return_std)
        if std is None or not self.widths_ or isinstance(self._posterior, PatchPosterior):
            return images, std
        scale, noise = float(self.widths_["scale"]), self._posterior.noise
        blend = Blend(images, std, None, None, scale, noise)
        return blend.result(self.widths_, return_std=True)

    def _answer(
        self, posterior: Posterior | PatchPosterior, Y: np.ndarray, with_std: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        frozen = self.frozen_params_
        bounds = self.image_range_ if frozen["clip"] else None
        images, variance = posterior(Y, with_std, bounds, frozen["n_projection_steps"])
        return images, None if variance is None else np.sqrt(variance)

    def _draw_images(self, n_images: int, rng: np.random.Generator) -> np.ndarray:
        if isinstance(self._posterior, PatchPosterior):
            raise ValueError(
                "An unknown operator is estimated for whole images only, and this estimator was "
                "fitted with patch_shape. Fit without it, or hand over the operator."
            )
        return self._posterior.prior.draw(n_images, rng)


class GaussianPriorReconstructor(PriorReconstructor):
    """Reconstruct images from linear measurements, with a Gaussian as their prior.

    ``fit`` takes mean and covariance of clean images. The answer to measurements ``A x + noise`` is
    the posterior mean, in closed form: the best linear estimate of the image. ``adapt`` takes any
    other operator ``A``, at the price of a matrix factorisation.

    Parameters
    ----------
    operator : array-like, sparse matrix, LinearOperator, callable or None, default=None
        What measures the images: a matrix of shape (n_measurements, n_pixels), or one of
        :mod:`skmeta.operators`. None measures every pixel: denoising. Of a callable, the operator
        is ``operator(rng)``.
    noise_std : float or array-like of shape (n_measurements,), default=0.1
        Standard deviation of the noise of a measurement, in its units.
    clip : bool, default=True
        Whether reconstructions are kept between the smallest and the largest value in ``fit``.
        Without it ``predict`` gives the posterior mean as it is.
    n_projection_steps : int, default=20
        With ``clip``: how many steps push the mean into the range, to the most likely image
        there. A pixel that is held back takes those along that vary with it; where measurements are
        many, that is worth much. 0 cuts pixels off one by one. Standard deviations are those
        without a range, and too large rather than too small.
    image_shape : tuple of (int, int) or None, default=None
        Height and width of the images; needed with ``patch_shape`` only.
    patch_shape : tuple of (int, int) or None, default=None
        For large images: height and width of the patches that the prior describes, (8, 8) say,
        instead of whole images. See Notes.
    std : {"posterior", "calibrated"}, default="posterior"
        What ``predict(X, return_std=True)`` gives. "posterior": the standard deviations of the
        posterior, exact for this prior. "calibrated": these, times a number learned from a tenth of
        the images, 300 at most, which ``fit`` then sets aside and measures with draws of other
        operators and noise: as wide as answers really err, so that intervals of 90 % hold nine
        tenths of the pixels that vary. Images are the same. Whole images only.

    Attributes
    ----------
    prior_ : dict of str to ndarray
        Mean and covariance: a mixture of one component.
    widths_ : dict of str to ndarray
        With ``std="calibrated"``: what standard deviations are multiplied by (``width``) and where
        (``place``: how unsure answers are relative to ``scale``, and to the noise).
    n_pixels_ : int
        Pixels of an image.
    image_range_ : tuple of (float, float)
        Smallest and largest value in ``fit``.
    adapted_ : bool
        Whether it is the answer of ``adapt``.
    frozen_params_ : dict
        Parameters as they were at ``fit``, with what ``adapt`` was given.
    n_features_in_ : int
        Measurements of an image.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X in ``fit``; only where every pixel is measured.

    See Also
    --------
    MixturePriorReconstructor : A mixture of Gaussians; nearly always better.

    Notes
    -----
    The covariance is shrunk towards the variances of the pixels by the estimate of Schaefer and
    Strimmer [1]_, which is nothing for many images.

    With ``patch_shape`` the prior is one of patches, from up to 20,000 random places; each also has
    a brightness of its own. Where every pixel is measured, overlapping patches are reconstructed
    one by one and averaged, with standard deviations that are those of the patches. For other
    operators the image is found by expected patch log-likelihood [2]_, which alternates between the
    patches and the measurements, by products with the operator alone; there are no standard
    deviations then, and no calibration.

    References
    ----------
    .. [1] J. Schaefer and K. Strimmer (2005). A shrinkage approach to large-scale covariance matrix
       estimation and implications for functional genomics. Statistical Applications in Genetics and
       Molecular Biology, 4(1).
    .. [2] D. Zoran and Y. Weiss (2011). From learning models of natural image patches to whole
       image restoration. IEEE International Conference on Computer Vision, 479-486.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmeta import GaussianPriorReconstructor
    >>> from skmeta.operators import GaussianMeasurements
    >>> X = load_digits().data / 16
    >>> model = GaussianPriorReconstructor().fit(X[:1500])
    >>> A = GaussianMeasurements(32, 64, random_state=0)
    >>> new = model.adapt(operator=A, noise_std=0.01)
    >>> images, std = new.predict((A @ X[1500:].T).T, return_std=True)
    >>> images.shape, std.shape
    ((297, 64), (297, 64))
    """

    _parameter_constraints: ClassVar[dict[str, list]] = CLOSED_FORM

    def __init__(
        self,
        *,
        operator: Any = None,
        noise_std: Any = 0.1,
        clip: bool = True,
        n_projection_steps: int = 20,
        image_shape: tuple[int, int] | None = None,
        patch_shape: tuple[int, int] | None = None,
        std: str = "posterior",
    ) -> None:
        self.operator = operator
        self.noise_std = noise_std
        self.clip = clip
        self.n_projection_steps = n_projection_steps
        self.image_shape = image_shape
        self.patch_shape = patch_shape
        self.std = std

    def _fit_prior(self, X: np.ndarray) -> Prior:
        return fit_gaussian(X)
