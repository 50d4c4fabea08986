"""Numbers at the edge of what can be computed with, and arrays laid out in odd ways."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skmeta
from skmeta import operators as ops
from tests.generative.cases import fitted_small, secret_images
from tests.instances import reconstructor_names, small

NAMES = reconstructor_names()
GAN = "GANReconstructor"
A = ops.GaussianMeasurements(5, 12, random_state=0)
X, OTHERS = secret_images(), secret_images(seed=1)[:20]
Y = OTHERS @ A.matrix.T
OUTLIER = np.where(np.arange(X.size).reshape(X.shape) == 40, 1e20, X)


@pytest.fixture
def fitted():
    return fitted_small


# ---------------------------------------------------------------- too large


@pytest.mark.parametrize("name", NAMES)
def test_values_whose_squares_overflow(name, fitted):
    model = fitted(name)
    calls = {
        "X holds values": lambda: model.predict(OTHERS * 1e160, return_std=True),
        "X holds": lambda: model.adapt(operator=A).predict(Y * 1e160, return_std=True),
        "X .*1e\\+60": lambda: model.adapt(Y * 1e160, OTHERS),
        "y holds": lambda: model.adapt(Y, OTHERS * 1e160),
        "operator holds": lambda: model.adapt(operator=A.matrix * 1e200),
        "X holds values beyond": lambda: model.score(OTHERS * 1e160),
        "Check units": lambda: small(name).fit(X * 1e160),
    }
    for words, call in calls.items():
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize(
    ("changes", "images", "words"),
    [
        ({}, X * 1e30, "single precision"),
        ({}, OUTLIER, "look for outliers"),
        ({"noise_std": 1e30}, X, "noise_std .* scale near 1"),
        ({"operator": lambda rng: np.eye(12) * 1e20}, X, "the operator, .* scale near 1"),
    ],
    ids=["images", "outlier", "noise", "operator"],
)
def test_a_net_is_not_trained_on_them(changes, images, words):
    with pytest.raises(ValueError, match=words):
        small(GAN, **changes).fit(images)


def test_steps_that_overflow(fitted):
    model = fitted(GAN).adapt(operator=ops.ForwardModel(lambda x: (9 * x).exp(), 12, 12))
    with pytest.raises(ValueError, match="far outside"):
        model._both(np.full((1, 12), 1e300), with_std=True)


@pytest.mark.parametrize("name", NAMES)
def test_large_numbers_that_can_be_computed_with(name, fitted):
    scaled = small(name).fit(X * 1e10)
    assert np.isfinite(scaled.predict(OTHERS * 1e10)).all()
    assert np.isfinite(fitted(name).adapt(operator=A).predict(Y * 1e50)).all()


# ---------------------------------------------------------------- how arrays lie in memory


@pytest.mark.parametrize("name", NAMES)
def test_reversed_and_read_only_arrays(name, fitted):
    model = fitted(name)
    assert_allclose(model.predict(OTHERS[::-1])[::-1], model.predict(OTHERS), rtol=1e-6, atol=1e-9)
    noise = np.linspace(0.1, 0.2, 5)
    expected = model.adapt(operator=A, noise_std=noise).predict(Y)
    fixed = noise.copy()
    fixed.flags.writeable = False
    for same in (noise[::-1].copy()[::-1], fixed):
        assert_array_equal(model.adapt(operator=A, noise_std=same).predict(Y), expected)
        small(name, operator=A, noise_std=same).fit(X[::-1])


@pytest.mark.parametrize("operator", [None, ops.Gamma(2.0)], ids=["linear", "not linear"])
def test_standard_deviations_are_the_same_from_a_file(operator, tmp_path):
    model = small(GAN, residual="gaussian" if operator is None else "mixture").fit(X)
    given = {} if operator is None else {"operator": operator}
    model = model.adapt(**given) if given else model
    assert model.beyond_["factors"].shape[1] > 1
    assert all(array.flags.c_contiguous for array in model.beyond_.values())
    skmeta.save(model, tmp_path / "model")
    again = skmeta.load(tmp_path / "model", **given)
    for a, b in zip(model.predict(OTHERS, True), again.predict(OTHERS, True), strict=True):
        assert_array_equal(a, b)
