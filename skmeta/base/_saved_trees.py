"""Gradient boosting, as ``feature_regressor`` may have fitted it, as plain values and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

# Of a node: what prediction reads. The others say how it was grown.
READ = ("value", "feature_idx", "num_threshold", "missing_go_to_left", "left", "right", "is_leaf")


def is_boosting(value: Any) -> bool:
    """Whether a value is gradient boosting as skmeta fits it: numbers only, squared error."""
    return (
        type(value) is HistGradientBoostingRegressor
        and hasattr(value, "_predictors")
        and value.loss == "squared_error"
        and value.is_categorical_ is None
        and not hasattr(value, "feature_names_in_")
    )


def boosting_to_plain(model: HistGradientBoostingRegressor) -> dict[str, Any]:
    """Return parameters and trees; all trees below one another, with their sizes."""
    trees = [tree.nodes for (tree,) in model._predictors]
    nodes = np.concatenate(trees)
    return {
        "parameters": model.get_params(),
        "n_features": model.n_features_in_,
        "baseline": model._baseline_prediction,
        "sizes": np.array([len(tree) for tree in trees], dtype=np.int64),
        "nodes": {name: np.ascontiguousarray(nodes[name]) for name in READ},
    }


def boosting_from_plain(plain: Any, most_features: int) -> HistGradientBoostingRegressor:
    """Undo :func:`boosting_to_plain`; ValueError for trees that would lead astray.

    Compiled code walks the trees without looking: a child must be a later node of its tree, and a
    feature one that there is.
    """
    n_features, sizes, fields = plain["n_features"], plain["sizes"], plain["nodes"]
    if type(n_features) is not int or not 0 < n_features <= most_features:
        raise ValueError(f"its trees are for {n_features!r} columns")
    model = HistGradientBoostingRegressor(**plain["parameters"])
    model._validate_params()
    # Everything private that it needs besides the trees, as this scikit-learn likes it.
    shell = HistGradientBoostingRegressor(max_iter=1, early_stopping=False)
    shell.fit(np.zeros((2, n_features)), np.zeros(2))
    (blank,) = shell._predictors[0]
    if not (sizes.dtype == np.int64 and sizes.ndim == 1 and (sizes > 0).all()):
        raise ValueError("its trees have no sizes")
    n_nodes = len(fields["value"])
    nodes = np.zeros(n_nodes, dtype=blank.nodes.dtype)
    for name in READ:
        if fields[name].dtype != nodes.dtype[name] or fields[name].shape != (n_nodes,):
            raise ValueError(f"{name!r} of its trees is of a wrong type or length")
        nodes[name] = fields[name]
    ends = np.cumsum(sizes)
    if len(ends) == 0 or ends[-1] != n_nodes:
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
    if baseline.dtype != np.float64 or baseline.shape != shell._baseline_prediction.shape:
        raise ValueError("its trees have no baseline")
    shell._baseline_prediction = baseline
    bitsets = blank.binned_left_cat_bitsets, blank.raw_left_cat_bitsets
    shell._predictors = [[type(blank)(tree, *bitsets)] for tree in np.split(nodes, ends[:-1])]
    return shell.set_params(**plain["parameters"])
