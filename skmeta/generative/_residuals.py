"""What measurements say of an image: residuals in units of their standard deviation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skmeta.operators._measurement import Measurement

# Measurements up to which their covariance is factorised; beyond, they count as independent.
MOST_FACTORISED = 1500
# Directions along which the spread of a measurement is probed where there is no matrix.
N_PROBES = 8
# A step short enough for a function to be straight along it.
SHORT = 1e-3


@dataclass(frozen=True)
class Spread:
    """Covariance of what an image has beyond its generator's range: factors and a diagonal.

    Parameters
    ----------
    factors : Tensor of shape (n_pixels, k)
        Directions, as long as their standard deviation.
    rest : Tensor of shape (n_pixels,) or ()
        Variance of every pixel besides.
    """

    factors: Tensor
    rest: Tensor

    def times(self, rows: Tensor) -> Tensor:
        """Rows (n, n_pixels) times the covariance."""
        return (rows @ self.factors) @ self.factors.T + rows * self.rest

    @property
    def variance(self) -> Tensor:
        """Of every pixel."""
        return self.factors.square().sum(1) + self.rest


class Residuals:
    """Turns the misfit of images into numbers of unit variance, for one operator.

    The variance of a measurement is that of the noise and of what images have beyond the range of
    the generator: a generator is not asked to explain what it cannot.

    Parameters
    ----------
    measurement : Measurement
        The operator.
    noise_std : float or array of shape (n_measurements,)
        Of a measurement.
    beyond : Spread
        What lies beyond the range.
    centre : Tensor of shape (n_pixels,)
        The image at which a nonlinear operator's slope is weighed.
    """

    def __init__(
        self,
        measurement: Measurement,
        noise_std: float | np.ndarray,
        beyond: Spread,
        centre: Tensor,
    ) -> None:
        self._centre = centre
        self.measurement = measurement
        self.beyond = beyond
        like = beyond.rest
        noise = torch.tensor(np.array(noise_std, dtype=float, order="C")).to(like)
        self._variance = noise.square().expand(measurement.n_measurements)
        self._factor: Tensor | None = None
        self._scale: Tensor | None = None
        self.matrix: Tensor | None = None
        if measurement.linear and measurement.n_measurements <= MOST_FACTORISED:
            matrix = torch.as_tensor(measurement.dense()).to(like)
            covariance = beyond.times(matrix) @ matrix.T
            covariance = covariance + torch.diag_embed(self._variance)
            # Without noise and with repeated measurements it would be singular.
            accuracy = torch.finfo(like.dtype).eps
            ridge = 10 * accuracy * covariance.diagonal().mean().detach() + 1e-12
            eye = torch.eye(len(covariance), dtype=like.dtype, device=like.device)
            self._factor = factorised(covariance + ridge * eye)
            self.matrix = matrix

    @property
    def closed(self) -> bool:
        """Whether the measurements' covariance is known, and :meth:`correction` with it."""
        return self._factor is not None

    def misfit(self, y: Tensor, x: Tensor) -> Tensor:
        """Whitened residuals (n, n_measurements) of images; differentiable."""
        return self.whiten(y - self.measurement.apply(x))

    def whiten(self, values: Tensor) -> Tensor:
        """Measurements in units of their standard deviation, decorrelated where that is known."""
        if self._factor is not None:
            return torch.linalg.solve_triangular(self._factor, values.T, upper=False).T
        if self._scale is None:
            self._scale = (self._variance + self._probed()).sqrt() + 1e-12
        return values / self._scale

    def push(self, x: Tensor, direction: Tensor) -> Tensor:
        """How whitened measurements change along directions in the images; differentiable."""
        if self.measurement.linear:
            return self.whiten(self.measurement.apply(direction))
        with torch.enable_grad():
            point = x if x.requires_grad else x.detach().requires_grad_()
            pushed = along(self.measurement.apply(point), point, direction, differentiable=True)
        return self.whiten(pushed)

    def correction(self, y: Tensor, x: Tensor) -> Tensor:
        """What the measurements say of the part beyond the range: a posterior mean (n, n_pixels).

        Zero where the measurements' covariance is not known.
        """
        if self._factor is None or self.matrix is None:
            return torch.zeros_like(x)
        residual = (y - self.measurement.apply(x)).T
        return self.beyond.times(torch.cholesky_solve(residual, self._factor).T @ self.matrix)

    def explained(self, rows: Tensor) -> Tensor:
        """What :meth:`correction` would undo of a change of the image."""
        if self._factor is None or self.matrix is None:
            return torch.zeros_like(rows)
        seen = torch.cholesky_solve((rows @ self.matrix.T).T, self._factor).T
        return self.beyond.times(seen @ self.matrix)

    def variance_left(self) -> Tensor:
        """Variance of every pixel beyond the range that the measurements leave."""
        if self._factor is None or self.matrix is None:
            return self.beyond.variance
        gain = self.beyond.times(self.matrix)
        known = torch.linalg.solve_triangular(self._factor, gain, upper=False).square().sum(0)
        return (self.beyond.variance - known).clamp(min=0)

    def _probed(self) -> Tensor:
        """Mean variance of a measurement through what lies beyond the range.

        At one image for all: a row's answer must not depend on its neighbours.
        """
        seeded = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (N_PROBES, len(self._centre)), generator=seeded) * 2.0 - 1.0
        steps = signs.to(self.beyond.rest) * self.beyond.variance.sqrt()
        if self.measurement.linear:
            return self.measurement.apply(steps).square().mean()
        place = self._centre.expand(N_PROBES, -1)
        moved = self.measurement.apply(place + SHORT * steps)
        return ((moved - self.measurement.apply(place)) / SHORT).square().mean()


def factorised(matrix: Tensor) -> Tensor:
    """Cholesky factors; ValueError where numbers are too large to have any."""
    try:
        return torch.linalg.cholesky(matrix)
    except torch.linalg.LinAlgError as error:
        raise ValueError(
            "Measurements cannot be weighed: numbers are too large, or none. They lie far outside "
            "those of the images in fit, or the operator, noise_std or the images are of another "
            "scale. Check units, and bring all to a scale near 1."
        ) from error


def along(outputs: Tensor, inputs: Tensor, direction: Tensor, *, differentiable: bool) -> Tensor:
    """How outputs change along directions in their inputs, row by row.

    By the transpose of the transposed derivative: it needs no forward mode, which not every
    function has, and goes by the graph that is there.
    """
    with torch.enable_grad():
        dual = torch.zeros_like(outputs, requires_grad=True)
        (pulled,) = torch.autograd.grad(outputs, inputs, dual, create_graph=True)
        (pushed,) = torch.autograd.grad(
            pulled, dual, direction, create_graph=differentiable, retain_graph=True
        )
    return pushed
