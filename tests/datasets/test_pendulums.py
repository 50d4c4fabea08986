import numpy as np
import pytest
from scipy.integrate import solve_ivp

from skmeta.datasets import make_pendulums


def exact_angles(params, task, times, duration):
    """The same equation, one task at a time, by an adaptive eighth-order solver."""

    def slope(t, state):
        angle, speed = state
        drive = params.drive_amplitude[task] * np.cos(params.drive_frequency * t)
        pull = params.gravity / params.length[task] * np.sin(angle)
        return speed, drive - pull - params.damping[task] * speed

    solution = solve_ivp(
        slope,
        (0, duration),
        (params.initial_angle, 0.0),
        t_eval=times,
        method="DOP853",
        rtol=1e-11,
        atol=1e-11,
    )
    return solution.y[0]


@pytest.mark.parametrize("duration", [0.003, 4.0, 20.0])
def test_solves_the_equation(duration):
    X, y, groups, params = make_pendulums(
        8, 25, noise=0, duration=duration, random_state=0, return_params=True
    )
    for task in range(8):
        times, angles = X[groups == task, 0], y[groups == task]
        expected = exact_angles(params, task, times, duration)
        np.testing.assert_allclose(angles, expected, rtol=0, atol=1e-6)


def test_shapes_times_and_parameters():
    X, y, groups, params = make_pendulums(50, 12, random_state=0, return_params=True)
    assert X.shape == (600, 1) and y.shape == groups.shape == (600,)
    np.testing.assert_array_equal(groups, np.repeat(np.arange(50), 12))
    times = X.reshape(50, 12)
    assert (np.diff(times, axis=1) >= 0).all() and times.min() >= 0 and times.max() <= 4
    assert times.mean() == pytest.approx(2, abs=0.15)
    for name, (low, high) in {
        "length": (0.6, 1.4),
        "damping": (0.05, 0.5),
        "drive_amplitude": (0.0, 2.0),
    }.items():
        assert params[name].shape == (50,)
        assert low <= params[name].min() < params[name].max() <= high
    assert (params.gravity, params.drive_frequency, params.initial_angle) == (9.81, 2.0, 1.2)


def test_first_second_is_related_later_is_not():
    X, y, _ = make_pendulums(100, 400, noise=0, random_state=0)
    grid = np.linspace(0.05, 3.9, 78)
    tasks = zip(X.reshape(100, 400), y.reshape(100, 400), strict=True)
    curves = np.array([np.interp(grid, times, angles) for times, angles in tasks])

    def likeness(part):
        return np.corrcoef(curves[:, part])[np.triu_indices(100, 1)].mean()

    assert likeness(grid <= 1) > 0.95
    assert likeness(grid >= 2) < 0.4
    # Seen above the sensor's noise of 0.05 rad, and never over the top.
    assert curves[:, grid >= 2].std(axis=0).min() > 0.2
    assert np.abs(curves).max() < np.pi / 2


def test_noise_is_drawn_last_and_has_the_stated_spread():
    X, y, _ = make_pendulums(200, noise=0, random_state=1)
    X_noisy, y_noisy, _ = make_pendulums(200, random_state=1)
    np.testing.assert_array_equal(X, X_noisy)
    assert (y_noisy - y).std() == pytest.approx(0.05, rel=0.05)


def test_deterministic():
    first, second, other = (make_pendulums(10, random_state=seed) for seed in (0, 0, 1))
    for a, b, c in zip(first[:2], second[:2], other[:2], strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_tasks": -3}, "n_tasks must be a whole number of at least 1"),
        ({"n_rows": "9"}, "n_rows must be a whole number of at least 1"),
        ({"noise": np.inf}, "noise must be a finite number of 0 or more"),
        ({"duration": 0}, "duration must be a finite number greater than 0, got 0"),
        ({"duration": None}, "duration must be a finite number"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_pendulums(**arguments)
