"""Convolutional backbones of the few-shot literature."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Conv4(nn.Module):
    """Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max-pooling (Vinyals et al., 2016).

    Takes flat rows, so that it fits where any row-wise module fits.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (channels, height, width) of the image that a row holds.
    n_filters : int, default=64
        Filters of every block.

    References
    ----------
    Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra (2016). Matching networks for one shot
    learning.

    Examples
    --------
    >>> import torch
    >>> from skmeta.nets import Conv4
    >>> Conv4((28, 28))(torch.zeros(2, 784)).shape
    torch.Size([2, 64])
    """

    def __init__(self, image_shape: tuple[int, ...], n_filters: int = 64) -> None:
        super().__init__()
        self.image_shape = (1, *image_shape) if len(image_shape) == 2 else tuple(image_shape)
        channels, *sides = self.image_shape
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [
                nn.Conv2d(channels, n_filters, 3, padding=1),
                nn.BatchNorm2d(n_filters),
                nn.ReLU(),
            ]
            # Small images run out of pixels before they run out of blocks.
            if min(sides) >= 2:
                layers.append(nn.MaxPool2d(2))
                sides = [side // 2 for side in sides]
            channels = n_filters
        self.blocks = nn.Sequential(*layers, nn.Flatten())
        self.n_outputs = n_filters * math.prod(sides)

    def forward(self, x: Tensor) -> Tensor:
        images = x.reshape(len(x), *self.image_shape)
        if x.device.type == "cpu":
            # With the channels of a pixel side by side in memory, all that follows takes two thirds
            # of the time, pooling most of all. (Not memory_format: vmap does not take that.)
            images = images.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
            images = images.permute(0, 3, 1, 2)
        return self.blocks(images)
