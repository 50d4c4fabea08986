"""Gradient boosting, as skmeta's estimators may have fitted it, as plain values and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from skmeta.base._saved_parts import SavedPart

# Of a node: what prediction reads. The others say how it was grown.
READ = ("value", "feature_idx", "num_threshold", "missing_go_to_left", "left", "right", "is_leaf")
LOSSES = {
    HistGradientBoostingRegressor: "squared_error",
    HistGradientBoostingClassifier: "log_loss",
}


def is_boosting(value: Any) -> bool:
    """Whether a value is gradient boosting as skmeta fits it: numbers only, one of two losses."""
    return (
        type(value) in LOSSES
        and hasattr(value, "_predictors")
        and value.loss == LOSSES[type(value)]
        and value.is_categorical_ is None
        and not hasattr(value, "feature_names_in_")
    )


def boosting_to_plain(model: Any) -> dict[str, Any]:
    """Return parameters and trees; all trees below one another, with their sizes."""
    trees = [tree.nodes for iteration in model._predictors for tree in iteration]
    nodes = np.concatenate(trees)
    plain = {
        "parameters": model.get_params(),
        "n_features": model.n_features_in_,
        "baseline": model._baseline_prediction,
        "sizes": np.array([len(tree) for tree in trees], dtype=np.int64),
        "nodes": {name: np.ascontiguousarray(nodes[name]) for name in READ},
    }
    return {**plain, "classes": model.classes_} if hasattr(model, "classes_") else plain


def boosting_from_plain(plain: Any, most_features: int) -> Any:
    """Undo :func:`boosting_to_plain`; ValueError for trees that would lead astray.

    Compiled code walks the trees without looking: a child must be a later node of its tree, and a
    feature one that there is.
    """
    n_features, sizes, fields = plain["n_features"], plain["sizes"], plain["nodes"]
    if type(n_features) is not int or not 0 < n_features <= most_features:
        raise ValueError(f"its trees are for {n_features!r} columns")
    classes = plain.get("classes")
    shell, n_trees = _shell(n_features, classes)
    type(shell)(**plain["parameters"])._validate_params()
    (blank, *_) = shell._predictors[0]
    if not (sizes.dtype == np.int64 and sizes.ndim == 1 and (sizes > 0).all()):
        raise ValueError("its trees have no sizes")
    n_nodes = len(fields["value"])
    nodes = np.zeros(n_nodes, dtype=blank.nodes.dtype)
    for name in READ:
        if fields[name].dtype != nodes.dtype[name] or fields[name].shape != (n_nodes,):
            raise ValueError(f"{name!r} of its trees is of a wrong type or length")
        nodes[name] = fields[name]
    ends = np.cumsum(sizes)
    if len(ends) == 0 or ends[-1] != n_nodes or len(ends) % n_trees:
        raise ValueError("its trees are incomplete")
    place = np.arange(n_nodes) - np.repeat(ends - sizes, sizes)
    inner, last = nodes["is_leaf"] == 0, np.repeat(sizes, sizes)
    for child in (nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)):
        if ((child <= place) | (child >= last))[inner].any():
            raise ValueError("its trees branch to nowhere")
    feature = nodes["feature_idx"]
    if ((feature < 0) | (feature >= n_features))[inner].any():
        raise ValueError("its trees ask for a column that there is not")
    baseline = plain["baseline"]
    if baseline.dtype != np.float64 or baseline.shape != (1, n_trees):
        raise ValueError("its trees have no baseline")
    shell._baseline_prediction = baseline
    bitsets = blank.binned_left_cat_bitsets, blank.raw_left_cat_bitsets
    trees = [type(blank)(tree, *bitsets) for tree in np.split(nodes, ends[:-1])]
    shell._predictors = [trees[i : i + n_trees] for i in range(0, len(trees), n_trees)]
    return shell.set_params(**plain["parameters"])


def _shell(n_features: int, classes: Any) -> tuple[Any, int]:
    """Everything private that it needs besides the trees, as this scikit-learn likes it.

    With it, the number of trees that are grown at a time.
    """
    options: dict[str, Any] = {"max_iter": 1, "early_stopping": False}
    if classes is None:
        regressor = HistGradientBoostingRegressor(**options)
        return regressor.fit(np.zeros((2, n_features)), np.zeros(2)), 1
    if classes.ndim != 1 or classes.dtype.kind not in "iu" or len(classes) < 2:
        raise ValueError("its trees have no classes")
    if (np.diff(classes) <= 0).any():
        raise ValueError("the classes of its trees are not sorted")
    few = np.arange(min(len(classes), 3))  # more of them, fitted, would take their square
    shell = HistGradientBoostingClassifier(**options).fit(np.zeros((len(few), n_features)), few)
    shell.classes_ = classes
    if len(classes) > 2:
        shell.n_trees_per_iteration_ = len(classes)
        shell._loss = shell._get_loss(None)
    return shell, shell.n_trees_per_iteration_


BOOSTING = SavedPart(is_boosting, boosting_to_plain, boosting_from_plain)
