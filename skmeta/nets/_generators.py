"""Generators and discriminators of images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

SLOPE = 0.2


def _three_dimensions(image_shape: tuple[int, ...]) -> tuple[int, int, int]:
    channels, height, width = (1, *image_shape) if len(image_shape) == 2 else image_shape
    return int(channels), int(height), int(width)


class DCGANGenerator(nn.Module):
    """From a code to a flat image by two strided transposed convolutions (Radford et al., 2016).

    Batch norms, which would let the rows of a batch see each other, are left out: group norms take
    their place.

    Parameters
    ----------
    latent_size : int
        Numbers in a code.
    image_shape : tuple of int
        (height, width) or (channels, height, width).
    n_filters : int, default=32
        Channels at half the size of the image; twice as many at a quarter of it.

    References
    ----------
    Radford, Metz and Chintala (2016). Unsupervised representation learning with deep convolutional
    generative adversarial networks.

    Examples
    --------
    >>> import torch
    >>> from skmeta.nets import DCGANGenerator
    >>> DCGANGenerator(8, (28, 28))(torch.zeros(2, 8)).shape
    torch.Size([2, 784])
    """

    def __init__(self, latent_size: int, image_shape: tuple[int, ...], n_filters: int = 32) -> None:
        super().__init__()
        self.image_shape = _three_dimensions(image_shape)
        channels, height, width = self.image_shape
        self._small = (2 * n_filters, -(-height // 4), -(-width // 4))
        self.start = nn.Linear(latent_size, math.prod(self._small))
        self.first_norm = nn.GroupNorm(4, 2 * n_filters)
        self.first = nn.ConvTranspose2d(2 * n_filters, n_filters, 4, stride=2, padding=1)
        self.second_norm = nn.GroupNorm(4, n_filters)
        self.second = nn.ConvTranspose2d(n_filters, channels, 4, stride=2, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.start(z).reshape(-1, *self._small)
        h = self.first(F.leaky_relu(self.first_norm(h), SLOPE))
        h = self.second(F.leaky_relu(self.second_norm(h), SLOPE))
        _, height, width = self.image_shape
        return h[..., :height, :width].flatten(1)  # sides need not be multiples of four


class DCGANDiscriminator(nn.Module):
    """From a flat image to one score by two strided convolutions (Radford et al., 2016).

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (channels, height, width).
    n_filters : int, default=32
        Channels at half the size of the image; twice as many at a quarter of it.

    Examples
    --------
    >>> import torch
    >>> from skmeta.nets import DCGANDiscriminator
    >>> DCGANDiscriminator((28, 28))(torch.zeros(2, 784)).shape
    torch.Size([2, 1])
    """

    def __init__(self, image_shape: tuple[int, ...], n_filters: int = 32) -> None:
        super().__init__()
        self.image_shape = _three_dimensions(image_shape)
        channels, height, width = self.image_shape
        self.first = nn.Conv2d(channels, n_filters, 4, stride=2, padding=1)
        self.second = nn.Conv2d(n_filters, 2 * n_filters, 4, stride=2, padding=1)
        with torch.no_grad():
            shape = self.second(self.first(torch.zeros(1, channels, max(height, 4), max(width, 4))))
        self._pad = (0, max(4 - width, 0), 0, max(4 - height, 0))
        self.last = nn.Linear(shape.numel(), 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.pad(x.reshape(len(x), *self.image_shape), self._pad)
        h = F.leaky_relu(self.first(h), SLOPE)
        return self.last(F.leaky_relu(self.second(h), SLOPE).flatten(1))
