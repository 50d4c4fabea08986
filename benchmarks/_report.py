"""From the figures of every (table, split, task, method) to the tables of real_tables.md.

Nothing here is run by itself.
"""

import numpy as np
import pandas as pd
from _baselines import PER_TASK, POOLED
from _common import digits, interval, markdown_table, task_boot, task_interval, task_mean

CELL = ["split", "task"]
WHERE = ["support", "set", "k"]
TITLES = {"random": "random support rows", "first": "the first k rows in time as support"}


class Report:
    """Summaries of `cells`, one line a (support rule, k, table, split, task, method).

    Tables and methods come in the order of `sets` and `methods`; `own` are those of skmeta. Tables
    in `only_points`, and k beyond `shots`, count for the errors in points alone.
    """

    def __init__(self, cells, *, sets, methods, own, shots, only_points=()):
        cells = cells[cells["method"].isin(methods)]
        places = {
            "support": cells["support"] == "first",
            "set": cells["set"].map(list(sets).index),
            "k": cells["k"],
            "method": cells["method"].map(list(methods).index),
        }
        cells = cells.loc[pd.DataFrame(places).sort_values(list(places), kind="stable").index]
        self.points = cells[cells["set"].str.startswith("Parkinson")]
        self.cells = cells[~cells["set"].isin(only_points) & cells["k"].isin(shots)]
        self.methods = [m for m in methods if m in set(cells["method"])]
        self.own = [m for m in self.methods if m in own]
        self.records = [self._record(key, part) for key, part in _groups(cells, [*WHERE, "method"])]
        self.ratios, self._boots = [], {}
        for where, part in _groups(self.cells, WHERE):
            table = part.pivot(index=CELL, columns="method", values="mse")
            for method in (m for m in self.methods if m in table):
                self._rate(where, table, method)

    def _record(self, key, frame):
        values, splits, tasks = (frame[c].to_numpy() for c in ("mse", *CELL))
        low, high = task_interval(values, splits, tasks)
        record = dict(zip([*WHERE, "method"], key, strict=True))
        record |= {"family": "skmeta" if key[-1] in self.own else "other"}
        record |= {"mse": task_mean(values, splits), "low": low, "high": high}
        record["mae"] = task_mean(frame["mae"].to_numpy(), splits)
        for name in ("covered", "width"):
            known = frame.dropna(subset=[name]) if name in frame else frame[:0]
            pair = known.get(name, known["mse"]).to_numpy(), known["split"].to_numpy()
            record[name] = task_mean(*pair) if len(known) else np.nan
        record |= {"n_tasks": len(np.unique(tasks)), "n_splits": len(np.unique(splits))}
        return record | {"fit_seconds": float(frame.groupby("split")["seconds"].first().mean())}

    def _rate(self, where, table, method):
        """Ratios of one method's error to others', on the cells that both have."""
        others = [m for m in table.columns if m != method]
        rivals = {
            "best other": others,
            "best outside skmeta": [m for m in others if m not in self.own],
            "best of pooled and per-task": [m for m in others if m in (*POOLED, *PER_TASK)],
        }
        means = {m: _pair(table, method, m) for m in others}
        for against, names in rivals.items():
            names = [m for m in names if means[m] is not None]
            if not names or (against != "best other" and method not in self.own):
                continue
            rival = max(names, key=lambda m: means[m][0] / means[m][1])
            ratio = means[rival][0] / means[rival][1]
            line = dict(zip(WHERE, where, strict=True))
            line |= {"method": method, "against": against, "rival": rival, "ratio": ratio}
            line |= {"low": np.nan, "high": np.nan}
            if method in self.own:
                pair = table[[method, rival]].dropna()
                splits, tasks = (pair.index.get_level_values(c).to_numpy() for c in CELL)
                top, bottom = (task_boot(pair[m].to_numpy(), splits, tasks) for m in pair)
                self._boots[(*where, method, against)] = np.log(top / bottom)
                line["low"], line["high"] = interval(top / bottom)
            self.ratios.append(line | {"n_cells": means[rival][2], "n_splits": means[rival][3]})

    def markdown(self, paragraphs, failures):
        text = ["# New tasks on real tables", ""]
        for paragraph in paragraphs:
            text += [paragraph, ""]
        text += self._overall()
        if self.own and self.ratios:
            text += [
                "## Each method of skmeta against the best other method of each line",
                "",
                "Excess error in %, with its paired interval; below 0 the method is itself the "
                "best. The best is picked after the fact, in its favour, among all other methods.",
                "",
                *self._against("best other"),
                "## The same against the best method that is not of skmeta",
                "",
                *self._against("best outside skmeta"),
                "## Does it do harm? Excess over the best of pooled and per-task models",
                "",
                f"Pooled: {', '.join(POOLED)}; per-task: {', '.join(PER_TASK)}.",
                "",
                *self._against("best of pooled and per-task"),
            ]
        text += [*self._coverage(), *self._points()]
        for (support, name), part in _groups(pd.DataFrame(self.records), WHERE[:2]):
            part = part[part["k"].isin(self.cells["k"].unique())]
            if name in set(self.cells["set"]):
                text += [f"## {name}: {TITLES[support]}", "", self._errors(part), ""]
        if failures:
            text += ["## What failed", "", *(f"- {failure}" for failure in failures), ""]
        return "\n".join(text)

    def _overall(self):
        """Geometric mean over tables of the ratio to the best other method."""
        if not self.ratios:
            return []  # one method alone
        ratios = pd.DataFrame(self.ratios)
        ratios = ratios[ratios["against"] == "best other"]
        text = [
            "## All tables together",
            "",
            "Error over that of the best other method, picked after the fact for every table: "
            "geometric mean over tables [95 % interval], and the worst table.",
            "",
        ]
        for support, part in _groups(ratios, ["support"]):
            shots = sorted(part["k"].unique())
            rows = []
            for (method,), lines in _groups(part, ["method"]):
                row = [method]
                for k in shots:
                    here = lines[lines["k"] == k]
                    row.append(self._geometric_mean(here) if len(here) else "")
                rows.append(row)
            header = ["method", *(f"k = {k}" for k in shots)]
            text += [f"With {TITLES[support[0]]}:", "", markdown_table(header, rows), ""]
        return text

    def _geometric_mean(self, lines):
        cell = digits(float(np.exp(np.log(lines["ratio"]).mean())))
        keys = lines[[*WHERE, "method", "against"]].itertuples(index=False, name=None)
        keys = list(keys)
        if all(key in self._boots for key in keys):
            low, high = interval(np.exp(np.mean([self._boots[key] for key in keys], axis=0)))
            cell += f" [{digits(low)}, {digits(high)}]"
        worst = lines.loc[lines["ratio"].idxmax()]
        return f"{cell}; {worst['set']} {digits(worst['ratio'])}"

    def _against(self, against):
        ratios = pd.DataFrame(self.ratios)
        ratios = ratios[(ratios["against"] == against) & ratios["method"].isin(self.own)]
        rows = []
        for where, part in _groups(ratios, WHERE):
            lines = {line.method: line for line in part.itertuples()}
            cells = [_excess(lines[m]) if m in lines else "" for m in self.own]
            rows.append([*where, *cells])
        counts = []
        for m in self.own:
            mine = ratios[ratios["method"] == m]
            worse, better = (mine["low"] > 1).sum(), (mine["high"] < 1).sum()
            counts.append(f"{m}: better {better}, worse {worse} of {len(mine)} lines")
        header = [*WHERE, *self.own]
        return [markdown_table(header, rows), "", "Decided: " + "; ".join(counts) + ".", ""]

    def _coverage(self):
        frame = pd.DataFrame(self.records).dropna(subset=["covered"])
        frame = frame[frame["set"].isin(set(self.cells["set"]))]
        frame = frame[frame["k"].isin(self.cells["k"].unique())]
        if frame.empty:
            return []
        shots, rows = sorted(frame["k"].unique()), []
        for where, part in _groups(frame, ["support", "set", "method"]):
            lines = {line.k: line for line in part.itertuples()}
            cells = [
                f"{100 * lines[k].covered:.0f} ({digits(lines[k].width)})" if k in lines else ""
                for k in shots
            ]
            rows.append([*where, *cells])
        header = ["support", "set", "method", *(f"k = {k}" for k in shots)]
        return [
            "## Coverage of the 90 % predictive interval, %",
            "",
            "Mean +- 1.645 standard deviations; in brackets the mean width of the interval.",
            "",
            markdown_table(header, rows),
            "",
        ]

    def _points(self):
        """Parkinson in points of the scale."""
        frame = self.points[self.points["k"].isin((5, 20))]
        if frame.empty:
            return []
        columns, rows = list(_groups(frame, ["support", "set", "k"])), []
        for method in self.methods:
            row = [method]
            for _, part in columns:
                mine = part[part["method"] == method]
                row.append(_cell(mine, "mae", 2) if len(mine) else "")
            rows.append(row)
        names = {"Parkinson": "total", "Parkinson motor": "motor"}
        header = [f"{names[name]}, {rule} {k}" for (rule, name, k), _ in columns]
        return [
            "## Parkinson: mean absolute error in points of the UPDRS",
            "",
            "Total and motor score, after k random rows and after the first k in time.",
            "",
            markdown_table(["method", *header], rows),
            "",
        ]

    def _errors(self, part):
        """Every method and k of one table; bold is the least of the rows that have all splits."""
        most = part["n_splits"].max()
        full = part[part["n_splits"] == most]
        least, counts = full.groupby("k")["mse"].min(), part.groupby("k")["n_tasks"].max()
        header = ["method", *(f"k = {k} ({counts[k]} tasks)" for k in counts.index)]
        rows = []
        for (method,), lines in _groups(part, ["method"]):
            found = {line.k: line for line in lines.itertuples()}
            row = [method]
            for k in counts.index:
                if k not in found:
                    row.append("")
                    continue
                line = found[k]
                mark = "**" if line.n_splits == most and line.mse == least[k] else ""
                gap = f"[{digits(line.low)}, {digits(line.high)}]"
                row.append(f"{mark}{digits(line.mse)}{mark} {gap}")
            rows.append([*row, lines["n_splits"].max(), f"{lines['fit_seconds'].max():.1f}"])
        return markdown_table([*header, "splits", "fit, s"], rows)


def _groups(frame, columns):
    """Groups in the order in which they come up."""
    return frame.groupby(columns, sort=False)


def _pair(table, a, b):
    """Means of two methods on the cells that both have, with the number of cells and splits."""
    pair = table[[a, b]].dropna()
    if pair.empty:
        return None
    splits = pair.index.get_level_values("split").to_numpy()
    means = (task_mean(pair[m].to_numpy(), splits) for m in (a, b))
    return *means, len(pair), len(np.unique(splits))


def _excess(line):
    low, high = 100 * (line.low - 1), 100 * (line.high - 1)
    return f"{100 * (line.ratio - 1):+.1f} [{low:+.1f}, {high:+.1f}] ({line.rival})"


def _cell(frame, column, decimals):
    values, splits, tasks = (frame[c].to_numpy() for c in (column, *CELL))
    low, high = task_interval(values, splits, tasks)
    mean = task_mean(values, splits)
    return f"{mean:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"
