"""Generator and discriminator of GANSampler, as its parameters ask for them, and their units."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import nn

from skmeta.base._module import build_module
from skmeta.core.numerics import location_and_scale
from skmeta.generative._gan_learner import GANLearner
from skmeta.generative._modules import check_net
from skmeta.nets import DCGANDiscriminator, DCGANGenerator, mlp


def make_players(gan: Any) -> GANLearner:
    """Build both from the parameters of a GANSampler that knows its columns."""
    sizes = (int(gan.latent_size), int(gan.n_features_in_))
    hidden = tuple(int(n) for n in gan.hidden_layer_sizes)
    shape = image_shape_of(gan)
    convolved = shape if gan.architecture == "dcgan" else None
    if gan.architecture == "dcgan" and shape is None:
        raise ValueError("architecture='dcgan' needs image_shape=(height, width).")
    if gan.generator is not None:
        generator = build_module(gan.generator, *sizes)
    else:
        net = (
            DCGANGenerator(sizes[0], convolved)
            if convolved is not None
            else mlp([sizes[0], *hidden, sizes[1]], "leaky_relu")
        )
        generator = net if shape is None else nn.Sequential(*_layers(net), nn.Tanh())
    if gan.discriminator is not None:
        discriminator = build_module(gan.discriminator, sizes[1], 1)
    elif convolved is not None:
        discriminator = DCGANDiscriminator(convolved)
    else:
        discriminator = mlp([sizes[1], *hidden, 1], "leaky_relu")
    return GANLearner(
        generator,
        discriminator,
        latent_size=sizes[0],
        penalty=float(gan.penalty),
        averaging=float(gan.averaging),
        inner_lr=float(gan.inner_lr),
        n_inner_steps=int(gan.n_inner_steps),
        inner_batch_size=int(gan.batch_size),
    )


def checked_players(gan: Any, rows: np.ndarray, by_task: bool) -> GANLearner:
    """Build both for training on these rows, of many tasks or of one."""
    learner = make_players(gan)
    learner.by_task = by_task
    codes, few = torch.randn(2, int(gan.latent_size)), torch.tensor(rows[:2]).float()
    check_net("generator", learner.generator, codes, rows.shape[1])
    check_net("discriminator", learner.discriminator, few, 1)
    return learner


def _layers(net: nn.Module) -> list[nn.Module]:
    """The layers of a plain stack, so that it stays one with a layer more."""
    return list(net) if isinstance(net, nn.Sequential) else [net]


def image_shape_of(gan: Any) -> tuple[int, ...] | None:
    """``image_shape``, which must fit the columns."""
    if gan.image_shape is None:
        return None
    shape: tuple[int, ...] = tuple(gan.image_shape)
    whole = all(isinstance(side, Integral) and side > 0 for side in shape)
    whole = whole and not any(isinstance(side, bool) for side in shape)
    if len(shape) not in (2, 3) or not whole or np.prod(shape) != gan.n_features_in_:
        raise ValueError(
            f"image_shape must be (height, width) or (channels, height, width) with "
            f"{gan.n_features_in_} values in all, one a column of X; got {gan.image_shape!r}."
        )
    if len(shape) == 3 and shape[0] == shape[1] > shape[2]:
        raise ValueError(
            f"image_shape={gan.image_shape!r} looks like (height, width, channels): channels come "
            f"first, ({shape[2]}, {shape[0]}, {shape[1]}), in the order of the columns of X too."
        )
    return tuple(int(side) for side in shape)


def fit_scale(X: np.ndarray, shape: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale, one a column; of images one for all, so that the range is -1 to 1.

    Images that are all one number have no range: samples lie within 1 of it.
    """
    if shape is None:
        return location_and_scale(X)
    low, high = X.min(), X.max()
    half = high / 2 - low / 2
    return np.array([low + half]), np.array([half if half > 0 else 1.0])
