"""Sine waves of different amplitude and phase: the first benchmark of meta-learning."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skmeta.datasets._checks import check_count, check_range, check_real


def make_sinusoids(
    n_tasks: int = 100,
    n_rows: int = 20,
    *,
    noise: float = 0.0,
    amplitude: tuple[float, float] = (0.1, 5.0),
    phase: tuple[float, float] = (0.0, np.pi),
    x_range: tuple[float, float] = (-5.0, 5.0),
    random_state: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make sine-wave regression tasks, y = A sin(x - phi).

    Every task has its own amplitude A and phase phi, both drawn uniformly, and rows at x drawn
    uniformly. The defaults are the family of Finn et al. (2017, section 5.1). The mean over tasks
    is a poor answer for each of them: a model that ignores the tasks cannot do well.

    Parameters
    ----------
    n_tasks : int, default=100
        Number of tasks.
    n_rows : int, default=20
        Rows in each task.
    noise : float, default=0.0
        Standard deviation of the Gaussian noise added to y, in the units of y. It is drawn last:
        the same ``random_state`` gives the same waves and the same x at every noise.
    amplitude : tuple of (float, float), default=(0.1, 5.0)
        Range of the amplitude A.
    phase : tuple of (float, float), default=(0.0, pi)
        Range of the phase phi, in radians.
    x_range : tuple of (float, float), default=(-5.0, 5.0)
        Range of x, in radians.
    random_state : int, RandomState instance or None, default=None
        Source of all draws. Pass an int for the same data at every call.

    Returns
    -------
    X : ndarray of shape (n_tasks * n_rows, 1)
        The inputs, task after task.
    y : ndarray of shape (n_tasks * n_rows,)
        The heights.
    groups : ndarray of shape (n_tasks * n_rows,)
        Task ids, the integers from 0 to n_tasks - 1.

    Raises
    ------
    ValueError
        If a count, a range or the noise makes no sense.

    References
    ----------
    .. [1] C. Finn, P. Abbeel and S. Levine (2017). Model-Agnostic Meta-Learning for Fast
       Adaptation of Deep Networks. Proceedings of the 34th International Conference on Machine
       Learning, PMLR 70, 1126-1135.

    Examples
    --------
    >>> from skmeta.datasets import make_sinusoids
    >>> X, y, groups = make_sinusoids(n_tasks=3, n_rows=4, random_state=0)
    >>> X.shape, y.shape
    ((12, 1), (12,))
    >>> groups
    array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    """
    n_tasks = check_count(n_tasks, "n_tasks")
    n_rows = check_count(n_rows, "n_rows")
    noise = check_real(noise, "noise")
    amplitude = check_range(amplitude, "amplitude")
    phase = check_range(phase, "phase")
    x_range = check_range(x_range, "x_range")
    rng = check_random_state(random_state)

    heights = rng.uniform(*amplitude, size=(n_tasks, 1))
    shifts = rng.uniform(*phase, size=(n_tasks, 1))
    x = rng.uniform(*x_range, size=(n_tasks, n_rows))
    y = heights * np.sin(x - shifts)
    if noise > 0:
        y += noise * rng.standard_normal(size=y.shape)
    return x.reshape(-1, 1), y.ravel(), np.repeat(np.arange(n_tasks), n_rows)
