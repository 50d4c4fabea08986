"""Constraints of the parameters that the episodically trained families share."""

from __future__ import annotations

from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

POSITIVE_INT = [Interval(Integral, 1, None, closed="left")]

EPISODIC: dict[str, list] = {
    "module": [None, HasMethods("forward"), callable],
    "hidden_layer_sizes": ["array-like"],
    "n_query": POSITIVE_INT,
    "tasks_per_batch": POSITIVE_INT,
    "max_epochs": POSITIVE_INT,
    "lr": [Interval(Real, 0, None, closed="neither")],
    "optimizer": [StrOptions({"adam", "adamw", "sgd"}), callable],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "callbacks": [None, list],
    "device": [str, torch.device],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}
