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


@pytest.mark.parametrize("shape", [(8, 6), (3, 8, 6)])
def test_conv4_reads_images_channels_first_and_computes_channels_last(shape):
    torch.manual_seed(0)
    net = Conv4(shape, n_filters=5).double()
    x = torch.randn(4, torch.Size(shape).numel(), dtype=torch.float64, requires_grad=True)
    layouts = []
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(
                lambda *call: layouts.append(
                    call[-1].is_contiguous(memory_format=torch.channels_last)
                )
            )
    found = net(x)
    assert len(layouts) == 6 and all(layouts)
    plain = net.blocks(x.reshape(4, *net.image_shape))
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    weights = [x, *net.parameters()]
    slopes = torch.autograd.grad(found.square().sum(), weights)
    of_plain = torch.autograd.grad(plain.square().sum(), weights)
    torch.testing.assert_close(slopes, of_plain, rtol=1e-9, atol=1e-11)
