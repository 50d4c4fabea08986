"""``skmeta.save``: an estimator in one file, without pickle."""

from __future__ import annotations

import os
import re
import warnings
from typing import Any

from sklearn.utils._metadata_requests import SIMPLE_METHODS, MetadataRequest

from skmeta._version import __version__
from skmeta.base._adaptive import Adaptive
from skmeta.base._container import NotPlainError, Packer, replace_file, to_bytes
from skmeta.base._estimator import MetaEstimator
from skmeta.base._saved_parts import SavedPart
from skmeta.base._saved_trees import BOOSTING

FORMAT = 1
# Public fitted attributes end in an underscore, private ones begin with one.
ATTRIBUTE = re.compile(r"[A-Za-z]\w*_|_[A-Za-z]\w*")
INSTEAD = "pickle (load only files that you trust) or skops.io.dump"


def save(estimator: MetaEstimator | Adaptive, path: str | os.PathLike) -> None:
    """Save an estimator, fitted, adapted or neither, to one file without pickle.

    The file is safetensors: all arrays, with everything else as a JSON text in its header. It holds
    what a pickle would: no task ids and no training rows. It is written whole or not at all.

    Parameters
    ----------
    estimator : estimator
        One of skmeta's own.
    path : str or path-like
        Where to. A file that is there is replaced.

    Raises
    ------
    TypeError
        If ``estimator`` is not one of skmeta's own: a pipeline, say.
    ValueError
        If it holds something that is neither a plain value nor an array nor an estimator of
        skmeta's, such as a fitted model of the user's. Gradient boosting as
        ``feature_regressor="boosting"`` fits it and the pooled models of
        :class:`AutoMetaClassifier` are saved.
    OSError
        If the file cannot be written. Nothing is left behind then, and what was there stays.

    Warns
    -----
    UserWarning
        If there are callbacks, in ``callbacks`` or by ``set_callbacks``: they are left out.

    See Also
    --------
    load : Read the file.

    Notes
    -----
    What JSON cannot hold is left out and has to be handed back to :func:`load`: a ``module`` other
    than a name, an ``operator`` other than an array, a callable ``optimizer``, a generator as
    ``random_state``.

    Examples
    --------
    >>> import os, tempfile
    >>> import skmeta
    >>> from skmeta.datasets import make_sinusoids
    >>> X, y, groups = make_sinusoids(10, 8, random_state=0)
    >>> model = skmeta.HierarchicalRidge().fit(X, y, groups=groups)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "ridge.safetensors")
    ...     skmeta.save(model, path)
    ...     again = skmeta.load(path)
    >>> bool((again.predict(X) == model.predict(X)).all())
    True
    """
    if type(estimator) not in public_estimators().values():
        raise TypeError(
            f"skmeta.save takes skmeta's own estimators ({', '.join(public_estimators())}), and "
            f"this is a {type(estimator).__name__}. Use {INSTEAD} for it, or save the skmeta "
            "estimator that it holds."
        )
    writing = _Writing()
    try:
        writing.add(estimator, "")
        content = {"format": FORMAT, "skmeta": __version__, "objects": writing.objects}
        data = to_bytes(content, writing.packer.arrays)
    except NotPlainError as error:
        raise ValueError(
            f"This {type(estimator).__name__} cannot be saved: {error}, which skmeta.save does not "
            f"write. Use {INSTEAD}."
        ) from error
    except RecursionError as error:
        raise ValueError(
            f"This {type(estimator).__name__} cannot be saved: its parameters are nested too "
            "deeply, or hold themselves."
        ) from error
    if writing.callbacks:
        warnings.warn(
            f"Callbacks are not saved: {', '.join(writing.callbacks)}. Set them again after "
            "skmeta.load to train on with them.",
            stacklevel=2,
        )
    replace_file(os.fspath(path), data)


def public_estimators() -> dict[str, Any]:
    """All that may be saved and loaded, by name: the public estimators."""
    import skmeta  # it imports this module

    found = {name: getattr(skmeta, name) for name in skmeta.__all__}
    return {
        name: item
        for name, item in found.items()
        if isinstance(item, type)
        and issubclass(item, MetaEstimator | Adaptive)
        and item is not MetaEstimator
    }


