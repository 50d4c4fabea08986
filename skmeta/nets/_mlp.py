"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def mlp(sizes: Sequence[int], activation: str = "relu") -> nn.Sequential:
    """Linear layers of the given sizes with activations between them, none after the last.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, of units in every hidden layer, of outputs.
    activation : {"relu", "leaky_relu", "tanh", "silu", "gelu"}, default="relu"
        Activation between layers.

    Examples
    --------
    >>> from skmeta.nets import mlp
    >>> len(mlp([1, 40, 40, 1]))
    5
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
