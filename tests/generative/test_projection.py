"""The push into the range against a solver of quadratic programs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import lsq_linear

from skmeta import GaussianPriorReconstructor, MixturePriorReconstructor
from skmeta import operators as ops
from skmeta.generative._projection import project
from tests.generative.cases import digits


def problem(n, seed):
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(n, n + 2))
    return 1.5 * rng.normal(size=(5, n)), B @ B.T / n + 0.1 * np.eye(n)


@given(st.integers(1, 7), st.integers(0, 99))
def test_against_a_quadratic_program(n, seed):
    rows, covariance = problem(n, seed)
    found = project(rows, covariance, (-0.5, 1.0), 3000)
    root = np.linalg.cholesky(np.linalg.inv(covariance)).T
    for row, image in zip(rows, found, strict=True):
        expected = lsq_linear(root, root @ row, (-0.5, 1.0), tol=1e-12)
        assert_allclose(image, expected.x, atol=1e-4)


@given(st.integers(1, 7), st.integers(0, 99), st.integers(0, 30))
def test_within_bounds_and_row_by_row(n, seed, n_steps):
    rows, covariance = problem(n, seed)
    found = project(rows, covariance, (0.0, 1.0), n_steps)
    assert found.min() >= 0 and found.max() <= 1
    for i in range(len(rows)):
        one = project(rows[i : i + 1], covariance, (0.0, 1.0), n_steps)
        assert_allclose(one[0], found[i], atol=1e-12)
    inside = rows.clip(0.2, 0.8)
    assert_array_equal(project(inside, covariance, (0.0, 1.0), n_steps), inside)
    # Nothing is known to vary together, or at all: pixels are cut off one by one.
    assert_allclose(project(rows, np.eye(n), (0.0, 1.0), 500), rows.clip(0, 1), atol=1e-6)
    assert_array_equal(project(rows, np.zeros((n, n)), (0.0, 1.0), 5), rows.clip(0, 1))


def test_it_is_worth_having():
    X = digits()
    A = ops.GaussianMeasurements(40, 64, random_state=0)
    Y = (A @ X[1200:].T).T + 0.01 * np.random.default_rng(0).normal(size=(597, 40))
    for make in (GaussianPriorReconstructor, MixturePriorReconstructor):
        errors, stds = [], []
        for options in ({"clip": False}, {"n_projection_steps": 0}, {}):
            model = make(operator=A, noise_std=0.01, **options)
            if "random_state" in model.get_params():
                model.set_params(random_state=0)
            images, std = model.fit(X[:1200]).predict(Y, return_std=True)
            errors.append(np.mean((images - X[1200:]) ** 2))
            stds.append(std)
        assert errors[2] < 0.95 * errors[1] < 0.95**2 * errors[0]
        assert_array_equal(stds[0], stds[2])
