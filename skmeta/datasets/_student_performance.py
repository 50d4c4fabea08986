"""Final grades at two schools in two subjects: four tasks that share pupils."""

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

URL = "https://archive.ics.uci.edu/static/public/320/student+performance.zip"
FOLDER = "student_performance"
TARGET = "G3"
EARLIER = ["G1", "G2"]

# File -> subject, checksum of its 33 columns.
FILES = {
    "student-mat.csv": (
        "mathematics",
        "4211c69856179809455310af4a3df60abeede8bdbed64bbabbf3bffe1401c282",
    ),
    "student-por.csv": (
        "Portuguese",
        "e0034a027c2af8886add30f3d4555690d1963db9302ebff6e13fd16e110fdc04",
    ),
}
# What the publisher compares to find a pupil of one file in the other.
PUPIL = ["school", "sex", "age", "address", "famsize", "Pstatus", "Medu", "Fedu", "Mjob", "Fjob"]
PUPIL += ["reason", "nursery", "internet"]

JOBS = ["at_home", "health", "other", "services", "teacher"]
YES_NO = ["no", "yes"]
CATEGORIES = {
    "sex": ["F", "M"],
    "address": ["R", "U"],
    "famsize": ["GT3", "LE3"],
    "Pstatus": ["A", "T"],
    "Mjob": JOBS,
    "Fjob": JOBS,
    "reason": ["course", "home", "other", "reputation"],
    "guardian": ["father", "mother", "other"],
    "schoolsup": YES_NO,
    "famsup": YES_NO,
    "paid": YES_NO,
    "activities": YES_NO,
    "nursery": YES_NO,
    "higher": YES_NO,
    "internet": YES_NO,
    "romantic": YES_NO,
}

LICENCE = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
CITATION = (
    "P. Cortez (2014). Student Performance. UCI Machine Learning Repository. "
    "https://doi.org/10.24432/C5TG7T"
)
DESCR = """\
Final grades at two Portuguese schools
======================================
1,044 records of pupils at the secondary schools Gabriel Pereira (GP) and Mousinho da Silveira (MS)
in the subjects mathematics and Portuguese, collected from school reports and questionnaires.
School and subject make four tasks: "GP mathematics" (349 records), "GP Portuguese" (423),
"MS mathematics" (46), "MS Portuguese" (226).

Target: G3, the final grade, whole numbers from 0 to 20. 53 records have a final grade of 0.

Two traps. The earlier grades G1 and G2 nearly give the final grade away (correlations 0.81 and
0.91): they are left out unless earlier_grades=True. And most pupils are in both subjects: the
publisher counts 382 pairs of records that agree in 13 answers, and the entry pupil, one number for
all records that agree in them, finds 366 such numbers in both subjects. Split by pupil where
nobody may be on both sides.

Features: sex; age (years); address (R rural, U urban); famsize (GT3 more than three, LE3 at most
three); Pstatus, parents (A apart, T together); Medu, Fedu, education of mother and father (0 none
to 4 higher); Mjob, Fjob, their jobs; reason for this school; guardian; traveltime (1 to 4: under
15, 15 to 30, 30 to 60, over 60 minutes); studytime a week (1 to 4: under 2, 2 to 5, 5 to 10, over
10 hours); failures, classes failed before; schoolsup, famsup, extra support by school, by family;
paid lessons in the subject; activities outside class; nursery school attended; higher education
wanted; internet at home; romantic relationship; famrel, family relations (1 bad to 5 good);
freetime, goout, Dalc, Walc, free time, going out, alcohol on working days and at weekends (1 low
to 5 high); health (1 bad to 5 good); absences (days).

Answers given as words are codes here, and the entry categories has the words: the code k stands
for the word number k, counted from 0.
"""


