"""Noise of airfoils in a wind tunnel: one spectrum, one task."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import Bunch

from skmeta.datasets._fetch import find_files
from skmeta.datasets._pack import pack_table
from skmeta.datasets._read import check_frame, read_bytes, read_table

if TYPE_CHECKING:
    import pandas as pd

URL = "https://archive.ics.uci.edu/static/public/291/airfoil+self+noise.zip"
FOLDER = "airfoil"
FILE = "airfoil_self_noise.dat"
CHECKSUM = "4743d771d182d3cd610617b3887c26f8d655c75d969daf787c36d2ee2154d48e"
FEATURES = ["frequency", "angle", "chord", "velocity", "thickness"]
SETTING = ["chord", "angle", "velocity"]

LICENCE = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
CITATION = (
    "T. Brooks, D. Pope and M. Marcolini (1989). Airfoil Self-Noise. UCI Machine Learning "
    "Repository. https://doi.org/10.24432/C5VW2C"
)
DESCR = """\
Noise of airfoils
=================
1,503 sound levels of NACA 0012 airfoils in an anechoic wind tunnel, measured by NASA. One setting
of chord, angle of attack and air speed gives one spectrum, 8 to 19 frequencies: 106 spectra.

Target: scaled sound pressure level (dB).

Features: frequency (Hz); angle of attack (degrees); chord length (m); velocity of the free stream
(m/s); displacement thickness of the suction side (m). Within a spectrum only the frequency
changes. It spans 200 to 20,000 Hz in steps of a third of an octave: take its logarithm.
"""


def fetch_airfoil(
    *,
    data_home: str | os.PathLike | None = None,
    as_frame: bool = True,
    return_X_y_groups: bool = False,
    download_if_missing: bool = True,
) -> Bunch | tuple[pd.DataFrame, pd.Series, pd.Series] | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load airfoil self-noise: 1,503 sound levels in 106 spectra.

    A task is a spectrum: one setting of chord, angle of attack and air speed. Within it only the
    frequency changes; the setting, which tells the tasks apart, is among the features.

    The parsed values are compared with a sha256 checksum, computed from a copy of the published
    table; the bytes of the file are not, so that a repacked file does, with or without a line of
    column names.

    Parameters
    ----------
    data_home : path-like or None, default=None
        Folder that holds ``airfoil/airfoil_self_noise.dat``, used as it is. None: the folder named
        by the environment variable SKMETA_DATA_HOME; without that, the file is downloaded from the
        UCI repository (once, to a cache; this needs pooch).
    as_frame : bool, default=True
        Whether to give pandas objects. False: numpy arrays, and ``frame`` is None.
    return_X_y_groups : bool, default=False
        Whether to return the tuple (data, target, groups) instead of a Bunch.
    download_if_missing : bool, default=True
        Whether the network may be used.

    Returns
    -------
    Bunch
        With the entries

        data : DataFrame or ndarray of shape (1503, 5)
            Frequency, angle, chord, velocity and thickness as float64; nothing is missing.
        target : Series or ndarray of shape (1503,)
            Sound pressure level in dB.
        groups : Series or ndarray of shape (1503,)
            Spectrum, integers from 1 to 106 in the order of the file.
        frame : DataFrame of shape (1503, 7) or None
            Features, ``pressure`` (the target) and ``spectrum`` (the groups).
        feature_names : list of str
            All features.
        DESCR, licence, citation : str
            What it is, what you may do, whom to cite.
    data, target, groups : tuple
        Only with ``return_X_y_groups=True``.

    Raises
    ------
    ValueError
        If the file is truncated or altered, or ``data_home`` is no folder.
    OSError
        If the file is missing and cannot or may not be downloaded.
    ImportError
        If pandas, or pooch for a download, is not installed.

    References
    ----------
    .. [1] T. Brooks, D. Pope and M. Marcolini (1989). Airfoil Self-Noise. UCI Machine Learning
       Repository. https://doi.org/10.24432/C5VW2C
    .. [2] T. F. Brooks, D. S. Pope and M. A. Marcolini (1989). Airfoil self-noise and prediction.
       NASA Reference Publication 1218.

    Examples
    --------
    >>> from skmeta.datasets import fetch_airfoil
    >>> noise = fetch_airfoil()  # doctest: +SKIP
    >>> noise.groups.value_counts().agg(["min", "median", "max"]).tolist()  # doctest: +SKIP
    [8.0, 14.0, 19.0]
    """
    (path,) = find_files(
        FOLDER, [FILE], URL, data_home=data_home, download_if_missing=download_if_missing
    )
    has_names = read_bytes(path)[:1].isalpha()
    table = read_table(
        path,
        sep="\t",
        header=0 if has_names else None,
        names=[*FEATURES, "pressure"],
        index_col=False,
    )
    check_frame(table, CHECKSUM, path)
    frame = table.astype(np.float64)
    frame["spectrum"] = frame.groupby(SETTING, sort=False).ngroup() + 1
    return pack_table(
        frame,
        target="pressure",
        groups="spectrum",
        as_frame=as_frame,
        return_X_y_groups=return_X_y_groups,
        DESCR=DESCR,
        licence=LICENCE,
        citation=CITATION,
    )
