"""A progress bar over epochs."""

from __future__ import annotations

from typing import Any

from skorch.callbacks import Callback


class EpochBar(Callback):
    """Shows epochs done, losses and time left, on fits that take longer than a second.

    Parameters
    ----------
    max_epochs : int
        How many epochs there are at most.
    """

    def __init__(self, max_epochs: int) -> None:
        self.max_epochs = max_epochs

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Open the bar."""
        from tqdm.auto import tqdm

        self.bar_ = tqdm(total=self.max_epochs, unit="epoch", delay=1.0)

    def on_epoch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Move on by one epoch."""
        row = net.history[-1]
        losses = {name: row[name] for name in ("train_loss", "valid_loss") if name in row}
        self.bar_.set_postfix(losses, refresh=False)
        self.bar_.update()

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Close the bar."""
        self.bar_.close()
