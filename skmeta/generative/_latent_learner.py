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


class CodeInference(nn.Module):
    """A generator, and how codes are found: where they start, and how far a step goes.

    A step goes along the gradient of the posterior of the code, plus a learned share of the last
    direction; its length is that of the Gauss-Newton model along it, times a learned number for
    every coordinate. So steps suit operators and noise of any scale.

    Parameters
    ----------
    net : Module
        From codes to images in standard units.
    centre : Tensor of shape (n_pixels,)
        What standard units are measured from.
    scale : float
        What one of them is.
    latent_size, n_steps : int
        Numbers in a code; steps.
    """

    def __init__(
        self, net: nn.Module, centre: Tensor, scale: float, latent_size: int, n_steps: int
    ) -> None:
        super().__init__()
        self.net = net
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("centre", centre)
        self.register_buffer("scale", torch.tensor(float(scale)).to(centre))
        self.start = nn.Parameter(torch.zeros(latent_size))
        self.step_sizes = nn.Parameter(torch.ones(n_steps, latent_size))
        self.momenta = nn.Parameter(torch.full((n_steps,), 0.3))
        # Variance of what the generator cannot draw, in standard units.
        self.log_beyond = nn.Parameter(torch.tensor(-2.0))

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

    def descend(
        self,
        y: Tensor,
        residuals: Residuals,
        *,
        differentiable: bool,
        start: Tensor | None = None,
    ) -> Tensor:
        """Codes after the learned steps (Wu et al., 2019, algorithm 1, with other step lengths).

        Differentiable, in everything that is learned, for training. ``start`` (n, latent_size)
        takes the place of the learned one.
        """
        z = (self.start.expand(len(y), -1) if start is None else start).clone()
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
    """

    def __init__(
        self,
        generator: CodeInference,
        discriminator: nn.Module,
        *,
        draw: Callable[[np.random.Generator], tuple[Measurement, Any]],
        adversarial_weight: float,
        penalty: float,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.draw = draw
        self.adversarial_weight = adversarial_weight
        self.penalty = penalty
        self.progress = 0.0

    def play(self, batch: RealRows, noise: Generator) -> Iterator[tuple[str, Tensor]]:
        """The discriminator's loss, then that of the reconstructions and the game together."""
        real = batch.x[0]
        inference = self.generator
        game = self.adversarial_weight > 0
        fake = real
        if game:
            codes = torch.randn(len(real), len(inference.start), generator=noise).to(real)
            fake = inference.net(codes)
            standard = ((real - inference.centre) / inference.scale)[None]
            yield (
                "discriminator",
                discriminator_loss(self._score, standard, fake[None], self.penalty)[0],
            )
        seed = int(torch.randint(2**31 - 1, (), generator=noise))
        measurement, std = self.draw(np.random.default_rng(seed))
        with torch.no_grad():
            y = measurement.apply(real)
            disturbance = torch.randn(y.shape, generator=noise).to(y)
            y = y + disturbance * torch.as_tensor(std).to(y)
        residuals = Residuals(measurement, std, inference.plain_spread(), inference.centre)
        z = inference.descend(y, residuals, differentiable=True)
        x = inference.images(z)
        # The logarithm: a relative gain counts the same under an easy and under a hard operator.
        whole = (x + residuals.correction(y, x) - real).square().mean() / inference.scale.square()
        alone = (x - real).square().mean() / inference.scale.square()
        loss = whole.add(SMALL).log() + alone.add(SMALL).log()
        if game:
            loss = (
                loss
                + self.adversarial_weight * generator_loss(self._score, standard, fake[None])[0]
            )
        yield "generator", loss

    def _score(self, rows: Tensor) -> Tensor:
        return self.discriminator(rows.flatten(0, 1)).reshape(rows.shape[:2])
