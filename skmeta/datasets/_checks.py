"""Argument checks shared by the generators: plain words, always a ValueError."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np


def check_count(value: Any, name: str, minimum: int = 1) -> int:
    """Return ``value`` as an int of at least ``minimum``.

    Parameters
    ----------
    value : object
        What the caller passed.
    name : str
        Name of the argument, for the message.
    minimum : int, default=1
        Smallest allowed value.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If ``value`` is not a whole number or too small.
    """
    if not isinstance(value, Integral) or isinstance(value, (bool, np.bool_)) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}.")
    return int(value)


def check_real(value: Any, name: str, *, positive: bool = False) -> float:
    """Return ``value`` as a finite float that is >= 0, or > 0 with ``positive``.

    Parameters
    ----------
    value : object
        What the caller passed.
    name : str
        Name of the argument, for the message.
    positive : bool, default=False
        Whether 0 is refused.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If ``value`` is no finite number in that range.
    """
    wanted = "greater than 0" if positive else "of 0 or more"
    is_number = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
    if not is_number or not np.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(f"{name} must be a finite number {wanted}, got {value!r}.")
    return float(value)


def check_range(value: Any, name: str) -> tuple[float, float]:
    """Return ``value`` as a pair of finite floats, low <= high.

    Parameters
    ----------
    value : object
        What the caller passed.
    name : str
        Name of the argument, for the message.

    Returns
    -------
    tuple of (float, float)

    Raises
    ------
    ValueError
        If ``value`` is not such a pair.
    """
    problem = f"{name} must be a pair (low, high) of finite numbers, low <= high, got {value!r}."
    try:
        low, high = (float(bound) for bound in value)
    except (TypeError, ValueError):
        raise ValueError(problem) from None
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(problem)
    return low, high
