"""Images from measurements by a few learned steps in the code of a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from skmeta.core.tasks import RealRows
from skmeta.generative._gan_learner import discriminator_loss, generator_loss
from skmeta.generative._residuals import Residuals, Spread, along
from skmeta.operators._measurement import Measurement

SMALL = 1e-12
# Share of the epochs in which the generator learns to decode images that are known.
ENCODING_SHARE = 2 / 3
# Logarithm of a code's standard deviation while it does, at first.
LOG_WIDTH = -1.0


class CodeInference(nn.Module):
    """A generator, and how codes are found: where they start, and how far a step goes.

    They start where an encoder puts the image that a Gaussian prior finds in the measurements, or,
    where that has no closed form, at one place for all.

    A step goes along the gradient of the posterior of the code, plus a learned share of the last
    direction; its length is that of the Gauss-Newton model along it, times a learned number for
    every coordinate. So steps suit operators and noise of any scale.

    Parameters
    ----------
    net, encoder : Module
        From codes to images in standard units, and back.
    spread : Spread
        Covariance of images, for the Gaussian prior.
    centre : Tensor of shape (n_pixels,)
        What standard units are measured from.
    scale : float
        What one of them is.
    latent_size, n_steps : int
        Numbers in a code; steps.
    """

    def __init__(
        self,
        net: nn.Module,
        encoder: nn.Module,
        spread: Spread,
        centre: Tensor,
        scale: float,
        latent_size: int,
        n_steps: int,
    ) -> None:
        super().__init__()
        self.net = net
        self.encoder = encoder
        self.factors: Tensor
        self.rest: Tensor
        self.register_buffer("factors", spread.factors, persistent=False)
        self.register_buffer("rest", spread.rest, persistent=False)
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("centre", centre)
        self.register_buffer("scale", torch.tensor(float(scale)).to(centre))
        self.start = nn.Parameter(torch.zeros(latent_size))
        self.step_sizes = nn.Parameter(torch.ones(n_steps, latent_size))
        self.momenta = nn.Parameter(torch.full((n_steps,), 0.3))
        # Variance of what the generator cannot draw, in standard units.
        self.log_beyond = nn.Parameter(torch.tensor(-2.0))
        # Of the codes of images that are known.
        self.log_widths = nn.Parameter(torch.full((latent_size,), LOG_WIDTH))

    def images(self, codes: Tensor) -> Tensor:
        """Images (n, n_pixels) of codes (n, latent_size)."""
        return self.decode(self.net(codes))

    def decode(self, standard: Tensor) -> Tensor:
        """Images of what is in standard units."""
        return self.centre + self.scale * standard

    def plain_spread(self) -> Spread:
        """What lies beyond the range, as far as training knows: the same in every pixel."""
        rest = self.log_beyond.exp() * self.scale.square()
        return Spread(rest.new_zeros(len(self.centre), 0), rest.expand(len(self.centre)))

    def gaussian(self, measurement: Measurement, noise_std: Any) -> Residuals:
        """Residuals of measurements under the Gaussian prior."""
        with torch.no_grad():
            spread = Spread(self.factors, self.rest)
            return Residuals(measurement, noise_std, spread, self.centre)

    def first(self, y: Tensor, gaussian: Residuals) -> Tensor:
        """Codes (n, latent_size) to start from."""
        if not gaussian.closed:
            return self.start.expand(len(y), -1)
        with torch.no_grad():
            guess = gaussian.correction(y, self.centre.expand(len(y), -1)) / self.scale
        return self.encoder(guess)

    def bound(self, images: Tensor, noise: Generator) -> Tensor:
        """Twice the negative evidence bound of images, by pixel (Kingma and Welling, 2014)."""
        standard = (images - self.centre) / self.scale
        codes, widths = self.encoder(standard), self.log_widths.exp()
        drawn = codes + widths * torch.randn(codes.shape, generator=noise).to(codes)
        misfit = (self.net(drawn) - standard).square().mean()
        surplus = (codes.square() + widths.square() - 1 - 2 * self.log_widths).sum(1).mean()
        return misfit / self.log_beyond.exp() + self.log_beyond + surplus / images.shape[1]

    def descend(
        self,
        y: Tensor,
        residuals: Residuals,
        start: Tensor,
        *,
        differentiable: bool,
    ) -> Tensor:
        """Codes after the learned steps (Wu et al., 2019, algorithm 1, with other step lengths).

        They go on from ``start`` (n, latent_size). Differentiable, in everything that is learned,
        for training.
        """
        z = start.clone()
        direction = torch.zeros_like(z)
        for sizes, momentum in zip(self.step_sizes, self.momenta, strict=True):
            with torch.enable_grad():
                z = z if z.requires_grad else z.requires_grad_()
                x = self.images(z)
                misfit = residuals.misfit(y, x)
                energy = (misfit.square().sum() + z.square().sum()) / 2
                (slope,) = torch.autograd.grad(
                    energy, z, create_graph=differentiable, retain_graph=True
                )
            direction = momentum * direction - slope
            change = along(x, z, direction, differentiable=differentiable)
            if not differentiable:
                slope, z, x, change = slope.detach(), z.detach(), x.detach(), change.detach()
                direction = direction.detach()
            pushed = residuals.push(x, change)
            curvature = pushed.square().sum(1) + direction.square().sum(1)
            length = -(slope * direction).sum(1) / (curvature + SMALL)
            z = z + sizes * length[:, None] * direction
            if not differentiable:
                z, direction = z.detach(), direction.detach()
        return z


class LatentLearner(nn.Module):
    """Trains inference and generator together over draws of operators, against a discriminator.

    Before, for most of the epochs, which are cheap, generator and encoder learn of images that are
    known: a generator that starts from nothing learns slowly through the steps.

    Parameters
    ----------
    generator : CodeInference
        The generator and how codes are found.
    discriminator : Module
        From images in standard units to one score each.
    draw : callable
        From a numpy generator to a pair of a Measurement and the noise's standard deviation.
    adversarial_weight, penalty : float
        What the game counts for; weight of the discriminator's slopes.
    max_epochs : int
        Epochs of training.
    """

    def __init__(
        self,
        generator: CodeInference,
        discriminator: nn.Module,
        *,
        draw: Callable[[np.random.Generator], tuple[Measurement, Any]],
        adversarial_weight: float,
        penalty: float,
        max_epochs: int,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.draw = draw
        self.adversarial_weight = adversarial_weight
        self.penalty = penalty
        self.max_epochs = max_epochs
        self.progress = 0.0

    def play(self, batch: RealRows, noise: Generator) -> Iterator[tuple[str, Tensor]]:
        """The discriminator's loss, then that of what images lose and the game together."""
        real = batch.x[0]
        inference = self.generator
        if round(self.progress * self.max_epochs) < int(ENCODING_SHARE * self.max_epochs):
            yield "generator", inference.bound(real, noise)
            return
        if self.adversarial_weight == 0:
            yield "generator", self._reconstruction(real, noise)
            return
        codes = torch.randn(len(real), len(inference.start), generator=noise).to(real)
        fake = inference.net(codes)[None]
        standard = ((real - inference.centre) / inference.scale)[None]
        yield "discriminator", discriminator_loss(self._score, standard, fake, self.penalty)[0]
        lost = self._reconstruction(real, noise)
        game = generator_loss(self._score, standard, fake)[0]
        yield "generator", lost + self.adversarial_weight * game

    def _reconstruction(self, real: Tensor, noise: Generator) -> Tensor:
        """What images lose that are measured by an operator and found again."""
        inference = self.generator
        seed = int(torch.randint(2**31 - 1, (), generator=noise))
        measurement, std = self.draw(np.random.default_rng(seed))
        with torch.no_grad():
            y = measurement.apply(real)
            disturbance = torch.randn(y.shape, generator=noise).to(y)
            y = y + disturbance * torch.as_tensor(std).to(y)
        residuals = Residuals(measurement, std, inference.plain_spread(), inference.centre)
        start = inference.first(y, inference.gaussian(measurement, std))
        z = inference.descend(y, residuals, start, differentiable=True)
        x = inference.images(z)
        # The logarithm: a relative gain counts the same under an easy and under a hard operator.
        whole = (x + residuals.correction(y, x) - real).square().mean() / inference.scale.square()
        alone = (x - real).square().mean() / inference.scale.square()
        return whole.add(SMALL).log() + alone.add(SMALL).log()

    def _score(self, rows: Tensor) -> Tensor:
        return self.discriminator(rows.flatten(0, 1)).reshape(rows.shape[:2])
