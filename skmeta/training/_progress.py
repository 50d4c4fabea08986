"""Who is told of epochs: a progress bar, and scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from skorch.callbacks import Callback
from torch import nn


class EpochBar(Callback):
    """Shows epochs done, losses and time left, on fits that take longer than a second.

    Parameters
    ----------
    max_epochs : int
        How many epochs there are at most.
    label : str or None, default=None
        What stands before the bar.
    """

    def __init__(self, max_epochs: int, label: str | None = None) -> None:
        self.max_epochs = max_epochs
        self.label = label

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Open the bar."""
        from tqdm.auto import tqdm

        self.bar_ = tqdm(total=self.max_epochs, desc=self.label, unit="epoch", delay=1.0)

    def on_epoch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Move on by one epoch."""
        row = net.history[-1]
        losses = {name: row[name] for name in ("train_loss", "valid_loss") if name in row}
        self.bar_.set_postfix(losses, refresh=False)
        self.bar_.update()

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Close the bar."""
        self.bar_.close()


class Teller(Protocol):
    """Hears of epochs: :mod:`skmeta.base` knows what scikit-learn's callbacks want to know."""

    def begin(self) -> None:
        """Hear that an epoch begins."""

    def end(self, learner: nn.Module, history: Callable[[], list[dict[str, Any]]]) -> bool:
        """Hear that it has ended; return whether training should stop."""


class TellEpochs(Callback):
    """Tells a teller of every epoch.

    Parameters
    ----------
    teller : Teller
        Whom.
    record : callable
        Turns a row of skorch's history into what is kept of it.
    """

    def __init__(self, teller: Teller, record: Callable[[dict], dict[str, Any]]) -> None:
        self.teller = teller
        self.record = record

    def on_epoch_begin(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Pass it on."""
        self.teller.begin()

    def on_epoch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Pass it on, and stop if asked to."""
        if self.teller.end(net.module_, lambda: [self.record(row) for row in net.history]):
            raise KeyboardInterrupt  # the word for it in skorch
