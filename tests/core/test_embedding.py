"""Rows go through a net a bounded number at a time, and come out as they would together."""

import pytest
import torch
from torch import nn

from skmeta.core.embedding import EMBED_NUMBERS, EMBED_ROWS, EmbeddingLearner
from skmeta.nets import Conv4


class Embedding(EmbeddingLearner):
    def episode_loss(self, episodes, generator):
        raise NotImplementedError

    def condition(self, support):
        raise NotImplementedError

    def predict(self, state, query):
        raise NotImplementedError


@pytest.mark.parametrize("width", [1, 20, 784, 10**6])
def test_the_rows_at_a_time_are_bounded_by_their_numbers(width):
    seen = []

    class Counting(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x[:, :1]

    with torch.no_grad():
        x = torch.arange(5000.0)[:, None].expand(-1, width)
        assert torch.equal(Embedding(Counting()).embed(x), x[:, :1])
    assert sum(seen) == 5000
    assert max(seen) <= EMBED_ROWS
    assert max(seen) * width <= EMBED_NUMBERS or max(seen) == 1
    # No fewer than they may be.
    assert max(seen) in (EMBED_ROWS, EMBED_NUMBERS // width, 1)


def test_parts_have_the_statistics_of_training(monkeypatch):
    torch.manual_seed(0)
    net = Conv4((8, 8), 4).double()
    x = torch.rand(50, 64, dtype=torch.float64)
    net(x)  # averages that are no zeros and ones
    net.eval()
    monkeypatch.setattr("skmeta.core.embedding.EMBED_NUMBERS", 7 * 64)
    with torch.no_grad():
        torch.testing.assert_close(Embedding(net).embed(x), net(x), rtol=1e-12, atol=1e-12)
        assert Embedding(net).embed(x[:0]).shape == (0, 4)
    whole = Embedding(net).embed(x)  # for a gradient all at once
    assert torch.equal(whole, net(x))
