"""Means over tasks, and bands around them."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmeta.model_selection._verdict import bootstrap_means


def used_tasks(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which curves have a point at k, and which tasks it is over: the same ones for all curves.

    Parameters
    ----------
    scores : array of shape (n_curves, n_counts, n_tasks)

    Returns
    -------
    there : bool array of shape (n_curves, n_counts)
    used : bool array of shape (n_counts, n_tasks)
    """
    finite = np.isfinite(scores)
    there = finite.any(axis=2)
    used = (finite | ~there[:, :, None]).all(axis=0) & there.any(axis=0)[:, None]
    return there, used


def summarise(
    scores: np.ndarray, band: Any, same_tasks: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means and band of every curve at every k, NaN where there is none; tasks at every k.

    Parameters
    ----------
    scores : array of shape (n_curves, n_counts, n_tasks)
    band : "interval", pair of quantiles or None
    same_tasks : bool
        Keep only tasks that have a score at every k.
    """
    quantiles = None
    if band is not None and not (isinstance(band, str) and band == "interval"):
        quantiles = _check_quantiles(band)
    there, used = used_tasks(scores)
    if same_tasks:
        empty = np.logical_not(used.any(axis=1, keepdims=True))
        used = np.logical_not(empty) & (used | empty).all(axis=0)
    if not used.any():
        raise ValueError(
            "No task has a score at every k: draw with same_tasks=False, or ask for fewer rows."
        )
    means, low, high = (np.full(there.shape, np.nan) for _ in range(3))
    for k, tasks in enumerate(used):
        values = scores[there[:, k], k][:, tasks]
        if values.size == 0:
            continue
        means[there[:, k], k] = values.mean(axis=1)
        if band is None or values.shape[1] < 2:  # one task has no interval
            continue
        if quantiles is None:
            ends = bootstrap_means(values)
        else:
            ends = np.quantile(values, quantiles, axis=1)
        low[there[:, k], k], high[there[:, k], k] = ends
    return means, low, high, used.sum(axis=1)


def _check_quantiles(band: Any) -> np.ndarray:
    try:
        low, high = (float(value) for value in band)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not 0 <= low < high <= 1:
        raise ValueError(
            f"band must be 'interval', a pair of quantiles such as (0.1, 0.9), or None; got "
            f"{band!r}."
        )
    return np.array([low, high])
