"""Estimators that adapt to what is not a task with rows and targets: an operator, say."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from skmeta._version import __version__
from skmeta.base._callbacks import WHILE_FITTING, TellingFit
from skmeta.base._html import Html


class Adaptive(TellingFit, Html):
    """What :func:`skmeta.save` needs of an estimator that is no meta-estimator.

    Its fitted attributes are numpy arrays and plain values. What can be made of them is named in
    ``_derived`` and left out of every pickle and file.
    """

    _derived: ClassVar[tuple[str, ...]] = ()

    def _sibling(self, **changes: Any) -> Any:
        """Return an estimator that shares everything with ``self`` but the changes."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__, **changes)
        return new

    def _derive(self) -> None:
        """Make what ``_derived`` names, from everything else."""

    def __copy__(self) -> Any:
        # Callbacks are given a copy in the midst of a fit, of which nothing can be derived yet.
        new = self._sibling()
        for name in WHILE_FITTING:
            new.__dict__.pop(name, None)
        return new

    def __getstate__(self) -> dict[str, Any]:
        left_out = {*self._derived, *WHILE_FITTING}
        state = {k: v for k, v in super().__getstate__().items() if k not in left_out}
        if "callbacks" in state and self.__sklearn_is_fitted__():
            state["callbacks"] = None  # a used callback may hold the optimiser, or the whole net
        return {**state, "_skmeta_version": __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_skmeta_version", "unknown")
        if version != __version__:
            warnings.warn(
                f"This {type(self).__name__} was pickled by skmeta {version} and is loaded by "
                f"{__version__}: predictions may differ."
            )
        super().__setstate__(state)
        if self.__sklearn_is_fitted__():
            self._derive()

    def __sklearn_is_fitted__(self) -> bool:
        return "frozen_params_" in self.__dict__
