"""Parkinson's disease followed by telephone: one voice, one patient, many days."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import Bunch

from skmeta.datasets._fetch import find_files
from skmeta.datasets._pack import pack_table
from skmeta.datasets._read import check_frame, read_table

if TYPE_CHECKING:
    import pandas as pd

URL = "https://archive.ics.uci.edu/static/public/189/parkinsons+telemonitoring.zip"
FOLDER = "parkinsons_telemonitoring"
FILE = "parkinsons_updrs.data"
SUBJECT = "subject#"
TARGETS = ("total_UPDRS", "motor_UPDRS")
CHECKSUM = "e61609a5c7f13bcb4ee672ab7053985e55aab6cd34de2d76b107696d8293ce17"

LICENCE = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
CITATION = (
    "A. Tsanas and M. Little (2009). Parkinsons Telemonitoring. UCI Machine Learning Repository. "
    "https://doi.org/10.24432/C5ZS3N"
)
DESCR = """\
Parkinson's disease, followed at home
=====================================
5,875 voice recordings of 42 people with early Parkinson's disease, taken at home over six months:
101 to 168 recordings a patient.

Target: total_UPDRS (severity on the Unified Parkinson's Disease Rating Scale) or motor_UPDRS (its
motor part). The clinic rated each patient three times; the values between are linear
interpolations. Within a patient the target is therefore nearly linear in test_time, and a random
split of a patient's rows tests interpolation: split by time to test a forecast.

Features: age (years); sex (0 male, 1 female); test_time, days since recruitment (a few are
negative); and 16 voice measures: Jitter (five variants, changes of the pitch), Shimmer (six, of
the loudness), NHR and HNR (noise against tone), RPDE (nonlinear dynamics), DFA (fractal scaling),
PPE (entropy of the pitch).
"""


def fetch_parkinsons(
    *,
    data_home: str | os.PathLike | None = None,
    as_frame: bool = True,
    return_X_y_groups: bool = False,
    target: str = "total_UPDRS",
    download_if_missing: bool = True,
) -> Bunch | tuple[pd.DataFrame, pd.Series, pd.Series] | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load Parkinson's telemonitoring: 5,875 voice recordings of 42 patients.

    A task is a patient; the target is the severity of the disease on a clinical scale. Within a
    patient it is nearly linear in ``test_time``, because it was interpolated between visits: a
    random split of a patient's rows is easy, a split by time is not.

    The parsed values are compared with a sha256 checksum, computed from a copy of the published
    file; the bytes of the file are not, so that a repacked file does.

    Parameters
    ----------
    data_home : path-like or None, default=None
        Folder that holds ``parkinsons_telemonitoring/parkinsons_updrs.data``, used as it is. None:
        the folder named by the environment variable SKMETA_DATA_HOME; without that, the file is
        downloaded from the UCI repository (once, to a cache; this needs pooch).
    as_frame : bool, default=True
        Whether to give pandas objects. False: numpy arrays, and ``frame`` is None.
    return_X_y_groups : bool, default=False
        Whether to return the tuple (data, target, groups) instead of a Bunch.
    target : {"total_UPDRS", "motor_UPDRS"}, default="total_UPDRS"
        Which score to predict. The other one is left out: it would give the answer away.
    download_if_missing : bool, default=True
        Whether the network may be used.

    Returns
    -------
    Bunch
        With the entries

        data : DataFrame or ndarray of shape (5875, 19)
            Age, sex, ``test_time`` and 16 voice measures as float64; nothing is missing.
        target : Series or ndarray of shape (5875,)
            The score, in points of the scale.
        groups : Series or ndarray of shape (5875,)
            Patient, integers from 1 to 42.
        frame : DataFrame of shape (5875, 21) or None
            Features, the target and ``subject#`` (the groups).
        feature_names, categorical_features : list of str
            All features, and those whose numbers are codes.
        DESCR, licence, citation : str
            What it is, what you may do, whom to cite.
    data, target, groups : tuple
        Only with ``return_X_y_groups=True``.

    Raises
    ------
    ValueError
        If the file is truncated or altered, ``target`` is unknown or ``data_home`` is no folder.
    OSError
        If the file is missing and cannot or may not be downloaded.
    ImportError
        If pandas, or pooch for a download, is not installed.

    References
    ----------
    .. [1] A. Tsanas and M. Little (2009). Parkinsons Telemonitoring. UCI Machine Learning
       Repository. https://doi.org/10.24432/C5ZS3N
    .. [2] A. Tsanas, M. A. Little, P. E. McSharry and L. O. Ramig (2010). Accurate telemonitoring
       of Parkinson's disease progression by noninvasive speech tests. IEEE Transactions on
       Biomedical Engineering, 57(4), 884-893.

    Examples
    --------
    >>> from skmeta.datasets import fetch_parkinsons
    >>> X, y, groups = fetch_parkinsons(return_X_y_groups=True)  # doctest: +SKIP
    >>> X.shape, groups.nunique()  # doctest: +SKIP
    ((5875, 19), 42)
    """
    if not isinstance(target, str) or target not in TARGETS:
        raise ValueError(f'target must be "total_UPDRS" or "motor_UPDRS", got {target!r}.')
    (path,) = find_files(
        FOLDER, [FILE], URL, data_home=data_home, download_if_missing=download_if_missing
    )
    table = read_table(path)
    check_frame(table, CHECKSUM, path)

    features = [name for name in table.columns if name not in (SUBJECT, *TARGETS)]
    frame = table[features].astype(np.float64)
    frame[target] = table[target].astype(np.float64)
    frame[SUBJECT] = table[SUBJECT].astype(np.int64)
    return pack_table(
        frame,
        target=target,
        groups=SUBJECT,
        as_frame=as_frame,
        return_X_y_groups=return_X_y_groups,
        categorical_features=["sex"],
        DESCR=DESCR,
        licence=LICENCE,
        citation=CITATION,
    )