def saved_parts() -> dict[str, SavedPart]:
    """All else that estimators may hold, by the name that it has in a file."""
    found = {"boosting": BOOSTING}
    for cls in public_estimators().values():
        found |= getattr(cls, "_saved_parts", {})
    return found


def refuse_odd_name(cls: type, name: str) -> None:
    """Let no attribute through that is none of a fit's, or would hide what the class does."""
    if not ATTRIBUTE.fullmatch(name) or name.startswith("__") or hasattr(cls, name):
        raise NotPlainError(f"{cls.__name__} has an attribute {name!r} that is not one of a fit's")


class _Writing:
    """Estimators, those inside others first, as JSON holds them."""

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.callbacks: list[str] = []
        self.packer = Packer(self._other)
        self._known: dict[int, tuple[int, Any]] = {}  # keeps them, so that no id is used again
        self._handed: dict[str, Any] = {}

    def _other(self, value: Any, where: str) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)  # the folder of checkpoint=, which takes either
        if isinstance(value, MetaEstimator | Adaptive):
            return {"estimator": self.add(value, where)}
        for name, part in saved_parts().items():
            if part.holds(value):
                if id(value) not in self._known:
                    plain = self.packer.pack(part.to_plain(value), where)
                    self.objects.append({name: plain})
                    self._known[id(value)] = len(self.objects) - 1, value
                return {name: self._known[id(value)][0]}
        raise NotPlainError(f"{where} is a {type(value).__name__}")

    def add(self, estimator: Any, where: str) -> int:
        """Return the place of an estimator; what is shared is written once."""
        if id(estimator) in self._known:
            return self._known[id(estimator)][0]
        cls = type(estimator)
        if cls not in public_estimators().values():
            raise NotPlainError(f"{where} is a {cls.__name__}")
        if getattr(estimator, "_query_tasks", None) is not None:
            raise NotPlainError(f"{where or 'it'} is adapted to a batch of tasks")
        state = estimator.__getstate__()
        del state["_skmeta_version"]
        told = state.pop("_skl_callbacks", [])  # those of set_callbacks
        for item in [*(getattr(estimator, "callbacks", None) or []), *told]:
            self.callbacks.append(type(item[1] if isinstance(item, tuple) else item).__name__)
        if "callbacks" in state:
            state["callbacks"] = None
        entry: dict[str, Any] = {"class": cls.__name__}
        handed: dict[str, str] = {}
        names = cls._get_param_names()
        entry["parameters"] = self._parameters({n: state.pop(n) for n in names}, where, handed)
        if "frozen_params_" in state:
            entry["frozen"] = self._parameters(state.pop("frozen_params_"), where, handed)
        if "callbacks" not in names:
            state.pop("callbacks", None)
        if "_metadata_request" in state:
            entry["requests"] = _requests(state.pop("_metadata_request"))
        # The same estimator, the same file; private names last, so that errors name public ones.
        state = dict(sorted(state.items(), key=lambda item: (item[0].startswith("_"), item[0])))
        for name in state:
            refuse_odd_name(cls, name)
        before = f"{where}/" if where else ""
        entry["attributes"] = {n: self.packer.pack(v, before + n) for n, v in state.items()}
        entry["handed_back"] = handed
        self.objects.append(entry)
        self._known[id(estimator)] = len(self.objects) - 1, estimator
        return len(self.objects) - 1

    def _parameters(
        self, values: dict[str, Any], where: str, handed: dict[str, str]
    ) -> dict[str, Any]:
        packed = {}
        for name, value in sorted(values.items()):
            try:
                Packer(_Writing()._other).pack(value, name)  # a trial, which leaves nothing behind
            except NotPlainError as error:
                if self._handed.setdefault(name, value) is not value:
                    raise NotPlainError(
                        f"{name!r} is not the one that it was fitted with, and not the same in all "
                        "parts"
                    ) from error
                handed[name] = type(value).__name__
            else:
                packed[name] = self.packer.pack(value, f"{where}/{name}" if where else name)
        return packed


def _requests(routing: MetadataRequest) -> dict[str, dict]:
    return {method: dict(getattr(routing, method).requests) for method in SIMPLE_METHODS}
