"""What the generator of a GANReconstructor makes of measurements, and how it is built."""

from __future__ import annotations

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
from skmeta.generative._residuals import Residuals
from skmeta.nets import mlp

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
            torch.tensor(rec.centre_),
            rec.scale_,
            n_codes,
            int(rec.n_latent_steps),
        ),
        critic,
        draw=OperatorDraws(rec.operator, rec.noise_std, n_pixels),
        adversarial_weight=float(rec.adversarial_weight),
        penalty=float(rec.penalty),
    )


def by_generator(
    inference: CodeInference,
    y: Tensor,
    residuals: Residuals,
    noise_only: Residuals | None,
    options: dict[str, Any],
    *,
    with_std: bool,
) -> tuple[Tensor, Tensor | None]:
    """Images of measurements and, if asked, their standard deviations.

    Parameters
    ----------
    inference : CodeInference
        The generator, and what it learned of finding codes.
    y : Tensor of shape (n, n_measurements)
        What was measured.
    residuals : Residuals
        Of measurements, with what lies beyond the generator's range as noise.
    noise_only : Residuals or None
        Without it, where the operator is not linear.
    options : dict
        Parameters of the estimator as they were at ``fit``.
    with_std : bool
        Whether standard deviations are asked for.
    """
    codes = []
    for start in _starts(inference, int(options["n_restarts"]) - 1, len(y)):
        z = inference.descend(y, residuals, differentiable=False, start=start)
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
    return x + _correction(y, x, residuals, noise_only), std


def _starts(inference: CodeInference, others: int, n: int) -> list[Tensor | None]:
    """The learned start, then random codes: the same for every image."""
    like = inference.start
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(others, len(like), generator=generator, dtype=torch.float64).to(like)
    return [None, *(code.expand(n, -1) for code in drawn)]


def _correction(y: Tensor, x: Tensor, residuals: Residuals, noise_only: Residuals | None) -> Tensor:
    """What lies beyond the range: in closed form, or by steps where the operator is none."""
    if noise_only is None:
        return residuals.correction(y, x)
    factors = residuals.beyond.factors
    w = levenberg_marquardt(
        lambda w: x + w @ factors.T,
        x.new_zeros(len(x), factors.shape[1]),
        y,
        noise_only,
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
