"""Constraints of the parameters that the episodically trained families share."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skmeta.nets._mlp import ACTIVATIONS

# Training is in single precision, which holds no larger rate.
LARGEST = float(np.finfo(np.float32).max)

POSITIVE_INT = [Interval(Integral, 1, None, closed="left")]
ACTIVATION = [StrOptions(set(ACTIVATIONS))]

EPISODIC: dict[str, list] = {
    "module": [None, HasMethods("forward"), callable],
    "hidden_layer_sizes": ["array-like"],
    "n_query": POSITIVE_INT,
    "tasks_per_batch": POSITIVE_INT,
    "max_epochs": POSITIVE_INT,
    "lr": [Interval(Real, 0, LARGEST, closed="right")],
    "optimizer": [StrOptions({"adam", "adamw", "sgd"}), callable],
    "early_stopping": [StrOptions({"auto"}), "boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "callbacks": [None, list],
    "checkpoint": [None, str, os.PathLike],
    "device": [str, torch.device],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}
# Without torch's own text, which lists every tensor.
MISFIT = (
    "warm_start=True, but the fitted parameters do not fit the present ones: sizes of layers, or "
    "the number of columns or classes, have changed. Set warm_start=False to start anew."
)


def check_layer_sizes(sizes: Any) -> None:
    """Refuse what passes for an array, and torch would only stumble over: 0, -1, 0.5."""
    for n_units in sizes:
        if not isinstance(n_units, Integral) or not int(n_units) > 0:
            raise ValueError(
                f"hidden_layer_sizes must be positive integers, one a layer, got {sizes!r}."
            )
