"""A running average of what is trained: what is judged, and kept, in place of the last step's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class RunningAverage:
    """Moving average of parameters over the steps of the optimiser.

    The parameters hold the average between epochs, so that whoever looks at the learner there (a
    validation, a callback, a checkpoint of weights) sees what will be kept; while an epoch trains
    they hold what the optimiser made of them.

    Parameters
    ----------
    parameters : iterable of Tensor
        Those that are trained.
    decay : float
        Share of the average that stays at a step; less at first, or the start would weigh too much.
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.n_steps = 0
        # What the parameters do not hold now: the average in an epoch, the trained between epochs.
        self.other = [p.detach().clone() for p in self.parameters]
        self._training = False

    def swap(self, *, training: bool) -> None:
        """Let the parameters hold the trained values, or the average."""
        if training == self._training:
            return
        self._training = training
        with torch.no_grad():
            for parameter, other in zip(self.parameters, self.other, strict=True):
                held = parameter.detach().clone()
                parameter.copy_(other)
                other.copy_(held)

    def step(self) -> None:
        """Count what the optimiser made of the parameters in."""
        self.n_steps += 1
        decay = min(self.decay, (1 + self.n_steps) / (10 + self.n_steps))
        with torch.no_grad():
            torch._foreach_lerp_(self.other, self.parameters, 1 - decay)
