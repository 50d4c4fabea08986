"""Examination scores at 139 schools: the School data of multi-task learning."""

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

URL = "https://raw.githubusercontent.com/jiayuzhou/MALSAR/master/data/school.mat"
FOLDER = "ilea_school"
FILE = "school.mat"
CHECKSUM = "0d22ed8f7d52309e931e28dffdd41cf5b098f78e315ffe6f73ad6e40417f85b3"

# Of the 28 published columns all but the last, which is 1 everywhere.
FEATURES = [
    "year_1985",
    "year_1986",
    "year_1987",
    "free_meals",
    "share_band_1",
    "female",
    "male",
    "band_3",
    "band_1",
    "band_2",
    "born_in_britain_or_ireland",
    "african",
    "arab",
    "bangladeshi",
    "caribbean",
    "greek",
    "indian",
    "pakistani",
    "south_east_asian",
    "turkish",
    "other_origin",
    "mixed_school",
    "boys_school",
    "girls_school",
    "maintained",
    "church_of_england",
    "roman_catholic",
]

LICENCE = (
    "None stated. The examination data were made public for teaching and research by the Centre "
    "for Multilevel Modelling (now at the University of Bristol)."
)
CITATION = (
    "D. Nuttall, H. Goldstein, R. Prosser and J. Rasbash (1989). Differential school "
    "effectiveness. International Journal of Educational Research, 13(7), 769-776."
)
DESCR = """\
Examination scores at 139 schools
=================================
15,362 pupils of 139 secondary schools of the Inner London Education Authority, who took their
examinations in 1985, 1986 or 1987: 22 to 251 pupils a school. It is the School data of many papers
on multi-task learning.

Target: the examination score, whole numbers from 1 to 70.

Features, all 0 or 1 unless said otherwise. Of the pupil: year of the examination (three columns);
female, male; band_1 (best), band_2, band_3: verbal reasoning band before secondary school, none of
them for 15 pupils; origin (eleven columns). Of the school in that year: free_meals, percentage of
pupils entitled to free school meals; share_band_1, percentage of pupils in band 1. Of the school:
mixed, boys or girls; maintained, Church of England or Roman Catholic.

Columns that belong to one question add up to 1: a linear model needs regularisation, or one of
each left out. The file has a 28th column, 1 everywhere, which is left out here.
"""


def fetch_school_exam(
    *,
    data_home: str | os.PathLike | None = None,
    as_frame: bool = True,
    return_X_y_groups: bool = False,
    download_if_missing: bool = True,
) -> Bunch | tuple[pd.DataFrame, pd.Series, pd.Series] | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load examination scores of 15,362 pupils at 139 London schools.

    A task is a school. This is the School data of multi-task learning, in the form in which its
    papers use it: questions with several answers are columns of 0 and 1.

    The parsed values are compared with a sha256 checksum, computed from a copy of the published
    file; the bytes of the file are not, so that a repacked file does.

    Parameters
    ----------
    data_home : path-like or None, default=None
        Folder that holds ``ilea_school/school.mat``, used as it is. None: the folder named by the
        environment variable SKMETA_DATA_HOME; without that, the file is downloaded from the
        repository of the MALSAR package (once, to a cache; this needs pooch).
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

        data : DataFrame or ndarray of shape (15362, 27)
            The features as float64; nothing is missing. The constant 28th column of the file is
            left out.
        target : Series or ndarray of shape (15362,)
            The score, 1 to 70.
        groups : Series or ndarray of shape (15362,)
            School, integers from 1 to 139.
        frame : DataFrame of shape (15362, 29) or None
            Features, ``score`` (the target) and ``school`` (the groups).
        feature_names : list of str
            All features. The publishers of the file do not name them: the names come from a
            comparison, pupil by pupil, with the coded examination data.
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
    .. [1] D. Nuttall, H. Goldstein, R. Prosser and J. Rasbash (1989). Differential school
       effectiveness. International Journal of Educational Research, 13(7), 769-776.
    .. [2] A. Argyriou, T. Evgeniou and M. Pontil (2008). Convex multi-task feature learning.
       Machine Learning, 73(3), 243-272.
    .. [3] J. Zhou, J. Chen and J. Ye (2012). MALSAR: Multi-task learning via structural
       regularization. Arizona State University.

    Examples
    --------
    >>> from skmeta.datasets import fetch_school_exam
    >>> X, y, groups = fetch_school_exam(return_X_y_groups=True)  # doctest: +SKIP
    >>> X.shape, groups.nunique()  # doctest: +SKIP
    ((15362, 27), 139)
    """
    pd = require("pandas")
    (path,) = find_files(
        FOLDER, [FILE], URL, data_home=data_home, download_if_missing=download_if_missing
    )
    X, y, schools = read_cells(path, "X", "Y")
    check_arrays([X, y, schools], CHECKSUM, path)
    frame = pd.DataFrame(X[:, :-1], columns=FEATURES)
    return pack_table(
        frame.assign(score=y.astype(np.int64), school=schools),
        target="score",
        groups="school",
        as_frame=as_frame,
        return_X_y_groups=return_X_y_groups,
        DESCR=DESCR,
        licence=LICENCE,
        citation=CITATION,
    )
