"""What a comparison says: means, intervals over tasks, sentences no stronger than they allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

N_BOOT = 2000
LEVEL = 0.95
# With five tasks all five favour one side by chance in 6 of 100 comparisons: too often.
FEWEST_TASKS = 6
# A gain of less than a twentieth of the baseline's score is none.
MARGIN = 0.05
# Line styles: the user's estimators stand out.
BASELINE_COLOURS = ("0.35", "0.55", "tan", "rosybrown", "slategrey", "darkseagreen", "plum")


def bootstrap_means(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of the mean of every line, resampling tasks.

    Parameters
    ----------
    values : array of shape (n_lines, n_tasks)
        Finite. All lines meet the same resamples, which depend on the number of tasks only.

    Returns
    -------
    low, high : arrays of shape (n_lines,)
    """
    n_tasks = values.shape[1]
    rng = np.random.default_rng(0)
    even = np.full(n_tasks, 1 / n_tasks)
    means = [
        rng.multinomial(n_tasks, even, size=N_BOOT // 20) @ values.T / n_tasks for _ in range(20)
    ]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return low, high


class TaskComparison:
    """The result of :func:`compare_tasks`.

    Attributes
    ----------
    table_ : DataFrame
        One line a number of support rows and method. ``score`` is the mean over tasks, ``low`` and
        ``high`` its 95 % interval; ``better`` says whether lower or higher scores are better.
        ``reference`` is the baseline with the best mean at this ``k``. ``gain`` is how much better
        than the reference the method is (positive is better, whatever the metric), paired by task,
        with its 95 % interval; ``helped`` and ``hurt`` are the shares of tasks with a better and a
        worse score than the reference's. ``n_skipped`` tasks were left out. ``fit_seconds`` is the
        mean over the folds.
    scores_ : DataFrame
        The score of every task (mean over the repeats) at every ``k`` and with every method. Tasks
        are numbered in the order of their sorted ids, which are not kept.
    verdict_ : str
        The answer in plain sentences: the overall one first, then one an estimator.
    metric_ : str
        What was computed.
    lower_is_better_ : bool
        Whether it is an error.

    See Also
    --------
    compare_tasks : Makes such a comparison.
    """

    def __init__(self, table: Any, scores: Any, metric: str, lower_is_better: bool) -> None:
        self.table_ = table
        self.scores_ = scores
        self.metric_ = metric
        self.lower_is_better_ = lower_is_better
        self.verdict_ = verdict(table, lower_is_better)

    def plot(self, ax: Any = None) -> Any:
        """Plot the score against the number of support rows, with the intervals.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(9, 4.5), layout="constrained")
        ks = list(dict.fromkeys(self.table_["k"]))
        n_methods = self.table_["method"].nunique()
        colours = {"yours": iter(plt.rcParams["axes.prop_cycle"].by_key()["color"] * 9)}
        colours["baseline"] = iter(BASELINE_COLOURS * 9)
        for i, ((method, kind), lines) in enumerate(
            self.table_.groupby(["method", "kind"], sort=False)
        ):
            # Side by side, or one interval would hide another.
            shift = 0.4 * (i + 0.5) / n_methods - 0.2
            place = np.array([ks.index(k) for k in lines["k"]]) + shift
            score, low, high = (lines[name].to_numpy() for name in ("score", "low", "high"))
            colour, yours = next(colours[kind]), kind == "yours"
            if yours:
                ax.fill_between(place, low, high, color=colour, alpha=0.15, lw=0)
            ax.errorbar(
                place,
                score,
                # Rounding may put the mean of equal values a hair outside its interval.
                np.maximum([score - low, high - score], 0),
                fmt="o-" if yours else "s--",
                color=colour,
                lw=2.2 if yours else 1,
                elinewidth=1,
                ms=6 if yours else 4,
                zorder=3 if yours else 2,
                label=method if yours else f"{method} (baseline)",
            )
        counts = self.table_.groupby("k")["n_tasks"].first()
        ax.set_xticks(range(len(ks)), [f"{k}\n{counts[k]} tasks" for k in ks])
        ax.set_xlabel("support rows of a new task")
        ax.set_ylabel(f"{self.metric_}\n({self._better()} is better)")
        score = self.table_["score"]
        if (
            self.lower_is_better_
            and self.table_["low"].min() > 0
            and score.max() > 10 * score.min()
        ):
            ax.set_yscale("log")
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
        return ax

    def _better(self) -> str:
        return "lower" if self.lower_is_better_ else "higher"

    def _grid(self) -> Any:
        """One line a method, one column a k, the intervals in brackets."""
        table = self.table_
        counts = table.groupby("k")["n_tasks"].first()
        cells = [
            f"{line.score:.3g} [{line.low:.3g}, {line.high:.3g}]"
            for line in table.itertuples(index=False)
        ]
        names = [f"k = {k} ({counts[k]} tasks)" for k in table["k"]]
        grid = table.assign(cell=cells, column=names).pivot(
            index="method", columns="column", values="cell"
        )
        return grid.loc[
            list(dict.fromkeys(table["method"])), list(dict.fromkeys(names))
        ].rename_axis(index=None, columns=None)

    def _title(self) -> str:
        return f"{self.metric_}, mean [95 % interval over tasks]; {self._better()} is better"

    def __repr__(self) -> str:
        return f"{self.verdict_}\n\n{self._title()}\n{self._grid().to_string()}"

    def _repr_html_(self) -> str:
        sentences = "".join(f"<p>{escape(line)}</p>" for line in self.verdict_.splitlines())
        return f"{sentences}<p><em>{escape(self._title())}</em></p>{self._grid().to_html()}"


def summarise(
    scores: np.ndarray,
    *,
    methods: Sequence[str],
    is_baseline: Sequence[bool],
    n_support: Sequence[int],
    n_held_out: int,
    fit_seconds: Sequence[float],
    metric: str,
    lower_is_better: bool,
) -> TaskComparison:
    """Make the tables of a comparison.

    Parameters
    ----------
    scores : array of shape (n_ks, n_methods, n_tasks)
        The score of every task, NaN where there is none. A task without a score of every method is
        left out, so that all methods are compared on the same tasks.
    methods, is_baseline, fit_seconds : of length n_methods
        Names; whether a method is one to be beaten; mean seconds a fit.
    n_support : sequence of int
        The numbers of support rows.
    n_held_out : int
        Tasks that were held out.
    metric : str
        What the scores are.
    lower_is_better : bool
        Whether they are errors.
    """
    import pandas as pd

    sign = -1.0 if lower_is_better else 1.0
    baselines = np.flatnonzero(is_baseline)
    kinds = np.where(is_baseline, "baseline", "yours")
    lines, parts = [], []
    for k, values in zip(n_support, scores, strict=True):
        tasks = np.flatnonzero(np.isfinite(values).all(axis=0))
        if len(tasks) == 0:
            continue
        values = values[:, tasks]
        means = values.mean(axis=1)
        best = baselines[(sign * means[baselines]).argmax()] if len(baselines) else None
        gains = np.full_like(values, np.nan) if best is None else sign * (values - values[best])
        (low, high), (gain_low, gain_high) = bootstrap_means(values), bootstrap_means(gains)
        for m, method in enumerate(methods):
            lines.append(
                {
                    "k": k,
                    "method": method,
                    "kind": kinds[m],
                    "score": means[m],
                    "low": low[m],
                    "high": high[m],
                    "better": "lower" if lower_is_better else "higher",
                    "reference": None if best is None else methods[best],
                    "gain": gains[m].mean(),
                    "gain_low": gain_low[m],
                    "gain_high": gain_high[m],
                    "helped": np.nan if best is None else (gains[m] > 1e-12).mean(),
                    "hurt": np.nan if best is None else (gains[m] < -1e-12).mean(),
                    "n_tasks": len(tasks),
                    "n_skipped": n_held_out - len(tasks),
                    "fit_seconds": fit_seconds[m],
                }
            )
            parts.append(
                pd.DataFrame({"k": k, "method": method, "task": tasks, "score": values[m]})
            )
    scores_frame = pd.concat(parts, ignore_index=True)
    return TaskComparison(pd.DataFrame(lines), scores_frame, metric, lower_is_better)


# ------------------------------------------------------------------- sentences

BETTER, WORSE, UNCLEAR, TOO_FEW = "better", "worse", "unclear", "too few"


def judge(line: Any) -> str:
    """What the paired interval of a line of the table allows to say."""
    if line.n_tasks < FEWEST_TASKS:
        return TOO_FEW
    if line.gain_low > 0:
        return BETTER
    return WORSE if line.gain_high < 0 else UNCLEAR


def verdict(table: Any, lower_is_better: bool) -> str:
    """Plain sentences: one overall, one an estimator, and how they came about."""
    yours = table[table["kind"] == "yours"]
    baselines = table[table["kind"] == "baseline"]
    if yours.empty:
        return "None of the estimators adapts to a task: nothing can be said about meta-learning."
    if baselines.empty:
        return (
            "No baselines were run: nothing can be said about whether meta-learning helps. Leave "
            "baselines=True."
        )
    lines = list(yours.itertuples(index=False))
    scores = baselines.set_index(["k", "method"])["score"]
    references = {line.k: line.reference for line in lines}
    against = {line.k: float(scores[line.k, line.reference]) for line in lines}
    sentences = [_overall(lines, references, against)]
    for name in dict.fromkeys(yours["method"]):
        own = [line for line in lines if line.method == name]
        sentences.append(_about(name, own, against, lower_is_better))
    sentences.append(
        f"Best baseline: {_by_name(references)}. It is picked after the fact at every k, in its "
        "favour. A difference is clear where its 95 % interval (paired, bootstrap over tasks) "
        "excludes 0."
    )
    return "\n".join(sentences)


def _overall(lines: list, references: dict[int, str], against: dict[int, float]) -> str:
    found = {BETTER: [], WORSE: [], UNCLEAR: [], TOO_FEW: []}  # type: dict[str, list]
    for line in lines:
        found[judge(line)].append(line)
    judged = found[BETTER] + found[WORSE] + found[UNCLEAR]
    if not judged:
        return (
            f"Too few tasks to say anything: {max(line.n_tasks for line in lines)} were scored, "
            f"and {FEWEST_TASKS} are needed."
        )
    if found[BETTER]:
        ks = {line.k for line in found[BETTER]}
        names = dict.fromkeys(line.method for line in found[BETTER])
        return f"Meta-learning helps here at {_ks(ks, references)}: {_and(names)}."
    if all(line.gain_high < MARGIN * abs(against[line.k]) for line in judged):
        ks = {line.k for line in judged}
        who = {references[k] for k in ks}
        name = who.pop() if len(who) == 1 else "a baseline"
        return (
            f"Meta-learning does not help here: {name} is as good or better at "
            f"{_ks(ks, references)} (the intervals rule out a gain of {MARGIN:.0%})."
        )
    if found[WORSE]:
        return (
            "No gain shown: at no k is an estimator clearly better than the best baseline, at some "
            "it is clearly worse. More tasks would narrow the intervals."
        )
    return (
        "No clear difference from the best baseline at any k: the intervals leave room for a gain "
        "and for a loss. More tasks would narrow them."
    )


def _about(name: str, lines: list, against: dict[int, float], lower_is_better: bool) -> str:
    parts = []
    for what, words in (
        (BETTER, "beats the best baseline"),
        (WORSE, "is worse than the best baseline"),
        (UNCLEAR, "shows no clear difference"),
        (TOO_FEW, "cannot be judged"),
    ):
        chosen = [line for line in lines if judge(line) == what]
        if not chosen:
            continue
        places = [f"{line.k}{_detail(what, line, against, lower_is_better)}" for line in chosen]
        where = f"k = {_and(places)}"
        if len(chosen) == len(lines) > 1:
            where = "any k" if what == UNCLEAR else f"every k, {where}"
        parts.append(f"{words} at {where}")
    return f"{name} {'; it '.join(parts)}."


def _detail(what: str, line: Any, against: dict[int, float], lower_is_better: bool) -> str:
    if what == UNCLEAR:
        return ""
    if what == TOO_FEW:
        return f" ({line.n_tasks} tasks, {FEWEST_TASKS} are needed)"
    size = abs(line.gain)
    if lower_is_better and against[line.k] > 0:
        return f" (by {size / against[line.k]:.0%})"
    return f" (by {size:.2g})"


def _ks(ks: Iterable[int], references: dict[int, str]) -> str:
    ks = sorted(ks)
    return "every k" if len(ks) == len(references) > 1 else f"k = {_and(ks)}"


def _by_name(references: dict[int, str]) -> str:
    names = dict.fromkeys(references.values())
    if len(names) == 1:
        return next(iter(names))
    return ", ".join(
        f"{name} (k = {_and(k for k, other in references.items() if other == name)})"
        for name in names
    )


def _and(items: Iterable[Any]) -> str:
    words = [str(item) for item in items]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
