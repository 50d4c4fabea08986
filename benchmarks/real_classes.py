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
from _class_baselines import CLASS_BASELINES, CLASS_PEERS, run_class_baseline
from _common import (
    RESULTS,
    digits,
    interval,
    log_loss,
    markdown_table,
    set_threads,
    task_boot,
    task_interval,
    task_mean,
    write_csv,
)
from _runs import available, make_estimator, run_units
from _tables import CLASSIFICATION, Split, load, loadable
from scipy.special import logit
from scipy.stats import rankdata

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
FAMILY = "baselines"
METRICS = {"log_loss": "log loss", "auc": "AUC", "accuracy": "accuracy"}
WHERE, CELL = ["set", "support", "k"], ["split", "task"]


def predict_skmeta(est, split, orders, k):
    """Log odds of the query rows of every task (draws, rows); all tasks of a draw are one batch."""
    from skmeta.model_selection import predict_tasks

    X, y, groups, found = split.X, split.y.astype(int), split.groups, {i: [] for i in orders}
    for j in range(len(next(iter(orders.values())))):
        q = np.concatenate([o[j, k:] for o in orders.values()])
        if k == 0:
            p = est.predict_proba(X[q])
        else:
            s = np.concatenate([o[j, :k] for o in orders.values()])
            known = X[s], y[s], groups[s]
            p = predict_tasks(est, *known, X[q], groups[q], method="predict_proba")
        odds, start = logit(np.float64(p[:, 1]).clip(1e-9, 1 - 1e-9)), 0
        for i, o in orders.items():
            found[i].append(odds[start : start + o.shape[1] - k])
            start += o.shape[1] - k
    return {i: np.array(rows) for i, rows in found.items()}


def area(y, score):
    """Area under the ROC curve; NaN where there is one class."""
    n = y.sum()
    if n in (0, len(y)):
        return np.nan
    return (rankdata(score)[y == 1].sum() - n * (n + 1) / 2) / (n * (len(y) - n))


def area_shares(labels, scores):
    """One value a task, whose mean is the AUC of the rows of all tasks together.

    The AUC plus the first-order change that the task's rows make, times the number of tasks: so
    resampling the values is resampling tasks.
    """
    y, score = np.concatenate(labels), np.concatenate(scores)
    task = np.repeat(np.arange(len(labels)), [len(part) for part in labels])
    n_yes = y.sum()
    n_no = len(y) - n_yes
    if n_yes == 0 or n_no == 0:
        return np.full(len(labels), np.nan)
    # How many rows of the other class a row is placed right against, as a share.
    within = np.empty(len(y))
    for c in (0, 1):
        within[y == c] = rankdata(score[y == c])
    above = rankdata(score) - within
    share = np.where(y == 1, above / n_no, 1 - above / n_yes)
    total = share[y == 1].mean()
    change = (share - total) / np.where(y == 1, n_yes, n_no)
    return total + len(labels) * np.bincount(task, change, minlength=len(labels))


def score(split, orders, k, odds, *, together, by_draw):
    """One line a task (or a task and draw): log loss, accuracy, AUC."""
    lines = []
    for j in range(len(next(iter(orders.values())))):
        labels = [split.y[o[j, k:]] for o in orders.values()]
        scores = [odds[i][j] for i in orders]
        areas = [area(y, s) for y, s in zip(labels, scores, strict=True)]
        if together:
            areas = area_shares(labels, scores)
        for i, y, s, a in zip(orders, labels, scores, areas, strict=True):
            line = {"task": i, "draw": j, "log_loss": log_loss(y, s).mean(), "auc": a}
            lines.append(line | {"accuracy": ((s > 0) == (y == 1)).mean()})
    frame = pd.DataFrame(lines)
    if by_draw:
        return frame
    return frame.drop(columns="draw").groupby("task", sort=False, as_index=False).mean()


