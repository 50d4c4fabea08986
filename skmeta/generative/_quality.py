"""How good samples are: near real rows, and as varied."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array

from skmeta.base._callbacks import level_of_caller
from skmeta.exceptions import ModeCollapseWarning

# Kinds of rows, and rows that a kind needs to be one.
N_KINDS, ROWS_A_KIND = 20, 10
# A kind that comes up this many times less often than in the real rows is lost.
RARE = 10
NEIGHBOURS = 3
# Rows drawn, and compared with as many of those trained on, to see whether kinds of rows are lost.
CHECKED_ROWS = 1000
# A generator that never draws a larger share of the training rows' kinds has collapsed.
TOLERATED_LOSS = 0.2
MAX_COMPONENTS = 50


def missing_modes(real: np.ndarray, drawn: np.ndarray, random_state: int = 0) -> float:
    """Share of the real rows that are of kinds (clusters) that drawn rows hardly ever are.

    The idea is that of Richardson and Weiss (2018), on GANs and GMMs, with a ratio in place of a
    test: a test would call every imperfect generator collapsed, given enough rows.
    """
    n_kinds = min(N_KINDS, max(1, len(real) // ROWS_A_KIND), len(np.unique(real, axis=0)))
    if n_kinds == 1:
        return 0.0
    kinds = KMeans(n_kinds, n_init=1, random_state=random_state).fit(real)
    share = np.bincount(kinds.labels_, minlength=n_kinds) / len(real)
    found = kinds.predict(np.asarray(drawn, dtype=real.dtype))
    of_drawn = np.bincount(found, minlength=n_kinds) / len(drawn)
    return float(share[of_drawn < share / RARE].sum())


def missing_modes_of(sampler: Any, X: np.ndarray, seed: int) -> float:
    """The same for what a sampler draws, beside the rows that it was fitted to."""
    drawn = sampler.sample(CHECKED_ROWS, random_state=seed)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(X), min(len(X), CHECKED_ROWS), replace=False)
    return missing_modes(X[chosen], drawn, random_state=seed)


def warn_of_missing_modes(share: float) -> None:
    """Warn if so large a share of the rows is of kinds that a generator does not draw."""
    if share > TOLERATED_LOSS:
        warnings.warn(
            f"About {share:.0%} of the training rows are of kinds that samples never are (mode "
            "collapse, or too little training). Raise max_epochs first; then penalty, or "
            "batch_size.",
            ModeCollapseWarning,
            stacklevel=level_of_caller(),
        )


def sample_quality(
    X_real: Any, X_drawn: Any, *, embedding: Any = None, n_neighbors: int = NEIGHBOURS
) -> dict[str, float]:
    """Compare drawn rows with real ones that no generator has seen.

    Parameters
    ----------
    X_real, X_drawn : array-like of shape (n_real, n_features), (n_drawn, n_features)
        Held-out rows and samples; as many of both, for figures that compare. Two halves of real
        rows show what the best generator could reach.
    embedding : callable, default=None
        From rows to features in which distances mean something: a classifier's last layer but one,
        say. None takes the first 50 principal components of the real rows.
    n_neighbors : int, default=3
        How far the neighbourhood of a row reaches.

    Returns
    -------
    dict
        ``frechet_distance``: squared distance of means and covariances [1]_, 0 at best;
        ``precision``: share of drawn rows that lie in the neighbourhood of a real one;
        ``recall``: share of real rows that lie in that of a drawn one [2]_;
        ``missing_modes``: share of real rows of kinds that drawn ones hardly ever are.

    References
    ----------
    .. [1] Heusel et al. (2017). GANs trained by a two time-scale update rule converge to a local
       Nash equilibrium.
    .. [2] Kynkaanniemi, Karras, Laine, Lehtinen and Aila (2019). Improved precision and recall
       metric for assessing generative models.

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta.generative import sample_quality
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(2, 500, 3))
    >>> sample_quality(a, b)["precision"] > 0.9
    True
    """
    real = check_array(X_real, dtype=np.float64, ensure_min_samples=n_neighbors + 2)
    drawn = check_array(X_drawn, dtype=np.float64, ensure_min_samples=n_neighbors + 2)
    if real.shape[1] != drawn.shape[1]:
        raise ValueError(
            f"X_real has {real.shape[1]} columns and X_drawn {drawn.shape[1]}: they must be the "
            "same columns."
        )
    missing = missing_modes(real, drawn)
    if embedding is None:
        with np.errstate(invalid="ignore"):  # rows that never change have no shares of variance
            embedding = PCA(min(MAX_COMPONENTS, *real.shape), random_state=0).fit(real).transform
    try:
        a, b = (check_array(embedding(rows), dtype=np.float64) for rows in (real, drawn))
    except ValueError as error:
        raise ValueError(f"embedding must give rows of finite numbers: {error}") from error
    return {
        "frechet_distance": _frechet(a, b),
        "precision": _share_near(b, a, n_neighbors),
        "recall": _share_near(a, b, n_neighbors),
        "missing_modes": missing,
    }


def _frechet(a: np.ndarray, b: np.ndarray) -> float:
    first, second = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    # The root of their product has this trace; columns that never change are no trouble here.
    values, vectors = np.linalg.eigh(first)
    half = vectors * np.sqrt(values.clip(0))
    roots = np.sqrt(np.linalg.eigvalsh(half.T @ second @ half).clip(0))
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    return float(shift + np.trace(first + second) - 2 * roots.sum())


def _share_near(rows: np.ndarray, centres: np.ndarray, n_neighbors: int) -> float:
    """Share of rows that lie in the ball of a centre, which reaches to its n-th neighbour."""
    radius = NearestNeighbors(n_neighbors=n_neighbors).fit(centres).kneighbors()[0][:, -1]
    middle = centres.mean(axis=0)  # far from 0, rounding would decide
    rows, centres = rows - middle, centres - middle
    rounding = 1e-12 * np.square(centres).sum(1).max()
    near = np.zeros(len(rows), dtype=bool)
    for start in range(0, len(rows), 1000):  # bounds memory
        part = rows[start : start + 1000]
        squares = np.square(part).sum(1)[:, None] + np.square(centres).sum(1) - 2 * part @ centres.T
        near[start : start + 1000] = (squares <= np.square(radius) + rounding).any(1)
    return float(near.mean())
