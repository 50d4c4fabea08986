"""The classic tables of multilevel statistics, from the Rdatasets collection."""

from __future__ import annotations

import os
import re

from sklearn.utils import Bunch

from skmeta.datasets._fetch import find_files
from skmeta.datasets._read import check_frame, read_table

BASE_URL = "https://vincentarelbundock.github.io/Rdatasets"
NAME = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")

# Checksums of the parsed values, without the column of row names.
CHECKSUMS = {
    "lme4/InstEval": "469f6244efc436a6aca958be45575207942fe997b213e854a2f317d03782c4e9",
    "lme4/VerbAgg": "8e8422c11af38d9f265a38302bf77d891a5a4fe3da67b8ea37f38e0807a07d74",
    "lme4/sleepstudy": "77e52d3b75f35fa569dc5ef5f1b2207967ae262a980a3772176b505bd2f48404",
    "lme4/toenail": "22fb669114de2bca79f382ae5b6e6f053d5a75c849be6d947d85ce59af173738",
    "mlmRev/Chem97": "9c91994b638ae2f3f8b7352bf1c5494e36483b31f1408fe7e8f947a2210b46ed",
    "mlmRev/Contraception": "ef7db5f4dbeaf2b06798d762018960a8eae27a9bfd19c7f50075690a442280bb",
    "mlmRev/Exam": "4a650add9da748b7cf314d359af208cba6ce0d338c96237d48f03c1a8a236261",
    "mlmRev/egsingle": "b466d975f72d3677ffc19afb7fe97b0ff9715f53765e0fecfae512d4f6c52bd8",
    "nlme/bdf": "1270c79282d8d63426532cd94f6ffab1e92c53903be692193dda0d9647cb6983",
}


def fetch_rdataset(
    package: str,
    name: str,
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
) -> Bunch:
    """Load one table of the Rdatasets collection: data sets that come with R packages.

    Many are measured in groups, and so are ready-made tasks: pupils in schools
    (``"mlmRev", "Exam"``), days of one person (``"lme4", "sleepstudy"``), answers of one person
    (``"lme4", "VerbAgg"``). ``skmeta.split_task_column`` makes (X, groups) from such a table.

    For lme4/InstEval, lme4/VerbAgg, lme4/sleepstudy, lme4/toenail, mlmRev/Chem97,
    mlmRev/Contraception, mlmRev/Exam, mlmRev/egsingle and nlme/bdf the parsed values are compared
    with a sha256 checksum, computed from a copy of the published file. All other tables are loaded
    UNVERIFIED: whatever the file holds is what you get.

    Parameters
    ----------
    package : str
        Name of the R package, "lme4" say. Upper and lower case matter.
    name : str
        Name of the data set in it, "sleepstudy" say.
    data_home : path-like or None, default=None
        Folder that holds ``rdatasets/PACKAGE/NAME.csv`` or ``NAME.csv.gz``, used as it is. None:
        the folder named by the environment variable SKMETA_DATA_HOME; without that, the file is
        downloaded from the collection's site (once, to a cache; this needs pooch).
    download_if_missing : bool, default=True
        Whether the network may be used.

    Returns
    -------
    Bunch
        With the entries

        frame : DataFrame
            The table, without R's row names; missing values (NA) are NaN.
        DESCR : str
            The data set's documentation from ``NAME.doc.txt`` where that lies beside the table,
            else the address where it can be read.
        package, name, url : str
            What was loaded, and where it is published.

    Raises
    ------
    ValueError
        If a name is not one, or the file is truncated or altered, or ``data_home`` is no folder.
    OSError
        If the file is missing and cannot or may not be downloaded.
    ImportError
        If pandas, or pooch for a download, is not installed.

    Notes
    -----
    The tables come from R packages under free licences, mostly the GPL; see each package for its
    terms.

    References
    ----------
    .. [1] V. Arel-Bundock (2025). Rdatasets: a collection of datasets originally distributed in
       various R packages. https://vincentarelbundock.github.io/Rdatasets

    Examples
    --------
    >>> from skmeta.datasets import fetch_rdataset
    >>> sleep = fetch_rdataset("lme4", "sleepstudy").frame  # doctest: +SKIP
    >>> sleep.head(2)  # doctest: +SKIP
       Reaction  Days  Subject
    0  249.5600     0      308
    1  258.7047     1      308
    """
    for label, value in (("package", package), ("name", name)):
        # A name becomes part of a path and of an address: nothing may climb out of the folder.
        if not isinstance(value, str) or NAME.fullmatch(value) is None:
            raise ValueError(
                f"{label} must be a plain name: letters and digits, with single dots, dashes or "
                f'underscores between them, such as "lme4"; got {value!r}.'
            )
    url = f"{BASE_URL}/csv/{package}/{name}.csv"
    (path,) = find_files(
        f"rdatasets/{package}",
        [f"{name}.csv"],
        url,
        data_home=data_home,
        download_if_missing=download_if_missing,
    )
    frame = read_table(path)
    first = str(frame.columns[0])
    if first in ("rownames", "", "Unnamed: 0"):
        frame = frame.drop(columns=first)
    expected = CHECKSUMS.get(f"{package}/{name}")
    if expected is not None:
        check_frame(frame, expected, path)

    doc = path.with_name(f"{name}.doc.txt")
    if doc.is_file():
        descr = doc.read_text(encoding="utf-8", errors="replace")
    else:
        descr = f"Documentation: {BASE_URL}/doc/{package}/{name}.html"
    return Bunch(frame=frame, DESCR=descr, package=package, name=name, url=url)
