"""Running many (table, split, method) units: processes, parts kept on disk, failures reported.

Nothing here is run by itself.
"""

import inspect
import re
import time
import traceback

import joblib
import numpy as np
import pandas as pd
from _common import import_peer, set_threads


def make_estimator(name, seed, **options):
    """An estimator of skmeta with its default settings; it gets the seed where it takes one."""
    cls = getattr(import_peer("skmeta"), name)
    if "random_state" in inspect.signature(cls).parameters:
        options["random_state"] = seed
    return cls(**options)


def available(estimators, peers):
    """Names of the methods that can be run here; says which are left out."""
    kept, skmeta = [], import_peer("skmeta")
    for name, estimator in estimators.items():
        if hasattr(skmeta, estimator):
            kept.append(name)
        else:
            print(f"{name} is left out: skmeta has no {estimator}", flush=True)
    return kept + [name for name, module in peers.items() if import_peer(module) is not None]


def run_units(work, units, *, jobs=1, parts=None, run=True):
    """Frames of all units, joined, and a list of what failed.

    A unit (table, split, method) is one call `work(*unit)` that gives a frame. With a folder
    `parts` every frame is also kept there and read back by a later run, which so goes on where an
    earlier one stopped. What is there is taken as it is: remove a method's files when it changes.
    With `run=False` that is all there is.
    """
    if not run:
        units = [u for u in units if _path(parts, u).is_file()]
    todo = units if parts is None else [u for u in units if not _path(parts, u).is_file()]
    if len(todo) < len(units):
        print(f"{len(units) - len(todo)} of {len(units)} units are taken from {parts}", flush=True)
    failures, start = [], time.perf_counter()
    frames = [pd.read_csv(_path(parts, u), dtype={"task": str}) for u in units if u not in todo]
    calls = (joblib.delayed(_guarded)(work, unit) for unit in todo)
    runner = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    for done, (unit, frame, seconds, error) in enumerate(runner(calls), 1):
        label = " / ".join(map(str, unit))
        if error is None:
            frames.append(frame)
            if parts is not None:
                _path(parts, unit).parent.mkdir(parents=True, exist_ok=True)
                frame.to_csv(_path(parts, unit), index=False, float_format="%.8g")
        else:
            failures.append(f"{label}: {error.strip().splitlines()[-1]}")
            print(error, flush=True)
        passed = time.perf_counter() - start
        word = "failed" if error else f"{seconds:.1f} s"
        print(f"[{done}/{len(todo)}, {passed:.0f} s] {label}: {word}", flush=True)
    if not frames:
        raise SystemExit("Nothing was run.")
    return pd.concat(frames, ignore_index=True), failures


def _path(parts, unit):
    name, seed, method = unit
    slug = re.sub(r"[^A-Za-z0-9]+", "_", method)
    return parts / re.sub(r"[^A-Za-z0-9]+", "_", name) / f"{slug}-{seed}.csv"


def _guarded(work, unit):
    set_threads(1)
    start = time.perf_counter()
    try:
        frame = work(*unit).assign(set=unit[0], split=unit[1])
    except Exception:  # one unit of hundreds must not end the run; its row says what is missing
        return unit, None, 0.0, traceback.format_exc()
    frame["task"] = frame["task"].astype(str)
    return unit, frame, time.perf_counter() - start, None


def predict_skmeta(est, split, orders, k):
    """Predictions of the query rows of every task (draws, rows), and their standard deviations.

    The second is None where the estimator knows none. All tasks of a draw are one batch.
    """
    means, stds = {i: [] for i in orders}, {i: [] for i in orders}
    for j in range(len(next(iter(orders.values())))):
        support = [o[j, :k] for o in orders.values()]
        query = [o[j, k:] for o in orders.values()]
        mean, std = _predict_batch(est, split, support, query)
        start = 0
        for i, rows in zip(orders, query, strict=True):
            means[i].append(mean[start : start + len(rows)])
            if std is not None:
                stds[i].append(std[start : start + len(rows)])
            start += len(rows)
    means = {i: np.array(m) for i, m in means.items()}
    stds = {i: np.array(s) for i, s in stds.items()} if all(stds.values()) else None
    return means, stds


def _predict_batch(est, split, support, query):
    from skmeta import adapt
    from skmeta.base._rows import TaskBatch
    from skmeta.model_selection import predict_tasks

    rows, q = np.concatenate(support), np.concatenate(query)
    X = split.X[q]
    if "return_std" not in inspect.signature(est.predict).parameters:
        if len(rows) == 0:
            return est.predict(X), None
        groups = split.groups
        return predict_tasks(est, split.X[rows], split.y[rows], groups[rows], X, groups[q]), None
    if len(rows):
        task = [
            np.repeat(np.arange(len(part)), [len(r) for r in part]) for part in (support, query)
        ]
        batch = TaskBatch(*task, len(support))
        est = adapt(est, split.X[rows], split.y[rows], _batch=batch)
    return est.predict(X, return_std=True)
