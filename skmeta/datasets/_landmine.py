"""Landmines seen by radar in 29 fields: rare positives, different ground."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import Bunch

from skmeta._optional import require
from skmeta.datasets._fetch import find_files
from skmeta.datasets._pack import pack_table
from skmeta.datasets._read import check_arrays, read_cells

if TYPE_CHECKING:
    import pandas as pd

URLS = (
    "http://www.ee.duke.edu/~lcarin/LandmineData.zip",
    "https://raw.githubusercontent.com/daizhongxiang/Federated_Bayesian_Optimization/"
    "9f46a1dfbbcfd5823e026ad9418a4cb881676ae9/LandmineData.mat",
)
FOLDER = "landmine"
FILE = "LandmineData.mat"
CHECKSUM = "91cf4ee420da38c73228935f93c70c1dccb1517d13bc223bfb8847bbc025908d"
FEATURES = [f"feature_{number}" for number in range(1, 10)]

LICENCE = "None stated. The authors made the data public with their paper."
CITATION = (
    "Y. Xue, X. Liao, L. Carin and B. Krishnapuram (2007). Multi-task learning for classification "
    "with Dirichlet process priors. Journal of Machine Learning Research, 8, 35-63."
)
DESCR = """\
Landmines in 29 fields
======================
14,820 suspicious spots in the radar images of 29 fields: 445 to 690 spots a field. Fields 1 to 15
have much foliage, fields 16 to 29 are bare earth or desert.

Target: 1 a landmine, 0 clutter. Landmines are rare, 6 % over all and 3 to 9 % in a field: use the
area under the ROC curve, not the accuracy. Five random rows of a field mostly hold no landmine.

Features: nine numbers computed from the radar image around a spot. The paper lists four based on
moments, three based on correlations, one energy ratio and one spatial variance; the file does not
name its columns.
"""


def fetch_landmine(
    *,
    data_home: str | os.PathLike | None = None,
    as_frame: bool = True,
    return_X_y_groups: bool = False,
    download_if_missing: bool = True,
) -> Bunch | tuple[pd.DataFrame, pd.Series, pd.Series] | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load landmine detection: 14,820 spots in 29 fields, mine or clutter.

    A task is a field. The label is shared, and positives are rare (6 %): score with the area under
    the ROC curve.

    The parsed values are compared with a sha256 checksum, computed from a copy of the published
    file; the bytes of the file are not, so that a repacked file does.

    Parameters
    ----------
    data_home : path-like or None, default=None
        Folder that holds ``landmine/LandmineData.mat``, used as it is. None: the folder named by
        the environment variable SKMETA_DATA_HOME; without that, the file is downloaded from the
        authors' page or, where that fails, from the public repository of a later paper (once, to a
        cache; this needs pooch).
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

        data : DataFrame or ndarray of shape (14820, 9)
            The features as float64; nothing is missing.
        target : Series or ndarray of shape (14820,)
            1 landmine, 0 clutter.
        groups : Series or ndarray of shape (14820,)
            Field, integers from 1 to 29.
        frame : DataFrame of shape (14820, 11) or None
            Features, ``mine`` (the target) and ``field`` (the groups).
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
    .. [1] Y. Xue, X. Liao, L. Carin and B. Krishnapuram (2007). Multi-task learning for
       classification with Dirichlet process priors. Journal of Machine Learning Research, 8,
       35-63.

    Examples
    --------
    >>> from skmeta.datasets import fetch_landmine
    >>> mines = fetch_landmine()  # doctest: +SKIP
    >>> mines.target.groupby(mines.groups).mean().describe()[["min", "max"]]  # doctest: +SKIP
    min    0.029470
    max    0.093541
    Name: mine, dtype: float64
    """
    pd = require("pandas")
    (path,) = find_files(
        FOLDER, [FILE], URLS, data_home=data_home, download_if_missing=download_if_missing
    )
    X, y, fields = read_cells(path, "feature", "label")
    check_arrays([X, y, fields], CHECKSUM, path)
    return pack_table(
        pd.DataFrame(X, columns=FEATURES).assign(mine=y.astype(np.int64), field=fields),
        target="mine",
        groups="field",
        as_frame=as_frame,
        return_X_y_groups=return_X_y_groups,
        DESCR=DESCR,
        licence=LICENCE,
        citation=CITATION,
    )
