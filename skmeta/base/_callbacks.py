"""scikit-learn's callbacks, which came with its version 1.9: who is told of a fit's epochs."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

# Where warnings must not point: between a user's call of fit and ours.
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
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


NOT_THE_CALLER = (PACKAGE, *CALLBACK_FRAMES)
# Attributes that an estimator has for the time of a fit: scikit-learn's, and what callbacks are
# given of the data.
WHILE_FITTING = (
    "_callback_fit_ctx",
    "_skl_callbacks_to_teardown",
    "_parent_callback_ctx",
    "_told_data",
)


class TellingFit(CallbackSupportMixin):
    """Fits by ``_fit``, and tells scikit-learn's callbacks of it."""

    def _fit(self, X: Any, y: Any, groups: Any) -> Any:
        raise NotImplementedError

    def _fit_and_tell(self, X: Any, y: Any, groups: Any) -> Any:
        if has_callbacks(self):
            return fit_and_tell(self, X, y, groups)
        return self._fit_or_restore(X, y, groups)

    def _fit_or_restore(self, X: Any, y: Any, groups: Any) -> Any:
        before = dict(vars(self))
        try:
            return self._fit(X, y, groups)
        except BaseException:
            if getattr(self, "warm_start", False):  # what was learned stays usable
                self.__dict__.clear()
                self.__dict__.update(before)
            raise


def level_of_caller() -> int:
    """The level of a warning that points at the user's line, whoever had his say in between."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(NOT_THE_CALLER):
        frame, level = frame.f_back, level + 1
    return level


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
    estimator._told_data = {"X": X, "y": y}
    try:
        context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        estimator._fit_or_restore(X, y, groups)
    finally:
        del estimator._told_data
    context.call_on_fit_task_end(estimator=estimator, X=X, y=y, reconstruction_attributes={})
    return estimator


class EpochTeller:
    """Tells the callbacks of an estimator that is being fitted of every epoch.

    Parameters
    ----------
    estimator : estimator
        Being fitted by :func:`fit_and_tell`.
    results : callable
        What the fit would set if a learner, which it may change, were the trained one.
    """

    def __init__(self, estimator: Any, results: Callable[[Any], dict[str, Any]]) -> None:
        self._context = estimator._callback_fit_ctx
        self._told = {"estimator": estimator, **estimator._told_data}
        self._results = results

    def begin(self) -> None:
        """Tell that an epoch begins."""
        self._epoch = self._context.subcontext(task_name="epoch")
        with torch.random.fork_rng(devices=[]):  # numbers that a callback draws change nothing
            self._epoch.call_on_fit_task_begin(**self._told)

    def end(self, learner: nn.Module, history: Callable[[], list[dict[str, Any]]]) -> bool:
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
