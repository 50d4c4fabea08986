"""New tasks with a yes or no to tell: log loss, AUC and accuracy after k labelled rows.

Landmine (29 fields; 6 % mines), VerbAgg (316 persons answering 24 items), Contraception (districts)
and toenail (patients): a quarter of the tasks is held out, 20 times; a held-out task shows k of its
rows, five draws, and the rest is predicted. Heart disease: each of four hospitals is held out in
turn, 20 draws, and the figures are given hospital by hospital. All columns are standardised on the
training tasks, unknown values become their mean; no row of a new task but its support is looked at.

Every figure is the mean over a split's tasks and draws, then over splits. Tasks under k + 2 rows
are skipped, and for the AUC tasks whose other rows are all of one class; on toenail, where most
are, the AUC is that of all rows of the held-out patients together. Intervals (95 %) resample
held-out tasks; for the heart, where a task is a hospital, they resample draws, so they tell how
much the choice of support rows matters and not how far another hospital would be off. Toenail also
with the first k visits as support.

Baselines (`_class_baselines.py`) are tuned on training tasks alone, by log loss; the part that is
fitted to the support rows by playing the k-shot game on out-of-task predictions. "Per-task" models
start from the base rate of the training tasks. Methods of skmeta run with their default settings.

    python benchmarks/real_classes.py --jobs 2 --parts build/parts  # everything, writes results/
    python benchmarks/real_classes.py --quick                      # two tables, one split, prints
    python benchmarks/real_classes.py --sets landmine --methods "per-task logistic" --n-splits 2

--parts keeps the figures of every unit of work, as in real_tables.py. SKMETA_DATA_HOME names a
local copy of the data, without which landmine is left out.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from _class_baselines import CLASS_BASELINES, CLASS_PEERS
from _classes import (
    FAMILY,
    METRICS,
    WHERE,
    compare,
    in_order,
    metric_tables,
    run_on_split,
    summarise,
)
from _common import RESULTS, markdown_table, set_threads, write_csv
from _runs import available, make_estimator, run_units
from _tables import CLASSIFICATION, Split, load, loadable

SKMETA_METHODS = {
    "ProtoNet": "ProtoNetClassifier",
    "MAML": "MAMLClassifier",
    "MetaSVC": "MetaSVC",
    "RidgeHead": "RidgeHeadClassifier",
    "HierarchicalGP": "HierarchicalGPClassifier",
    "HierarchicalLogistic": "HierarchicalLogisticRegression",
    "Auto": "AutoMetaClassifier",
}
SHOTS = {
    "landmine": (0, 5, 10, 20),
    "VerbAgg": (0, 3, 5, 10),
    "Contraception": (0, 3, 5, 10),
    "toenail": (0, 1, 3),
    "heart disease": (0, 10, 20, 40),
}
HEART, TOGETHER = "heart disease", ("toenail",)  # the AUC of all tasks together
THREE = ("cleveland", "hungarian", "va")
N_SPLITS, N_DRAWS, N_HEART_DRAWS = 20, 5, 20


def run_unit(name, seed, method, *, shots=None, n_draws=None):
    """All figures of one method, or of all baselines, on one split of one table."""
    return run_on_split(
        Split(load(name), seed),
        method,
        own={m: partial(make_estimator, cls) for m, cls in SKMETA_METHODS.items()},
        shots=shots or SHOTS[name],
        n_draws=n_draws or (N_HEART_DRAWS if name == HEART else N_DRAWS),
        together=name in TOGETHER,
        by_draw=name == HEART,
    )


def by_hospital(cells):
    """Heart disease as one table a hospital, and one for the three that have both classes.

    There a draw takes the place of a task: draws are what the intervals resample.
    """
    heart = cells[cells["set"] == HEART]
    if heart.empty:
        return cells
    own = heart.assign(set=HEART + ", " + heart["task"], split=0)
    three = heart[heart["task"].isin(THREE)]
    mean = three.assign(set=HEART + ", mean of all but switzerland")
    heart = pd.concat([own, mean])
    return pd.concat([cells[cells["set"] != HEART], heart.assign(task=heart["draw"].astype(str))])


def to_markdown(cells, records, failures):
    text = ["# New tasks with a yes or no", ""]
    for paragraph in __doc__.split("\n\n")[1:4]:
        text += [paragraph, ""]
    own = [m for m in SKMETA_METHODS if m in set(cells["method"])]
    for metric in ("log_loss", "auc") if own else ():
        text += [f"## skmeta against the best other method: {METRICS[metric]}", ""]
        text += ["Difference with its paired interval; the best is picked after the fact.", ""]
        rows = []
        for where, part in cells.groupby(WHERE, sort=False):
            row = list(where)
            for m in own:
                found = compare(part, metric, m) if m in set(part["method"]) else None
                name, *gap = found or ("", np.nan, np.nan, np.nan)
                gap = [f"{value:+.3f}" for value in gap]
                row.append(f"{gap[0]} [{gap[1]}, {gap[2]}] ({name})" if name else "")
            rows.append(row)
        text += [markdown_table([*WHERE, *own], rows), ""]
    frame = pd.DataFrame(records)
    for (name, rule), part in frame.groupby(WHERE[:2], sort=False):
        titles = {"random": "random support rows", "first": "the first k visits as support"}
        text += [f"## {name}: {titles[rule]}", ""]
        text += metric_tables(part)
    if failures:
        text += ["## What failed", "", *(f"- {failure}" for failure in failures), ""]
    return "\n".join(text)


def main():
    methods = [*CLASS_BASELINES, *CLASS_PEERS, *SKMETA_METHODS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=CLASSIFICATION, default=list(CLASSIFICATION))
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--n-splits", type=int, default=N_SPLITS, help="splits a table, at most")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--parts", type=Path, help="folder that keeps the figures of every unit")
    parser.add_argument("--report", action="store_true", help="run nothing: what --parts has")
    parser.add_argument("--quick", action="store_true", help="two tables, one split, no files")
    parser.add_argument("--out", type=Path, help="folder to write the csv and markdown to")
    args = parser.parse_args()
    set_threads(1)
    complete = (args.sets, args.methods, args.n_splits) == (
        list(CLASSIFICATION),
        methods,
        N_SPLITS,
    )
    out, work = args.out or (RESULTS if complete and not args.quick else None), run_unit
    if args.quick:
        args.sets = [s for s in args.sets if s in ("Contraception", HEART)] or args.sets[:1]
        args.n_splits, args.parts = 1, None
        work = partial(run_unit, shots=(0, 10), n_draws=2)
    here = available(SKMETA_METHODS, {name: module for name, (module, _) in CLASS_PEERS.items()})
    runs = [FAMILY] if set(args.methods) & set(CLASS_BASELINES) else []
    runs += [m for m in here if m in args.methods]
    sets = loadable(args.sets)
    units = [
        (name, seed, method)
        for seed in range(args.n_splits)  # split by split, so that a stopped run has all tables
        for name in sets
        for method in runs
        if name != HEART or seed < 4
    ]
    start = time.perf_counter()
    cells, failures = run_units(work, units, jobs=args.jobs, parts=args.parts, run=not args.report)
    cells = by_hospital(cells[cells["method"].isin(args.methods)]).reset_index(drop=True)
    cells = in_order(cells, methods, sorted(set(cells["set"]), key=_place))
    records = summarise(cells, SKMETA_METHODS)
    text = to_markdown(cells, records, failures)
    print(f"\n{text}\nall: {time.perf_counter() - start:.0f} s")
    if args.out is None and sets != args.sets:
        out = None  # a table was not there
    if out is not None:
        write_csv(out / "real_classes.csv", records)
        (out / "real_classes.md").write_text(text, encoding="utf-8")


def _place(name):
    """Where a table stands in the report: as in CLASSIFICATION, hospitals by name."""
    return CLASSIFICATION.index(name.split(",")[0]), name


if __name__ == "__main__":
    main()
