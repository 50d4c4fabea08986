"""Helpers shared by the benchmark scripts of this folder.

Threads, peers that may be absent, tuning by tasks and kernel ridge for the baselines, bootstrap
over tasks, and the writing of csv and markdown.
Nothing here is run by itself.
"""

import csv
import importlib
import os
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

RESULTS = Path(__file__).parent / "results"


def set_threads(n=1):
    """Limit every numerical library to n threads, those not yet loaded included.

    Call it before torch is imported: the environment reaches libraries that load later, the
    limits those that are already there.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(n)
    threadpool_limits(n)


def import_peer(name):
    """Import a module; say so and return None when it is absent."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"{name} is absent, its rows are left out ({error})", flush=True)
        return None


def square_loss(y, out):
    return (out - y) ** 2


def log_loss(y, out):
    """Log loss of labels 0 and 1 and log odds, row by row."""
    return np.logaddexp(0, out) - y * out


def tune_by_tasks(candidates, fit_stages, X, y, groups, *, n_folds=5, loss=square_loss):
    """Cross-validation that holds out whole tasks: best candidate, its stage, its predictions.

    `fit_stages(candidate, X, y, X_new)` gives an array (stages, rows), so that one fit of boosting
    tries every number of iterations. The predictions of the best are out-of-task for every row.
    """
    # The loss counts tasks, not rows, like the figures that are reported.
    _, task, size = np.unique(groups, return_inverse=True, return_counts=True)
    weight = 1 / size[task]
    folds = list(GroupKFold(min(n_folds, len(size))).split(X, y, groups))
    least, best = np.inf, None
    for candidate in candidates:
        parts = [fit_stages(candidate, X[a], y[a], X[b]) for a, b in folds]
        out = np.empty((len(parts[0]), len(y)))
        for (_, b), part in zip(folds, parts, strict=True):
            out[:, b] = part
        losses = (weight * loss(y, out)).sum(axis=1)
        stage = int(losses.argmin())
        if losses[stage] < least:
            least, best = losses[stage], (candidate, stage, out[stage])
    return best


def linear_kernel(Z):
    """Gram matrix of the rows of Z, as a function of row numbers."""
    return lambda rows: Z[rows] @ Z[rows].T


def rbf_kernel(X, gamma, level):
    """As `linear_kernel`, of a Gaussian bump plus a constant."""

    def gram(rows):
        square = (X[rows] ** 2).sum(axis=1)
        distance = square[:, None] + square - 2 * X[rows] @ X[rows].T
        return level**2 + np.exp(-gamma * distance.clip(0))

    return gram


def gram_draws(kernel, orders, k):
    """Gram matrices of one task: support with support, and the others with the support.

    `orders` (draws, rows) holds the rows of one task in the order of each draw.
    """
    rows = np.sort(orders[0])
    gram, o = kernel(rows), np.searchsorted(rows, orders)
    s = o[:, None, :k]
    return gram[o[:, :k, None], s], gram[o[:, k:, None], s]


def ridge_draws(kernel, y, orders, k, penalties):
    """Kernel ridge on the first k rows of each order, predicted on the others.

    The answer is (penalties, draws, others): one eigendecomposition a draw serves every penalty.
    """
    support, query = gram_draws(kernel, orders, k)
    values, vectors = np.linalg.eigh(support)
    rotated = np.einsum("dji,dj->di", vectors, y[orders[:, :k]])
    shrunk = rotated / (values.clip(0) + np.asarray(penalties)[:, None, None])
    return np.einsum("dqi,adi->adq", query @ vectors, shrunk)


def task_mean(values, splits):
    """Mean over the tasks of a split, then over splits."""
    return float(np.mean([values[splits == s].mean() for s in np.unique(splits)]))


def task_boot(values, splits, tasks, *, n_boot=2000, seed=0):
    """`task_mean` of resampled tasks, n_boot times; equal cells meet equal resamples.

    A task that several splits hold out is ONE cluster and is drawn with all its values: its
    splits are not independent evidence.
    """
    split_ids, s = np.unique(splits, return_inverse=True)
    task_ids, t = np.unique(tasks, return_inverse=True)
    value, present = np.zeros((2, len(task_ids), len(split_ids)))
    value[t, s] = values
    present[t, s] = 1
    rng = np.random.default_rng(seed)
    p = np.full(len(task_ids), 1 / len(task_ids))
    weight = rng.multinomial(len(task_ids), p, size=n_boot).astype(float)
    count = weight @ present
    # A resample may hold no task of a split: the mean is then over the splits that it does hold.
    mean = np.divide(weight @ value, count, out=np.full_like(count, np.nan), where=count > 0)
    return np.nanmean(mean, axis=1)


def interval(draws, level=0.95):
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def task_interval(values, splits, tasks, *, level=0.95):
    """Bootstrap interval of `task_mean` that resamples tasks."""
    return interval(task_boot(values, splits, tasks), level)


def write_csv(path, records):
    """Write a list of dicts that share their keys; floats with six significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(records[0]), lineterminator="\n")
        writer.writeheader()
        for record in records:
            writer.writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in record.items()}
            )


def markdown_table(header, rows):
    """A markdown table as one string; every cell is turned into text."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [header, *rows]]
    lines.insert(1, "|" + " --- |" * len(header))
    return "\n".join(lines)


def digits(value):
    """A number with three decimals and no leading zero, as the tables print it."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
