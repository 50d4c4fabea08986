"""Priors of patches: against whole images where they must agree, and on images of their size."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

import skmeta
from skmeta import GaussianPriorReconstructor, MixturePriorReconstructor
from skmeta import operators as ops
from skmeta.generative import _patches
from skmeta.generative._patches import PatchPosterior, draw_patches, with_brightness
from skmeta.generative._prior import fit_gaussian
from skmeta.operators._measurement import as_measurement
from tests.generative.cases import dense_covariance, naive_posterior, random_prior

SHAPE, PATCH = (24, 20), (5, 4)


def landscapes(n_images=8, seed=0, shape=SHAPE):
    """Smooth images with edges, between 0 and 1."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=(n_images, *shape)), (0, 2, 2), mode="wrap")
    images = np.where(fields > 0, 0.7, 0.3) + fields
    return images.clip(0, 1).reshape(n_images, -1)


def model(make=MixturePriorReconstructor, **options):
    if make is MixturePriorReconstructor:
        options = {"n_components": 4, "random_state": 0, **options}
    return make(image_shape=SHAPE, patch_shape=PATCH, **options)


def psnr(images, truth):
    return -10 * np.log10(np.mean((images - truth) ** 2))


@pytest.fixture(scope="module")
def fitted():
    return model().fit(landscapes(30))


def test_patches_are_those_of_the_images(monkeypatch):
    X = np.arange(2 * 12.0).reshape(2, 12)
    patches = draw_patches(X, (3, 4), (2, 3))
    expected = []
    for image in X.reshape(2, 3, 4):
        for i in range(2):
            for j in range(2):
                expected.append(image[i : i + 2, j : j + 3].ravel())
    assert_array_equal(patches, expected)
    monkeypatch.setattr(_patches, "PATCHES", 3)
    few = draw_patches(X, (3, 4), (2, 3))
    assert few.shape == (3, 6)
    assert {tuple(row) for row in few} < {tuple(row) for row in expected}


