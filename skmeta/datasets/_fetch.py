"""What all fetchers share: where files lie, how they come, whether they are intact."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

HOME_VARIABLE = "SKMETA_DATA_HOME"
TIMEOUT = 60  # s


def require(module: str) -> Any:
    """Import an optional dependency, or say how to get it.

    Parameters
    ----------
    module : str
        Name of the module.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"Fetching data needs {module}, which is not installed: pip install 'skmeta[data]'"
        ) from error


def find_files(
    folder: str,
    names: Sequence[str],
    url: str,
    *,
    data_home: str | os.PathLike | None,
    download_if_missing: bool,
) -> list[Path]:
    """Paths of the files ``folder/name``, downloaded first where that is due.

    The folder ``data_home``, or else the one named by SKMETA_DATA_HOME, is used as it is and the
    network is left alone. Without either the files live in a cache and are downloaded once.

    Parameters
    ----------
    folder : str
        Folder of the data set, with forward slashes.
    names : sequence of str
        Files in it; each may also lie there gzipped as ``name.gz``.
    url : str
        Where they come from: one file, or a zip archive that holds all of them.
    data_home : path-like or None
        See above.
    download_if_missing : bool
        Whether the network may be used.

    Returns
    -------
    list of Path
        One path a name.

    Raises
    ------
    ValueError
        If ``data_home`` is no folder, or what was downloaded is not what was asked for.
    OSError
        If a file is missing and cannot or may not be downloaded.
    ImportError
        If a download needs pooch and pooch is not installed.
    """
    home = _local_home(data_home)
    root = _cache_home() if home is None else home
    target = root.joinpath(*folder.split("/"))
    missing = [name for name in names if _present(target / name) is None]
    if missing and home is not None:
        raise FileNotFoundError(
            f"{target / missing[0]} is missing. A folder given by data_home or {HOME_VARIABLE} is "
            f"used as it is, without downloading: put the file there (from {url}), or give no "
            "folder to have it downloaded."
        )
    if missing and not download_if_missing:
        raise FileNotFoundError(
            f"{missing[0]} is not in the cache {target} and download_if_missing is False. Set it "
            f"to True, or let {HOME_VARIABLE} name a folder that holds {folder}/{missing[0]}."
        )
    if missing:
        _download(url, target, names)
    return [_present(target / name) for name in names]


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
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
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
        raise ValueError(f"{path} is not a readable table ({error}). {_cure(path)}") from error


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
    found = frame_checksum(frame)
    if found != expected:
        raise ValueError(
            f"{path} does not hold the expected values (checksum {found[:12]}..., expected "
            f"{expected[:12]}...): the file is truncated, or it was altered here or by its "
            f"publisher. {_cure(path)}"
        )


def _cure(path):
    return (
        "Replace it with a fresh copy; if it lies in the download cache, delete it and call again."
    )


def _local_home(data_home):
    """The folder to use as it is, or None for the cache."""
    if data_home is None:
        data_home, source = os.environ.get(HOME_VARIABLE) or None, HOME_VARIABLE
    else:
        source = "data_home"
    if data_home is None:
        return None
    try:
        home = Path(data_home).expanduser()
    except TypeError:
        raise ValueError(f"data_home must be a path or None, got {data_home!r}.") from None
    if not home.is_dir():
        raise ValueError(
            f"{source} points at {str(home)!r}, which is not a folder; give one laid out like the "
            "download cache (heart_disease/, parkinsons_telemonitoring/, rdatasets/), or none."
        )
    return home


def _cache_home():
    return Path(require("pooch").os_cache("skmeta"))


def _present(path):
    """``path`` or its gzipped twin, None where neither is there."""
    packed = path.with_name(path.name + ".gz")
    return path if path.is_file() else packed if packed.is_file() else None


def _download(url, target, names):
    """Bring the files ``names`` from ``url`` into the folder ``target``, each all or nothing."""
    pooch = require("pooch")
    logger = pooch.get_logger()
    level = logger.level
    try:
        target.mkdir(parents=True, exist_ok=True)
        # Same disk as the target, so that the last step is a rename: no half file is ever seen.
        with tempfile.TemporaryDirectory(dir=target) as work:
            logger.setLevel("WARNING")  # pooch would advise the user to pass a hash
            downloader = pooch.HTTPDownloader(timeout=TIMEOUT)
            got = pooch.retrieve(url, None, fname="raw", path=work, downloader=downloader)
            contents = _unpack(Path(got), url, names)
            for number, (name, data) in enumerate(contents.items()):
                part = Path(work) / f"part-{number}"
                part.write_bytes(data)
                os.replace(part, target / name)
    except OSError as error:  # the errors of requests are OSErrors too
        if getattr(getattr(error, "response", None), "status_code", None) == 404:
            raise FileNotFoundError(f"There is nothing at {url}: check the names.") from error
        raise OSError(
            f"Could not download {url} into {target} ({error}). Check the connection, or get the "
            f"data by other means and let data_home or {HOME_VARIABLE} name the folder that holds "
            "it."
        ) from error
    finally:
        logger.setLevel(level)


def _unpack(got, url, names):
    """Contents of the downloaded file by name; those of its members for a zip archive."""
    if not url.endswith(".zip"):
        return {names[0]: got.read_bytes()}
    try:
        with zipfile.ZipFile(got) as archive:
            members = {member.rsplit("/", 1)[-1]: member for member in archive.namelist()}
            return {name: archive.read(members[name]) for name in names}
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as error:
        raise ValueError(
            f"What {url} sent is not the expected archive ({error}); nothing was kept. Try again "
            f"later, or let data_home or {HOME_VARIABLE} name a folder that holds the data."
        ) from error
