"""What all fetchers share: reading files, gzipped or not, and refusing altered ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skmeta._optional import require

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Read a csv file, gzipped or not, the same way on every machine.

    Parameters
    ----------
    path : Path
        The file.
    **options : dict
        Further options of ``pandas.read_csv``.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        If the file is no readable table.
    """
    pd = require("pandas")
    try:
        data = _content(path)
        # "None" is an answer in some questionnaires: only what R writes for missing is missing.
        defaults = {
            "keep_default_na": False,
            "na_values": ["NA", "NaN", ""],
            "low_memory": False,
        }
        # The checksums need the nearest float; pandas 3.1 always gives it and warns when asked.
        if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
            defaults["float_precision"] = "round_trip"
        return pd.read_csv(io.BytesIO(data), **{**defaults, **options})
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise refuse(path, f"is not a readable table ({error})") from error


def read_bytes(path: Path, expected: str | None = None) -> bytes:
    """Read a file, gzipped or not.

    Parameters
    ----------
    path : Path
        The file.
    expected : str or None, default=None
        Sha256 that the unpacked bytes must have; None: any.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If a gzipped file is damaged, or the bytes are not the expected ones.
    """
    try:
        data = _content(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise refuse(path, f"cannot be unpacked ({error})") from error
    if expected is not None:
        _compare(hashlib.sha256(data).hexdigest(), expected, path)
    return data


def read_cells(path: Path, inputs: str, outputs: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a MATLAB file that holds one cell a task.

    Parameters
    ----------
    path : Path
        The file, gzipped or not.
    inputs, outputs : str
        Names of the two cell arrays: a matrix a task, and a column a task.

    Returns
    -------
    X : ndarray of shape (n_rows, n_features)
        The inputs as float64, task after task.
    y : ndarray of shape (n_rows,)
        The outputs as float64.
    tasks : ndarray of shape (n_rows,)
        Task ids, integers from 1 in the order of the file.

    Raises
    ------
    ValueError
        If the file is not such a file.
    """
    from scipy.io import loadmat

    data = read_bytes(path)
    try:
        content = loadmat(io.BytesIO(data), variable_names=[inputs, outputs])
        X = [np.asarray(cell, dtype=np.float64) for cell in content[inputs].ravel()]
        y = [np.asarray(cell, dtype=np.float64).ravel() for cell in content[outputs].ravel()]
        tasks = np.repeat(np.arange(1, len(y) + 1), [len(part) for part in y])
        if [len(part) for part in X] != [len(part) for part in y]:
            raise ValueError("inputs and outputs differ in length")
        return np.vstack(X), np.concatenate(y), tasks
    # A damaged file makes the reader stumble anywhere, with nearly any kind of error.
    except Exception as error:
        raise refuse(path, f"is not a readable MATLAB file of tasks ({error})") from error


def read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read some arrays of a numpy archive, without unpickling anything.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        Which arrays.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ValueError
        If the file is no such archive or an array is missing.
    """
    data = read_bytes(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    # A damaged file makes the reader stumble anywhere, with nearly any kind of error.
    except Exception as error:
        raise refuse(path, f"is not a readable npz file ({error})") from error


def array_checksum(*arrays: np.ndarray) -> str:
    """Sha256 of the values of some arrays: numbers as little-endian float64 or bytes, else text.

    Parameters
    ----------
    *arrays : ndarray
        The arrays; those of dtype uint8 count as they are, other numbers as float64, text as
        utf-8. Shapes and kinds count too.

    Returns
    -------
    str
        Hexadecimal digest.
    """
    digest = hashlib.sha256()
    for array in arrays:
        if array.dtype.kind == "U":
            data, kind = "\0".join(array.ravel().tolist()).encode(), "text"
        elif array.dtype == np.uint8:
            data, kind = array.tobytes(), "byte"
        else:
            data, kind = array.astype("<f8").tobytes(), "number"
        digest.update(f"{kind} {array.shape} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def check_arrays(arrays: Sequence[np.ndarray], expected: str, path: Path) -> None:
    """Refuse arrays whose values are not the expected ones.

    Parameters
    ----------
    arrays : sequence of ndarray
        What was read.
    expected : str
        Their known ``array_checksum``.
    path : Path
        Where they were read, for the message.

    Raises
    ------
    ValueError
        If the checksums differ.
    """
    _compare(array_checksum(*arrays), expected, path)


def frame_checksum(frame: pd.DataFrame) -> str:
    """Sha256 of the values of a table, whatever file they came from.

    Numbers and booleans count as little-endian float64 with one kind of NaN and of zero, all else
    as utf-8 text; names, lengths and kinds of the columns count too, so that no two different
    tables share a byte string.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        The table.

    Returns
    -------
    str
        Hexadecimal digest.
    """
    pd = require("pandas")
    digest = hashlib.sha256()

    def add(data):
        digest.update(len(data).to_bytes(8, "little") + data)

    for name in frame.columns:
        column = frame[name]
        add(str(name).encode())
        if pd.api.types.is_numeric_dtype(column):
            values = column.to_numpy(dtype="<f8", copy=True)
            values[np.isnan(values)] = np.nan
            digest.update(b"number")
            add((values + 0.0).tobytes())  # + 0.0 turns -0.0 into 0.0
        else:
            digest.update(b"text")
            for value, is_missing in zip(column, column.isna(), strict=True):
                digest.update(b"-" if is_missing else b"+")
                add(b"" if is_missing else str(value).encode())
    return digest.hexdigest()


def check_frame(frame: pd.DataFrame, expected: str, path: Path) -> None:
    """Refuse a table whose values are not the expected ones.

    Parameters
    ----------
    frame : DataFrame
        What was read.
    expected : str
        Its known ``frame_checksum``.
    path : Path
        Where it was read, for the message.

    Raises
    ------
    ValueError
        If the checksums differ.
    """
    _compare(frame_checksum(frame), expected, path)


def refuse(path: Path, problem: str) -> ValueError:
    """Error that says what is wrong with a file, and the cure.

    Parameters
    ----------
    path : Path
        The file.
    problem : str
        What is wrong with it, as the rest of a sentence.

    Returns
    -------
    ValueError
        To be raised.
    """
    return ValueError(
        f"{path} {problem}. Replace it with a fresh copy; if it lies in the download cache, delete "
        "it and call again."
    )


def _content(path):
    """Bytes of a file, unpacked."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _compare(found, expected, path):
    """Refuse a file whose checksum is another one."""
    if found != expected:
        raise refuse(
            path,
            f"does not hold the expected values (checksum {found[:12]}..., expected "
            f"{expected[:12]}...): the file is truncated, or it was altered here or by its "
            "publisher",
        )
