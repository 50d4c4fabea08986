"""How much a few labelled rows of a new task help."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skmeta.base._adapt import innermost
from skmeta.inspection._axes import axes
from skmeta.inspection._bands import summarise
from skmeta.inspection._scores import score_curves
from skmeta.model_selection._verdict import BASELINE_COLOURS

BASELINE_DASHES = ("--", ":", "-.")
# Points to the side: one interval must not hide another.
BESIDE = (3, -3, 6, -6, 9, -9)
# More curves than this would leave the legend no room inside.
CURVES_INSIDE = 4
# Support sizes whose steps differ more than this lie too close together on a plain axis.
UNEVEN = 5


class AdaptationCurveDisplay:
    """Score on held-out tasks against the number of their support rows.

    Make one with :meth:`from_estimator` or :meth:`from_comparison`.

    Parameters
    ----------
    n_support : sequence of int
        Numbers of support rows k.
    scores : array of shape (n_curves, n_sizes, n_tasks)
        The score of every task, NaN where there is none. Tasks are numbered; no ids are kept.
    names : sequence of str
        Names of the curves.
    is_baseline : sequence of bool or None, default=None
        Which of them are drawn as baselines; None is none.
    metric : str, default="score"
        What the scores are.
    lower_is_better : bool, default=False
        Whether they are errors.
    per_class : bool, default=False
        Whether ``n_support`` counts the rows of a class.

    Attributes
    ----------
    means_ : ndarray of shape (n_curves, n_sizes)
        Mean over the tasks; NaN where a curve has no point.
    low_, high_ : ndarray of shape (n_curves, n_sizes)
        The band; NaN where there is none.
    n_tasks_ : ndarray of shape (n_sizes,)
        Tasks that a point is the mean of. At one k all curves have the same tasks.
    lines_ : list of matplotlib Line2D
        One a curve.
    bands_ : list of matplotlib collections, or None
        One a curve: a band, for baselines bars that stand a little to the side; None without.
    ax_ : matplotlib Axes
        Where the curves are.
    figure_ : matplotlib Figure
        Its figure.

    See Also
    --------
    skmeta.model_selection.compare_tasks : Trains and compares, and says in words what is shown.

    Notes
    -----
    The bands say how sure a mean is, not a difference: tasks differ much, and all curves have the
    same tasks. Whether one curve is better than another is for ``compare_tasks`` to say, which
    pairs them.

    Examples
    --------
    >>> from skmeta import HierarchicalRidge
    >>> from skmeta.datasets import make_sinusoids
    >>> from skmeta.inspection import AdaptationCurveDisplay
    >>> X, y, groups = make_sinusoids(20, 25, random_state=0)
    >>> model = HierarchicalRidge().fit(X, y, groups=groups)
    >>> X_new, y_new, new = make_sinusoids(10, 25, random_state=1)
    >>> display = AdaptationCurveDisplay.from_estimator(
    ...     model, X_new, y_new, new, n_support=(0, 5, 20), n_repeats=2
    ... )
    >>> display.scores.shape
    (1, 3, 10)
    """

    def __init__(
        self,
        *,
        n_support: Sequence[int],
        scores: Any,
        names: Sequence[str],
        is_baseline: Sequence[bool] | None = None,
        metric: str = "score",
        lower_is_better: bool = False,
        per_class: bool = False,
    ) -> None:
        self.n_support = np.asarray(n_support)
        self.scores = np.asarray(scores, dtype=float)
        self.names = list(names)
        self.is_baseline = np.zeros(len(self.names), dtype=bool)
        if is_baseline is not None:
            self.is_baseline = np.asarray(is_baseline, dtype=bool)
        self.metric = metric
        self.lower_is_better = lower_is_better
        self.per_class = per_class
        expected = (len(self.names), len(self.n_support))
        if self.scores.ndim != 3 or self.scores.shape[:2] != expected:
            raise ValueError(
                f"scores must have the shape {(*expected, 'n_tasks')}, one line a name and one "
                f"column a size, got {self.scores.shape}."
            )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        groups: Any,
        *,
        n_support: Any = (0, 1, 3, 5, 10, 20),
        n_shot: Any = None,
        scoring: Any = None,
        n_repeats: int = 10,
        shuffle: bool = True,
        random_state: Any = 0,
        baselines: Mapping[str, Any] | None = None,
        ax: Any = None,
        name: str | None = None,
        **plot_options: Any,
    ) -> AdaptationCurveDisplay:
        """Score a fitted estimator on held-out tasks, and plot.

        Every task shows a few of its rows, and is scored on its other rows, as in
        :func:`~skmeta.model_selection.compare_tasks`: in each repeat more support rows are the
        fewer ones and others, and all curves meet the same rows. Tasks with fewer than k + 2 rows
        are left out at that k.

        Parameters
        ----------
        estimator : estimator
            Fitted; anything that :func:`skmeta.adapt` takes.
        X : array-like of shape (n_rows, n_features)
            Rows of tasks that ``fit`` has not seen.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their targets.
        groups : array-like of shape (n_rows,)
            One task id a row. Ids are not kept.
        n_support : int or sequence of int, default=(0, 1, 3, 5, 10, 20)
            Numbers of support rows; 0 is the estimator as fitted.
        n_shot : int, sequence of int or None, default=None
            Numbers of support rows a class, instead of ``n_support``. Needed where tasks have
            classes of their own. Tasks with a class of fewer than k + 1 rows are left out.
        scoring : str, scorer or None, default=None
            What to compute for a task: a name or a scorer of scikit-learn's. Names that begin with
            "neg_" are shown as errors, lower is better. None is, for regressors, the mean squared
            error in units of the variance of ``y``; for classifiers the log loss, or the accuracy
            where tasks have classes of their own.
        n_repeats : int, default=10
            Draws of the support rows of every task.
        shuffle : bool, default=True
            Whether support rows are drawn at random. False takes the first rows of every task, in
            the order of ``X``: for tasks whose rows come in time. There is one draw then.
        random_state : int, RandomState instance or None, default=0
            Seeds the draws.
        baselines : dict of str to estimator or None, default=None
            What to compare with, by name. A fitted estimator that can adapt does so; a fitted one
            that cannot (a pooled model) answers as it is; an unfitted one is fitted by every task
            to its support rows alone, and has no point at 0 rows.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Name of the curve; None is the class of the estimator.
        **plot_options : dict
            Given to :meth:`plot`.

        Returns
        -------
        AdaptationCurveDisplay
            With ``scores``, one a task.

        Raises
        ------
        ValueError
            If the estimator is not fitted, or cannot adapt, or no task is large enough.

        Warns
        -----
        SkippedTaskWarning
            With the number of tasks for which the metric is undefined, and for a k that no task is
            large enough for.
        """
        name = type(innermost(estimator)).__name__ if name is None else str(name)
        others = {} if baselines is None else baselines
        if not isinstance(others, Mapping):
            raise ValueError(
                "baselines must be a dict of names and estimators, {'ridge': Ridge()} say, got "
                f"{type(baselines).__name__}. Those that compare_tasks knows by name need training "
                "rows: compare_tasks(...).plot() draws them."
            )
        models = {name: estimator, **{str(key): one for key, one in others.items()}}
        if len(models) != 1 + len(others):
            raise ValueError(f"A baseline has the name of the estimator, {name!r}: set name=.")
        counts, scores, metric = score_curves(
            models,
            X,
            y,
            groups,
            n_support=n_support,
            n_shot=n_shot,
            scoring=scoring,
            n_repeats=n_repeats,
            shuffle=shuffle,
            random_state=random_state,
        )
        display = cls(
            n_support=counts,
            scores=scores,
            names=list(models),
            is_baseline=[False] + [True] * len(others),
            metric=metric.text,
            lower_is_better=metric.lower_is_better,
            per_class=n_shot is not None,
        )
        return display.plot(ax, **plot_options)

    @classmethod
    def from_comparison(
        cls, comparison: Any, *, ax: Any = None, **plot_options: Any
    ) -> AdaptationCurveDisplay:
        """Plot what ``compare_tasks`` found.

        Parameters
        ----------
        comparison : TaskComparison
            The result of :func:`~skmeta.model_selection.compare_tasks`.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **plot_options : dict
            Given to :meth:`plot`.

        Returns
        -------
        AdaptationCurveDisplay
            The means and intervals are those of ``comparison.table_``.
        """
        if not hasattr(comparison, "scores_") or not hasattr(comparison, "table_"):
            raise ValueError(
                f"from_comparison takes the result of compare_tasks, got "
                f"{type(comparison).__name__}."
            )
        table, frame = comparison.table_, comparison.scores_
        kinds = dict(zip(table["method"], table["kind"], strict=True))
        names, counts = list(kinds), sorted(set(table["k"].tolist()))
        places = {name: i for i, name in enumerate(names)}
        tasks, task = np.unique(frame["task"].to_numpy(), return_inverse=True)
        scores = np.full((len(names), len(counts), len(tasks)), np.nan)
        curve = [places[method] for method in frame["method"]]
        scores[curve, np.searchsorted(counts, frame["k"].to_numpy()), task] = frame["score"]
        display = cls(
            n_support=counts,
            scores=scores,
            names=names,
            is_baseline=[kinds[name] == "baseline" for name in names],
            metric=comparison.metric_,
            lower_is_better=comparison.lower_is_better_,
        )
        return display.plot(ax, **plot_options)

    def plot(
        self,
        ax: Any = None,
        *,
        band: Any = "interval",
        same_tasks: bool = False,
        line_kw: dict | None = None,
        baseline_kw: dict | None = None,
        band_kw: dict | None = None,
    ) -> AdaptationCurveDisplay:
        """Plot the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        band : "interval", pair of float or None, default="interval"
            "interval" is the 95 % interval of the mean (bootstrap over tasks). A pair such as
            (0.1, 0.9) is the range between these quantiles of the tasks: how much tasks differ.
            None draws no band.
        same_tasks : bool, default=False
            Keep only tasks that have a score at every k. Otherwise tasks too small for a k are left
            out there alone; where they are, the numbers of tasks stand below the axis.
        line_kw, baseline_kw : dict or None, default=None
            Given to ``ax.plot`` for the estimator's curves and for those of the baselines.
        band_kw : dict or None, default=None
            Given to ``ax.fill_between`` for the bands of the estimator's curves.

        Returns
        -------
        AdaptationCurveDisplay
            The display itself.
        """
        found = summarise(self.scores, band, same_tasks)
        self.means_, self.low_, self.high_, self.n_tasks_ = found
        crowded = len(self.names) > CURVES_INSIDE
        self.ax_ = ax = axes(ax, self, 8.5 if crowded else 6.4)
        self.figure_ = ax.figure
        import matplotlib as mpl
        from matplotlib.transforms import offset_copy

        own = iter(mpl.rcParams["axes.prop_cycle"].by_key().get("color", ["C0"]) * 99)
        colours, dashes = iter(BASELINE_COLOURS * 99), iter(BASELINE_DASHES * 99)
        beside = itertools.cycle(BESIDE)
        self.lines_, self.bands_ = [], []
        for i, name in enumerate(self.names):
            ks, low, high = self.n_support, self.low_[i], self.high_[i]
            style: dict[str, Any] = {"label": name, "marker": "o", "zorder": 3}
            # On top, and thin: where curves coincide both are seen.
            thin: dict[str, Any] = {"lw": 1.2, "ms": 3.5, "marker": "s", "zorder": 4}
            if self.is_baseline[i]:
                at = offset_copy(ax.transData, self.figure_, x=next(beside), units="points")
                style |= thin | {"label": f"{name} (baseline)", "transform": at}
                style |= {"color": next(colours), "ls": next(dashes), **(baseline_kw or {})}
            else:
                style |= {"color": next(own), "lw": 2.5, "ms": 6, **(line_kw or {})}
            (line,) = ax.plot(ks, self.means_[i], **style)
            shade: dict[str, Any] = {"color": line.get_color()}
            drawn = None
            if not np.isfinite(low).any():
                pass
            elif self.is_baseline[i]:
                drawn = ax.vlines(ks, low, high, **shade, lw=1, zorder=4, transform=at)
                # What stands to the side is left out of the limits otherwise.
                ax.update_datalim([*zip(ks, low, strict=True), *zip(ks, high, strict=True)])
            else:
                drawn = ax.fill_between(
                    ks, low, high, **(shade | {"alpha": 0.2, "lw": 0} | (band_kw or {}))
                )
            ax.update_datalim(np.column_stack([ks, self.means_[i]]))
            self.lines_.append(line)
            self.bands_.append(drawn)
        self._label(ax, crowded)
        return self

    def _label(self, ax: Any, crowded: bool) -> None:
        drawn = self.n_tasks_ > 0
        ks, counts = self.n_support[drawn], self.n_tasks_[drawn]
        steps = np.diff(np.unique(self.n_support))
        if len(steps) and steps.max() > UNEVEN * steps.min():
            ax.set_xscale("symlog", linthresh=1, linscale=0.4)
        ragged = len(set(counts.tolist())) > 1
        labels = [f"{k}\n{n}" if ragged else f"{k}" for k, n in zip(ks, counts, strict=True)]
        ax.set_xticks(ks, labels)
        ax.set_xticks([], minor=True)
        text = f"support rows {'a class ' if self.per_class else ''}of a new task"
        rest = "below: tasks scored" if ragged else f"{counts[0]} tasks"
        ax.set_xlabel(f"{text} ({rest})")
        better = "lower" if self.lower_is_better else "higher"
        ax.set_ylabel(f"{self.metric}\n({better} is better)")
        least, most = np.nanmin(self.means_), np.nanmax(self.means_)
        lowest = np.nanmin(np.where(np.isnan(self.low_), self.means_, self.low_))
        if self.lower_is_better and lowest > 0 and most > 10 * least:
            ax.set_yscale("log")
        if crowded:
            ax.legend(
                loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small"
            )
        else:
            ax.legend()
