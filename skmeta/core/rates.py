"""How long the steps of an inner loop are: a number, or learned rates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from skmeta.core.forward import Weights


class InnerRates(nn.ParameterList):
    """Inner learning rates, fixed or learned (Li et al., 2017; Antoniou et al., 2019).

    Parameters
    ----------
    learned : {False, "layer", "parameter", "step"}
        What has a learned rate of its own; "step" is a layer at a step.
    inner_lr : float
        The rate, or where learning it starts.
    start : dict of str to Tensor
        The weights that adapt, by name.
    own : dict of str to tuple of int
        Shapes, per class, of weights that every task starts from a place of its own.
    n_steps : int
        Steps in training.
    """

    def __init__(
        self,
        learned: bool | str,
        inner_lr: float,
        start: dict[str, Tensor],
        own: dict[str, tuple[int, ...]],
        n_steps: int,
    ) -> None:
        self.learned = learned
        self.inner_lr = inner_lr
        layers: dict[str, int] = {}
        for name, p in start.items():  # the weight and the bias of a layer share a rate
            layer = name.rpartition(".")[0]
            layers[layer] = layers.get(layer, 0) + p.numel()
        self._layer_sizes = list(layers.values())
        super().__init__(torch.full(shape, inner_lr) for shape in self._shapes(own, n_steps))

    def _shapes(self, own: dict[str, tuple[int, ...]], n_steps: int) -> list[tuple[int, ...]]:
        if not self.learned:
            return []
        if self.learned == "parameter":
            return [(sum(self._layer_sizes),), *own.values()]
        rows = n_steps if self.learned == "step" else 1
        return [(rows, len(self._layer_sizes) + bool(own))]

    def of(self, own: Weights) -> Callable[[int], Tensor | float]:
        """What a step's rate is: a number, or a vector with one entry a weight."""
        return lambda step: self._rate(step, own)

    def _rate(self, step: int, own: Weights) -> Tensor | float:
        if not self.learned:
            return self.inner_lr
        if self.learned == "parameter":
            first, *rest = self
            # Every class of a task has the same rates.
            of_own = [
                rate.expand(value.shape[1:]).reshape(-1)
                for rate, value in zip(rest, own.values(), strict=True)
            ]
            return torch.cat([first, *of_own]) if of_own else first
        by_layer = self[0][min(step, len(self[0]) - 1)]
        sizes = list(self._layer_sizes)
        if own:
            sizes.append(sum(value[0].numel() for value in own.values()))
        repeats = torch.tensor(sizes, device=by_layer.device)
        return torch.repeat_interleave(by_layer, repeats, output_size=sum(sizes))
