"""GANReconstructor: a generator, learned steps in its code, and what lies beyond its range."""

from __future__ import annotations

import os
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from torch import nn

from skmeta.base._constraints import LARGEST, POSITIVE_INT, check_layer_sizes
from skmeta.generative._aside import measured, set_aside
from skmeta.generative._beyond import FLOOR, MOST_START_FACTORS, beyond_range, spread_of
from skmeta.generative._blend import Blend, check_learned, fit_blend, varying
from skmeta.generative._gaussian import MOST_PIXELS
from skmeta.generative._generator_answer import (
    Views,
    by_generator,
    imagined,
    make_latent_learner,
)
from skmeta.generative._latent_learner import CodeInference, LatentLearner
from skmeta.generative._mixture import MixturePriorReconstructor
from skmeta.generative._modules import check_net, restore, to_arrays, train_both, usable_device
from skmeta.generative._posterior import Posterior
from skmeta.generative._prior import Prior
from skmeta.generative._reconstructor import RECONSTRUCTOR, ImageReconstructor

# Steps that push the mixture's answer into the range of the images.
PROJECTION_STEPS = 20
# Numbers in a batch of derivatives.
BATCH_NUMBERS = 2**24
# What learns how to find codes, and its rate relative to the nets'.
META_PARAMETERS = ("start", "step_sizes", "momenta", "log_beyond", "log_widths")
META_RATE = 10.0


