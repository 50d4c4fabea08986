"""New tasks on real multi-task tables: error after k labelled rows of a task never seen before.

Nine tables: sleepstudy (subjects), Parkinson total_UPDRS (patients), Exam, bdf, egsingle, ILEA and
Chem97 (schools), airfoil (wing sections) and corn (four properties on an instrument never seen; its
samples were not seen either, on any instrument). A quarter of the tasks (at least four) is held
out; a held-out task shows k of its rows and the rest is predicted. The figure is the mean squared
error in units of the variance of y over the training tasks (corn: of the same property): mean over
a split's tasks and five draws of support rows, then over splits. Intervals (95 %) resample the
held-out tasks. Tasks under k + 2 rows are skipped, so compare methods inside one k, not along it.

Support rows are random; for the longitudinal tables (sleepstudy, Parkinson, egsingle) there is a
second table with the FIRST k rows in time, which asks for extrapolation; the draws then only break
ties. Baselines are tuned for either; "Auto, in order" is the automatic choice with `shuffle=False`,
which is told the same, while all other methods of skmeta do not know. There are 20 splits, fewer
for large tables and for methods that are slow on them; every row says how many, and two methods are
compared on the (task, split) cells that they share.

Baselines, mixed models and the like are those of `_baselines.py` and `_peers.py`, tuned on training
tasks alone. Methods of skmeta run with their default settings, one fit a split for all k and both
support rules. MAML's defaults were chosen by comparing a few on Exam and bdf (and airfoil),
held-out tasks included: on these its figures are development figures. A run on Parkinson, where a
few adaptations flew off (error 13), is why MAML's adaptation has its guard.

    python benchmarks/real_tables.py --jobs 2 --parts build/parts   # everything, writes results/
    python benchmarks/real_tables.py --quick                       # two tables, one split, prints
    python benchmarks/real_tables.py --sets bdf Exam --methods MAML "MixedLM, slopes" --n-splits 2

With --parts, a run that was stopped goes on where it was, and a new method is all that is run; the
files of a method whose code has changed have to be removed by hand. The data are fetched once and
cached; SKMETA_DATA_HOME names a local copy, without which ILEA, airfoil and corn are left out. Only
a run of all tables, methods and splits writes results/real_tables*.csv and .md, unless --out names
a folder.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from _baselines import BASELINES, run_baseline
from _common import RESULTS, set_threads, write_csv
from _peers import PEERS
from _report import Report
from _runs import available, make_estimator, predict_skmeta, run_units
from _tables import REGRESSION, Split, load, loadable

# Name in the tables -> estimator of skmeta.
SKMETA_METHODS = {
    "MAML": "MAMLRegressor",
    "HierarchicalRidge": "HierarchicalRidge",
    "HierarchicalGP": "HierarchicalGPRegressor",
    "RidgeHead": "RidgeHeadRegressor",
    "ALPaCA": "ALPaCARegressor",
    "Auto": "AutoMetaRegressor",
    "Auto, in order": "AutoMetaRegressor",
}
# Told that rows come in time (shuffle=False); asked for the first rows alone, on these tables.
IN_ORDER = "Auto, in order"
LONGITUDINAL = ("sleepstudy", "Parkinson", "egsingle")
SHOTS = (0, 1, 3, 5, 10)
TABLE_SHOTS = {"Parkinson": (*SHOTS, 20), "Parkinson motor": (5, 20)}
# Only for the errors in points of the scale: it is nearly the other target of the same patients.
ONLY_POINTS = ("Parkinson motor",)
N_SPLITS, N_DRAWS = 20, 5
FAMILY = "baselines"  # one unit of work, so that they share their pooled parts
# Splits at most, of a table and of a method on a table: what takes over a minute a fit gets fewer,
# and what would take many minutes none.
MOST_SPLITS = {"ILEA": 5, "Chem97": 3, "Parkinson motor": 10}
SLOW = {
    ("merf", "Parkinson"): 5,
    ("merf", "Parkinson motor"): 2,
    ("merf", "ILEA"): 2,
    ("merf", "Chem97"): 1,
    ("MixedLM, slopes", "Chem97"): 2,
    ("GPBoost", "Chem97"): 2,
    ("GPBoost, refitted", "ILEA"): 2,
    ("GPBoost, refitted", "Chem97"): 0,
    ("Auto", "ILEA"): 3,
    ("Auto", "Chem97"): 2,
}


def n_splits(name, method, wanted):
    if method == IN_ORDER and name not in LONGITUDINAL:
        return 0
    return min(wanted, MOST_SPLITS.get(name, wanted), SLOW.get((method, name), wanted))


def fit(method, split):
    """A fitted method as a function of orders and k: means and standard deviations by task."""
    start = time.perf_counter()
    if method in PEERS:
        model = PEERS[method][1](split)
        predict = partial(model.predict, split)
    else:
        rows, options = split.fit_rows, {}
        if method == IN_ORDER:
            rows, options = split.rows_in_time(), {"shuffle": False}
        est = make_estimator(SKMETA_METHODS[method], split.seed, **options)
        est.fit(split.X[rows], split.y[rows], groups=split.groups[rows])
        predict = partial(predict_skmeta, est, split)
    return predict, time.perf_counter() - start


def score(split, orders, k, means, stds):
    """One line a task: errors, and how often and how wide the 90 % interval holds the target."""
    lines = []
    for i, o in orders.items():
        rows = o[:, k:]
        gap = np.abs(means[i] - split.y[rows])
        line = {"task": i, "mse": (gap**2).mean(), "mae": (gap * split.y_scale[rows]).mean()}
        if stds is not None:
            half = 1.645 * stds[i]
            line.update(covered=(gap <= half).mean(), width=2 * half.mean())
        lines.append(line)
    return pd.DataFrame(lines)


def run_unit(name, seed, method, *, shots=None, n_draws=N_DRAWS):
    """All figures of one method, or of all baselines, on one split of one table."""
    split, parts = Split(load(name), seed), []
    if method != FAMILY:
        predict, seconds = fit(method, split)
    for rule in ("first",) if method == IN_ORDER else split.rules():
        draws = split.draws(n_draws, rule)
        for k in shots or TABLE_SHOTS.get(name, SHOTS):
            orders = {i: o for i, o in draws.items() if o.shape[1] >= k + 2}
            if not orders:
                continue
            if method != FAMILY:
                part = score(split, orders, k, *predict(orders, k))
                parts.append(part.assign(support=rule, k=k, method=method, seconds=seconds))
                continue
            for m in BASELINES:
                means, took = run_baseline(m, split, k, rule, orders)
                part = score(split, orders, k, means, None)
                parts.append(part.assign(support=rule, k=k, method=m, seconds=took))
    return pd.concat(parts, ignore_index=True)


def main():
    methods = [*BASELINES, *PEERS, *SKMETA_METHODS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=REGRESSION, default=list(REGRESSION))
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--n-splits", type=int, default=N_SPLITS, help="splits a table, at most")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--parts", type=Path, help="folder that keeps the figures of every unit")
    parser.add_argument("--report", action="store_true", help="run nothing: what --parts has")
    parser.add_argument("--quick", action="store_true", help="two tables, one split, no files")
    parser.add_argument("--out", type=Path, help="folder to write the csv and markdown to")
    args = parser.parse_args()
    set_threads(1)
    complete = (args.sets, args.methods, args.n_splits) == (list(REGRESSION), methods, N_SPLITS)
    out = args.out or (RESULTS if complete and not args.quick else None)
    work = run_unit
    if args.quick:
        args.sets = [s for s in args.sets if s in ("sleepstudy", "bdf")] or args.sets[:1]
        args.n_splits, args.parts = 1, None
        work = partial(run_unit, shots=(0, 5), n_draws=2)
    here = available(SKMETA_METHODS, {name: module for name, (module, _) in PEERS.items()})
    runs = [FAMILY] if set(args.methods) & set(BASELINES) else []
    runs += [m for m in here if m in args.methods]
    sets = loadable(args.sets)
    units = [
        (name, seed, method)
        for seed in range(args.n_splits)  # split by split, so that a stopped run has all tables
        for name in sets
        for method in runs
        if seed < n_splits(name, method, args.n_splits)
    ]
    start = time.perf_counter()
    cells, failures = run_units(work, units, jobs=args.jobs, parts=args.parts, run=not args.report)
    report = Report(
        cells,
        sets=REGRESSION,
        methods=[m for m in methods if m in args.methods],
        own=SKMETA_METHODS,
        shots=SHOTS,
        only_points=ONLY_POINTS,
    )
    text = report.markdown(__doc__.split("\n\n")[1:4], failures)
    print(f"\n{text}\nall: {time.perf_counter() - start:.0f} s")
    if args.out is None and sets != args.sets:
        out = None  # a table was not there
    if out is not None:
        write_csv(out / "real_tables.csv", report.records)
        if report.ratios:  # one method alone has nothing to be compared with
            write_csv(out / "real_tables_ratios.csv", report.ratios)
        (out / "real_tables.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
