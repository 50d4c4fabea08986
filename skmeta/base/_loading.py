"""``skmeta.load``: what ``skmeta.save`` has saved, with nothing in it taken for granted."""

from __future__ import annotations

import os
import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn import config_context
from sklearn.base import is_classifier
from sklearn.utils._metadata_requests import SIMPLE_METHODS
from sklearn.utils._param_validation import validate_parameter_constraints

from skmeta._version import __version__
from skmeta.base._adaptive import Adaptive
from skmeta.base._constraints import check_layer_sizes
from skmeta.base._container import Unpacker, from_bytes
from skmeta.base._rows import TOO_FAR, seeded_torch
from skmeta.base._saving import FORMAT, public_estimators, refuse_odd_name, saved_parts


def load(
    path: str | os.PathLike, *, module: Any = None, operator: Any = None, **parameters: Any
) -> Any:
    """Load what :func:`save` has saved; nothing in the file is executed.

    Predictions are bit for bit those of the estimator that was saved, on the same kind of device.
    Fitted on a GPU, it loads where there is none.

    Parameters
    ----------
    path : str or path-like
        The file.
    module : torch.nn.Module or callable, default=None
        The ``module`` of the estimator, where it had one of the user's own. Weights are taken from
        the file.
    operator : object, default=None
        The ``operator`` of the estimator, where it had one that is not an array.
    **parameters : dict
        Other parameters that a file cannot hold, by name: a callable ``optimizer``, a generator as
        ``random_state``.

    Returns
    -------
    estimator : estimator
        As it was saved.

    Raises
    ------
    ValueError
        If the file is damaged, altered, of another format or not one of :func:`save`'s, or if a
        parameter has to be handed back and was not, or does not fit the file.
    OSError
        If the file cannot be read.

    Warns
    -----
    UserWarning
        If another version of skmeta saved it: predictions may differ.

    See Also
    --------
    save : Write such a file.

    Notes
    -----
    The checksum in the file finds damage. It does not say who wrote the file: load predictions
    that matter only from files that you trust to be right.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        data = file.read()
    named = {"module": module, "operator": operator}
    given = {**{name: value for name, value in named.items() if value is not None}, **parameters}
    try:
        content, arrays = from_bytes(data)
        estimator, version = _Reading(arrays, given).read(content)
    except Exception as error:  # whatever an odd file makes stumble
        known = isinstance(error, ValueError)
        reason = str(error) if known else f"its parts do not fit ({type(error).__name__}: {error})"
        raise ValueError(f"Cannot load {os.fspath(path)!r}: {reason}.") from error
    if version != __version__:
        warnings.warn(
            f"{os.fspath(path)!r} was saved by skmeta {version} and is loaded by {__version__}: "
            "predictions may differ.",
            stacklevel=2,
        )
    return estimator


class _Reading:
    """Turns the JSON text back into estimators, and takes nothing in it for granted."""

    def __init__(self, arrays: dict[str, np.ndarray], given: dict[str, Any]) -> None:
        self._arrays = arrays
        self._given = given
        self._needed: set[str] = set()
        self._made: list[tuple[str, Any]] = []
        self._parts = saved_parts()
        kinds = ("estimator", *self._parts)
        others = {kind: partial(self._earlier, kind=kind) for kind in kinds}
        self._unpacker = Unpacker(arrays, others)
        # A column has a mean at least, so that a number of columns beyond it is made up.
        self._most = sum(array.size for array in arrays.values())

    def read(self, content: Any) -> tuple[Any, str]:
        """Return the estimator and the version that saved it."""
        number, version, objects = (content[key] for key in ("format", "skmeta", "objects"))
        if type(number) is not int or number != FORMAT:
            raise ValueError(
                f"it is of the format {number!r}, written by skmeta {version}, and skmeta "
                f"{__version__} reads the format {FORMAT}. Load it with the version that wrote it, "
                "or fit and save again"
            )
        for entry in objects:
            self._made.append(self._make(entry))
        kind, estimator = self._made[-1]
        if kind != "estimator" or not isinstance(version, str):
            raise ValueError("it holds no estimator, or does not say who saved it")
        if unused := set(self._arrays) - self._unpacker.used:
            raise ValueError(f"it holds arrays that belong to nothing: {sorted(unused)[:5]}")
        if unused := set(self._given) - self._needed:
            raise ValueError(
                f"{sorted(unused)} cannot be handed over: the file holds all of "
                f"{type(estimator).__name__} but {sorted(self._needed) or 'nothing'}"
            )
        return estimator, version

    def _earlier(self, place: Any, kind: str) -> Any:
        if type(place) is not int or not 0 <= place < len(self._made):
            raise ValueError("one estimator in it asks for another that is not there")
        if self._made[place][0] != kind:
            raise ValueError("one estimator in it asks for something of another kind")
        return self._made[place][1]

    def _make(self, entry: dict[str, Any]) -> tuple[str, Any]:
        if len(entry) == 1 and (kind := next(iter(entry))) in self._parts:
            plain = self._unpacker.unpack(entry[kind])
            return kind, self._parts[kind].from_plain(plain, self._most)
        cls = public_estimators().get(entry["class"])
        if cls is None:
            raise ValueError(f"it holds a {entry['class']!r}, which skmeta {__version__} lacks")
        known = {"class", "parameters", "handed_back", "attributes", "frozen", "requests"}
        if extra := set(entry) - known:
            raise ValueError(f"an estimator in it has the parts {sorted(extra)}")
        handed = self._handed_back(entry["handed_back"], cls)
        names = set(cls._get_param_names())
        state = self._parameters(entry["parameters"], names, handed)
        for name, packed in entry["attributes"].items():
            refuse_odd_name(cls, name)
            state[name] = self._unpacker.unpack(packed)
        if "frozen" in entry:
            frozen = self._parameters(entry["frozen"], names - {"callbacks"}, handed)
            state["frozen_params_"] = frozen
        estimator = _build(cls, state, "module" in handed, self._most)
        if "requests" in entry:
            _request(estimator, entry["requests"])
        return "estimator", estimator

    def _handed_back(self, wanted: dict[str, str], cls: type) -> dict[str, Any]:
        self._needed |= set(wanted)
        for name, kind in wanted.items():
            if name not in self._given:
                raise ValueError(
                    f"the {cls.__name__} in it was saved without its {name}, a {kind}, which a "
                    f"file cannot hold. Hand it back: skmeta.load(path, {name}=...)"
                )
        return {name: self._given[name] for name in wanted}

    def _parameters(
        self, packed: dict[str, Any], names: set[str], handed: dict[str, Any]
    ) -> dict[str, Any]:
        found = {name: self._unpacker.unpack(value) for name, value in packed.items()}
        found = {**{n: v for n, v in handed.items() if n not in found}, **found}
        if set(found) != names:
            raise ValueError(f"it lacks parameters, or has too many: {sorted(set(found) ^ names)}")
        return found


def _build(cls: Any, state: dict[str, Any], own_module: bool, most: int) -> Any:
    """Make an estimator of its state, once the state is known to fit."""
    if state.get("_query_tasks") is not None:
        raise ValueError("it is adapted to a batch of tasks")
    estimator = object.__new__(cls)
    if "n_features_in_" in state:
        columns = state["n_features_in_"]
        if type(columns) is not int or columns < 1 or (columns > most and not own_module):
            raise ValueError(f"its estimator is for {columns!r} columns")
    if "learner_" in state:
        _check_learner_state(cls, state, own_module)
    elif issubclass(cls, Adaptive) and "frozen_params_" in state:
        _checked_parameters(cls, state)
    estimator.__setstate__({**state, "_skmeta_version": __version__})
    if estimator.__sklearn_is_fitted__() and not own_module:
        _try_out(estimator)
    return estimator


def _checked_parameters(cls: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Parameters of the last fit, which no fit will check again."""
    frozen = state["frozen_params_"]
    constraints = {n: c for n, c in cls._parameter_constraints.items() if n in frozen}
    validate_parameter_constraints(constraints, frozen, caller_name=cls.__name__)
    return frozen


