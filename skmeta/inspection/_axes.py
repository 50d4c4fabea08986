"""What all displays share: axes to draw on."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any


def axes(ax: Any, display: Any, width: float = 6.4, height: float = 4.4) -> Any:
    """Return ``ax``, or new axes for a display."""
    if ax is None:
        if find_spec("matplotlib") is None:
            raise ImportError(
                f"{type(display).__name__} needs matplotlib to draw: pip install matplotlib."
            )
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax
