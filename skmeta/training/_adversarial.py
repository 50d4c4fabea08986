"""Training of two players against each other, with the same callbacks and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch import Generator, Tensor, nn

from skmeta.core.sampling import draw_without_replacement
from skmeta.core.tasks import RealRows
from skmeta.training._checkpoint import Keeper, KeepState
from skmeta.training._net import EpisodicNet
from skmeta.training._progress import EpochBar, TellEpochs, Teller
from skmeta.training._train import falling, plain

# Of Adam, for both players: no momentum, as usual for games (Karras et al., 2018).
BETAS = (0.0, 0.99)
# Steps of an epoch, at least: the bookkeeping of an epoch costs as much as a small step.
MIN_STEPS = 20


class Game(Protocol):
    """A module with two parts, ``generator`` and ``discriminator``."""

    def play(self, batch: RealRows, noise: Generator) -> Iterable[tuple[str, Tensor]]:
        """Give one player's name and loss after the other; each is made to step before the next.

        A loss that needs no gradient is only recorded.
        """


class AdversarialNet(EpisodicNet):
    """Lets the players of a game step in turn, each with its own rate.

    One optimiser holds both, in two groups; a player's step leaves the other, whose gradients are
    not there, as it is. So schedules and checkpoints see one optimiser, as always.
    """

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """One epoch; the loss recorded as ``train_loss`` is the generator's."""
        self._of_discriminator: list[Tensor] = []
        super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
        if self._of_discriminator:
            mean = torch.stack(self._of_discriminator).double().mean()
            self.history.record("discriminator_loss", float(mean))

    def _update(self, batch: Any) -> Tensor:
        losses = {}
        for player, loss in self.module_.play(batch, self.generator):  # type: ignore[operator]
            losses[player] = loss.detach()
            if not loss.requires_grad:
                continue  # the game has made this step itself
            own = [p for p in getattr(self.module_, player).parameters() if p.requires_grad]
            self.optimizer_.zero_grad(set_to_none=True)
            # A part of training may leave a part of the player as it is.
            slopes = torch.autograd.grad(loss, own, allow_unused=True)
            for parameter, slope in zip(own, slopes, strict=True):
                parameter.grad = slope
            self._tame_gradients()
            if "on_grad_computed" in self._hooks:
                named = list(self.get_all_learnable_params())
                self.notify("on_grad_computed", named_parameters=named, batch=batch, training=True)
            self.optimizer_.step()
        if "discriminator" in losses:
            self._of_discriminator.append(losses["discriminator"])
        return losses["generator"]


class RowStream(Dataset):
    """Batches of rows, each row once an epoch; or of tasks, each with some of its rows.

    Parameters
    ----------
    x : Tensor of shape (n_rows, n_features)
        All rows, sorted by task.
    sizes : int64 Tensor of shape (n_tasks,) or None
        Rows of every task; None for batches of rows of all tasks.
    batch_size : int
        Rows in a batch; of a task, where tasks are told apart.
    tasks_per_batch : int
        Tasks in a batch.
    generator : Generator
        The source of randomness.
    """

    def __init__(
        self,
        x: Tensor,
        sizes: Tensor | None,
        batch_size: int,
        tasks_per_batch: int,
        generator: Generator,
    ) -> None:
        self._x = x
        self._sizes = sizes
        self._batch_size = batch_size
        self._tasks_per_batch = tasks_per_batch
        self._generator = generator

    def __len__(self) -> int:
        if self._sizes is None:
            return max(MIN_STEPS, len(self._x) // self._batch_size)
        return max(MIN_STEPS, -(-len(self._sizes) // self._tasks_per_batch))

    def __iter__(self) -> Iterator[RealRows]:
        return self._of_rows() if self._sizes is None else self._of_tasks(self._sizes)

    def _of_rows(self) -> Iterator[RealRows]:
        order = self._shuffled(len(self._x), len(self) * self._batch_size)
        for chosen in order.split(self._batch_size):
            yield RealRows(self._x[chosen.to(self._x.device)].unsqueeze(0))

    def _of_tasks(self, sizes: Tensor) -> Iterator[RealRows]:
        starts = sizes.cumsum(0) - sizes
        order = self._shuffled(len(sizes), len(self) * self._tasks_per_batch)
        for tasks in order.split(self._tasks_per_batch):
            some = sizes[tasks]
            drawn = draw_without_replacement(some, self._batch_size, self._generator)
            # A task with fewer rows than a batch gives them more than once.
            place = torch.arange(self._batch_size) % some.clamp(max=self._batch_size)[:, None]
            rows = starts[tasks][:, None] + drawn.gather(1, place)
            yield RealRows(self._x[rows.to(self._x.device)])

    def _shuffled(self, n: int, n_needed: int) -> Tensor:
        passes = [torch.randperm(n, generator=self._generator) for _ in range(-(-n_needed // n))]
        return torch.cat(passes)[:n_needed]


def train_game(
    game: nn.Module,
    stream: RowStream,
    *,
    max_epochs: int,
    lr: float,
    groups: list[tuple[str, float]],
    callbacks: list[Callback | tuple[str, Callback]] | None,
    generator: Generator,
    verbose: int,
    lr_schedule: str = "constant",
    keeper: Keeper | None = None,
    teller: Teller | None = None,
) -> list[dict[str, Any]]:
    """Train both players in place; return one record an epoch.

    ``groups`` names parameters, by a pattern, that have a rate other than ``lr``; a ``teller``
    hears of every epoch.
    """
    added: list[Any] = []
    if lr_schedule == "cosine":
        added.append(("lr_schedule", falling(max_epochs)))
    if verbose:
        added.append(("epoch_bar", EpochBar(max_epochs)))
    if teller is not None:
        added.append(("teller", TellEpochs(teller, plain)))
    if keeper is not None:
        added.append(("checkpoint", KeepState(keeper, generator)))
    net = AdversarialNet(
        game,  # type: ignore[arg-type]
        optimizer=torch.optim.Adam,
        lr=lr,
        optimizer__betas=BETAS,
        optimizer__fused=True,
        optimizer__param_groups=[(pattern, {"lr": rate}) for pattern, rate in groups],
        max_epochs=max_epochs,
        callbacks=[*(callbacks or []), *added],
        verbose=0,
        device=str(next(game.parameters()).device),
    )
    net.generator = generator
    net.fit((stream, None))
    return [plain(row) for row in net.history]
