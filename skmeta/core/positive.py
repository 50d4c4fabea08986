"""Positive numbers as parameters."""

from __future__ import annotations

from torch import Tensor, nn

# Steps on the logarithm are so many times as long as those of an ordinary weight: a noise, a scale
# or a penalty may have to change by orders of magnitude while weights change by tenths.
RATE = 5.0


class Positive(nn.Module):
    """Positive numbers that training finds about as fast as the weights.

    Parameters
    ----------
    start : Tensor
        Where training starts.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.slow_log = nn.Parameter(start.log() / RATE)

    def forward(self) -> Tensor:
        """The numbers."""
        return (RATE * self.slow_log).exp()