def _check_learner_state(cls: Any, state: dict[str, Any], own_module: bool) -> None:
    """Refuse arrays that are not those of the learner that the parameters ask for."""
    frozen, stored = _checked_parameters(cls, state), state["learner_"]
    check_layer_sizes(frozen.get("hidden_layer_sizes", ()))
    if set(stored) != {"arrays", "prior"}:
        raise ValueError("the parts of its learner are not those that there should be")
    for array in (*stored["arrays"].values(), *stored["prior"].values(), *state["state_"].values()):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise ValueError("its learner holds something other than numbers")
    if missing := set(stored["prior"]) - set(state["state_"]):
        raise ValueError(f"its state lacks {sorted(missing)}")
    shell = object.__new__(cls)
    shell.__dict__.update({n: v for n, v in state.items() if n not in ("learner_", "state_")})
    # Without memory, so that sizes that somebody made up cannot fill it. A module of the user's may
    # not be able to be built so.
    with seeded_torch(0), torch.device("cpu" if own_module else "meta"):
        learner = shell._sibling(**frozen)._make_learner()
    expected = {**dict(learner.named_parameters()), **dict(learner.named_buffers())}
    found = {name: array.shape for name, array in stored["arrays"].items()}
    if found != {name: tuple(tensor.shape) for name, tensor in expected.items()}:
        odd = sorted(
            name
            for name in set(found) | set(expected)
            if name not in found or name not in expected or found[name] != expected[name].shape
        )
        cure = "the module that was handed over is another one" if own_module else "it was altered"
        raise ValueError(
            f"names and shapes of its weights do not fit its parameters ({odd[:5]}): {cure}"
        )


def _try_out(estimator: Any) -> None:
    """Predict (or draw) one row: parts that do not fit fail now, and not when it matters."""
    if not hasattr(estimator, "predict"):
        estimator.sample(random_state=0)
        return
    n_features = estimator.n_features_in_
    row = vars(estimator).get("x_mean_", np.zeros(0))[:n_features]
    row = row if len(row) == n_features else np.zeros(n_features)
    method = "predict_proba" if is_classifier(estimator) else "predict"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            answer = getattr(estimator, method)(row[None])
        except ValueError as error:
            if str(error) != TOO_FAR:  # said of sound estimators, too: the row is nobody's
                raise
            return
    if is_classifier(estimator) and answer.shape[1:] != estimator.classes_.shape:
        raise ValueError("its classes are not those of its learner")


def _request(estimator: Any, requests: dict[str, dict]) -> None:
    with config_context(enable_metadata_routing=True):
        for method, wanted in requests.items():
            if method not in SIMPLE_METHODS:
                raise ValueError(f"it asks for metadata in {method!r}")
            if wanted:
                getattr(estimator, f"set_{method}_request")(**wanted)
