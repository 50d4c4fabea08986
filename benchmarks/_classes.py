"""Yes or no in new tasks: one method on one split, its figures, and the tables made of them.

Nothing here is run by itself.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
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
from _runs import run_units
from scipy.special import logit
from scipy.stats import rankdata

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


def score(split, orders, k, odds, *, together=False, by_draw=False):
    """One line a task (or a task and draw): log loss, accuracy, AUC.

    With `together`, the AUC is that of the rows of all tasks.
    """
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


def run_on_split(split, method, *, own, shots, n_draws, baselines=CLASS_BASELINES, **how):
    """All figures of one method, or of all baselines, on one split.

    `own` are the estimators of skmeta, as functions of a seed; `how` goes to `score`.
    """
    start, rows, predict, parts = time.perf_counter(), split.fit_rows, None, []
    if method in CLASS_PEERS:
        predict = partial(CLASS_PEERS[method][1](split).predict, split)
    elif method != FAMILY:
        est = own[method](split.seed)
        with sklearn.config_context(enable_metadata_routing=True):  # a search hands groups on
            est.fit(split.X[rows], split.y[rows].astype(int), groups=split.groups[rows])
        predict = partial(predict_skmeta, est, split)
    seconds = time.perf_counter() - start
    for rule in split.rules():
        draws = split.draws(n_draws, rule)
        for k in shots:
            orders = {i: o for i, o in draws.items() if o.shape[1] >= k + 2}
            for m in baselines if predict is None else [method]:
                if predict is None:
                    odds, seconds = run_class_baseline(m, split, k, rule, orders)
                else:
                    odds = predict(orders, k)
                part = score(split, orders, k, odds, **how)
                part = part.assign(support=rule, k=k, method=m, seconds=seconds)
                parts.append(part.assign(skipped=len(draws) - len(orders)))
    return pd.concat(parts, ignore_index=True)


def in_order(cells, methods, names):
    """Lines by table (`names` in their order), support rule, k and method."""
    places = {
        "set": cells["set"].map(names.index),
        "support": cells["support"] == "first",
        "k": cells["k"],
        "method": cells["method"].map(list(methods).index),
    }
    order = pd.DataFrame(places).sort_values(list(places), kind="stable").index
    return cells.loc[order]


def summarise(cells, own):
    """One record a table, k and method: means with their intervals."""
    return [_record(part, key, own) for key, part in cells.groupby([*WHERE, "method"], sort=False)]


def _record(cells, key, own):
    record = dict(zip([*WHERE, "method"], key, strict=True))
    record["family"] = "skmeta" if key[-1] in own else "other"
    for metric in METRICS:
        known = cells.dropna(subset=[metric])
        arrays = [known[c].to_numpy() for c in (metric, *CELL)]
        low, high = task_interval(*arrays) if len(known) else (np.nan, np.nan)
        mean = task_mean(*arrays[:2]) if len(known) else np.nan
        record |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
    record |= {"n_tasks": cells["task"].nunique(), "n_splits": cells["split"].nunique()}
    return record | {"fit_seconds": float(cells.groupby("split")["seconds"].first().mean())}


def compare(part, metric, method, rivals=None):
    """The method against the best of its rivals (all others): name, gap and paired interval."""
    table = part.pivot(index=CELL, columns="method", values=metric)
    sign, best = (1 if metric == "log_loss" else -1), None
    for rival in table.columns.drop(method) if rivals is None else rivals:
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


def metric_tables(records):
    """One table a metric, methods as rows and k as columns, for the records of one table of data.

    The best figures of a column are bold, where the method has all splits.
    """
    part, text = pd.DataFrame(records), []
    for metric, label in METRICS.items():
        shots, rows = list(part["k"].unique()), []
        full = part[part["n_splits"] == part["n_splits"].max()]
        best = full.groupby("k")[metric].agg("min" if metric == "log_loss" else "max")
        for method, lines in part.groupby("method", sort=False):
            row = [method]
            for line in lines.itertuples():
                value, low, high = (getattr(line, metric + end) for end in ("", "_low", "_high"))
                mark = "**" if value == best.get(line.k) else ""
                cell = f"{mark}{digits(value)}{mark} [{digits(low)}, {digits(high)}]"
                row.append(cell if np.isfinite(value) else "")
            seconds = f"{lines['fit_seconds'].max():.1f}"
            rows.append([*row, lines["n_splits"].max(), seconds])
        header = [label, *(f"k = {k}" for k in shots), "splits", "fit, s"]
        text += [markdown_table(header, rows), ""]
    return text


def _gaps(cells, methods, rival):
    """Paired differences to one rival, for log loss and AUC."""
    text = [f"## Difference to {rival}, with its paired interval", ""]
    for metric in ("log_loss", "auc"):
        rows = []
        for (name, k), part in cells.groupby(["set", "k"], sort=False):
            row = [name, k]
            for m in methods:
                gap = compare(part, metric, m, [rival])[1:]
                row.append("{:+.3f} [{:+.3f}, {:+.3f}]".format(*gap))
            rows.append(row)
        text += [markdown_table([METRICS[metric], "k", *methods], rows), ""]
    return text


def study(title, doc, work, *, name, own, baselines, seeds, quick, regroup=None, rival):
    """Command line of a study of one table: every method on every split, to csv and markdown.

    `work(name, seed, method)` gives a frame, `regroup` the cells as they are reported; `seeds` and
    `quick` are the splits of a whole run and of a quick one. The gaps are those to `rival`.
    """
    methods = [*baselines, *own]
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--parts", type=Path, help="folder that keeps the figures of every unit")
    parser.add_argument("--report", action="store_true", help="run nothing: what --parts has")
    parser.add_argument("--quick", action="store_true", help="few splits and draws, no files")
    parser.add_argument("--out", type=Path, help="folder to write the csv and markdown to")
    args = parser.parse_args()
    set_threads(1)
    complete = args.methods == methods and not args.quick
    out, start = args.out or (RESULTS if complete else None), time.perf_counter()
    if args.quick:
        seeds, args.parts, work = quick, None, partial(work, shots=(5, 20), n_draws=2)
    runs = [FAMILY] if set(args.methods) & set(baselines) else []
    runs += [m for m in own if m in args.methods]
    units = [(name, seed, m) for seed in seeds for m in runs]
    cells, failures = run_units(work, units, jobs=args.jobs, parts=args.parts, run=not args.report)
    cells = cells[cells["method"].isin(args.methods)]
    cells = (cells if regroup is None else regroup(cells)).reset_index(drop=True)
    cells = in_order(cells, methods, list(dict.fromkeys(cells["set"])))
    records, found = summarise(cells, own), list(dict.fromkeys(cells["method"]))
    text = [f"# {title}", "", *_paragraphs(doc), *_skipped(cells)]
    for table, part in pd.DataFrame(records).groupby("set", sort=False):
        text += [f"## {table}", "", *metric_tables(part)]
    if rival in found:
        text += _gaps(cells, [m for m in found if m in own], rival)
    if failures:
        text += ["## What failed", "", *(f"- {failure}" for failure in failures), ""]
    print("\n" + "\n".join(text) + f"\nall: {time.perf_counter() - start:.0f} s")
    if out is not None:
        stem = Path(sys.argv[0]).stem
        write_csv(out / f"{stem}.csv", records)
        (out / f"{stem}.md").write_text("\n".join(text), encoding="utf-8")


def _paragraphs(doc):
    """What a script says of itself, without its first line and how it is called."""
    return [line for part in doc.split("\n\n")[1:-1] for line in (part, "")]


def _skipped(cells):
    """How many held-out tasks were too small for a k."""
    per_split = cells.groupby(["k", "split"])["skipped"].first().groupby("k")
    counts = [f"{n} at k = {k}" for k, n in per_split.sum().items() if n]
    if not counts:
        return []
    n = int(per_split.count().max())
    splits = "one split" if n == 1 else f"{n} splits together"
    return [f"Tasks left out because they are too small ({splits}): {', '.join(counts)}.", ""]