def test_brightness_is_one_more_direction():
    patches = (
        np.random.default_rng(0).normal(2.0, 1.0, size=(400, 1))
        + draw_patches(landscapes(), SHAPE, PATCH)[:400]
    )
    levels = patches.mean(axis=1)
    prior = with_brightness(fit_gaussian(patches - levels[:, None]), levels)
    expected = np.cov((patches - levels[:, None]).T, bias=True) + levels.var()
    assert_allclose(dense_covariance(prior, 0), expected, atol=0.01)
    assert_allclose(prior.means[0], patches.mean(axis=0), atol=1e-2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("offset", [0, 1])
def test_mean_over_patches_against_loops(stride, offset):
    prior, shape, patch = random_prior(n=6), (5, 7), (2, 3)
    posterior = PatchPosterior(prior, as_measurement(None, 35), 0.3, shape, patch)
    image = np.random.default_rng(0).normal(size=35)
    found, variance = posterior._patchwise(image, 0.3, stride, True, offset)
    rows = sorted({0, 3, *range(offset % stride, 4, stride)})
    columns = sorted({0, 4, *range(offset % stride, 5, stride)})
    sums, squares, counts = np.zeros((3, *shape))
    for i in rows:
        for j in columns:
            part = np.s_[i : i + 2, j : j + 3]
            own = image.reshape(shape)[part].reshape(1, 6)
            mean, std = naive_posterior(prior, np.eye(6), 0.3, own)
            sums[part] += mean.reshape(2, 3)
            squares[part] += std.reshape(2, 3) ** 2
            counts[part] += 1
    assert (counts > 0).all()
    assert_allclose(found, (sums / counts).ravel(), rtol=1e-6)
    assert_allclose(variance, (squares / counts).ravel(), rtol=1e-6)


def test_one_patch_is_the_whole_image():
    X = landscapes(200, shape=(4, 5))
    whole = GaussianPriorReconstructor(clip=False).fit(X)
    patches = GaussianPriorReconstructor(image_shape=(4, 5), patch_shape=(4, 5), clip=False).fit(X)
    Y = X[:6] + 0.1 * np.random.default_rng(0).normal(size=(6, 20))
    one, std = patches.predict(Y, return_std=True)
    other, other_std = whole.predict(Y, return_std=True)
    assert_allclose(one, other, atol=0.05)  # brightness and pattern are taken as independent
    assert_allclose(std, other_std, rtol=0.2)


def test_the_image_step_against_a_dense_solve(fitted):
    A = ops.GaussianMeasurements(60, 480, random_state=0)
    noise = np.linspace(0.1, 0.2, 60)
    posterior = PatchPosterior(fitted._posterior.prior, as_measurement(A, 480), noise, SHAPE, PATCH)
    rng = np.random.default_rng(0)
    y, centre = rng.normal(size=60), rng.normal(size=480)
    found = posterior._fit(y, noise**-2, centre, 0.3)
    N = np.diag(noise**-2)
    left = A.matrix.T @ N @ A.matrix
    right = A.matrix.T @ N @ y + centre / 0.09
    assert_allclose(found, np.linalg.solve(left + np.eye(480) / 0.09, right), atol=2e-3)
    # With neighbours tied together: a penalty on the difference of every pair.
    pairs = []
    for i in range(24):
        for j in range(20):
            for a, b in ((i + 1, j), (i, j + 1)):
                if a < 24 and b < 20:
                    pairs.append(np.eye(480)[i * 20 + j] - np.eye(480)[a * 20 + b])
    D = np.array(pairs)
    assert_allclose(_patches._laplacian(centre.reshape(SHAPE)), D.T @ D @ centre, atol=1e-9)
    tied = left + D.T @ D / posterior._difference**2 + np.eye(480) / 0.09
    found = posterior._fit(y, noise**-2, centre, 0.3, smooth=True)
    assert_allclose(found, np.linalg.solve(tied, right), atol=5e-2)


def test_roughness_is_that_of_the_images(fitted):
    X = landscapes(30).reshape(-1, *SHAPE)
    posterior = fitted._posterior
    steps = np.r_[np.diff(X, axis=1).ravel(), np.diff(X, axis=2).ravel()]
    assert_allclose(posterior._spread, X.std(), rtol=0.1)
    assert_allclose(posterior._difference, steps.std(), rtol=0.1)


def test_operators_of_all_kinds_are_inverted(fitted):
    X = landscapes(3, seed=1)
    rng = np.random.default_rng(0)
    mask = rng.random(SHAPE) < 0.5
    waves = rng.random(SHAPE) < 0.4
    waves[:3, :3] = True
    operators = {
        2: ops.Inpainting(mask),
        3: ops.Blur(SHAPE, sigma=1.0),
        1: ops.Downsampling(SHAPE, 2),
        2.5: ops.SubsampledFourier(SHAPE, waves),
    }
    for gain, A in operators.items():
        Y = (A @ X.T).T + 0.02 * rng.normal(size=(3, A.shape[0]))
        new = fitted.adapt(operator=A, noise_std=0.02)
        found = new.predict(Y)
        # Better than a smooth image that fits the measurements, by so many decibels.
        weight = new._posterior._noise**-2
        level = np.full(480, new._posterior._level)
        smooth = [new._posterior._fit(y, weight, level, 0.2, smooth=True) for y in Y]
        assert psnr(found, X) > psnr(np.array(smooth), X) + 0.3, (gain, A)
        assert found.min() >= 0 and found.max() <= 1
        assert_allclose(new.predict(Y[1:2])[0], found[1], atol=1e-9)
        assert new.score(X) < 0
        with pytest.raises(ValueError, match="standard deviations"):
            new.predict(Y, return_std=True)


def test_noise_is_removed(fitted):
    X = landscapes(4, seed=1)
    Y = X + 0.1 * np.random.default_rng(0).normal(size=X.shape)
    images, std = fitted.predict(Y, return_std=True)
    assert psnr(images, X) > psnr(Y, X) + 4
    assert 0.8 < np.mean(np.abs(images - X) < 1.645 * std) <= 1


def test_mixture_beats_gaussian():
    X, test = landscapes(30), landscapes(4, seed=1)
    Y = test + 0.1 * np.random.default_rng(0).normal(size=test.shape)
    one, other = (
        model(make).fit(X) for make in (GaussianPriorReconstructor, MixturePriorReconstructor)
    )
    assert psnr(other.predict(Y), test) > psnr(one.predict(Y), test)


def test_a_large_image_is_never_a_dense_matrix():
    shape = (128, 128)
    X = landscapes(2, shape=shape)
    new = GaussianPriorReconstructor(
        image_shape=shape, patch_shape=(4, 4), operator=ops.Blur(shape, sigma=1), noise_std=0.05
    ).fit(X)
    assert new._measurement.map.operator is not None
    assert new.predict((new.operator @ X.T).T[:1]).shape == (1, 128 * 128)
    assert max(array.size for array in new.prior_.values()) < 1000


def test_pickle_and_file(fitted, tmp_path):
    Y = landscapes(2, seed=1)
    expected = fitted.predict(Y)
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(Y), expected)
    skmeta.save(fitted, tmp_path / "model")
    assert_array_equal(skmeta.load(tmp_path / "model").predict(Y), expected)


def test_bad_input(fitted):
    X = landscapes(3)
    for options, words in (
        ({"image_shape": None}, "image_shape must be"),
        ({"image_shape": (24, 21)}, "480 pixels"),
        ({"image_shape": (24, 20, 1)}, "height, width"),
        ({"patch_shape": (25, 2)}, "larger"),
        ({"patch_shape": (0, 2)}, "patch_shape must be"),
        ({"patch_shape": (2.5, 2)}, "patch_shape must be"),
    ):
        with pytest.raises(ValueError, match=words):
            model().set_params(**options).fit(X)
    with pytest.raises(ValueError, match="whole images only"):
        fitted.adapt(X[:, :5], X)
    with pytest.raises(ValueError, match="patch_shape"):
        GaussianPriorReconstructor().fit(np.zeros((2, 10_000)))
