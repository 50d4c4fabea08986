"""Everything that training would need to go on from the end of an epoch, as plain values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import Generator, Tensor

# Seconds between two writes, at least: an epoch may take less than writing a file.
SECONDS_BETWEEN = 2.0
EARLY_STOPPING = ("misses_", "dynamic_threshold_", "best_epoch_", "best_model_weights_")
PLAIN = (bool, int, float, str, type(None))


class Keeper(Protocol):
    """Where a checkpoint is kept: :mod:`skmeta.base` knows files, and whose training this is."""

    found: dict[str, Any] | None

    def save(self, content: dict[str, Any]) -> None:
        """Keep plain values and arrays, in place of what was kept before."""


class KeepState(Callback):
    """Hands the state of training to a keeper, and takes it up from there.

    It must be the last callback: the others have had their say of an epoch then.

    Parameters
    ----------
    keeper : Keeper
        Where to.
    generator : Generator
        The source of the draws.
    """

    def __init__(self, keeper: Keeper, generator: Generator) -> None:
        self.keeper = keeper
        self.generator = generator

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Go on from what was kept, if anything was."""
        self.last_ = time.monotonic()
        found = self.keeper.found
        if found is None:
            return
        net.module_.load_state_dict(_to_tensors(found["learner"]))
        net.stop_asked = net.stopped_early = found["stopped"]
        net.history.extend({**row, "batches": []} for row in found["history"])
        if found["finished"]:
            return
        net.optimizer_.load_state_dict(_to_tensors(found["optimizer"]))
        with_state = _with_state(net)
        if len(with_state) != len(found["callbacks"]):
            raise ValueError(
                "The checkpoint of this training was left with other callbacks: with "
                f"{len(found['callbacks'])} rate schedules or early stoppings, and now there are "
                f"{len(with_state)}. Give the same ones, or delete the checkpoint to start anew."
            )
        for callback, state in zip(with_state, found["callbacks"], strict=True):
            if isinstance(callback, LRScheduler):
                callback.lr_scheduler_.load_state_dict(_to_tensors(state))
            else:
                vars(callback).update(_to_tensors(state))
        if net.average is not None:
            net.average.n_steps = found["n_steps"]
            net.average.other = [t.to(net.device) for t in _to_tensors(found["trained"])]
        self.generator.set_state(torch.from_numpy(found["generator"]))
        torch.set_rng_state(torch.from_numpy(found["torch"]))
        if "cuda" in found:
            torch.cuda.set_rng_state(torch.from_numpy(found["cuda"]), net.device)

    def on_epoch_begin(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Keep what this epoch would have started from, if a callback wants none."""
        if net.stop_asked:
            self._keep(net)

    def on_epoch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Keep what the next epoch starts from."""
        if net.stop_asked or time.monotonic() - self.last_ >= SECONDS_BETWEEN:
            self._keep(net)

    def _keep(self, net: Any) -> None:
        states = [
            callback.lr_scheduler_.state_dict()
            if isinstance(callback, LRScheduler)
            else {name: getattr(callback, name) for name in EARLY_STOPPING}
            for callback in _with_state(net)
        ]
        content = {
            **self._content(net, finished=False),
            "optimizer": _to_arrays(net.optimizer_.state_dict()),
            "callbacks": _to_arrays(states),
            "generator": self.generator.get_state().numpy(),
            "torch": torch.get_rng_state().numpy(),
        }
        if net.average is not None:  # the learner holds the average
            content["n_steps"] = net.average.n_steps
            content["trained"] = _to_arrays(net.average.other)
        if str(net.device).startswith("cuda"):
            content["cuda"] = torch.cuda.get_rng_state(net.device).numpy()
        self.keeper.save(content)
        self.last_ = time.monotonic()

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Keep the result: calling fit once more then costs nothing.

        What a callback of the user's ended before its time may go on; what that takes was kept.
        """
        if net.stop_asked and not net.stopped_early and net.n_whole_ < net.max_epochs:
            return
        if self.keeper.found is None or not self.keeper.found["finished"]:
            self.keeper.save(self._content(net, finished=True))

    def _content(self, net: Any, *, finished: bool) -> dict[str, Any]:
        rows = [
            {name: value for name, value in row.items() if isinstance(value, PLAIN)}
            for row in list(net.history)[: net.n_whole_]
        ]
        return {
            "finished": finished,
            "stopped": finished or net.stopped_early,
            "history": rows,
            "learner": _to_arrays(net.module_.state_dict()),
        }


def _with_state(net: Any) -> list[Callback]:
    """Callbacks whose state decides how training goes on, in order; others start afresh."""
    return [cb for _, cb in net.callbacks_ if isinstance(cb, EarlyStopping | LRScheduler)]


def _to_arrays(value: Any) -> Any:
    """Copies of all tensors inside, as arrays."""
    if isinstance(value, Tensor):
        return np.array(value.detach().cpu().numpy(), order="C")
    if isinstance(value, Mapping):
        return {key: _to_arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_arrays(item) for item in value)
    return value


def _to_tensors(value: Any) -> Any:
    """Undo :func:`_to_arrays`."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {key: _to_tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_tensors(item) for item in value)
    return value
