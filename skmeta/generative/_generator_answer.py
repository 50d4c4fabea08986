"""What the generator of a GANReconstructor makes of measurements, and how it is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skmeta.base._module import build_module
from skmeta.generative._code_search import (
    best_of,
    laplace_std,
    levenberg_marquardt,
    tune_generator,
)
from skmeta.generative._draws import OperatorDraws
from skmeta.generative._latent_learner import CodeInference, LatentLearner
from skmeta.generative._residuals import Residuals, Spread
from skmeta.nets import mlp
from skmeta.operators._measurement import Measurement

# Gauss-Newton steps that find what lies beyond the range under a nonlinear operator.
CORRECTION_STEPS = 3
# Squares are taken of pixels, in single precision.
LARGEST_PIXEL = 1e15


def make_latent_learner(rec: Any) -> LatentLearner:
    """Build both players from the parameters of a GANReconstructor that knows its images."""
    n_pixels, n_codes = len(rec.centre_), int(rec.latent_size)
    size = max(float(np.abs(rec.centre_).max()), rec.scale_)
    if size > LARGEST_PIXEL:
        raise ValueError(
            f"Pixels are around {size:.0e}, too large for the single precision that nets are "
            "trained in. Divide X by a number that brings pixels near 1, and look for outliers."
        )
    hidden = tuple(int(n) for n in rec.hidden_layer_sizes)
    net = (
        mlp([n_codes, *hidden, n_pixels], "silu")
        if rec.generator is None
        else build_module(rec.generator, n_codes, n_pixels)
    )
    critic = (
        mlp([n_pixels, *hidden, 1], "leaky_relu")
        if rec.discriminator is None
        else build_module(rec.discriminator, n_pixels, 1)
    )
    return LatentLearner(
        CodeInference(
            net,
            mlp([n_pixels, *hidden[::-1], n_codes], "silu"),
            Spread(torch.tensor(rec.spread_["factors"]), torch.tensor(rec.spread_["rest"])),
            torch.tensor(rec.centre_),
            rec.scale_,
            n_codes,
            int(rec.n_latent_steps),
        ),
        critic,
        draw=OperatorDraws(rec.operator, rec.noise_std, n_pixels),
        adversarial_weight=float(rec.adversarial_weight),
        penalty=float(rec.penalty),
        max_epochs=int(rec.max_epochs),
    )


@dataclass(frozen=True)
class Views:
    """Three ways in which the measurements of an operator are compared with images.

    Parameters
    ----------
    whole : Residuals
        With what lies beyond the generator's range as noise.
    noise_only : Residuals or None
        Without it, where the operator is not linear: once images move along its factors, these no
        longer disturb the measurements.
    gaussian : Residuals
        Under the Gaussian prior, which codes start from.
    """

    whole: Residuals
    noise_only: Residuals | None
    gaussian: Residuals

    @classmethod
    def of(
        cls,
        inference: CodeInference,
        measurement: Measurement,
        noise_std: Any,
        beyond: dict[str, np.ndarray] | None,
    ) -> Views:
        """Of an operator; ``beyond`` is None where nothing is added to the generator's images."""
        like, noise_only = inference.centre, None
        spread = inference.plain_spread()
        if beyond is not None:
            spread = Spread(**{k: torch.tensor(v).to(like) for k, v in beyond.items()})
        if not measurement.linear:
            left = Spread(spread.factors[:, :0], spread.rest)
            noise_only = Residuals(measurement, noise_std, left, like)
        whole = Residuals(measurement, noise_std, spread, like)
        return cls(whole, noise_only, inference.gaussian(measurement, noise_std))


def by_generator(
    inference: CodeInference, y: Tensor, views: Views, options: dict[str, Any], *, with_std: bool
) -> tuple[Tensor, Tensor | None]:
    """Images of measurements and, if asked, their standard deviations.

    Parameters
    ----------
    inference : CodeInference
        The generator, and what it learned of finding codes.
    y : Tensor of shape (n, n_measurements)
        What was measured.
    views : Views
        How it is compared with images.
    options : dict
        Parameters of the estimator as they were at ``fit``.
    with_std : bool
        Whether standard deviations are asked for.
    """
    residuals = views.whole
    codes = []
    first = inference.first(y, views.gaussian)
    for start in (first, *_random_starts(first, int(options["n_restarts"]) - 1)):
        z = inference.descend(y, residuals, start, differentiable=False)
        n_steps = int(options["n_refine_steps"])
        codes.append(levenberg_marquardt(inference.images, z, y, residuals, n_steps))
    z = best_of(codes, inference.images, y, residuals)
    x = inference.images(z)
    std = laplace_std(inference.images, z, residuals) if with_std else None
    if options["n_tune_steps"]:
        x = tune_generator(
            inference.net,
            inference.decode,
            z,
            y,
            residuals,
            int(options["n_tune_steps"]),
            float(options["tune_lr"]),
        )
    if options["residual"] is None:
        return x, std
    return x + _correction(y, x, views), std


def _random_starts(first: Tensor, n: int) -> Tensor:
    """Random codes (n, n_rows, latent_size): the same for every image."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(n, first.shape[1], generator=generator, dtype=torch.float64).to(first)
    return drawn[:, None].expand(-1, len(first), -1)


def _correction(y: Tensor, x: Tensor, views: Views) -> Tensor:
    """What lies beyond the range: in closed form, or by steps where the operator is none."""
    if views.noise_only is None:
        return views.whole.correction(y, x)
    factors = views.whole.beyond.factors
    w = levenberg_marquardt(
        lambda w: x + w @ factors.T,
        x.new_zeros(len(x), factors.shape[1]),
        y,
        views.noise_only,
        CORRECTION_STEPS,
    )
    return w @ factors.T


def imagined(
    inference: CodeInference, beyond: dict[str, np.ndarray], n_images: int, rng: np.random.Generator
) -> np.ndarray:
    """Images drawn from the generator and from what lies beyond its range."""
    like = inference.centre
    codes = torch.from_numpy(rng.standard_normal((n_images, len(inference.start))))
    with torch.no_grad():
        images = inference.images(codes.to(like)).cpu().numpy()
    factors, rest = beyond["factors"], beyond["rest"]
    images = images + rng.standard_normal((n_images, factors.shape[1])) @ factors.T
    return images + rng.standard_normal(images.shape) * np.sqrt(rest)
