"""Every linear operator against a matrix made by loops, and against its own transpose."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.linalg import LinearOperator

from skmeta import operators as ops
from tests.operators.cases import (
    FACES,
    LINEAR,
    REFERENCES,
    blur_matrix,
    downsampling_matrix,
    fourier_matrix,
    radon_matrix,
)

SIDES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def dense(A):
    return A @ np.eye(A.shape[1])


def assert_adjoint(A, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(A.shape[1], 3)), rng.normal(size=(A.shape[0], 3))
    left, right = np.sum((A @ x) * y, axis=0), np.sum(x * (A.H @ y), axis=0)
    assert_allclose(left, right, rtol=1e-9, atol=1e-10)
    assert_allclose(A.matvec(x[:, 0]), (A @ x)[:, 0], atol=1e-12)
    assert_allclose(A.rmatvec(y[:, 0]), (A.H @ y)[:, 0], atol=1e-12)


@pytest.mark.parametrize("name", LINEAR)
def test_adjoint_and_shape(name):
    A = LINEAR[name]
    assert isinstance(A, LinearOperator) and A.dtype == np.float64
    assert_adjoint(A)
    with pytest.raises(ValueError, match="dimension mismatch"):
        A @ np.zeros(A.shape[1] + 1)
    with pytest.raises(ValueError, match="complex"):
        A @ np.zeros(A.shape[1], dtype=complex)


@pytest.mark.parametrize("name", REFERENCES)
def test_matrix_made_by_loops(name):
    assert_allclose(dense(LINEAR[name]), REFERENCES[name], atol=1e-12)


@pytest.mark.parametrize("name", LINEAR)
def test_pickle(name):
    A = LINEAR[name]
    again = pickle.loads(pickle.dumps(A))
    assert_array_equal(dense(again), dense(A))
    assert type(again) is type(A) and repr(again) == repr(A)


@given(SIDES, SIDES, st.sampled_from(sorted(FACES)), st.integers(0, 99))
def test_blur_of_any_shape(shape, kernel_shape, boundary, seed):
    if boundary == "reflect":  # a line of one pixel has no mirror
        shape = shape[0] + 1, shape[1] + 1
    kernel = np.random.default_rng(seed).normal(size=kernel_shape)
    A = ops.Blur(shape, kernel=kernel, boundary=boundary)
    assert_adjoint(A, seed)
    assert_allclose(dense(A), blur_matrix(shape, kernel, boundary), atol=1e-11)


@given(SIDES, st.integers(1, 3))
def test_downsampling_of_any_shape(coarse, factor):
    shape = coarse[0] * factor, coarse[1] * factor
    A = ops.Downsampling(shape, factor)
    assert_adjoint(A)
    assert_allclose(dense(A), downsampling_matrix(shape, factor), atol=1e-12)


@given(SIDES, st.integers(0, 99))
def test_fourier_of_any_shape(shape, seed):
    mask = np.random.default_rng(seed).random(shape) < 0.5
    mask[0, 0] = True
    A = ops.SubsampledFourier(shape, mask)
    assert_adjoint(A, seed)
    assert_allclose(dense(A), fourier_matrix(shape, mask), atol=1e-12)


@given(SIDES, st.lists(st.floats(-400, 400), min_size=1, max_size=4))
def test_radon_of_any_shape(shape, angles):
    A = ops.Radon(shape, angles)
    assert_adjoint(A)
    assert_allclose(dense(A), radon_matrix(shape, angles, A.n_bins), atol=1e-6)
    image = np.random.default_rng(0).random(A.shape[1])
    sums = (A @ image).reshape(len(angles), -1).sum(axis=1)
    assert_allclose(sums, image.sum())  # nothing falls beside the detector


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_random_measurements(m, n, seed):
    for make in (ops.GaussianMeasurements, ops.BernoulliMeasurements):
        A = make(m, n, random_state=seed)
        assert A.shape == (m, n)
        assert_adjoint(A, seed)
        assert_array_equal(dense(make(m, n, random_state=seed)), dense(A))
        assert_array_equal(dense(A), A.matrix)


def test_spread_of_random_entries():
    A = ops.GaussianMeasurements(400, 300, random_state=0).matrix
    assert_allclose(A.std(), 0.05, rtol=0.01)
    assert_allclose(ops.GaussianMeasurements(400, 300, scale=3, random_state=0).matrix, A * 60)
    B = ops.BernoulliMeasurements(400, 300, random_state=0).matrix
    assert_allclose(np.abs(B), 0.05)
    assert abs(B.mean()) < 1e-3
    generator = np.random.RandomState(0)
    first = ops.GaussianMeasurements(2, 2, random_state=generator).matrix
    assert (ops.GaussianMeasurements(2, 2, random_state=generator).matrix != first).all()


def test_a_full_mask_of_frequencies_keeps_lengths():
    A = ops.SubsampledFourier((6, 5), np.ones((6, 5)))
    x = np.random.default_rng(0).normal(size=30)
    assert_allclose(np.linalg.norm(A @ x), np.linalg.norm(x))
    assert_allclose(A.H @ (A @ x), x)


BAD = [
    (lambda: ops.GaussianMeasurements(0, 3), "n_measurements must be a positive integer"),
    (lambda: ops.GaussianMeasurements(2, 3.5), "n_features must be a positive integer"),
    (lambda: ops.GaussianMeasurements(2, 3, scale=-1), "scale"),
    (lambda: ops.BernoulliMeasurements(True, 3), "n_measurements"),
    (lambda: ops.GaussianMeasurements(2, 3, random_state="a"), "random_state"),
    (lambda: ops.BernoulliMeasurements(2, 3, random_state=-1), "random_state"),
    (lambda: ops.Inpainting([[True], [True, False]]), "equally long"),
    (lambda: ops.Blur((4, 4), sigma=1, boundary=["edge"]), "boundary"),
    (lambda: ops.Blur((4, 4), kernel=[[1], [1, 2]]), "equally long"),
    (lambda: ops.Radon((4, 4), ["north"]), "angles must hold numbers"),
    (lambda: ops.Inpainting(np.zeros(4)), "keeps nothing"),
    (lambda: ops.Inpainting([0.5, 1.0]), "True"),
    (lambda: ops.Inpainting(["a"]), "True"),
    (lambda: ops.Downsampling((5, 4), 2), "does not divide"),
    (lambda: ops.Downsampling((4, 4), 0), "factor"),
    (lambda: ops.Downsampling(16, 2), "image_shape"),
    (lambda: ops.Downsampling((4, 4, 3), 2), "image_shape"),
    (lambda: ops.Downsampling((4, -4), 2), "the width"),
    (lambda: ops.Blur((4, 4)), "one of the two"),
    (lambda: ops.Blur((4, 4), sigma=1, kernel=[[1]]), "one of the two"),
    (lambda: ops.Blur((4, 4), sigma=0), "sigma"),
    (lambda: ops.Blur((4, 4), sigma=1, boundary="mirror"), "boundary"),
    (lambda: ops.Blur((4, 4), kernel=[1, 2]), "2-d"),
    (lambda: ops.Blur((4, 4), kernel=[[np.nan]]), "NaN"),
    (lambda: ops.Blur((4, 4), kernel=[[1j]]), "complex"),
    (lambda: ops.SubsampledFourier((4, 4), np.ones((4, 5))), r"\(4, 5\)"),
    (lambda: ops.SubsampledFourier((4, 4), np.zeros((4, 4))), "keeps nothing"),
    (lambda: ops.Radon((4, 4), []), "at least one"),
    (lambda: ops.Radon((4, 4), [np.inf]), "infinite"),
    (lambda: ops.Radon((4, 4), [0], n_bins=0), "n_bins"),
]


@pytest.mark.parametrize(("make", "words"), BAD, ids=range(len(BAD)))
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()
