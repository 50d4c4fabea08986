"""What an adapted reconstructor keeps and what it does not: noise, names, the user's arrays."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skmeta
from skmeta import GaussianPriorReconstructor
from skmeta import operators as ops
from tests.generative.cases import fitted_small, secret_images
from tests.instances import reconstructor_names, small

NAMES = reconstructor_names()
A = ops.GaussianMeasurements(5, 12, random_state=0)
X, OTHERS = secret_images(), secret_images(seed=1)
Y = OTHERS @ A.matrix.T


@pytest.fixture
def fitted():
    return fitted_small


@pytest.mark.parametrize("noise_std", [0.05, np.linspace(0.05, 0.1, 5)], ids=["one", "each"])
def test_the_error_of_a_calibrated_operator_goes_with_it(noise_std, tmp_path):
    model = GaussianPriorReconstructor(operator=-A.matrix, noise_std=noise_std).fit(X)
    known = model.adapt(operator=A).predict(Y)
    calibrated = model.adapt(Y[:2], OTHERS[:2])
    skmeta.save(calibrated, tmp_path / "model")
    assert np.min(calibrated.noise_std) > 2 * np.max(noise_std)
    for one in (
        calibrated,
        pickle.loads(pickle.dumps(calibrated)),
        skmeta.load(tmp_path / "model"),
    ):
        assert_array_equal(one.adapt(operator=A).noise_std, noise_std)
        assert_array_equal(one.adapt(operator=A).predict(Y), known)
        again = one.adapt(Y, OTHERS).adapt(Y[:2], OTHERS[:2])
        assert_array_equal(again.adapt(operator=A).noise_std, noise_std)
    # Noise that was given stays, and that of a fit follows a fit.
    assert calibrated.adapt(noise_std=0.3).adapt(operator=A).noise_std == 0.3
    told = model.adapt(Y[:2], OTHERS[:2], noise_std=0.2).adapt(operator=A)
    assert np.all(told.noise_std == 0.2)
    assert (
        calibrated.set_params(operator=None, noise_std=7.0).fit(X).adapt(operator=A).noise_std == 7
    )


@pytest.mark.parametrize("name", NAMES)
def test_arrays_changed_later_change_nothing(name, fitted):
    matrix, noise = A.matrix.copy(), np.full(5, 0.2)
    new = fitted(name).adapt(operator=matrix, noise_std=noise)
    direct = small(name, operator=matrix, noise_std=noise)
    if name != "GANReconstructor":
        direct.fit(X)
    before = new.predict(Y)
    less = fitted(name).adapt(operator=A, noise_std=0.05).predict(Y)
    matrix[:], noise[:] = 0, 9
    assert new.operator is matrix and new.noise_std is noise
    again = pickle.loads(pickle.dumps(new))
    for one in (new, again):
        assert_array_equal(one.predict(Y), before)
        assert_array_equal(one.adapt(noise_std=0.05).predict(Y), less)
        assert_array_equal(one.adapt(operator=A).predict(Y), before)
    if name != "GANReconstructor":
        assert direct.get_params()["operator"] is matrix
        assert_array_equal(pickle.loads(pickle.dumps(direct)).predict(Y), before)


def test_a_sparse_matrix_changed_later_changes_nothing():
    from scipy import sparse

    matrix = sparse.csr_array(A.matrix)
    new = GaussianPriorReconstructor().fit(X).adapt(operator=matrix)
    expected = new.adapt(noise_std=0.05).predict(Y)
    matrix.data[:] = 0
    assert_array_equal(new.adapt(noise_std=0.05).predict(Y), expected)


def test_columns_in_another_order_are_refused_after_adapt(tmp_path):
    frame = pd.DataFrame(X, columns=[f"p{i}" for i in range(12)])
    skmeta.save(
        GaussianPriorReconstructor().fit(frame).adapt(operator=A.matrix), tmp_path / "model"
    )
    model = skmeta.load(tmp_path / "model")
    shuffled = frame[frame.columns[::-1]]
    measured = X @ A.matrix.T
    assert model.score(frame) == model.score(X)
    assert_array_equal(
        model.adapt(measured, frame).operator, model.adapt(measured, frame.to_numpy()).operator
    )
    for call in (lambda: model.score(shuffled), lambda: model.adapt(measured, shuffled)):
        with pytest.raises(ValueError, match="feature names"):
            call()
    model = model.set_params(operator=None).fit(X).adapt(operator=A)
    assert np.isfinite(model.score(shuffled))  # no names were learned this time


@pytest.mark.parametrize("name", NAMES)
def test_noise_may_be_a_series(name, fitted):
    noise = pd.Series(np.full(5, 0.1), index=range(3, 8))
    new = fitted(name).adapt(operator=A, noise_std=noise)
    assert new.noise_std is noise
    assert_allclose(new.score(OTHERS), fitted(name).adapt(operator=A, noise_std=0.1).score(OTHERS))
