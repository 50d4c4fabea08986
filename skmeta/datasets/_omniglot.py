"""Handwritten characters of 50 alphabets: the classic of few-shot learning."""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skmeta._optional import require
from skmeta.datasets._fetch import find_files, find_present
from skmeta.datasets._pack import pack_images
from skmeta.datasets._read import check_arrays, read_bytes, read_npz, refuse

BASE_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
FOLDER = "omniglot"
SUBSETS = ("background", "evaluation", "all")
FULL = 105  # pixels a side as published

# Half -> characters, alphabets, number of its first character, sha256 of the published archive.
HALVES = {
    "background": (
        964,
        30,
        0,
        "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    ),
    "evaluation": (
        659,
        20,
        964,
        "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    ),
}
DRAWERS = 20
# The background half as arrays: packed bits, names of the characters, drawers.
ARRAYS = "omniglot_background.npz"
ARRAYS_CHECKSUM = "c5e72e1c0a65e93be72baa283ba553dfacc2e55a4e33b311d27fa4386a193e75"
IMAGE = re.compile(r"(?:.*/)?([^/]+/character\d+)/\d+_(\d+)\.png")

LICENCE = "MIT, copyright 2015 Brenden Lake"
CITATION = (
    "B. M. Lake, R. Salakhutdinov and J. B. Tenenbaum (2015). Human-level concept learning through "
    "probabilistic program induction. Science, 350(6266), 1332-1338."
)
DESCR = """\
Handwritten characters of 50 alphabets (Omniglot)
=================================================
1,623 characters of 50 alphabets, each drawn once by the same number of people, 20: 32,460 images.
The background half (30 alphabets, 964 characters) is meant for meta-training, the evaluation half
(20 alphabets, 659 characters) for the test.

Target: the character, one number for each of the 1,623. Groups: the alphabet. No character is in
two alphabets. drawer: which of the alphabet's 20 people drew the image, 1 to 20; drawer 1 of one
alphabet need not be drawer 1 of another.

The images are black and white, 105 x 105 pixels; 0 is paper and full ink is the largest value. At
28 x 28 a pixel is the mean of 3 or 4 by 3 or 4 published ones, rounded to a byte.
"""


def fetch_omniglot(
    subset: str = "background",
    *,
    size: int = 28,
    scaled: bool = True,
    data_home: str | os.PathLike | None = None,
    as_frame: bool = False,
    return_X_y_groups: bool = False,
    download_if_missing: bool = True,
) -> Bunch | tuple:
    """Load Omniglot: 20 drawings of each of 1,623 characters from 50 alphabets.

    A task is an alphabet; its classes, the characters, are its own. Without groups a classifier
    draws its episodes from all characters.

    What is checked: a published archive by the sha256 that others have recorded for it and by its
    numbers of alphabets, characters and drawers; the array file by a sha256 of the parsed values,
    computed from a copy. The reading of archives was tested on archives built from the array file,
    and gave the same arrays; no published archive was at hand, so that neither half has been read
    from one yet, and the evaluation half has no checksum of parsed values.

    Parameters
    ----------
    subset : {"background", "evaluation", "all"}, default="background"
        The 30 alphabets for meta-training, the 20 for the test, or all, background first.
    size : {28, 105}, default=28
        Pixels a side. 105 is the published size: the background half then takes 850 MB, or 213 MB
        with ``scaled=False``.
    scaled : bool, default=True
        Whether to give float32 from 0 (paper) to 1 (ink). False: uint8 from 0 to 255, in a quarter
        of the memory.
    data_home : path-like or None, default=None
        Folder that holds ``omniglot/images_background.zip`` or ``omniglot/omniglot_background.npz``
        and, for the other half, ``omniglot/images_evaluation.zip``, used as it is. None: the
        folder named by the environment variable SKMETA_DATA_HOME; without that, the archives are
        downloaded from the authors' repository (once, to a cache; this needs pooch).
    as_frame : bool, default=False
        Whether to give pandas objects, one column a pixel.
    return_X_y_groups : bool, default=False
        Whether to return the tuple (data, target, groups) instead of a Bunch.
    download_if_missing : bool, default=True
        Whether the network may be used.

    Returns
    -------
    Bunch
        With the entries

        data : ndarray or DataFrame of shape (n_images, size * size)
            One image a row, row of pixels after row of pixels; ordered by alphabet, character and
            drawer. 19,280 images in the background half, 13,180 in the other.
        target : ndarray or Series of shape (n_images,)
            The character, 0 to 963 in the background half and 964 to 1622 in the other.
        groups : ndarray or Series of shape (n_images,)
            Name of the alphabet.
        drawer : ndarray or Series of shape (n_images,)
            Who drew it, 1 to 20 within each alphabet.
        frame : DataFrame of shape (n_images, size * size + 2) or None
            Pixels, ``character`` (the target) and ``alphabet`` (the groups); None with
            ``as_frame=False``.
        feature_names : list of str
            ``pixel_ROW_COLUMN``.
        target_names : dict of int to str
            Character -> its name, "Greek/character01" say.
        image_shape : tuple of (int, int)
            (size, size), for ``data.reshape(-1, *image_shape)``.
        DESCR, licence, citation : str
            What it is, what you may do, whom to cite.
    data, target, groups : tuple
        Only with ``return_X_y_groups=True``.

    Raises
    ------
    ValueError
        If ``subset`` or ``size`` is unknown, a file is truncated or altered, or ``data_home`` is no
        folder.
    OSError
        If a file is missing and cannot or may not be downloaded.
    ImportError
        If pooch for a download, Pillow for the images of an archive, or pandas for a frame is not
        installed.

    References
    ----------
    .. [1] B. M. Lake, R. Salakhutdinov and J. B. Tenenbaum (2015). Human-level concept learning
       through probabilistic program induction. Science, 350(6266), 1332-1338.

    Examples
    --------
    >>> from skmeta.datasets import fetch_omniglot
    >>> omniglot = fetch_omniglot()  # doctest: +SKIP
    >>> omniglot.data.shape, omniglot.image_shape  # doctest: +SKIP
    ((19280, 784), (28, 28))
    """
    if not isinstance(subset, str) or subset not in SUBSETS:
        raise ValueError(f'subset must be "background", "evaluation" or "all", got {subset!r}.')
    if not isinstance(size, Integral) or size not in (28, FULL):
        raise ValueError(f"size must be 28 or {FULL}, got {size!r}.")
    options: dict[str, Any] = {
        "data_home": data_home,
        "download_if_missing": download_if_missing,
    }
    halves = HALVES if subset == "all" else [subset]
    parts = [_read_half(half, options) for half in halves]
    packed, names, drawers, characters = (
        np.concatenate(arrays) for arrays in zip(*parts, strict=True)
    )
    images = np.empty((len(packed), size, size), dtype=np.uint8)
    for start in range(0, len(packed), 1000):  # all at once would need several times the memory
        rows = slice(start, start + 1000)
        ink = np.unpackbits(packed[rows], axis=1, count=FULL**2).reshape(-1, FULL, FULL)
        images[rows] = ink * np.uint8(255) if size == FULL else _shrink(ink, size)
    alphabets = np.array([name.split("/")[0] for name in names.tolist()])
    first = np.unique(characters, return_index=True)[1]
    return pack_images(
        images,
        {"target": ("character", characters), "groups": ("alphabet", alphabets)},
        scaled=scaled,
        as_frame=as_frame,
        only_data=return_X_y_groups,
        aside={"drawer": drawers},
        target_names=dict(zip(characters[first].tolist(), names[first].tolist(), strict=True)),
        DESCR=DESCR,
        licence=LICENCE,
        citation=CITATION,
    )


def _read_half(half, options):
    """Packed bits, names of the characters, drawers and numbers of the characters of one half."""
    arrays = None
    if half == "background":
        arrays = find_present(FOLDER, ARRAYS, data_home=options["data_home"])
    if arrays is not None:
        packed, names, drawers = _read_arrays(arrays)
    else:
        require("PIL.Image", "pillow")  # before the download
        name = f"images_{half}.zip"
        (path,) = find_files(FOLDER, [name], f"{BASE_URL}/{name}", **options)
        packed, names, drawers = _read_archive(path, half)
    # Sorted already: the numbers count the characters in their order.
    return packed, names, drawers, np.unique(names, return_inverse=True)[1] + HALVES[half][2]


def _read_arrays(path):
    """The background half from the array file."""
    content = read_npz(path, ["images105_packed", "character", "character_names", "drawer"])
    try:
        names = content["character_names"][content["character"]]
    except IndexError as error:
        raise refuse(path, f"does not hold the expected values ({error})") from error
    arrays = content["images105_packed"], names, content["drawer"].astype(np.int64)
    check_arrays(arrays, ARRAYS_CHECKSUM, path)
    return arrays


def _read_archive(path: Path, half: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One half from its published archive."""
    image = require("PIL.Image", "pillow")
    n_characters, n_alphabets, _, checksum = HALVES[half]
    data = read_bytes(path, checksum)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = [match for name in archive.namelist() if (match := IMAGE.fullmatch(name))]
            found.sort(key=lambda match: (match[1], int(match[2])))
            packed = np.empty((len(found), -(-(FULL**2) // 8)), dtype=np.uint8)
            for row, match in zip(packed, found, strict=True):
                pixels = np.asarray(image.open(io.BytesIO(archive.read(match[0]))).convert("L"))
                row[:] = np.packbits(pixels < 128)  # black is ink
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise refuse(path, f"is not a readable archive of images ({error})") from error
    names = np.array([match[1] for match in found])
    drawers = np.array([int(match[2]) for match in found], dtype=np.int64)

    expected = np.tile(np.arange(1, DRAWERS + 1), n_characters)
    alphabets = {match[1].split("/")[0] for match in found}
    if (
        not np.array_equal(drawers, expected)
        or len(np.unique(names)) != n_characters
        or len(alphabets) != n_alphabets
    ):
        raise refuse(
            path,
            f"holds {len(found)} images of {len(np.unique(names))} characters from "
            f"{len(alphabets)} alphabets, not {DRAWERS} of each of {n_characters} from "
            f"{n_alphabets}",
        )
    return packed, names, drawers


def _shrink(ink, size):
    """Area average of 0/1 images, as bytes."""
    edges = np.floor(np.arange(size + 1) * (FULL / size) + 0.5)
    pixel = np.arange(FULL)[:, None]
    inside = ((edges[:-1] <= pixel) & (pixel < edges[1:])).astype(np.float32)
    width = np.diff(edges).astype(np.int32)
    # Fixed point with 22 bits and a rounding after each axis, as Pillow's box filter does it: the
    # images are then the same bytes that others get with resize((28, 28), BOX). The sums are small
    # whole numbers, exact as floats.
    weight = (2**22 + width // 2) // width
    sums = (ink * np.float32(255)) @ inside
    grey = (sums.astype(np.int32) * weight + 2**21) >> 22
    sums = inside.T @ grey.astype(np.float32)
    return ((sums.astype(np.int32) * weight[:, None] + 2**21) >> 22).astype(np.uint8)
