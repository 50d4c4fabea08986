"""One file of plain values and arrays: safetensors with a JSON text and a checksum in its header.

Nothing in such a file is code. What is read is checked as if somebody meant harm.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from safetensors.numpy import load as read_safetensors
from safetensors.numpy import save as write_safetensors

# Types that safetensors has names for; others travel as bytes, with numpy's name in the JSON text.
NATIVE = {"|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"}
AS_BYTES = re.compile(r"[<>][iuf][248]|[<>]c(8|16)|[<>]U[1-9]\d{0,5}|\|S[1-9]\d{0,5}|[<>]M8\[\w+\]")
# The checksum is that of the file with these zeros in its place.
BLANK = "0" * 64
DIGEST = re.compile(rb'"skmeta":"\{\\"sha256\\":\\"([0-9a-f]{64})\\"')
ODD_FLOATS = ("nan", "inf", "-inf")


class NotPlainError(ValueError):
    """A value that neither JSON nor safetensors can hold."""


class Packer:
    """Turns values into what JSON holds, and gathers their arrays.

    Parameters
    ----------
    other : callable, default=None
        Packs what is no plain value: ``other(value, where)``. None refuses it.
    """

    def __init__(self, other: Callable[[Any, str], Any] | None = None) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._other = other
        self._known: dict[tuple, str] = {}

    def pack(self, value: Any, where: str) -> Any:
        """Return a plain value or an object with one key, which says what it is."""
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is list:
            return [self.pack(item, f"{where}/{i}") for i, item in enumerate(value)]
        if kind is tuple:
            return {"tuple": [self.pack(item, f"{where}/{i}") for i, item in enumerate(value)]}
        if kind is dict:
            return self._pack_dict(value, where)
        if isinstance(value, np.generic):
            return {"scalar": [_type_name(value, where), value.tobytes().hex()]}
        if kind in (np.ndarray, np.memmap):
            return self._pack_array(np.asarray(value), where)
        if self._other is None:
            raise NotPlainError(f"{where} is a {kind.__name__}")
        return self._other(value, where)

    def _pack_dict(self, value: dict, where: str) -> Any:
        if all(type(key) is str for key in value):
            return {"dict": {key: self.pack(item, f"{where}/{key}") for key, item in value.items()}}
        pairs = value.items()
        return {"items": [[self.pack(k, where), self.pack(v, f"{where}/{k}")] for k, v in pairs]}

    def _pack_array(self, array: np.ndarray, where: str) -> Any:
        if array.dtype == object:
            values = array.ravel().tolist()
            if not all(type(item) is str for item in values):
                raise NotPlainError(
                    f"{where} is an array of Python objects that are not all strings"
                )
            return {"strings": [list(array.shape), values]}
        type_name = _type_name(array, where)
        if type_name in NATIVE:
            return {"array": [self._store(np.array(array, order="C"), where)]}
        flat = np.frombuffer(array.tobytes(), np.uint8)
        return {"array": [self._store(flat, where), type_name, list(array.shape)]}

    def _store(self, array: np.ndarray, where: str) -> str:
        """Keep an array, once: what an adapted estimator shares with its population, say."""
        key = array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
        if key not in self._known:
            name = where
            while name in self.arrays or name == "__metadata__":
                name += "_"
            self._known[key] = name
            self.arrays[name] = array
        return self._known[key]


def _type_name(value: Any, where: str) -> str:
    name = value.dtype.str
    if name not in NATIVE and not AS_BYTES.fullmatch(name):
        raise NotPlainError(f"{where} is of the numpy type {value.dtype}")
    return name


class Unpacker:
    """Undoes :class:`Packer`; anything that it did not write is a ValueError.

    Parameters
    ----------
    arrays : dict of str to ndarray
        The arrays of the file.
    others : dict of str to callable
        By key, what unpacks the objects that ``other`` has packed.
    """

    def __init__(
        self, arrays: dict[str, np.ndarray], others: Mapping[str, Callable[[Any], Any]]
    ) -> None:
        self._arrays = arrays
        self._kinds = {
            "array": self._array,
            "dict": self._dict,
            "float": self._float,
            "items": self._items,
            "scalar": self._scalar,
            "strings": self._strings,
            "tuple": lambda packed: tuple(map(self.unpack, _list(packed))),
            **others,
        }
        self.used: set[str] = set()

    def unpack(self, packed: Any) -> Any:
        """Return the value; arrays are copies of their own."""
        if packed is None or isinstance(packed, bool | int | float | str):
            return packed
        if isinstance(packed, list):
            return [self.unpack(item) for item in packed]
        tag, content = next(iter(packed.items())) if len(packed) == 1 else (None, None)
        if tag not in self._kinds:
            raise ValueError(f"it holds an object with the keys {list(packed)[:5]}")
        return self._kinds[tag](content)

    def _dict(self, packed: Any) -> dict:
        if not isinstance(packed, dict):
            raise ValueError("a dictionary in it is none")
        return {key: self.unpack(value) for key, value in packed.items()}

    def _items(self, packed: Any) -> dict:
        found = {}
        for pair in _list(packed):
            key, value = map(self.unpack, _list(pair, 2))
            if isinstance(key, list | dict | np.ndarray):
                raise ValueError("a dictionary in it has a key that cannot be one")
            found[key] = value
        return found

    def _float(self, packed: Any) -> float:
        if packed not in ODD_FLOATS:
            raise ValueError("a number in it is none")
        return float(packed)

    def _scalar(self, packed: Any) -> Any:
        type_name, digits = _list(packed, 2)
        if not isinstance(digits, str):
            raise ValueError("a number in it is none")
        return _from_bytes(bytes.fromhex(digits), type_name, [])[()]

    def _strings(self, packed: Any) -> np.ndarray:
        shape, values = _list(packed, 2)
        if not all(isinstance(value, str) for value in _list(values)):
            raise ValueError("an array of strings in it holds something else")
        found = np.empty(len(values), dtype=object)
        found[:] = values
        return found.reshape(_shape(shape))

    def _array(self, packed: Any) -> np.ndarray:
        name, *how = _list(packed) or [None]
        if not isinstance(name, str) or name not in self._arrays:
            raise ValueError(f"the array {name!r} is missing")
        self.used.add(name)
        array = self._arrays[name]
        if not how:
            return array.copy()
        type_name, shape = _list(how, 2)
        if array.dtype != np.uint8:
            raise ValueError(f"the array {name!r} is of a wrong type")
        return _from_bytes(array.tobytes(), type_name, shape)


def _from_bytes(data: bytes, type_name: Any, shape: Any) -> np.ndarray:
    if not isinstance(type_name, str) or not (type_name in NATIVE or AS_BYTES.fullmatch(type_name)):
        raise ValueError(f"it holds an array of the type {type_name!r}")
    array = np.frombuffer(data, np.dtype(type_name)).reshape(_shape(shape)).copy()
    if array.dtype == bool:
        _check_truth(array)
    array.tolist()  # refuses what is no character
    return array


def _check_truth(array: np.ndarray) -> None:
    if array.view(np.uint8).max(initial=0) > 1:
        raise ValueError("it holds truth values other than 0 and 1")


def _shape(shape: Any) -> tuple[int, ...]:
    if not all(type(n) is int and n >= 0 for n in _list(shape)):
        raise ValueError(f"it holds an array of the shape {shape!r}")
    return tuple(shape)


def _list(packed: Any, length: int | None = None) -> list:
    if not isinstance(packed, list) or length not in (None, len(packed)):
        raise ValueError("a list in it is none, or has a wrong length")
    return packed


# ---------------------------------------------------------------- the file


def to_bytes(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Return a whole file, with its checksum."""
    # One entry alone: safetensors writes several in any order.
    text = json.dumps({"sha256": BLANK, **content}, allow_nan=False, separators=(",", ":"))
    data = bytearray(write_safetensors(arrays, {"skmeta": text}))
    start, end = _digest_place(data)
    data[start:end] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def from_bytes(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """Return what :func:`to_bytes` was given; ValueError if a single byte has changed."""
    start, end = _digest_place(data)
    blank = data[:start] + BLANK.encode() + data[end:]
    if hashlib.sha256(blank).hexdigest().encode() != data[start:end]:
        raise ValueError("its checksum is wrong: it is damaged, or was altered after it was saved")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        content = json.loads(header["__metadata__"]["skmeta"], parse_constant=_refuse_constant)
        arrays = read_safetensors(data)
    except Exception as error:  # whatever two parsers of other people's raise
        raise ValueError(f"its contents cannot be read ({type(error).__name__})") from error
    for name, array in arrays.items():
        if array.dtype.str not in NATIVE:
            raise ValueError(f"the array {name!r} is of the type {array.dtype}")
        if array.dtype == bool:
            _check_truth(array)
    return content, arrays


def _digest_place(data: bytes | bytearray) -> tuple[int, int]:
    end = 8 + int.from_bytes(data[:8], "little")
    if len(data) < 8 or end > len(data):
        raise ValueError("it is cut short, damaged, or not a file of skmeta.save")
    found = list(DIGEST.finditer(data, 8, end))
    if len(found) != 1:
        raise ValueError("it has no checksum: it is damaged, or not a file of skmeta.save")
    return found[0].span(1)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def replace_file(path: str, data: bytes) -> None:
    """Write a file whole or not at all: under another name first, in the same folder."""
    target = os.path.realpath(path)  # a link stays a link
    temporary = os.path.join(
        os.path.dirname(target), f".{os.path.basename(target)}.{secrets.token_hex(4)}.tmp"
    )
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}. Nothing was saved, and what was there is as it was",
            path,
        ) from error
    with suppress(OSError):  # not every system can sync a folder
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
