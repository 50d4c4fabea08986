"""From a learner and two samplers to trained parameters: one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import Generator

from skmeta.core.learner import Learner
from skmeta.core.sampling import Sampler
from skmeta.training._average import RunningAverage
from skmeta.training._checkpoint import Keeper, KeepState
from skmeta.training._net import EpisodicNet
from skmeta.training._progress import EpochBar, TellEpochs, Teller
from skmeta.training._stream import EpisodeStream

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
# Epochs without a better validation loss before training stops.
PATIENCE = 20
# Validation episodes: enough that the loss compares epochs, not draws.
VALIDATION_EPISODES = 100


def train(
    learner: Learner,
    sampler: Sampler,
    valid_sampler: Sampler | None,
    *,
    max_epochs: int,
    tasks_per_batch: int,
    lr: float,
    optimizer: str | Callable,
    callbacks: list[Callback | tuple[str, Callback]] | None,
    classifier: bool,
    generator: Generator,
    verbose: int,
    lr_schedule: str = "constant",
    averaging: float = 0.0,
    keeper: Keeper | None = None,
    teller: Teller | None = None,
    n_epochs: int | None = None,
    patience: int | None = None,
    label: str | None = None,
) -> list[dict[str, Any]]:
    """Meta-train ``learner`` in place; return one record an epoch.

    With a ``valid_sampler`` (of other tasks), training stops when its loss no longer falls and the
    best parameters are put back. With a ``keeper``, training goes on from what it has found. A
    ``teller`` hears of every epoch. With ``n_epochs``, training ends after so many, as one of
    ``max_epochs`` would be by then. With ``averaging`` (the share that stays at a step), parameters
    are a running average of those of the steps. A ``label`` stands before the bar.
    """
    if not any(parameter.requires_grad for parameter in learner.parameters()):
        return []  # a fixed embedding, say: there is nothing to learn
    n_epochs = n_epochs or max_epochs
    stream = EpisodeStream(sampler, tasks_per_batch, generator)
    valid = None
    added: list[Any] = []
    if valid_sampler is not None:
        valid = EpisodeStream(valid_sampler, tasks_per_batch, generator)
        valid.fix(-(-VALIDATION_EPISODES // len(valid_sampler.eligible)))
        stop = EarlyStopping(patience=patience or PATIENCE, load_best=True, sink=_say_nothing)
        added.append(("held_out_tasks", stop))
    if lr_schedule == "cosine":
        added.append(("lr_schedule", falling(max_epochs)))
    if verbose:
        added.append(("epoch_bar", EpochBar(n_epochs, label)))
    if teller is not None:
        added.append(("teller", TellEpochs(teller, plain)))
    if keeper is not None:
        added.append(("checkpoint", KeepState(keeper, generator)))
    net = EpisodicNet(
        learner,
        classifier=classifier,
        optimizer=OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer,
        lr=lr,
        max_epochs=n_epochs,
        callbacks=[*(callbacks or []), *added],
        verbose=0,
        device=str(next(learner.parameters()).device),  # where it is already
        **_fused(optimizer, learner),
    )
    net.generator = generator
    net.horizon = max_epochs
    if averaging:
        net.average = RunningAverage(
            (p for p in learner.parameters() if p.requires_grad), averaging
        )
    net.fit((stream, valid))
    return [plain(row) for row in net.history]


def falling(max_epochs: int) -> LRScheduler:
    """Let rates fall to zero along a cosine."""
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    return LRScheduler(cosine, T_max=max_epochs, event_name=None)


def _fused(optimizer: str | Callable, learner: Learner) -> dict[str, bool]:
    """Fused Adam takes a third of the time of the plain one on small nets."""
    floating = all(p.is_floating_point() for p in learner.parameters())
    return {"optimizer__fused": True} if optimizer in ("adam", "adamw") and floating else {}


def plain(row: dict) -> dict[str, Any]:
    """Keep what a person reads: no batches, and no clock, so that equal fits have equal records."""
    dropped = ("batches", "dur", "train_batch_count", "valid_batch_count")
    return {name: value for name, value in row.items() if name not in dropped}


def _say_nothing(*args: Any, **kwargs: Any) -> None:
    """Where skorch would print."""
