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
from tests.generative.cases import dense_covariance, digits, naive_posterior, random_prior

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


def smooth_covariance(posterior, shape):
    """Inverse of a share of every pixel and a penalty on the difference of every two neighbours."""
    numbers = np.arange(np.prod(shape)).reshape(shape)
    precision = np.eye(numbers.size) / posterior._spread**2
    pairs = [*zip(numbers[1:].flat, numbers[:-1].flat, strict=True)]
    pairs += [*zip(numbers[:, 1:].flat, numbers[:, :-1].flat, strict=True)]
    for i, j in pairs:
        precision[[i, j], [i, j]] += posterior._difference**-2
        precision[[i, j], [j, i]] -= posterior._difference**-2
    return np.linalg.inv(precision)


@pytest.mark.parametrize("n_measurements", [60, 900])
@pytest.mark.parametrize("noise", [0.1, 1e-3, 0.0, "mixed"])
def test_the_image_step_against_a_dense_solve(fitted, n_measurements, noise):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n_measurements, 480)) / n_measurements**0.5
    noise = rng.permutation(np.geomspace(0.05, 0.5, n_measurements)) if noise == "mixed" else noise
    posterior = PatchPosterior(fitted._posterior.prior, as_measurement(A, 480), noise, SHAPE, PATCH)
    truth, centre = landscapes(2, seed=1)
    y = A @ truth + posterior._noise * rng.normal(size=n_measurements)
    for root, covariance in (
        (lambda image: 0.3 * image, 0.09 * np.eye(480)),
        (posterior._smooth, smooth_covariance(posterior, SHAPE)),
    ):
        assert_allclose(root(root(centre)), covariance @ centre, atol=1e-9)
        seen = A @ covariance @ A.T + np.diag(np.broadcast_to(posterior._noise**2, n_measurements))
        dense = centre + covariance @ A.T @ np.linalg.solve(seen, y - A @ centre)
        assert_allclose(posterior._fit(y, centre, root), dense, atol=5e-3)


def test_less_noise_is_no_worse():
    X, test = digits()[:300], digits()[300:320]
    new = MixturePriorReconstructor(
        image_shape=(8, 8), patch_shape=(4, 4), n_components=2, random_state=0
    ).fit(X)
    half = ops.Inpainting(np.indices((8, 8)).sum(0) % 2 == 0)
    for A in (half, ops.GaussianMeasurements(40, 64, random_state=0), ops.Blur((8, 8), sigma=1.0)):
        errors = [-new.adapt(operator=A, noise_std=s).score(test) for s in (0.05, 0.005, 5e-4, 0.0)]
        assert (np.diff(errors) <= 1e-3 * errors[0]).all(), (A, errors)
        assert errors[-1] < 0.4 * np.square(test - X.mean(axis=0)).mean()


def test_pixels_that_no_measurement_sees_follow_the_patches_without_noise():
    fields = ndimage.gaussian_filter(
        np.random.default_rng(0).normal(size=(6, 32, 32)), (0, 4, 4), mode="wrap"
    )
    X = ((fields - fields.min()) / np.ptp(fields)).reshape(6, -1)
    new = GaussianPriorReconstructor(image_shape=(32, 32), patch_shape=(8, 8)).fit(X[:5])
    seen = np.random.default_rng(1).random((32, 32)) < 0.5
    for noise in (1e-3, 0.0):
        assert -new.adapt(operator=ops.Inpainting(seen), noise_std=noise).score(X[5:]) < 1e-4


def test_exact_measurements_do_not_silence_the_others():
    X, test = digits()[:300], digits()[300:320]
    noise = np.where(np.arange(64) % 2, 0.1, 0.0)
    Y = test + noise * np.random.default_rng(0).normal(size=test.shape)
    new = GaussianPriorReconstructor(image_shape=(8, 8), patch_shape=(4, 4)).fit(X)
    both, least = (
        np.square(new.adapt(operator=np.eye(64), noise_std=s).predict(Y) - test).mean()
        for s in (noise, np.full(64, 0.1))
    )
    assert both < least


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_units_of_the_measurements_change_nothing(fitted, unit):
    A = ops.GaussianMeasurements(100, 480, random_state=0).matrix
    y = landscapes(1, seed=1) @ A.T
    one, other = (fitted.adapt(operator=u * A, noise_std=0.0).predict(u * y) for u in (1.0, unit))
    assert_allclose(other, one, atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_an_operator_that_sees_nothing_gives_an_image_of_the_prior(fitted, noise):
    found = fitted.adapt(operator=np.zeros((3, 480)), noise_std=noise).predict(np.zeros((1, 3)))
    assert np.isfinite(found).all()
    assert np.abs(found - landscapes(30).mean()).max() < 0.2


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
        posterior = new._posterior
        level = np.full(480, posterior._level)
        smooth = [posterior._fit(y, level, posterior._smooth) for y in Y]
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
