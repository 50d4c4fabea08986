"""Reconstruction with a mixture of Gaussians as the prior of images."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skmeta.base._constraints import POSITIVE_INT
from skmeta.generative._gaussian import CLOSED_FORM, PriorReconstructor
from skmeta.generative._prior import Prior, fit_mixture

# What "auto" asks of a component, and where it stops.
IMAGES_A_COMPONENT = 225
MOST_COMPONENTS = 40


class MixturePriorReconstructor(PriorReconstructor):
    """Reconstruct images from linear measurements, with a mixture of Gaussians as their prior.

    ``fit`` fits the mixture to clean images. The answer to measurements ``A x + noise`` is the
    posterior mean, in closed form: every component answers as
    :class:`GaussianPriorReconstructor` would, and counts as much as the measurements speak for it.
    ``adapt`` takes any other operator ``A``, at the price of a matrix factorisation a component.

    Parameters
    ----------
    operator : array-like, sparse matrix, LinearOperator, callable or None, default=None
        What measures the images: a matrix of shape (n_measurements, n_pixels), or one of
        :mod:`skmeta.operators`. None measures every pixel: denoising. Of a callable, the operator
        is ``operator(rng)``.
    noise_std : float or array-like of shape (n_measurements,), default=0.1
        Standard deviation of the noise of a measurement, in its units.
    n_components : int or "auto", default="auto"
        Components of the mixture; "auto" is one for every 225 images, at most 40. Those that come
        out with fewer than five images are dissolved.
    n_factors : int, default=100
        Directions in which a component varies in its own way. What they leave is kept pixel by
        pixel: every component is a factor analyser.
    shrinkage : float, default=100.0
        How many images the covariance that all components share counts for in each.
    clip : bool, default=True
        Whether reconstructions are kept between the smallest and the largest value in ``fit``.
        Without it ``predict`` gives the posterior mean as it is.
    n_projection_steps : int, default=20
        With ``clip``: how many steps push the mean of every component into the range, to the most
        likely image there. A pixel that is held back takes those along that vary with it; where
        measurements are many, that is worth much. 0 cuts pixels off one by one. Standard deviations
        are those without a range, and too large rather than too small.
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
    max_iter : int, default=5
        Most iterations of expectation-maximisation, after k-means.
    random_state : int, RandomState instance or None, default=None
        Seeds the starts of k-means.

    Attributes
    ----------
    prior_ : dict of str to ndarray
        The mixture: ``weights`` (K,), ``means`` (K, n_pixels), ``pooled``, the covariance that all
        share, of which each has ``share`` (K,), ``loadings`` (K, n_pixels, n_factors) and ``rest``
        (K, n_pixels), the variance that these leave.
    n_iter_ : int
        Iterations of expectation-maximisation that were run, at least one.
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
    GaussianPriorReconstructor : One Gaussian.

    Notes
    -----
    ``return_std`` is exact for the mixture: the variance within the components and that between
    them, by the law of total variance. Components are told apart in the space of the first 60
    principal components [1]_, where k-means and expectation-maximisation take seconds; covariances
    are then taken from all pixels.

    With ``patch_shape`` the prior is one of patches, from up to 20,000 random places; each also has
    a brightness of its own. Where every pixel is measured, overlapping patches are reconstructed
    one by one and averaged, with standard deviations that are those of the patches. For other
    operators the image is found by expected patch log-likelihood [2]_, which alternates between the
    patches and the measurements, by products with the operator alone; there are no standard
    deviations then, and no calibration.

    References
    ----------
    .. [1] G. Yu, G. Sapiro and S. Mallat (2012). Solving inverse problems with piecewise linear
       estimators: from Gaussian mixture models to structured sparsity. IEEE Transactions on Image
       Processing, 21(5), 2481-2499.
    .. [2] D. Zoran and Y. Weiss (2011). From learning models of natural image patches to whole
       image restoration. IEEE International Conference on Computer Vision, 479-486.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmeta import MixturePriorReconstructor
    >>> from skmeta.operators import Inpainting
    >>> X = load_digits().data / 16
    >>> model = MixturePriorReconstructor(random_state=0).fit(X[:1500])
    >>> A = Inpainting([[1, 0] * 4] * 8)  # every second column of pixels
    >>> new = model.adapt(operator=A, noise_std=0.05)
    >>> images, std = new.predict((A @ X[1500:].T).T, return_std=True)
    >>> images.shape, bool(new.score(X[1500:]) > -0.02)
    ((297, 64), True)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **CLOSED_FORM,
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_factors": POSITIVE_INT,
        "shrinkage": [Interval(Real, 0, None, closed="neither")],
        "max_iter": POSITIVE_INT,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        operator: Any = None,
        noise_std: Any = 0.1,
        n_components: int | str = "auto",
        n_factors: int = 100,
        shrinkage: float = 100.0,
        clip: bool = True,
        n_projection_steps: int = 20,
        image_shape: tuple[int, int] | None = None,
        patch_shape: tuple[int, int] | None = None,
        std: str = "posterior",
        max_iter: int = 5,
        random_state: Any = None,
    ) -> None:
        self.operator = operator
        self.noise_std = noise_std
        self.n_components = n_components
        self.n_factors = n_factors
        self.shrinkage = shrinkage
        self.clip = clip
        self.n_projection_steps = n_projection_steps
        self.image_shape = image_shape
        self.patch_shape = patch_shape
        self.std = std
        self.max_iter = max_iter
        self.random_state = random_state

    def _fit_prior(self, X: np.ndarray) -> Prior:
        n_components = self.n_components
        if isinstance(n_components, str):
            n_components = min(MOST_COMPONENTS, max(1, len(X) // IMAGES_A_COMPONENT))
        prior, self.n_iter_ = fit_mixture(
            X,
            n_components,
            self.n_factors,
            self.shrinkage,
            self.max_iter,
            self.random_state,
        )
        return prior
