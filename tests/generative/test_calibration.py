"""An unknown operator from pairs: against dense formulas, and what it is worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from skmeta import GaussianPriorReconstructor, MixturePriorReconstructor
from skmeta import operators as ops
from skmeta.generative._calibration import Calibration, calibrate
from tests.generative.cases import digits


def pairs(n_pairs, n, m, noise_std, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(m, n)) * 0.7
    X = rng.normal(size=(n_pairs, n))
    return A, X, X @ A.T + noise_std * rng.normal(size=(n_pairs, m))


def naive_evidence(X, residual, noise, variance):
    """Log of the marginal likelihood, one measurement at a time, with explicit matrices."""
    total = 0.0
    for column, std in zip(residual.T, noise, strict=True):
        C = variance * X @ X.T + std**2 * np.eye(len(X))
        total -= 0.5 * (np.linalg.slogdet(C)[1] + column @ np.linalg.inv(C) @ column)
    return total


@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_against_dense_formulas(n_pairs, n, m, centred, seed):
    A, X, Y = pairs(n_pairs, n, m, 0.2, seed)
    noise = np.linspace(0.1, 0.3, m)
    centre = 0.5 * A if centred else None
    found = Calibration(X, Y, noise, centre)
    start = np.zeros((m, n)) if centre is None else centre
    variance = found._variance
    images = np.random.default_rng(seed).normal(size=(5, n))
    for j in range(m):
        precision = np.eye(n) / variance + X.T @ X / noise[j] ** 2
        step = np.linalg.inv(precision) @ X.T @ (Y[:, j] - X @ start[j]) / noise[j] ** 2
        assert_allclose(found.operator[j], start[j] + step, rtol=1e-6, atol=1e-8)
        error = np.mean([x @ np.linalg.inv(precision) @ x for x in images])
        assert_allclose(found.error_variance(images)[j], error, rtol=1e-6, atol=1e-9)
    residual = Y - X @ start.T
    assert_allclose(found.evidence, naive_evidence(X, residual, noise, variance), rtol=1e-6)
    for factor in (0.5, 2):  # no other variance is likelier
        assert naive_evidence(X, residual, noise, variance * factor) < found.evidence + 1e-6


def test_a_centre_is_used_where_it_helps():
    A, X, Y = pairs(5, 20, 3, 0.01)
    near, far = A + 0.05, -3 * A
    images = np.random.default_rng(1).normal(size=(50, 20))

    def error(centre):
        return np.abs(calibrate(X, Y, 0.01, centre, images)[0] - A).mean()

    assert error(near) < 0.2 * error(None)
    assert error(far) == error(None)
    assert calibrate(X, Y, 0.01, near, images)[1] < calibrate(X, Y, 0.01, None, images)[1]


def test_odd_pairs():
    images = np.ones((2, 4))
    for X, Y in (
        (np.zeros((3, 4)), np.ones((3, 2))),
        (np.ones((3, 4)), np.zeros((3, 2))),
        (np.zeros((1, 4)), np.zeros((1, 2))),
    ):
        operator, noise = calibrate(X, Y, 0.0, None, images)
        assert np.isfinite(operator).all() and np.isfinite(noise).all()


@pytest.mark.parametrize("make", [GaussianPriorReconstructor, MixturePriorReconstructor])
def test_more_pairs_are_worth_more(make):
    X = digits()
    options = {"random_state": 0} if make is MixturePriorReconstructor else {}
    model = make(**options).fit(X[:1200])
    A = ops.GaussianMeasurements(20, 64, random_state=3)
    noise = 0.02
    rng = np.random.default_rng(0)

    def measure(images):
        return (A @ images.T).T + noise * rng.normal(size=(len(images), 20))

    test = X[1400:]
    Y, known = measure(test), model.adapt(operator=A, noise_std=noise)
    bound = np.mean((known.predict(Y) - test) ** 2)
    errors = []
    for n_pairs in (5, 40, 200):
        new = model.adapt(
            measure(X[1200 : 1200 + n_pairs]), X[1200 : 1200 + n_pairs], noise_std=noise
        )
        assert new.n_features_in_ == 20 and new.operator.shape == (20, 64)
        assert new.noise_std > noise
        images, std = new.predict(Y, return_std=True)
        errors.append(np.mean((images - test) ** 2))
        assert np.mean(np.abs(images - test) < 1.645 * std + 1e-9) > 0.8
    assert errors[0] > errors[1] > errors[2] >= bound
    assert errors[0] < np.mean((X[:1200].mean(axis=0) - test) ** 2)
    assert errors[2] < 1.3 * bound


def test_calibration_knows_the_operator_of_the_estimator():
    X = digits()
    model = GaussianPriorReconstructor(operator=ops.Blur((8, 8), sigma=0.8), noise_std=0.01)
    model.fit(X[:1200])
    # The instrument has drifted a little since.
    A = ops.Blur((8, 8), sigma=0.9)
    images = X[1200:1210]
    Y = (A @ X[1400:].T).T + 0.01 * np.random.default_rng(1).normal(size=(397, 64))
    new = model.adapt((A @ images.T).T, images)
    blind = GaussianPriorReconstructor(noise_std=0.01).fit(X[:1200])
    blind = blind.adapt((A @ images.T).T, images)
    errors = [np.mean((m.predict(Y) - X[1400:]) ** 2) for m in (new, model, blind)]
    assert errors[0] < errors[1] < errors[2]
