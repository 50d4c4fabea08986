"""The plain modules."""

import pytest
import torch
from torch import nn

from skmeta.nets import Conv4, mlp


def test_mlp_layers():
    layers = list(mlp([3, 5, 2], "tanh"))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.Tanh, nn.Linear]
    assert (layers[0].in_features, layers[2].out_features) == (3, 2)


@pytest.mark.parametrize(
    ("shape", "n_outputs"),
    [((28, 28), 64), ((3, 84, 84), 1600), ((8, 8), 64), ((1, 5, 7), 64), ((1, 1), 64)],
)
def test_conv4_sizes(shape, n_outputs):
    with torch.random.fork_rng():
        net = Conv4(shape)
    n_pixels = torch.Size(shape).numel()
    assert net(torch.zeros(2, n_pixels)).shape == (2, n_outputs)
    assert net.n_outputs == n_outputs
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == 4
