"""What tells one training from another: a digest of parameters, data and start."""

from __future__ import annotations

import functools
import hashlib
import types
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skmeta._version import __version__

# Parameters that change nothing of what is learned.
WITHOUT_EFFECT = ("checkpoint", "callbacks", "verbose")
PLAIN = (bool, int, float, str, type(None))


def fingerprint_of(
    estimator: BaseEstimator, start: dict[str, Tensor] | None, device: torch.device, *arrays: Any
) -> str:
    """Digest of the parameters, the arrays of the data, and what training starts from.

    Parameters
    ----------
    estimator : estimator
        Its class and parameters.
    start : dict of tensors or None
        What a warm start continues.
    device : device
        Bits differ between kinds of device.
    *arrays : array-likes
        The data.
    """
    digest = hashlib.sha256()
    parameters = {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if name not in WITHOUT_EFFECT
    }
    versions = (__version__, torch.__version__, np.__version__)
    # The same labels mean another thing where tasks have classes of their own.
    shared = getattr(estimator, "shared_classes_", None)
    _feed(digest, [type(estimator).__qualname__, versions, device.type, shared])
    _feed(digest, [parameters, start or {}])
    for values in arrays:
        _feed(digest, np.ascontiguousarray(values))
    return digest.hexdigest()


def _feed(digest: Any, value: Any, around: tuple = ()) -> None:
    """Add a value so that different values, or orders of them, give different digests.

    ``around`` are the functions that it is a part of: they may call each other.
    """
    if any(value is function for function in around):
        value = "itself"
    if isinstance(value, Tensor):
        value = np.ascontiguousarray(value.detach().cpu().numpy())
    if isinstance(value, nn.Module):
        # What a module is made of need not be in its repr: the delta of a Huber loss is not.
        settings = {name: _plain(part) for name, part in value.named_modules()}
        value = [type(value).__qualname__, repr(value), settings, dict(value.state_dict())]
    elif isinstance(value, np.random.RandomState):
        value = list(value.get_state(legacy=True))
    elif isinstance(value, functools.partial):
        value = ["partial", value.func, value.args, value.keywords]
    elif isinstance(value, types.CodeType):
        value = [value.co_code.hex(), repr(value.co_names), value.co_consts]
    elif callable(value):
        value, around = _function(value), (*around, value)
    elif type(value).__repr__ is object.__repr__:  # that would name a place in memory
        value = [type(value).__qualname__, _plain(value)]
    if isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype.str} {value.shape}:".encode())
        data = value.astype(str) if value.dtype == object else value
        digest.update(np.ascontiguousarray(data).tobytes())
    elif isinstance(value, dict):
        digest.update(f"dict {len(value)}:".encode())
        for key in sorted(value, key=repr):
            _feed(digest, key, around)
            _feed(digest, value[key], around)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)}:".encode())
        for item in value:
            _feed(digest, item, around)
    else:
        text = f"{type(value).__qualname__} {value!r}"
        digest.update(f"{len(text)} {text}:".encode())


def _function(value: Any) -> list:
    """A function's name, its code, what it is bound to, and the values that it was made with."""
    name = [getattr(value, "__module__", ""), getattr(value, "__qualname__", "")]
    name.append(type(value).__qualname__)
    code = getattr(value, "__code__", None)
    if code is None:  # a class, or an object that is called
        return [*name, _plain(value)]
    owner = getattr(value, "__self__", None)
    found = [*name, code, value.__defaults__, value.__kwdefaults__]
    found.append(owner if isinstance(owner, nn.Module) else _plain(owner))
    for cell in value.__closure__ or ():
        with suppress(ValueError):  # a name that has no value yet
            found.append(cell.cell_contents)
    return found


def _plain(thing: Any) -> dict[str, Any]:
    """Attributes of a thing that are plain values, or sequences of them."""
    return {
        name: value
        for name, value in dict(getattr(thing, "__dict__", {})).items()
        if isinstance(value, PLAIN)
        or (isinstance(value, list | tuple) and all(isinstance(v, PLAIN) for v in value))
    }
