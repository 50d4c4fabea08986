"""Small numerical tools that never give NaN."""

from __future__ import annotations

import numpy as np


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
