import numpy as np
import pytest

from skmeta.datasets import make_sinusoids


def test_shapes_and_ids():
    X, y, groups = make_sinusoids(n_tasks=7, n_rows=4, random_state=0)
    assert X.shape == (28, 1) and y.shape == groups.shape == (28,)
    assert X.dtype == y.dtype == np.float64
    np.testing.assert_array_equal(groups, [t for t in range(7) for _ in range(4)])


def test_defaults_are_the_family_of_finn():
    X, y, groups = make_sinusoids(n_tasks=400, n_rows=20, random_state=0)
    # A sin(x - phi) = a sin x + b cos x: least squares finds A and phi of each task again.
    for task in range(400):
        x, heights = X[groups == task, 0], y[groups == task]
        design = np.column_stack([np.sin(x), np.cos(x)])
        (a, b), *_ = np.linalg.lstsq(design, heights, rcond=None)
        np.testing.assert_allclose(design @ [a, b], heights, atol=1e-10)
        assert 0.1 <= np.hypot(a, b) <= 5.0
        assert 0.0 <= np.arctan2(-b, a) <= np.pi
    assert X.min() < -4.9 and X.max() > 4.9 and abs(X.mean()) < 0.1
    assert np.abs(X).max() <= 5.0


def test_matches_a_loop_over_tasks():
    X, y, _ = make_sinusoids(
        5, 3, amplitude=(1, 2), phase=(-1, 1), x_range=(0, 9), random_state=np.random.RandomState(3)
    )
    rng = np.random.RandomState(3)
    amplitudes = [rng.uniform(1, 2) for _ in range(5)]
    phases = [rng.uniform(-1, 1) for _ in range(5)]
    tasks = zip(amplitudes, phases, strict=True)
    rows = [(A, phi, rng.uniform(0, 9)) for A, phi in tasks for _ in range(3)]
    np.testing.assert_allclose(X[:, 0], [x for _, _, x in rows])
    np.testing.assert_allclose(y, [A * np.sin(x - phi) for A, phi, x in rows])


def test_noise_is_drawn_last_and_has_the_stated_spread():
    X, y, _ = make_sinusoids(n_tasks=500, random_state=1)
    X_noisy, y_noisy, _ = make_sinusoids(n_tasks=500, noise=0.3, random_state=1)
    np.testing.assert_array_equal(X, X_noisy)
    assert (y_noisy - y).std() == pytest.approx(0.3, rel=0.03)


def test_deterministic():
    first, second, other = (make_sinusoids(noise=0.1, random_state=seed) for seed in (0, 0, 1))
    for a, b, c in zip(first[:2], second[:2], other[:2], strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_does_not_touch_the_global_generator():
    shared = np.random.mtrand._rand
    state = shared.get_state()[1].copy()
    make_sinusoids(random_state=0, noise=1.0)
    np.testing.assert_array_equal(state, shared.get_state()[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_tasks": 0}, "n_tasks must be a whole number of at least 1, got 0"),
        ({"n_tasks": 2.5}, "n_tasks must be a whole number"),
        ({"n_rows": True}, "n_rows must be a whole number"),
        ({"noise": -1}, "noise must be a finite number of 0 or more, got -1"),
        ({"noise": np.nan}, "noise must be a finite number"),
        ({"noise": "big"}, "noise must be a finite number"),
        ({"amplitude": 3}, r"amplitude must be a pair \(low, high\)"),
        ({"phase": (1, 0)}, "phase must be a pair .* low <= high"),
        ({"x_range": (0, 1, 2)}, "x_range must be a pair"),
        ({"x_range": (0, np.inf)}, "x_range must be a pair .* finite"),
        ({"random_state": "seed"}, "seed"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_sinusoids(**arguments)
