"""scikit-learn's callbacks, which came with its version 1.9: who is told of a fit's epochs."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import torch

from skmeta.core.learner import Learner

# Where warnings must not point: between a user's call of fit and ours.
CALLBACK_FRAMES: tuple[str, ...] = ()
try:
    from sklearn import callback
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    CALLBACK_FRAMES = (os.path.dirname(os.path.abspath(callback.__file__)) + os.sep,)
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: an older scikit-learn has no ``set_callbacks``."""

    def with_callbacks(method: Callable) -> Callable:
        """Leave a method as it is."""
        return method


# Attributes that scikit-learn gives an estimator for the time of a fit.
WHILE_FITTING = ("_callback_fit_ctx", "_skl_callbacks_to_teardown", "_parent_callback_ctx")


def has_callbacks(estimator: Any) -> bool:
    """Whether anybody is to be told; otherwise a fit does nothing for it."""
    return bool(vars(estimator).get("_skl_callbacks"))


@with_callbacks
def fit_and_tell(estimator: Any, X: Any, y: Any, groups: Any) -> Any:
    """Fit, and tell the callbacks of its begin and its end.

    They are given ``X`` and ``y``, and no task ids: a callback may keep or print what it gets, and
    a scorer by name would not take them.
    """
    estimator._validate_params()
    # One subtask an epoch; none is a fit that is told of as a whole.
    context = estimator._init_callback_context(max_subtasks=getattr(estimator, "max_epochs", 0))
    context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    estimator._fit_or_restore(X, y, groups)
    context.call_on_fit_task_end(estimator=estimator, X=X, y=y, reconstruction_attributes={})
    return estimator


class EpochTeller:
    """Tells the callbacks of an estimator that is being fitted of every epoch.

    Parameters
    ----------
    estimator : estimator
        Being fitted by :func:`fit_and_tell`.
    X, y : array-likes
        As the user gave them.
    results : callable
        What the fit would set if a learner, which it may change, were the trained one.
    """

    def __init__(
        self, estimator: Any, X: Any, y: Any, results: Callable[[Learner], dict[str, Any]]
    ) -> None:
        self._context = estimator._callback_fit_ctx
        self._told = {"estimator": estimator, "X": X, "y": y}
        self._results = results

    def begin(self) -> None:
        """Tell that an epoch begins."""
        self._epoch = self._context.subcontext(task_name="epoch")
        with torch.random.fork_rng(devices=[]):  # numbers that a callback draws change nothing
            self._epoch.call_on_fit_task_begin(**self._told)

    def end(self, learner: Learner, history: Callable[[], list[dict[str, Any]]]) -> bool:
        """Tell that it has ended; return whether a callback wants training to stop."""

        def attributes() -> dict[str, Any]:
            # Called only if a callback wants an estimator to predict with.
            rows = history()
            found = self._results(copy.deepcopy(learner))
            return {**found, "history_": rows, "n_iter_": len(rows)}

        with torch.random.fork_rng(devices=[]):
            return self._epoch.call_on_fit_task_end(
                **self._told, reconstruction_attributes=attributes
            )
