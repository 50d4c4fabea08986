"""What all fetchers share: where files lie and how they come."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from skmeta._optional import require

HOME_VARIABLE = "SKMETA_DATA_HOME"
TIMEOUT = 60  # s


def find_files(
    folder: str,
    names: Sequence[str],
    url: str | Sequence[str],
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
    url : str or sequence of str
        Where they come from: one file, or a zip archive that holds all of them (the archive itself
        is kept where ``names`` holds just its name). What comes from an address that ends with
        ``.gz`` is kept gzipped. Further addresses are tried in turn when one fails.
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
    urls = [url] if isinstance(url, str) else list(url)
    home, target = _place(folder, data_home)
    missing = [name for name in names if _present(target / name) is None]
    if missing and home is not None:
        raise FileNotFoundError(
            f"{target / missing[0]} is missing. A folder given by data_home or {HOME_VARIABLE} is "
            f"used as it is, without downloading: put the file there (from {urls[0]}), or give no "
            "folder to have it downloaded."
        )
    if missing and not download_if_missing:
        raise FileNotFoundError(
            f"{missing[0]} is not in the cache {target} and download_if_missing is False. Set it "
            f"to True, or let {HOME_VARIABLE} name a folder that holds {folder}/{missing[0]}."
        )
    if missing:
        _download(urls, target, names)
    return [_present(target / name) for name in names]


def find_present(
    folder: str, name: str, *, data_home: str | os.PathLike | None = None
) -> Path | None:
    """Path of a file that may replace the published one, None where it is not there.

    Parameters
    ----------
    folder : str
        Folder of the data set, with forward slashes.
    name : str
        The file; it may also lie there gzipped as ``name.gz``.
    data_home : path-like or None, default=None
        As in ``find_files``.

    Returns
    -------
    Path or None

    Raises
    ------
    ValueError
        If ``data_home`` is no folder.
    ImportError
        If there is no local folder and pooch, which knows the cache, is not installed.
    """
    return _present(_place(folder, data_home)[1] / name)


def _place(folder, data_home):
    """The local home or None, and the folder of the data set there or in the cache."""
    home = _local_home(data_home)
    root = _cache_home() if home is None else home
    return home, root.joinpath(*folder.split("/"))


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
            "download cache (heart_disease/, parkinsons_telemonitoring/, rdatasets/, ...), or none."
        )
    return home


def _cache_home():
    return Path(require("pooch").os_cache("skmeta"))


def _present(path):
    """``path`` or its gzipped twin, None where neither is there."""
    packed = path.with_name(path.name + ".gz")
    return path if path.is_file() else packed if packed.is_file() else None


def _download(urls, target, names):
    """Bring the files ``names`` into the folder ``target`` from the first address that works."""
    problems = []
    for url in urls:
        try:
            return _download_from(url, target, names)
        except (OSError, ValueError) as error:
            if len(urls) == 1:
                raise
            problems.append(str(error))
    raise OSError("No address worked. " + " ".join(problems))


def _download_from(url, target, names):
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
    if not url.endswith(".zip") or list(names) == [url.rsplit("/", 1)[-1]]:
        packed = url.endswith(".gz") and not names[0].endswith(".gz")
        return {names[0] + ".gz" * packed: got.read_bytes()}
    try:
        with zipfile.ZipFile(got) as archive:
            return {name: _member(archive, name) for name in names}
    except (zipfile.BadZipFile, KeyError, RuntimeError, zlib.error, EOFError) as error:
        raise ValueError(
            f"What {url} sent is not the expected archive ({error}); nothing was kept. Try again "
            f"later, or let data_home or {HOME_VARIABLE} name a folder that holds the data."
        ) from error


def _member(archive, name, inside=True):
    """The file ``name`` from any folder of an archive, or from an archive inside it."""
    members = {member.rsplit("/", 1)[-1]: member for member in archive.namelist()}
    if name in members:
        return archive.read(members[name])
    # One level only: an archive that holds itself would never end.
    for member in members.values() if inside else ():
        if member.endswith(".zip"):
            with (
                contextlib.suppress(KeyError),
                zipfile.ZipFile(io.BytesIO(archive.read(member))) as inner,
            ):
                return _member(inner, name, inside=False)
    raise KeyError(f"it holds no {name}")