def run_unit(name, seed, method, *, shots=None, n_draws=None):
    """All figures of one method, or of all baselines, on one split of one table."""
    split, parts = Split(load(name), seed), []
    n_draws = n_draws or (N_HEART_DRAWS if name == HEART else N_DRAWS)
    how = {"together": name in TOGETHER, "by_draw": name == HEART}
    start, rows, predict = time.perf_counter(), split.fit_rows, None
    if method in CLASS_PEERS:
        predict = partial(CLASS_PEERS[method][1](split).predict, split)
    elif method != FAMILY:
        est = make_estimator(SKMETA_METHODS[method], seed)
        est.fit(split.X[rows], split.y[rows].astype(int), groups=split.groups[rows])
        predict = partial(predict_skmeta, est, split)
    seconds = time.perf_counter() - start
    for rule in split.rules():
        draws = split.draws(n_draws, rule)
        for k in shots or SHOTS[name]:
            orders = {i: o for i, o in draws.items() if o.shape[1] >= k + 2}
            for m in CLASS_BASELINES if predict is None else [method]:
                if predict is None:
                    odds, seconds = run_class_baseline(m, split, k, rule, orders)
                else:
                    odds = predict(orders, k)
                part = score(split, orders, k, odds, **how)
                parts.append(part.assign(support=rule, k=k, method=m, seconds=seconds))
    return pd.concat(parts, ignore_index=True)


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


def summarise(cells, key):
    record = dict(zip([*WHERE, "method"], key, strict=True))
    record["family"] = "skmeta" if key[-1] in SKMETA_METHODS else "other"
    for metric in METRICS:
        known = cells.dropna(subset=[metric])
        arrays = [known[c].to_numpy() for c in (metric, *CELL)]
        low, high = task_interval(*arrays) if len(known) else (np.nan, np.nan)
        mean = task_mean(*arrays[:2]) if len(known) else np.nan
        record |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
    record |= {"n_tasks": cells["task"].nunique(), "n_splits": cells["split"].nunique()}
    return record | {"fit_seconds": float(cells.groupby("split")["seconds"].first().mean())}


def compare(part, metric, method):
    """The method against the best other one: its name, the gap and the paired interval."""
    table = part.pivot(index=CELL, columns="method", values=metric)
    sign, best = (1 if metric == "log_loss" else -1), None
    for rival in table.columns.drop(method):
        pair = table[[method, rival]].dropna()
        if len(pair):
            gap = (pair[method] - pair[rival]).to_numpy()
            splits, tasks = (pair.index.get_level_values(c).to_numpy() for c in CELL)
            mean = task_mean(gap, splits)
            if best is None or sign * mean > sign * best[1]:
                best = rival, mean, gap, splits, tasks
    if best is None:
        return None
    low, high = interval(task_boot(*best[2:]))
    return best[0], best[1], low, high


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
        for metric, label in METRICS.items():
            shots, rows = list(part["k"].unique()), []
            full = part[part["n_splits"] == part["n_splits"].max()]
            best = full.groupby("k")[metric].agg("min" if metric == "log_loss" else "max")
            for method, lines in part.groupby("method", sort=False):
                row = [method]
                for line in lines.itertuples():
                    value, low, high = (
                        getattr(line, metric + end) for end in ("", "_low", "_high")
                    )
                    mark = "**" if value == best.get(line.k) else ""
                    cell = f"{mark}{digits(value)}{mark} [{digits(low)}, {digits(high)}]"
                    row.append(cell if np.isfinite(value) else "")
                seconds = f"{lines['fit_seconds'].max():.1f}"
                rows.append([*row, lines["n_splits"].max(), seconds])
            header = [label, *(f"k = {k}" for k in shots), "splits", "fit, s"]
            text += [markdown_table(header, rows), ""]
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
    names = list(dict.fromkeys(cells["set"]))
    places = {
        "set": cells["set"].map(sorted(names, key=_place).index),
        "support": cells["support"] == "first",
        "k": cells["k"],
        "method": cells["method"].map(methods.index),
    }
    cells = cells.loc[pd.DataFrame(places).sort_values(list(places), kind="stable").index]
    records = [summarise(part, key) for key, part in cells.groupby([*WHERE, "method"], sort=False)]
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
