"""What a learned embedding makes of one task."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.decomposition import PCA
from sklearn.utils.validation import _num_samples, check_is_fitted

from skmeta.base import adapt
from skmeta.base._adapt import can_adapt, cores, innermost
from skmeta.inspection._axes import axes
from skmeta.model_selection._targets import check_targets

# More colours than these cannot be told apart: the names stand in the plot instead.
MOST_COLOURS = 10


class EmbeddingDisplay:
    """Support, prototypes and query of one task in two dimensions of the embedding.

    Make one with :meth:`from_estimator`.

    Parameters
    ----------
    support : array of shape (n_support, 2)
        Where the support rows lie.
    support_labels : array of shape (n_support,)
        Their classes, or targets.
    query : array of shape (n_query, 2)
        Where the query rows lie.
    query_labels : array of shape (n_query,)
        Their classes, or targets.
    prototypes : array of shape (n_prototypes, 2) or None, default=None
        Where the prototypes lie, or the class means of the support.
    prototype_labels : array of shape (n_prototypes,) or None, default=None
        Their classes.
    classifier : bool, default=True
        Whether labels are classes, and not numbers.
    predicted : bool, default=False
        Whether ``query_labels`` are predictions.
    prototype_name : str, default="prototype"
        What to call a prototype.
    axis_names : pair of str, default=("component 1", "component 2")
        Names of the axes.
    equal_axes : bool, default=True
        Whether both axes have one scale, so that distances can be seen.

    Attributes
    ----------
    support_, query_, prototypes_ : matplotlib PathCollection
        The points; ``prototypes_`` is None without prototypes.
    legend_ : matplotlib Legend
        The legend.
    colorbar_ : matplotlib Colorbar or None
        The colours of numbers.
    ax_ : matplotlib Axes
        Where the points are.
    figure_ : matplotlib Figure
        Its figure.

    Examples
    --------
    >>> from skmeta import ProtoNetClassifier
    >>> from skmeta.datasets import make_digit_questions
    >>> from skmeta.inspection import EmbeddingDisplay
    >>> X, y, groups = make_digit_questions("train", random_state=0)
    >>> model = ProtoNetClassifier(max_epochs=1, random_state=0).fit(X, y, groups=groups)
    >>> X_new, y_new, new = make_digit_questions("test", random_state=0)
    >>> X_one, y_one = X_new[new == new[0]], y_new[new == new[0]]
    >>> display = EmbeddingDisplay.from_estimator(
    ...     model, X_one[:10], y_one[:10], X_one[10:], y_one[10:]
    ... )
    >>> display.query.shape, display.prototypes.shape
    ((50, 2), (2, 2))
    """

    def __init__(
        self,
        *,
        support: Any,
        support_labels: Any,
        query: Any,
        query_labels: Any,
        prototypes: Any = None,
        prototype_labels: Any = None,
        classifier: bool = True,
        predicted: bool = False,
        prototype_name: str = "prototype",
        axis_names: tuple[str, str] = ("component 1", "component 2"),
        equal_axes: bool = True,
    ) -> None:
        self.support = np.asarray(support)
        self.support_labels = np.asarray(support_labels)
        self.query = np.asarray(query)
        self.query_labels = np.asarray(query_labels)
        self.prototypes = None if prototypes is None else np.asarray(prototypes)
        self.prototype_labels = None if prototypes is None else np.asarray(prototype_labels)
        self.classifier = classifier
        self.predicted = predicted
        self.prototype_name = prototype_name
        self.axis_names = axis_names
        self.equal_axes = equal_axes

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_support: Any,
        y_support: Any,
        X: Any,
        y: Any = None,
        *,
        reducer: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> EmbeddingDisplay:
        """Adapt to the support, embed, reduce to two dimensions and plot.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``transform`` and ``adapt``: ProtoNetClassifier, MetaSVC, the ridge heads,
            a pipeline that ends in one. It is left as it is.
        X_support : array-like of shape (n_support, n_features)
            Support rows of the task.
        y_support : array-like of shape (n_support,)
            Their targets.
        X : array-like of shape (n_query, n_features)
            Other rows of the task.
        y : array-like of shape (n_query,) or None, default=None
            Their targets; None colours them by the prediction.
        reducer : transformer or None, default=None
            Makes two dimensions of the embedding; copied, fitted to support and query together. One
            without ``transform`` (TSNE) is shown the prototypes, too. None is PCA, or nothing for
            an embedding of one or two dimensions.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **plot_options : dict
            Given to :meth:`plot`.

        Returns
        -------
        EmbeddingDisplay
            With ``support``, ``query`` and ``prototypes``.

        Raises
        ------
        ValueError
            If the estimator has no embedding, or the reducer does not give two columns.

        Notes
        -----
        Prototypes are those that the estimator predicts with, those of shared classes without a
        support row included; other classifiers show the class means of the embedded support. In two
        dimensions of many a row may lie nearer to another prototype than it does in truth.
        """
        check_is_fitted(estimator)
        core = innermost(estimator)
        committee = cores(estimator) != [core]  # what it transforms to is its votes
        if committee or not hasattr(estimator, "transform") or not can_adapt(estimator):
            raise ValueError(
                f"{type(core).__name__} learns no embedding: it needs transform and adapt, as "
                "ProtoNetClassifier, MetaSVC or RidgeHeadRegressor have."
            )
        classifier = is_classifier(estimator)
        y_support = check_targets(y_support, _num_samples(X_support), classifier, "y_support")
        adapted = adapt(estimator, X_support, y_support)
        predicted = y is None
        labels = check_targets(adapted.predict(X) if predicted else y, _num_samples(X), classifier)
        support, query = adapted.transform(X_support), adapted.transform(X)
        means, classes, word = None, None, "prototype"
        if classifier:
            means, classes, word = _prototypes(innermost(adapted), support, y_support)
        points, names = _reduce(reducer, support, query, means)
        display = cls(
            support=points[0],
            support_labels=y_support,
            query=points[1],
            query_labels=labels,
            prototypes=points[2],
            prototype_labels=classes,
            classifier=classifier,
            predicted=predicted,
            prototype_name=word,
            axis_names=names,
            equal_axes=reducer is None,
        )
        return display.plot(ax, **plot_options)

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: Any = None,
        support_kw: dict | None = None,
        query_kw: dict | None = None,
        prototype_kw: dict | None = None,
    ) -> EmbeddingDisplay:
        """Plot the points.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str, Colormap or None, default=None
            Colours of the classes, or of the targets.
        support_kw, query_kw, prototype_kw : dict or None, default=None
            Given to ``ax.scatter``.

        Returns
        -------
        EmbeddingDisplay
            The display itself.
        """
        self.ax_ = ax = axes(ax, self, 7.2, 4.8)
        self.figure_ = ax.figure
        paint = self._class_colours(cmap) if self.classifier else self._number_colours(cmap)

        def draw(points: Any, labels: Any, given: dict | None, **style: Any) -> Any:
            return ax.scatter(*points.T, **{**paint(labels), **style, **(given or {})})

        self.query_ = draw(
            self.query, self.query_labels, query_kw,
            marker="o", s=22, alpha=0.6, linewidths=0, zorder=1,
        )  # fmt: skip
        edge = {"edgecolors": "black", "linewidths": 1.0}
        self.support_ = draw(
            self.support, self.support_labels, support_kw, marker="s", s=45, zorder=2, **edge
        )
        self.prototypes_ = None
        if self.prototypes is not None:
            self.prototypes_ = draw(
                self.prototypes, self.prototype_labels, prototype_kw,
                marker="*", s=220, zorder=3, **edge,
            )  # fmt: skip
        if self.equal_axes:
            ax.set_aspect("equal", adjustable="datalim")
        ax.set(xlabel=self.axis_names[0], ylabel=self.axis_names[1])
        self._legend(ax)
        return self

    def _class_colours(self, cmap: Any) -> Any:
        import matplotlib as mpl

        parts = [self.support_labels, self.query_labels]
        if self.prototype_labels is not None:
            parts.append(self.prototype_labels)
        self._classes = np.unique(np.concatenate(parts))
        n = len(self._classes)
        if cmap is None:
            cmap = "tab10" if n <= MOST_COLOURS else "turbo"
        colours = mpl.colormaps.get_cmap(cmap)
        listed = getattr(colours, "colors", ())
        some = np.arange(n) if n <= len(listed) < 256 else np.linspace(0, 1, n)
        self._colours = colours(some)
        return lambda labels: {"c": self._colours[np.searchsorted(self._classes, labels)]}

    def _number_colours(self, cmap: Any) -> Any:
        both = np.concatenate([_one_output(v) for v in (self.support_labels, self.query_labels)])
        span = {"vmin": both.min(), "vmax": both.max(), "cmap": cmap or "viridis"}
        return lambda labels: {"c": _one_output(labels), **span}

    def _legend(self, ax: Any) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patheffects import withStroke

        def handle(text: str, marker: str, size: float, colour: Any = "0.75", edge: Any = "black"):
            style = {"color": colour, "marker": marker, "ms": size, "mec": edge}
            return Line2D([], [], ls="", label=text, **style)

        handles = [handle("support", "s", 6.5)]
        if self.prototypes is not None:
            handles.append(handle(self.prototype_name, "*", 12))
        handles.append(handle("query", "o", 5, edge="none"))
        self.colorbar_ = None
        if not self.classifier:
            text = "target" if self.support_labels.ndim == 1 else "first target"
            text += " (query: predicted)" if self.predicted else ""
            self.colorbar_ = self.figure_.colorbar(self.query_, ax=ax, label=text)
            self.colorbar_.solids.set_alpha(1)
            self.legend_ = ax.legend(handles=handles, fontsize="small")
            return
        if len(self._classes) <= MOST_COLOURS:
            suffix = " (query: predicted)" if self.predicted else ""
            handles += [handle("", "", 0), handle(f"Class{suffix}", "", 0)]
            for colour, label in zip(self._colours, self._classes, strict=True):
                handles.append(handle(str(label), "o", 7, colour, "none"))
        elif self.prototypes is not None and self.prototype_labels is not None:
            for (x, y), label in zip(self.prototypes, self.prototype_labels, strict=True):
                text = ax.annotate(
                    str(label), (x, y), xytext=(6, 4), textcoords="offset points", zorder=4
                )
                text.set_path_effects([withStroke(linewidth=3, foreground="white")])
        self.legend_ = ax.legend(
            handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False
        )


def _one_output(labels: np.ndarray) -> np.ndarray:
    return labels.reshape(len(labels), -1)[:, 0].astype(float)


def _prototypes(
    core: Any, support: np.ndarray, y_support: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    """Prototypes of an adapted estimator, their classes, and what to call them."""
    state = core.state_
    if "prototypes" in state:
        present = state["present"][0].cpu().numpy()
        means = state["prototypes"][0].cpu().numpy()
        return means[present], core.classes_[present], "prototype"
    classes = np.unique(y_support)
    means = np.array([support[y_support == label].mean(axis=0) for label in classes])
    return means, classes, "mean of the support"


def _reduce(
    reducer: Any, support: np.ndarray, query: np.ndarray, means: np.ndarray | None
) -> tuple[list[np.ndarray | None], tuple[str, str]]:
    """Two columns of everything, and names for them."""
    rows = np.concatenate([support, query])
    extra = rows[:0] if means is None else means
    names = ("embedding, column 1", "embedding, column 2")
    if reducer is None and rows.shape[1] <= 2:
        flat = np.concatenate([rows, extra])
        # One dimension lies on a line.
        flat = np.column_stack([flat, np.zeros((len(flat), 2 - flat.shape[1]))])
    elif reducer is None:
        with np.errstate(invalid="ignore"):  # rows that are all alike have no shares of variance
            pca = PCA(2, svd_solver="full").fit(rows)
        flat = pca.transform(np.concatenate([rows, extra]))
        shares = np.nan_to_num(pca.explained_variance_ratio_)
        names = (
            f"principal component 1 ({shares[0]:.0%})",
            f"principal component 2 ({shares[1]:.0%})",
        )
    else:
        reducer = clone(reducer)
        if hasattr(reducer, "transform"):
            flat = reducer.fit(rows).transform(np.concatenate([rows, extra]))
        elif hasattr(reducer, "fit_transform"):
            flat = reducer.fit_transform(np.concatenate([rows, extra]))
        else:
            raise ValueError(f"reducer must be a transformer, got {type(reducer).__name__}.")
        flat = np.asarray(flat)
        word = type(reducer).__name__
        names = (f"{word} 1", f"{word} 2")
        if flat.ndim != 2 or flat.shape[1] != 2:
            raise ValueError(
                f"reducer must give two columns, got an array of shape {flat.shape}: set "
                "n_components=2."
            )
    ends = np.cumsum([len(support), len(query)])
    parts: list[np.ndarray | None] = list(np.split(flat, ends))
    if means is None:
        parts[2] = None
    return parts, names