class GANReconstructor(ImageReconstructor):
    """Reconstruct images from measurements, linear or not, with a generator as their prior.

    ``fit`` trains a generator on clean images against a discriminator: first as the decoder of a
    variational autoencoder [5]_, then together with the way its code is found, a start and the
    lengths of a few steps, learned over draws of operators, so that an operator never met needs
    these few steps only (deep compressed sensing [1]_, with steps measured by the Gauss-Newton
    model along them). What images have beyond the generator's range is reconstructed by a second,
    Gaussian prior, so that errors keep falling as measurements grow.

    Parameters
    ----------
    operator : array-like, sparse matrix, LinearOperator, ForwardModel, callable or None, \
default=None
        What measures the images. A callable(rng) returns an operator: training draws one a batch.
        None measures every pixel (denoising). Where it is no callable, training draws random
        Gaussian measurements as well, so that ``adapt`` can take any other operator.
    noise_std : float or array-like of shape (n_measurements,), default=0.1
        Standard deviation of the noise of a measurement. Training varies it by a factor of four.
    latent_size : int, default=64
        Numbers in a code.
    hidden_layer_sizes : sequence of int, default=(400, 400)
        Units of the hidden layers of generator and discriminator.
    generator : Module or callable, default=None
        A net of your own, from codes (n, latent_size) to images (n, n_pixels) in standard units; or
        a callable that takes both sizes. An instance is copied.
    discriminator : Module or callable, default=None
        From images in standard units to scores (n, 1), or a callable that takes both sizes.
    n_latent_steps : int, default=5
        Learned steps from the start to the code of an image.
    n_refine_steps : int, default=0
        Levenberg-Marquardt steps [2]_ after them, to the most probable code.
    n_restarts : int, default=1
        Starts of the search for a code: the learned one, then random ones, the same for every
        image. The most probable end counts. For operators under which very different images measure
        alike, such as phase retrieval, and for those that are flat where the learned start is, such
        as a detector that most images saturate: there, one start gives the mean image.
    n_tune_steps : int, default=0
        Steps after these in which every image tunes a generator of its own (IAGAN [4]_): slow, and
        only of use where measurements are many and images unlike those of ``fit``.
    tune_lr : float, default=0.0001
        Rate of these.
    residual : {"mixture", "gaussian"} or None, default="mixture"
        What reconstructs the part beyond the generator's range. "gaussian": a Gaussian fitted to
        what the generator misses of the training images. "mixture": that, blended with the answer
        of a Gaussian mixture on whole images, weighed by how sure that is; for linear operators
        and images of up to 8,192 pixels; others get "gaussian", by Gauss-Newton steps where the
        operator is not linear. None: the generator's image as it is.
    adversarial_weight : float, default=0.01
        What the game against the discriminator counts for, beside reconstruction.
    penalty : float, default=10.0
        Weight of the squared slopes of the discriminator.
    clip : bool, default=True
        Whether reconstructions are cut off at the smallest and the largest value in ``fit``.
    batch_size : int, default=64
        Images in a batch.
    max_epochs : int, default=90
        Epochs: times that every image comes up. In the first two thirds, which are fast, the
        generator learns to decode images that are known; steps and operators come in the last.
    lr : float, default=0.002
        Rate of Adam for both nets, falling along a cosine. The start and the step lengths learn at
        ten times this rate.
    callbacks : list of skorch callbacks, default=None
        Called as the nets train.
    checkpoint : path or None, default=None
        Folder to keep training in, in a file for each combination of parameters and data. ``fit``
        with the same ones goes on where it was killed or a callback stopped it, and ends with the
        same weights as if it had not been; once it is done, it only reads them. Callbacks see what
        is left.
    device : str, default="auto"
        "cpu", "cuda" or any of torch's names; "auto" takes a GPU if there is one.
    random_state : int, RandomState or None, default=None
        Seeds the weights and the draws.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    meta_params_ : dict of str to ndarray
        Generator, discriminator, encoder, start and step lengths.
    centre_, scale_ : ndarray of shape (n_pixels,), float
        Mean image and standard deviation of a pixel: the generator's units.
    spread_ : dict of str to ndarray
        Covariance of images, as in ``beyond_``: codes start from what a Gaussian with it finds.
    prior_ : dict of str to ndarray
        The mixture, under ``residual="mixture"``.
    beyond_ : dict of str to ndarray
        What images have beyond the range: ``factors`` (n_pixels, k) and ``rest`` (n_pixels,).
    blend_ : dict of str to ndarray
        How unsure the mixture is, relative to a pixel and to the noise (``mixture_place``), what
        the generator then counts for (``mixture_weight``) and what standard deviations are
        multiplied by (``mixture_width``). ``place`` and ``width``: those of the generator alone.
    history_ : list of dict
        One record an epoch.
    n_iter_ : int
        Epochs.
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
    MixturePriorReconstructor : Fits in seconds and is hard to beat where operators are linear.
    GANSampler : Draws images.

    Notes
    -----
    A code starts from the image that a Gaussian prior finds in the measurements, put into the range
    by an encoder; under nonlinear operators, and for more than 1,500 measurements, at one place for
    all. Every image takes the same number of steps, so that the answer to a measurement does not
    depend on the others given with it.

    A tenth of the images, 300 at most, is set aside in ``fit`` to weigh the generator against the
    mixture, and to make intervals as wide as errors are: those of 90 % then hold nine tenths of the
    pixels that vary, under linear operators and noise such as training draws. Under nonlinear ones
    that it does not draw they tend to be too wide. No image is kept.

    References
    ----------
    .. [1] Wu, Rosca and Lillicrap (2019). Deep compressed sensing. Algorithm 1.
    .. [2] Marquardt (1963). An algorithm for least-squares estimation of nonlinear parameters.
    .. [3] Bora, Jalal, Price and Dimakis (2017). Compressed sensing using generative models.
    .. [4] Hussein, Tirer and Giryes (2020). Image-adaptive GAN based reconstruction.
    .. [5] Kingma and Welling (2014). Auto-encoding variational Bayes. Equation 10.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmeta import GANReconstructor
    >>> from skmeta.operators import GaussianMeasurements
    >>> X = load_digits().data / 16
    >>> model = GANReconstructor(max_epochs=2, hidden_layer_sizes=(64,), random_state=0)
    >>> model = model.fit(X[:1500])
    >>> A = GaussianMeasurements(16, 64, random_state=0)
    >>> new = model.adapt(operator=A, noise_std=0.02)
    >>> new.predict((A @ X[1500:].T).T).shape
    (297, 64)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **RECONSTRUCTOR,
        "latent_size": POSITIVE_INT,
        "hidden_layer_sizes": ["array-like"],
        "generator": [None, HasMethods("forward"), callable],
        "discriminator": [None, HasMethods("forward"), callable],
        "n_latent_steps": POSITIVE_INT,
        "n_refine_steps": [Interval(Integral, 0, None, closed="left")],
        "n_restarts": POSITIVE_INT,
        "n_tune_steps": [Interval(Integral, 0, None, closed="left")],
        "tune_lr": [Interval(Real, 0, LARGEST, closed="right")],
        "residual": [StrOptions({"mixture", "gaussian"}), None],
        "adversarial_weight": [Interval(Real, 0, LARGEST, closed="both")],
        "penalty": [Interval(Real, 0, LARGEST, closed="both")],
        "batch_size": POSITIVE_INT,
        "max_epochs": POSITIVE_INT,
        "lr": [Interval(Real, 0, LARGEST, closed="right")],
        "callbacks": [None, list],
        "checkpoint": [None, str, os.PathLike],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    _derived: ClassVar[tuple[str, ...]] = ("_measurement", "_inference", "_views", "_posterior")

    meta_params_: dict[str, np.ndarray]
    spread_: dict[str, np.ndarray]
    beyond_: dict[str, np.ndarray]
    _inference: CodeInference
    _views: Views
    _posterior: Posterior | None

    def __init__(
        self,
        *,
        operator: Any = None,
        noise_std: Any = 0.1,
        latent_size: int = 64,
        hidden_layer_sizes: Any = (400, 400),
        generator: nn.Module | Callable | None = None,
        discriminator: nn.Module | Callable | None = None,
        n_latent_steps: int = 5,
        n_refine_steps: int = 0,
        n_restarts: int = 1,
        n_tune_steps: int = 0,
        tune_lr: float = 0.0001,
        residual: str | None = "mixture",
        adversarial_weight: float = 0.01,
        penalty: float = 10.0,
        clip: bool = True,
        batch_size: int = 64,
        max_epochs: int = 90,
        lr: float = 0.002,
        callbacks: list | None = None,
        checkpoint: str | os.PathLike | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.operator = operator
        self.noise_std = noise_std
        self.latent_size = latent_size
        self.hidden_layer_sizes = hidden_layer_sizes
        self.generator = generator
        self.discriminator = discriminator
        self.n_latent_steps = n_latent_steps
        self.n_refine_steps = n_refine_steps
        self.n_restarts = n_restarts
        self.n_tune_steps = n_tune_steps
        self.tune_lr = tune_lr
        self.residual = residual
        self.adversarial_weight = adversarial_weight
        self.penalty = penalty
        self.clip = clip
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.lr = lr
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # ---------------------------------------------------------------- fit

    def _fit_images(self, X: np.ndarray, groups: Any) -> None:
        from skmeta.training import RowStream  # skorch takes a second to import

        check_layer_sizes(self.hidden_layer_sizes)
        aside, kept = set_aside(X)
        self.centre_, self.scale_ = kept.mean(axis=0), float(kept.std()) or 1.0
        floor = FLOOR * self.scale_**2
        self.spread_ = spread_of(kept - self.centre_, MOST_START_FACTORS, floor)

        def make() -> LatentLearner:
            learner = make_latent_learner(self)
            codes, few = torch.randn(2, int(self.latent_size)), torch.randn(2, X.shape[1])
            check_net("generator", learner.generator.net, codes, X.shape[1])
            check_net("discriminator", learner.discriminator, few, 1)
            return learner

        def stream(device: torch.device, generator: torch.Generator) -> RowStream:
            x = torch.tensor(kept, dtype=torch.float32, device=device)
            return RowStream(x, None, min(self.batch_size, len(x)), 1, generator)

        rates = [(f"generator.{name}", META_RATE * self.lr) for name in META_PARAMETERS]
        self.frozen_params_.pop("callbacks")

        def finish(new: GANReconstructor, learner: LatentLearner, seed: int) -> None:
            new._finish(X, kept, aside, learner, seed)

        train_both(self, make, stream, rates, X, finish=finish, lr_schedule="cosine")

    def _finish(
        self, X: np.ndarray, kept: np.ndarray, aside: np.ndarray, learner: LatentLearner, seed: int
    ) -> None:
        """Take what was trained, and learn what lies beyond it."""
        self.meta_params_ = to_arrays(learner.state_dict())
        self._inference = self._restore()
        self.beyond_ = beyond_range(self._inference, self._batches(kept))
        self.prior_, self.blend_ = {}, {}
        mixed = self.residual == "mixture" and self.n_pixels_ <= MOST_PIXELS
        if mixed:  # for the weights: of images that the mixture knows, it would be too sure
            self.prior_ = self._fit_mixture(kept, seed)
        self.blend_ = fit_blend(self._answers(aside, seed), varying(X))
        if mixed:
            self.prior_ = self._fit_mixture(X, seed)

    def _fit_mixture(self, X: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        return MixturePriorReconstructor(random_state=seed)._fit_prior(X).arrays()

    def _answers(self, images: np.ndarray, seed: int) -> list[tuple[np.ndarray, Blend]]:
        """Images set aside, measured in many ways, and what both priors make of them."""
        found = []
        for truth, measurement, noise, Y in measured(images, self.operator, self.noise_std, seed):
            sibling = self._sibling(
                frozen_params_={**self.frozen_params_, "noise_std": noise},
                _measurement=measurement,
            )
            for name in ("_views", "_posterior"):
                sibling.__dict__.pop(name, None)
            sibling._derive()
            found.append((truth, sibling._both(Y, with_std=True)))
        return found

    # ---------------------------------------------------------------- reconstruct

    def _restore(self) -> CodeInference:
        shell = self._sibling(**self.frozen_params_)
        learner = restore(
            make_latent_learner,
            shell,
            self.meta_params_,
            usable_device(self.frozen_params_["device"]),
            own=shell.generator is not None or shell.discriminator is not None,
        )
        return learner.generator

    def _derive(self) -> None:
        super()._derive()
        if "_inference" not in self.__dict__:
            self._inference = self._restore()
        noise = self.frozen_params_["noise_std"]
        beyond = None if self.frozen_params_["residual"] is None else self.beyond_
        self._views = Views.of(self._inference, self._measurement, noise, beyond)
        self._posterior = None
        check_learned(self.blend_)
        if self.prior_ and self._measurement.linear:
            self._posterior = Posterior(Prior(**self.prior_), self._measurement, noise)

    def _both(self, Y: np.ndarray, *, with_std: bool) -> Blend:
        """What the generator makes of measurements, and what the mixture does."""
        images = np.empty((len(Y), self.n_pixels_))
        std = np.empty_like(images) if with_std else None
        for rows, y in self._batches(Y):
            found, spread = by_generator(
                self._inference, y, self._views, self.frozen_params_, with_std=with_std
            )
            images[rows] = found.cpu().numpy()
            if std is not None and spread is not None:
                std[rows] = spread.cpu().numpy()
        bounds = self.image_range_ if self.frozen_params_["clip"] else None
        if bounds is not None:
            images = images.clip(*bounds)
        if self._posterior is None:
            return Blend(images, std, None, None, self.scale_)
        other, variance = self._posterior(Y, True, bounds, PROJECTION_STEPS)
        assert variance is not None
        return Blend(images, std, other, np.sqrt(variance), self.scale_, self._posterior.noise)

    def _reconstruct(self, Y: np.ndarray, return_std: bool) -> tuple[np.ndarray, np.ndarray | None]:
        return self._both(Y, with_std=return_std).result(self.blend_, return_std=return_std)

    def _draw_images(self, n_images: int, rng: np.random.Generator) -> np.ndarray:
        return imagined(self._inference, self.beyond_, n_images, rng)

    def _batches(self, rows: np.ndarray) -> Any:
        """Rows as tensors, so many at a time that their derivatives fit into memory."""
        widest = self.n_pixels_ * len(self._inference.start)
        if "beyond_" in self.__dict__ and not self._measurement.linear:
            widest = max(widest, self.beyond_["factors"].size)
        if self.frozen_params_["n_tune_steps"]:
            widest = max(widest, 4 * sum(p.numel() for p in self._inference.net.parameters()))
        step = max(1, BATCH_NUMBERS // widest)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            yield part, torch.tensor(np.ascontiguousarray(rows[part])).to(self._inference.centre)
