"""Element-wise losses of outputs and targets."""

from __future__ import annotations

from torch import Tensor


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared difference, element by element."""
    return (outputs - targets).square()
