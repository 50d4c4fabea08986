"""What a pickle of a meta-estimator holds: numpy arrays and parameters, no torch object."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from sklearn.base import BaseEstimator

from skmeta._version import __version__
from skmeta.base._callbacks import WHILE_FITTING
from skmeta.base._rows import resolve_device, seeded_torch, to_numpy, to_tensors
from skmeta.core.learner import Learner, State


class Pickling(BaseEstimator):
    """Turns the learner into arrays and back."""

    learner_: Learner
    state_: State
    frozen_params_: dict[str, Any]

    def _inference_dtype(self, device: torch.device) -> torch.dtype:
        raise NotImplementedError

    def _sibling(self, **changes: Any) -> Any:
        """Return an estimator that shares everything with ``self`` but the changes."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__, **changes)
        return new

    # In a pickle: parameters (get_params), the meta-learned arrays with the prior, the state of the
    # task, column means and scales, classes, history, versions. Not in it: task ids, training rows,
    # the optimiser, generators, the skorch net, the callbacks of a fitted one (None), what
    # scikit-learn's callbacks need during a fit. (What `set_callbacks` took is in it, as in any
    # pickle of scikit-learn's: workers of a search need it.)
    # A prototype is the mean of embedded rows: under an embedding that changes nothing, that of a
    # class with one row is that row.

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in super().__getstate__().items() if k not in WHILE_FITTING}
        if "learner_" in state:
            learner = state["learner_"]
            tensors = {**dict(learner.named_parameters()), **dict(learner.named_buffers())}
            state["learner_"] = {
                "arrays": to_numpy(tensors),
                "prior": to_numpy(learner.prior()),
            }
            state["state_"] = to_numpy(state["state_"])
            state["callbacks"] = None  # a used callback may hold the optimiser, or the whole net
        state["_skmeta_version"] = __version__
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_skmeta_version", "unknown")
        if version != __version__:
            warnings.warn(
                f"This {type(self).__name__} was pickled by skmeta {version} and is loaded by "
                f"{__version__}: predictions may differ."
            )
        stored = state.pop("learner_", None)
        super().__setstate__(state)
        if stored is None:
            return
        try:
            device = resolve_device(self.frozen_params_.get("device", "cpu"))
        except ValueError:  # fitted on a device that this machine lacks
            device = torch.device("cpu")
        dtype = self._inference_dtype(device)
        with seeded_torch(0):
            learner = self._sibling(**self.frozen_params_)._make_learner().eval()
        learner.to(device, dtype)
        with torch.no_grad():
            tensors = {**dict(learner.named_parameters()), **dict(learner.named_buffers())}
            for name, array in stored["arrays"].items():
                tensors[name].copy_(torch.from_numpy(array))
        learner._prior = to_tensors(stored["prior"], device, dtype)
        self.learner_ = learner
        self.state_ = to_tensors(state["state_"], device, dtype)
