"""Damped, driven pendulums: a family of tasks with a differential equation behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from skmeta.datasets._checks import check_count, check_real

# What all tasks share.
GRAVITY = 9.81  # m/s^2
DRIVE_FREQUENCY = 2.0  # rad/s
INITIAL_ANGLE = 1.2  # rad

# What makes a task. With these ranges no pendulum ever goes over the top (so none is chaotic),
# all swing down alike in the first second, and after two seconds they are out of step.
LENGTH = (0.6, 1.4)  # m: periods of small swings from 1.6 to 2.4 s
DAMPING = (0.05, 0.5)  # 1/s
DRIVE_AMPLITUDE = (0.0, 2.0)  # rad/s^2

# Fourth order at this step leaves an error near 1e-7 rad: far below any sensor's noise.
MAX_STEP = 0.01  # s


def make_pendulums(
    n_tasks: int = 60,
    n_rows: int = 30,
    *,
    noise: float = 0.05,
    duration: float = 4.0,
    random_state: Any = None,
    return_params: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, np.ndarray, Bunch]:
    """Make tasks from damped, driven pendulums: angle against time.

    Each task is one pendulum that obeys

        theta'' = -(g / L) sin(theta) - c theta' + a cos(w t)

    with its own length L (uniform in 0.6 to 1.4 m), damping c (0.05 to 0.5 1/s) and drive
    amplitude a (0 to 2 rad/s^2). Shared by all: g = 9.81 m/s^2, the drive's angular frequency
    w = 2 rad/s, and the start, at rest at theta = 1.2 rad. The first second looks much alike in
    all tasks; after two seconds they are out of step. The equation is integrated by the classical
    Runge-Kutta method on a fine grid, all tasks at once, and read between grid points by cubic
    Hermite interpolation; the error stays below 1e-5 rad.

    Parameters
    ----------
    n_tasks : int, default=60
        Number of pendulums.
    n_rows : int, default=30
        Readings of each pendulum.
    noise : float, default=0.05
        Standard deviation of the Gaussian sensor noise, in rad. It is drawn last: the same
        ``random_state`` with ``noise=0`` gives the true angles at the same times.
    duration : float, default=4.0
        Length of the recording, in s. Grid and memory grow in proportion.
    random_state : int, RandomState instance or None, default=None
        Source of all draws. Pass an int for the same data at every call.
    return_params : bool, default=False
        Whether to return the true parameters too.

    Returns
    -------
    X : ndarray of shape (n_tasks * n_rows, 1)
        Time in s, uniform in [0, duration], sorted within each task: a task reads as a recording.
        The first rows of a task are thus its earliest; draw rows at random for a support set
        unless you want to forecast.
    y : ndarray of shape (n_tasks * n_rows,)
        Angle in rad, with the sensor's noise.
    groups : ndarray of shape (n_tasks * n_rows,)
        Task ids, the integers from 0 to n_tasks - 1.
    params : Bunch
        Only with ``return_params=True``: ``length`` (m), ``damping`` (1/s) and
        ``drive_amplitude`` (rad/s^2), arrays of shape (n_tasks,), and the shared numbers
        ``gravity``, ``drive_frequency`` and ``initial_angle``.

    Raises
    ------
    ValueError
        If a count, the noise or the duration makes no sense.

    References
    ----------
    .. [1] G. L. Baker and J. A. Blackburn (2005). The Pendulum: A Case Study in Physics. Oxford
       University Press.
    .. [2] E. Hairer, S. P. Norsett and G. Wanner (1993). Solving Ordinary Differential Equations
       I: Nonstiff Problems, 2nd edition. Springer.

    Examples
    --------
    >>> from skmeta.datasets import make_pendulums
    >>> X, y, groups = make_pendulums(n_tasks=3, n_rows=5, random_state=0)
    >>> X.shape, y.shape
    ((15, 1), (15,))
    >>> *_, params = make_pendulums(n_tasks=3, random_state=0, return_params=True)
    >>> params.length.round(2)
    array([1.04, 1.17, 1.08])
    """
    n_tasks = check_count(n_tasks, "n_tasks")
    n_rows = check_count(n_rows, "n_rows")
    noise = check_real(noise, "noise")
    duration = check_real(duration, "duration", positive=True)
    rng = check_random_state(random_state)

    length = rng.uniform(*LENGTH, size=n_tasks)
    damping = rng.uniform(*DAMPING, size=n_tasks)
    drive = rng.uniform(*DRIVE_AMPLITUDE, size=n_tasks)
    times = np.sort(rng.uniform(0.0, duration, size=(n_tasks, n_rows)), axis=1)

    n_steps = int(np.ceil(duration / MAX_STEP))
    step = duration / n_steps
    angles, speeds = _integrate(length, damping, drive, step, n_steps)
    y = _read(angles, speeds, step, times)
    if noise > 0:
        y += noise * rng.standard_normal(size=y.shape)

    X, groups = times.reshape(-1, 1), np.repeat(np.arange(n_tasks), n_rows)
    if not return_params:
        return X, y.ravel(), groups
    params = Bunch(
        length=length,
        damping=damping,
        drive_amplitude=drive,
        gravity=GRAVITY,
        drive_frequency=DRIVE_FREQUENCY,
        initial_angle=INITIAL_ANGLE,
    )
    return X, y.ravel(), groups, params


def _integrate(length, damping, drive, step, n_steps):
    """Angles and speeds of all tasks at the grid times, shape (n_steps + 1, n_tasks) each."""
    pull = GRAVITY / length

    def slope(time, state):
        angle, speed = state
        push = drive * np.cos(DRIVE_FREQUENCY * time)
        return np.stack([speed, push - pull * np.sin(angle) - damping * speed])

    states = np.empty((n_steps + 1, 2, len(length)))
    states[0, 0], states[0, 1] = INITIAL_ANGLE, 0.0
    for i in range(n_steps):
        time, state = i * step, states[i]
        k1 = slope(time, state)
        k2 = slope(time + step / 2, state + step / 2 * k1)
        k3 = slope(time + step / 2, state + step / 2 * k2)
        k4 = slope(time + step, state + step * k3)
        states[i + 1] = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return states[:, 0], states[:, 1]


def _read(angles, speeds, step, times):
    """Cubic Hermite interpolation: each task's angle at its own times, shape of ``times``."""
    # The last cell is closed on the right: a time equal to the duration belongs to it.
    cell = np.minimum((times / step).astype(np.intp), len(angles) - 2)
    s = times / step - cell
    task = np.arange(len(times))[:, None]
    left, right = angles[cell, task], angles[cell + 1, task]
    left_slope, right_slope = step * speeds[cell, task], step * speeds[cell + 1, task]
    return (
        left * (1 + 2 * s) * (1 - s) ** 2
        + left_slope * s * (1 - s) ** 2
        + right * s**2 * (3 - 2 * s)
        + right_slope * s**2 * (s - 1)
    )
