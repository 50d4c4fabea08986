"""Small numerical tools that never give NaN."""

from __future__ import annotations

from typing import Any

import numpy as np

# Standardised values beyond this many standard deviations are drawn in.
TAIL = 3.0

# What is said of support rows that a closed form cannot take.
FAR_SUPPORT = (
    "The support rows lie so far outside the training rows that rounding errors would be the "
    "answer. Check X for huge values, and its units."
)


def draw_in_tails(values: np.ndarray) -> np.ndarray:
    """Let standardised values grow like a logarithm beyond three: a net extrapolates wildly there.

    Monotone and smooth; what lies within three is left as it is.
    """
    beyond = np.abs(values) - TAIL
    return np.where(beyond > 0, np.sign(values) * (TAIL + np.log1p(beyond.clip(0))), values)


def between_task_sd(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Standard deviation of the task levels: of their means, less what chance explains.

    Parameters
    ----------
    values : array of shape (n_rows, n_columns)
        Targets.
    numbers : array of shape (n_rows,)
        Task of every row.
    """
    sizes = np.bincount(numbers)
    many = sizes > 1
    if many.sum() < 2:
        return np.zeros(values.shape[1])
    found = []
    for column in values.T:
        means = np.bincount(numbers, column) / sizes
        squares = np.bincount(numbers, (column - means[numbers]) ** 2)
        within = squares[many].sum() / (sizes[many] - 1).sum()
        found.append(means[many].var(ddof=1) - (within / sizes[many]).mean())
    return np.sqrt(np.clip(found, 0.0, None))


def location_and_scale(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column, safe for huge values and constant columns.

    Parameters
    ----------
    values : array of shape (n_rows, n_columns)
        Finite values.

    Returns
    -------
    mean, scale : arrays of shape (n_columns,)
        ``scale`` is 1 where a column is constant.
    """
    # Dividing by the largest value first keeps squares of 1e200 from overflowing.
    largest = np.abs(values).max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    # Subnormal columns overflow when divided by their largest value: they are as good as constant.
    unit = np.where(unit < np.finfo(np.float64).tiny, 1.0, unit)
    scaled = values / unit
    mean = scaled.mean(axis=0)
    spread = scaled.std(axis=0)
    # Rounding leaves a constant column with a spread of a few units in the last place.
    constant = spread <= 10 * np.finfo(np.float64).eps * np.abs(scaled).max(axis=0)
    return mean * unit, np.where(constant, 1.0, spread * unit)


def between_sizes(n_rows: Any, sizes: np.ndarray, table: np.ndarray) -> np.ndarray:
    """What a table by numbers of rows, (n_sizes, ...), has for these, (n,) or a single one.

    It is interpolated in the logarithm of one more row; beyond its ends it stays as it is there.
    """
    at, known = np.log1p(n_rows), np.log1p(sizes)
    columns = table.reshape(len(known), -1).T
    found = np.array([np.interp(at, known, column) for column in columns])
    return found.T.reshape((*np.shape(at), *table.shape[1:]))
