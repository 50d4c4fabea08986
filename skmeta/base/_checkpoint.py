"""``checkpoint=folder``: training that was killed goes on where it was.

One file a fingerprint of parameters and data, so that the clones of a search never share one.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from skmeta.base._container import (
    NotPlainError,
    Packer,
    Unpacker,
    from_bytes,
    replace_file,
    to_bytes,
)

# Of the layout of the file.
FORMAT = 1
# Unfinished temporary files of a killed process are removed when they are so many seconds old.
STALE = 60.0


class CheckpointFile:
    """One training's file in the folder that the user names.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    fingerprint : str
        What tells this training from any other.

    Attributes
    ----------
    found : dict or None
        What a training with the same fingerprint has left.
    trials : list of dicts
        What the trials before training that are done have found, as JSON holds it.
    """

    def __init__(self, folder: str | os.PathLike, fingerprint: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self._path = os.path.join(os.fspath(folder), f"{fingerprint[:32]}.checkpoint")
        self._fingerprint = fingerprint
        self.seeds: list[int] = []
        self.trials: list[dict[str, Any]] = []
        self.found = self._read()

    def save(self, content: dict[str, Any] | None) -> None:
        """Replace the file; what was there stays whole until the new one is.

        None is a training that has not begun: seeds and trials are kept.
        """
        packer = Packer()
        try:
            packed = packer.pack(content, "training")
        except NotPlainError as error:
            raise ValueError(
                f"checkpoint= cannot keep this training: {error}. Leave checkpoint=None, or use "
                "an optimizer whose state is made of tensors and numbers."
            ) from error
        head = {"checkpoint": FORMAT, "fingerprint": self._fingerprint, "seeds": self.seeds}
        head["trials"] = self.trials
        replace_file(self._path, to_bytes({**head, "training": packed}, packer.arrays))

    def _read(self) -> dict[str, Any] | None:
        self._sweep()
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return None
        try:
            head, arrays = from_bytes(data)
            if head["checkpoint"] != FORMAT or head["fingerprint"] != self._fingerprint:
                raise ValueError("it is of another training")
            self.seeds = [int(seed) for seed in head["seeds"]]
            self.trials = [dict(trial) for trial in head.get("trials", [])]
            return Unpacker(arrays, {}).unpack(head["training"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"The checkpoint {self._path} cannot be used: {error}. Delete it to start anew."
            ) from error

    def _sweep(self) -> None:
        """Remove what a process that was killed in the midst of writing has left."""
        folder, name = os.path.split(self._path)
        for entry in os.listdir(folder or "."):
            if entry.startswith(f".{name}.") and entry.endswith(".tmp"):
                path = os.path.join(folder, entry)
                with suppress(OSError):  # another process may be faster
                    if time.time() - os.path.getmtime(path) > STALE:
                        os.unlink(path)
