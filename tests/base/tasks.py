"""Small data sets and quick estimators that the tests of this folder share."""

import numpy as np
import torch
from sklearn.utils import check_random_state

from skmeta.datasets import make_sinusoids
from tests.instances import small


def maml(**changes):
    """A MAMLRegressor that fits in a tenth of a second."""
    quick = {"max_epochs": 1, "tasks_per_batch": 4, "n_inner_steps": 2, "early_stopping": False}
    return small("MAMLRegressor", **{**quick, **changes})


def proto(**changes):
    """A ProtoNetClassifier that fits in a tenth of a second."""
    quick = {"max_epochs": 1, "tasks_per_batch": 4, "early_stopping": False}
    return small("ProtoNetClassifier", **{**quick, **changes})


def waves():
    """Eight regression tasks of ten rows, one column."""
    return make_sinusoids(8, 10, random_state=0)


def wards():
    """Eight tasks of twenty rows that share two labels."""
    rng = check_random_state(0)
    groups = np.repeat(np.arange(8), 20)
    X = rng.normal(size=(160, 3))
    level = rng.normal(size=8)[groups]
    y = np.where(X[:, 0] + X[:, 1] > level, "sick", "well")
    return X, y, groups


def alphabets(n_tasks=6, n_classes=3, n_rows=8, seed=0):
    """Tasks whose classes are their own: well separated clouds, labels such as "2b"."""
    rng = check_random_state(seed)
    task, letter, _ = np.indices((n_tasks, n_classes, n_rows)).reshape(3, -1)
    centres = rng.normal(scale=4, size=(n_tasks, n_classes, 4))
    X = centres[task, letter] + rng.normal(scale=0.3, size=(len(task), 4))
    y = np.array([f"{t}{'abcdefgh'[c]}" for t, c in zip(task, letter, strict=True)])
    return X, y, task


def finite(values):
    """Whether numbers hold neither NaN nor infinity, and there are some."""
    values = np.asarray(values, dtype=np.float64)
    return values.size > 0 and bool(np.isfinite(values).all())


def instance(build, *sizes):
    """A module as a user would hold it, without moving torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(*sizes)