def fetch_student_performance(
    *,
    data_home: str | os.PathLike | None = None,
    as_frame: bool = True,
    return_X_y_groups: bool = False,
    earlier_grades: bool = False,
    download_if_missing: bool = True,
) -> Bunch | tuple[pd.DataFrame, pd.Series, pd.Series] | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load final grades at two schools in two subjects: 1,044 records, 29 features.

    A task is a school and a subject: four tasks, of 46 to 423 records. Most pupils are in both
    subjects; the entry ``pupil`` tells which records may belong to one pupil.

    The parsed values of both files are compared with a sha256 checksum, computed from a copy of
    the published files; the bytes of the files are not, so that repacked files do.

    Parameters
    ----------
    data_home : path-like or None, default=None
        Folder that holds ``student_performance/student-mat.csv`` and ``student-por.csv``, used as
        it is. None: the folder named by the environment variable SKMETA_DATA_HOME; without that,
        the files are downloaded from the UCI repository (once, to a cache; this needs pooch).
    as_frame : bool, default=True
        Whether to give pandas objects. False: numpy arrays, and ``frame`` is None.
    return_X_y_groups : bool, default=False
        Whether to return the tuple (data, target, groups) instead of a Bunch.
    earlier_grades : bool, default=False
        Whether to keep the grades of the first two periods, ``G1`` and ``G2``, as features. They
        nearly give the final grade away.
    download_if_missing : bool, default=True
        Whether the network may be used.

    Returns
    -------
    Bunch
        With the entries

        data : DataFrame or ndarray of shape (1044, 29) or (1044, 31)
            The features as float64; nothing is missing. Answers given as words are codes.
        target : Series or ndarray of shape (1044,)
            ``G3``, the final grade, 0 to 20.
        groups : Series or ndarray of shape (1044,)
            "GP mathematics", "GP Portuguese", "MS mathematics" or "MS Portuguese".
        pupil : Series or ndarray of shape (1044,)
            One number, counted from 1, for all records that agree in the 13 answers by which the
            publisher finds a pupil of one file in the other. A few numbers stand for several
            records of one subject.
        frame : DataFrame of shape (1044, 31) or (1044, 33) or None
            Features, ``G3`` (the target) and ``task`` (the groups).
        feature_names, categorical_features : list of str
            All features, and those whose numbers are codes.
        categories : dict of str to list of str
            What the codes 0, 1, ... of a categorical feature stand for.
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
    .. [1] P. Cortez (2014). Student Performance. UCI Machine Learning Repository.
       https://doi.org/10.24432/C5TG7T
    .. [2] P. Cortez and A. Silva (2008). Using data mining to predict secondary school student
       performance. Proceedings of the 5th Future Business Technology Conference, 5-12.

    Examples
    --------
    >>> from skmeta.datasets import fetch_student_performance
    >>> grades = fetch_student_performance()  # doctest: +SKIP
    >>> grades.target.groupby(grades.groups).mean().round(1)  # doctest: +SKIP
    task
    GP Portuguese     12.6
    GP mathematics    10.5
    MS Portuguese     10.7
    MS mathematics     9.8
    Name: G3, dtype: float64
    """
    pd = require("pandas")
    paths = find_files(
        FOLDER, list(FILES), URL, data_home=data_home, download_if_missing=download_if_missing
    )
    parts = []
    for path, (subject, checksum) in zip(paths, FILES.values(), strict=True):
        part = read_table(path, sep=";", index_col=False)
        check_frame(part, checksum, path)
        parts.append(part.assign(task=part["school"] + " " + subject))
    table = pd.concat(parts, ignore_index=True)

    pupil = (table.groupby(PUPIL, sort=False).ngroup() + 1).rename("pupil")
    left_out = ["school", TARGET, "task", *(() if earlier_grades else EARLIER)]
    frame = table.drop(columns=left_out)
    for name, words in CATEGORIES.items():
        frame[name] = frame[name].map({word: code for code, word in enumerate(words)})
    frame = frame.astype(np.float64)
    frame[TARGET] = table[TARGET].astype(np.int64)
    frame["task"] = table["task"]
    return pack_table(
        frame,
        target=TARGET,
        groups="task",
        as_frame=as_frame,
        return_X_y_groups=return_X_y_groups,
        pupil=pupil,
        categorical_features=list(CATEGORIES),
        categories={name: list(words) for name, words in CATEGORIES.items()},
        DESCR=DESCR,
        licence=LICENCE,
        citation=CITATION,
    )
