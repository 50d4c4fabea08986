"""Torch modules as plain arrays, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor, nn

from skmeta.base._callbacks import EpochTeller, has_callbacks
from skmeta.base._checkpoint import CheckpointFile
from skmeta.base._constraints import MISFIT
from skmeta.base._fingerprint import fingerprint_of
from skmeta.base._rows import inference_dtype, resolve_device, seeded_torch, to_numpy

Module = TypeVar("Module", bound=nn.Module)


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies of tensors, whose memory nobody else has."""
    return {name: value.copy() for name, value in to_numpy(dict(tensors)).items()}


def usable_device(device: Any) -> torch.device:
    """The device asked for; a CPU where this machine lacks it."""
    try:
        return resolve_device(device)
    except ValueError:
        return torch.device("cpu")


def restore(
    make: Callable[[Any], Module],
    shell: Any,
    arrays: dict[str, np.ndarray],
    device: torch.device,
    *,
    own: bool,
) -> Module:
    """Build a module anew and fill it; ready for inference, in double precision on a CPU.

    Parameters
    ----------
    make : callable
        Builds it from the parameters of ``shell``.
    shell : estimator
        With the parameters of the fit.
    arrays : dict of str to ndarray
        Its weights.
    device : device
        Where to.
    own : bool
        Whether parts of it are the user's.
    """
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    if not own:
        # Without memory first, so that sizes that somebody made up cannot fill it.
        with torch.device("meta"):
            sizes = {name: value.shape for name, value in make(shell).state_dict().items()}
        if sizes != {name: value.shape for name, value in tensors.items()}:
            raise ValueError("its weights are not those of the nets that its parameters ask for")
    with seeded_torch(0):
        module = make(shell).eval()
    module.load_state_dict(tensors)
    return module.to(device, inference_dtype(device)).requires_grad_(False)


def check_net(name: str, net: nn.Module, rows: Tensor, n_outputs: int) -> None:
    """Refuse a net that does not fit two rows, before hours of training."""
    try:
        with torch.no_grad():
            outputs, alone = net(rows), net(rows[:1])
    except (RuntimeError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"The {name} failed on a batch of shape {tuple(rows.shape)}: {error}."
        ) from error
    if tuple(outputs.shape) != (2, n_outputs):
        raise ValueError(
            f"The {name} must turn {tuple(rows.shape)} into (2, {n_outputs}), but gives "
            f"{tuple(outputs.shape)}."
        )
    if not torch.allclose(alone, outputs[:1], rtol=1e-3, atol=1e-4):
        raise ValueError(
            f"The {name} lets rows see each other, as batch norm does. Use group norm, layer norm "
            "or none."
        )


def train_both(
    estimator: Any,
    make: Callable[[], Module],
    stream: Callable[[torch.device, torch.Generator], Any],
    groups: list[tuple[str, float]],
    *arrays: np.ndarray,
    finish: Callable[[Any, Module, int], None],
    start: dict[str, Tensor] | None = None,
    lr_schedule: str = "constant",
) -> None:
    """Make the players of an estimator and train them, with its options and its checkpoint.

    What was trained is handed to ``finish``; ``history_`` and ``n_iter_`` are set.

    Parameters
    ----------
    estimator : estimator
        Whose parameters say how.
    make : callable
        Makes the game.
    stream : callable
        From the device and the source of randomness to batches.
    groups : list of (str, float)
        Rates of parameters, by pattern.
    *arrays : ndarray
        The data, which a checkpoint belongs to.
    finish : callable
        Sets what the fit learned: from the estimator, what was trained, and a seed for what comes
        after. While callbacks look on, it is called at every epoch, with a copy of the estimator.
    start : dict of Tensor or None, default=None
        Weights that training goes on from.
    lr_schedule : {"constant", "cosine"}, default="constant"
        How rates change.
    """
    from skmeta.training import train_game  # skorch takes a second to import

    device = resolve_device(estimator.device)
    keeper = None
    if estimator.checkpoint is not None:
        mark = fingerprint_of(estimator, start, device, *arrays)
        keeper = CheckpointFile(estimator.checkpoint, mark)
    seeds = check_random_state(estimator.random_state).randint(np.iinfo(np.int32).max, size=2)
    if keeper is not None:
        # Without a fixed seed, what goes on must go on with the seed it began with.
        keeper.seeds = seeds = keeper.seeds or seeds.tolist()
    generator = torch.Generator().manual_seed(int(seeds[0]))
    with seeded_torch(int(seeds[1]), device):
        game = make()
        if start is not None:
            try:
                game.load_state_dict(start)
            except RuntimeError:
                raise ValueError(MISFIT) from None
        game.to(device, torch.float32).train()
        seed = int(seeds[0])
        teller = None
        if has_callbacks(estimator):
            teller = EpochTeller(estimator, partial(_finished, estimator, finish, seed))
        estimator.history_ = train_game(
            game,
            stream(device, generator),
            max_epochs=estimator.max_epochs,
            lr=estimator.lr,
            groups=groups,
            lr_schedule=lr_schedule,
            callbacks=estimator.callbacks,
            generator=generator,
            verbose=estimator.verbose,
            keeper=keeper,
            teller=teller,
        )
    estimator.n_iter_ = len(estimator.history_)
    finish(estimator, game, seed)


def _finished(
    estimator: Any, finish: Callable[[Any, Module, int], None], seed: int, game: Module
) -> dict[str, Any]:
    """What a fit would set if training ended here."""
    before = vars(estimator)
    new = copy.copy(estimator)
    finish(new, game, seed)
    new._derive()
    return {
        name: value
        for name, value in vars(new).items()
        if name not in before or value is not before[name]
    }
