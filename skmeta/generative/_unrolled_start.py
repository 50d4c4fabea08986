"""What operators of many tasks have in common, before anything is trained."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from skmeta.core.tasks import TaskRows

# Noise is at least this share of the variance of a measurement, which is one.
LEAST_NOISE = 1e-6
# Noise and spread are looked for within this factor of what the measurements suggest.
RANGE = 1e6
# Pairs of an operator, and operators, that tell them.
MOST_PAIRS, MOST_TASKS = 200, 200


class Alike(NamedTuple):
    """Operators are drawn around ``common``, every entry with the variance ``spread``.

    ``noise`` is the variance that measurements have beside.
    """

    common: np.ndarray
    noise: float
    spread: float


def what_operators_share(rows: TaskRows, mean: np.ndarray) -> Alike:
    """Likeliest noise and spread of the operators, and their centre where they have one.

    The centre is ridge regression on the pairs of all tasks. It is zero unless the operators of
    half of the tasks make those of the other half likelier.

    Parameters
    ----------
    rows : TaskRows
        Measurements (x) and images (y).
    mean : ndarray of shape (n_pixels,)
        To be added to the images.
    """
    assert rows.y is not None
    X, Y = rows.x.double().cpu().numpy(), rows.y.double().cpu().numpy() + mean
    images = np.column_stack([Y, np.ones(len(Y))])
    pairs = [
        (images[start:stop], X[start:stop])
        for start, stop in zip(rows.offsets[:-1].tolist(), rows.offsets[1:].tolist(), strict=True)
        if stop > start
    ]
    nothing = np.zeros((X.shape[1], images.shape[1]))
    _, *found = _likeliest(pairs, nothing)
    if len(pairs) > 1:
        halves = pairs[::2], pairs[1::2]
        centres = [_pooled(half, *found) for half in halves]
        around = sum(_likeliest(half, c)[0] for half, c in zip(halves, centres[::-1], strict=True))
        if around < sum(_likeliest(half, nothing)[0] for half in halves):
            common = _pooled(pairs, *found)
            return Alike(common, *_likeliest(pairs, common)[1:])
    return Alike(nothing, *found)


def _pooled(pairs: list, noise: float, spread: float) -> np.ndarray:
    """One operator for all pairs."""
    U, X = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    gram = U.T @ U
    gram[np.diag_indices(len(gram))] += noise / spread + np.finfo(float).eps * gram.trace()
    return np.linalg.solve(gram, U.T @ X).T


def _likeliest(pairs: list, centre: np.ndarray) -> tuple[float, float, float]:
    """Minus the log-likelihood of the pairs around a centre, and the noise and spread there."""
    values, squares = [], []
    for U, X in pairs[:MOST_TASKS]:
        U, X = U[:MOST_PAIRS], X[:MOST_PAIRS]
        roots, vectors = np.linalg.eigh(U @ U.T)
        values.append(roots.clip(0))
        squares.append(np.square(vectors.T @ (X - U @ centre.T)))
    lengths, missed = np.concatenate(values)[:, None], np.concatenate(squares)

    def loss(logs: np.ndarray) -> float:
        total = np.exp(logs[1]) * lengths + np.exp(logs[0])
        return float((np.log(total) + missed / total).sum(axis=0).mean()) / 2

    typical = np.log(max(missed.mean(), LEAST_NOISE) / lengths.mean())
    span = np.log(RANGE)
    found = minimize(
        loss,
        [np.log(0.01), typical],
        method="L-BFGS-B",
        bounds=[(np.log(LEAST_NOISE), np.log(10.0)), (typical - span, typical + span)],
    )
    noise, spread = np.exp(found.x)
    return float(found.fun), float(noise), float(spread)
