"""Learners that put rows through a net of their own, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skmeta.core.learner import Learner

# Rows that go through the embedding at a time when no gradient is needed, and numbers in them: a
# convolution makes a hundred times as many of an image.
EMBED_ROWS = 4096
EMBED_NUMBERS = 2**17


class EmbeddingLearner(Learner):
    """Base of learners that see a row only through an embedding.

    Parameters
    ----------
    module : Module
        The embedding; trained in place.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def embed(self, x: Tensor) -> Tensor:
        """Embed rows, a bounded number at a time unless a gradient is needed: (n_rows, d)."""
        if torch.is_grad_enabled():
            return self.module(x).flatten(1)
        most = max(1, min(EMBED_ROWS, EMBED_NUMBERS // x[0].numel())) if len(x) else 1
        return torch.cat([self.module(part).flatten(1) for part in x.split(most)])
