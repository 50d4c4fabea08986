"""Heart disease at four hospitals: the same question, different patients and habits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import Bunch

from skmeta._optional import require
from skmeta.datasets._fetch import find_files
from skmeta.datasets._pack import pack_table
from skmeta.datasets._read import check_frame, read_table

if TYPE_CHECKING:
    import pandas as pd

URL = "https://archive.ics.uci.edu/static/public/45/heart+disease.zip"
FOLDER = "heart_disease"

FEATURES = [
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
]
CATEGORICAL = ["sex", "cp", "fbs", "restecg", "exang", "slope", "thal"]

# Hospital -> checksum of its 14 columns as published, before zeros are read as missing.
CHECKSUMS = {
    "cleveland": "117c697cb797e988d014035bfab21f0429111ea4ab3df0ad095561ee24c69632",
    "hungarian": "1a60ff7a2be24b1a3c319363dd639e147a78b5ceb86259a32fe0aea236c55d40",
    "switzerland": "2bbed0d566c724400289a6208152bb4d39d8966e5994dff506d26bcd85a37330",
    "va": "03eaf0334bf465400c829b4e79c5d74808bd41afcad86ed4a9566713238320a1",
}

LICENCE = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
CITATION = (
    "A. Janosi, W. Steinbrunn, M. Pfisterer and R. Detrano (1989). Heart Disease. UCI Machine "
    "Learning Repository. https://doi.org/10.24432/C52P4X"
)
DESCR = """\
Heart disease at four hospitals
===============================
920 patients who had a coronary angiography: Cleveland Clinic Foundation ("cleveland", 303
patients, 46 % sick), Hungarian Institute of Cardiology, Budapest ("hungarian", 294, 36 %),
University Hospitals Zurich and Basel ("switzerland", 123, 93 %), V.A. Medical Center, Long Beach
("va", 200, 75 %).

Target: 1 where the angiogram shows disease (the published column num, 0 to 4, is above 0).

Features: age (years); sex (1 male, 0 female); cp, chest pain (1 typical angina, 2 atypical angina,
3 non-anginal, 4 none); trestbps, blood pressure at rest (mm Hg); chol, serum cholesterol (mg/dl);
fbs, fasting blood sugar above 120 mg/dl (1 yes); restecg, electrocardiogram at rest (0 normal,
1 abnormal ST-T wave, 2 left ventricular hypertrophy); thalach, highest heart rate (1/min); exang,
angina by exercise (1 yes); oldpeak, ST depression by exercise; slope of the ST segment at peak
exercise (1 up, 2 flat, 3 down); ca, major vessels coloured by fluoroscopy (0 to 3); thal (3 normal,
6 fixed defect, 7 reversible defect).

Missing values are NaN, and what is missing differs by hospital: ca, thal and slope are nearly
empty outside Cleveland. The files write "?" for missing; a cholesterol of 0 means the same (all
123 patients in Switzerland, 49 in Long Beach), and so does one blood pressure of 0 (Long Beach):
these zeros are NaN here. Negative values of oldpeak (Switzerland, Long Beach) are kept.

The donors ask that publications name the principal investigators: Andras Janosi (Budapest),
William Steinbrunn (Zurich), Matthias Pfisterer (Basel), Robert Detrano (Long Beach and Cleveland).
"""


def fetch_heart_disease(
    *,
    data_home: str | os.PathLike | None = None,
    as_frame: bool = True,
    return_X_y_groups: bool = False,
    download_if_missing: bool = True,
) -> Bunch | tuple[pd.DataFrame, pd.Series, pd.Series] | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load heart disease at four hospitals: 920 patients, 13 features, yes or no.

    A task is a hospital. The label is shared (sick or well), but its share runs from 36 to 93 %,
    and whole columns are missing at some hospitals.

    The parsed values of each of the four files are compared with a sha256 checksum, computed from
    a copy of the published files; the bytes of the files are not, so that repacked files do.

    Parameters
    ----------
    data_home : path-like or None, default=None
        Folder that holds ``heart_disease/processed.cleveland.data`` and the three others, used as
        it is. None: the folder named by the environment variable SKMETA_DATA_HOME; without that,
        the files are downloaded from the UCI repository (once, to a cache; this needs pooch).
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

        data : DataFrame or ndarray of shape (920, 13)
            The features as float64; NaN where unknown ("?" in the files; also a cholesterol or a
            blood pressure of 0, which stand for unknown).
        target : Series or ndarray of shape (920,)
            1 sick (``num > 0``), 0 well.
        groups : Series or ndarray of shape (920,)
            Hospital: "cleveland", "hungarian", "switzerland" or "va".
        frame : DataFrame of shape (920, 15) or None
            Features, ``disease`` (the target) and ``hospital`` (the groups).
        feature_names, categorical_features : list of str
            All features, and those whose numbers are codes.
        DESCR, licence, citation : str
            What it is, what you may do, whom to cite.
    data, target, groups : tuple
        Only with ``return_X_y_groups=True``.

    Raises
    ------
    ValueError
        If a file is truncated or altered, or ``data_home`` is no folder.
    OSError
        If a file is missing and cannot or may not be downloaded.
    ImportError
        If pandas, or pooch for a download, is not installed.

    References
    ----------
    .. [1] A. Janosi, W. Steinbrunn, M. Pfisterer and R. Detrano (1989). Heart Disease. UCI
       Machine Learning Repository. https://doi.org/10.24432/C52P4X
    .. [2] R. Detrano, A. Janosi, W. Steinbrunn, M. Pfisterer, J. Schmid, S. Sandhu, K. Guppy,
       S. Lee and V. Froelicher (1989). International application of a new probability algorithm
       for the diagnosis of coronary artery disease. American Journal of Cardiology, 64, 304-310.

    Examples
    --------
    >>> from skmeta.datasets import fetch_heart_disease
    >>> heart = fetch_heart_disease()  # doctest: +SKIP
    >>> heart.target.groupby(heart.groups).mean().round(2)  # doctest: +SKIP
    hospital
    cleveland      0.46
    hungarian      0.36
    switzerland    0.93
    va             0.74
    Name: disease, dtype: float64
    """
    pd = require("pandas")
    paths = find_files(
        FOLDER,
        [f"processed.{hospital}.data" for hospital in CHECKSUMS],
        URL,
        data_home=data_home,
        download_if_missing=download_if_missing,
    )
    parts = []
    for path, (hospital, checksum) in zip(paths, CHECKSUMS.items(), strict=True):
        part = read_table(
            path, header=None, names=[*FEATURES, "num"], index_col=False, na_values=["?"]
        )
        check_frame(part, checksum, path)
        parts.append(part.astype(np.float64).assign(hospital=hospital))
    table = pd.concat(parts, ignore_index=True)

    frame = table[FEATURES].copy()
    # Nobody alive has a cholesterol or a blood pressure of 0: the hospitals wrote it for unknown.
    frame[["chol", "trestbps"]] = frame[["chol", "trestbps"]].replace(0.0, np.nan)
    frame["disease"] = (table["num"] > 0).astype(np.int64)
    frame["hospital"] = table["hospital"]
    return pack_table(
        frame,
        target="disease",
        groups="hospital",
        as_frame=as_frame,
        return_X_y_groups=return_X_y_groups,
        categorical_features=list(CATEGORICAL),
        DESCR=DESCR,
        licence=LICENCE,
        citation=CITATION,
    )
