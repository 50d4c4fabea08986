"""Answers weighed and made as wide as they err: on data whose truth is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skmeta
from skmeta import GaussianPriorReconstructor, MixturePriorReconstructor
from skmeta import operators as ops
from skmeta.base._container import from_bytes, to_bytes
from skmeta.generative._aside import measured, set_aside
from skmeta.generative._blend import Blend, fit_blend, near
from skmeta.operators._measurement import as_measurement
from tests.generative.cases import digits

NORMAL_90 = 1.645
ALL = np.ones(10, bool)


def covered(truth, images, std):
    return (np.abs(images - truth) <= NORMAL_90 * std).mean()


def test_weights_follow_who_is_right():
    rng = np.random.default_rng(0)
    answers = []
    # Where the mixture is sure it errs a little, and the generator a lot; elsewhere the reverse.
    for level, errors in ((0.05, (0.05, 1.0)), (0.5, (1.0, 0.1))):
        truth, noise = rng.normal(size=(300, 5)), rng.normal(size=(2, 300, 5))
        mixture, generator = (truth + e * n for e, n in zip(errors, noise, strict=True))
        blend = Blend(generator, None, mixture, np.full((300, 5), level), 1.0)
        answers.append((truth, blend))
    learned = fit_blend(answers, ALL[:5])
    assert learned["mixture_weight"].min() < 0.05 and learned["mixture_weight"].max() > 0.95
    for truth, blend in answers:
        images, std = blend.result(learned, return_std=True)
        assert 0.88 < covered(truth, images, std) < 0.92
        for alone in (blend.other, blend.images):
            error = np.square(images - truth).mean()
            assert error < 1.05 * np.square(alone - truth).mean()
    assert fit_blend([], ALL) == {}


def test_an_answer_far_from_what_the_mixture_is_sure_of_reaches_there():
    """Nine pixels are the mixture's to know; of the tenth, which it does not, the generator is."""
    rng = np.random.default_rng(0)
    truth = np.zeros((900, 10))
    truth[:, 9] = rng.normal(size=900)
    mixture, generator = np.zeros_like(truth), truth + 0.01 * rng.normal(size=truth.shape)
    std = np.full(truth.shape, 1e-4)
    std[:, 9] = 1.0
    blend, varies = Blend(generator, None, mixture, std, 1.0), np.arange(10) == 9
    learned = fit_blend([(truth, blend)], varies)
    assert (learned["mixture_weight"] > 0.95).all()
    images, found = blend.result(learned, return_std=True)
    assert 0.88 < covered(truth[:, 9], images[:, 9], found[:, 9]) < 0.93
    assert found[:, 9].mean() < 0.1  # not as wide as the mixture is wrong
    far = np.abs(images[:, :9]) > 1e-3
    assert (np.abs(images[:, :9]) <= NORMAL_90 * found[:, :9])[far].all() and far.mean() > 0.9


def test_the_end_of_the_measured_is_not_judged_by_its_middle():
    """The generator is worth more the surer the mixture is; a line, not a mean, sees the end."""
    rng, answers = np.random.default_rng(0), []
    for level in np.geomspace(0.2, 0.5, 24):
        truth = rng.normal(size=(200, 10))
        mixture = truth + level * rng.normal(size=truth.shape)
        generator = truth + level * (level / 0.25) ** 2 * rng.normal(size=truth.shape)
        std = np.full(truth.shape, level)
        answers.append((truth, Blend(generator, None, mixture, std, 1.0)))
    learned = fit_blend(answers, ALL)
    last = learned["mixture_place"][:, 0].argmax()
    right = 1 / (1 + (0.5 / 0.25) ** 4)
    assert_allclose(learned["mixture_weight"][last], right, atol=0.03)


def test_pixels_that_never_change_are_held_and_make_no_other_wider():
    """The mixture knows the margin; the generator draws it nearly, but not quite."""
    rng = np.random.default_rng(0)
    inner, n = np.arange(20) >= 8, 900
    truth = rng.normal(size=(n, 20)) * inner
    std = np.where(inner, 0.3, 0.0) * np.ones((n, 1))
    mixture = truth + std * rng.normal(size=truth.shape)
    generator = truth + np.where(inner, 0.3, 0.01) * rng.normal(size=truth.shape)
    blend = Blend(generator, None, mixture, std, 1.0)
    learned = fit_blend([(truth, blend)], inner)
    assert (np.abs(learned["mixture_weight"] - 0.5) < 0.1).all()
    images, found = blend.result(learned, return_std=True)
    assert 0.89 < covered(truth[:, inner], images[:, inner], found[:, inner]) < 0.91
    assert (images[:, ~inner] != 0).all()
    assert covered(truth[:, ~inner], images[:, ~inner], found[:, ~inner]) > 0.99
    # Of an answer that is the mixture's alone, rounding is all that the margin may be off by.
    only = Blend(mixture + 1e-12, std, None, None, 1.0)
    images, found = only.result(fit_blend([(truth, only)], inner), return_std=True)
    assert covered(truth[:, ~inner], images[:, ~inner], found[:, ~inner]) == 1


def test_what_is_as_unsure_may_err_in_another_way_where_there_is_more_noise():
    rng = np.random.default_rng(0)
    answers = []
    for noise, share in ((0.003, 0.3), (0.3, 1.2)):
        truth = rng.normal(size=(400, 10))
        images = truth + 0.3 * share * rng.normal(size=truth.shape)
        std = np.full(truth.shape, 0.3)
        answers.append((truth, Blend(images, std, None, None, 1.0, noise)))
    learned = fit_blend(answers, ALL)
    for (truth, blend), share in zip(answers, (0.3, 1.2), strict=True):
        images, std = blend.result(learned, return_std=True)
        assert_allclose(std, 0.3 * share, rtol=0.05)
        assert 0.88 < covered(truth, images, std) < 0.92


def test_the_generator_alone_has_widths_of_its_own():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(600, 10))
    mixture, generator = (truth + e * rng.normal(size=truth.shape) for e in (0.1, 0.8))
    mixture_std, std = np.full(truth.shape, 0.2), np.full(truth.shape, 0.4)
    blend = Blend(generator, std, mixture, mixture_std, 1.0, 0.1)
    learned = fit_blend([(truth, blend)], ALL)
    for answer in (blend, blend.alone):
        images, found = answer.result(learned, return_std=True)
        assert 0.88 < covered(truth, images, found) < 0.92
    # What the mixture is worth is not known: it is left out.
    unknown = fit_blend([(truth, blend.alone)], ALL)
    assert_array_equal(blend.result(unknown, return_std=False)[0], generator)


def test_far_from_all_the_nearest_place_counts():
    places = np.array([[0.0, 0.0], [1.0, 0.0]])
    shares = near(np.array([[1e6, 3.0], [-1e6, 3.0], [0.5, 0.0]]), places)
    assert_allclose(shares, [[0, 1], [1, 0], [0.5, 0.5]], atol=1e-9)


def test_what_is_set_aside_is_kept_from_the_rest():
    X = np.arange(5000.0)[:, None]
    aside, kept = set_aside(X)
    assert len(aside) == 300 and set(aside[:, 0]).isdisjoint(kept[:, 0])
    assert len(aside) + len(kept) == 5000 and aside.max() > 4000
    assert [len(rows) for rows in set_aside(X[:9])] == [0, 9]
    shapes = set()
    for truth, measurement, noise, Y in measured(digits()[:300], None, 0.1, 0):
        shapes.add(measurement.n_measurements)
        error = Y - measurement.forward(truth)
        assert 0.8 * noise < error.std() < 1.2 * noise and 0.025 <= noise <= 0.4
    assert len(shapes) > 10
    assert list(measured(digits()[:0], None, 0.1, 0)) == []


# ---------------------------------------------------------------- the closed forms


@pytest.fixture(scope="module", params=[GaussianPriorReconstructor, MixturePriorReconstructor])
def both(request):
    """The same prior with standard deviations of both kinds."""
    X = digits()[:1500]
    seed = {"random_state": 0} if request.param is MixturePriorReconstructor else {}
    return [request.param(std=kind, noise_std=0.02, **seed).fit(X) for kind in KINDS]


KINDS = ("posterior", "calibrated")
OPERATORS = {
    "few": (ops.GaussianMeasurements(6, 64, random_state=1), 0.04),
    "some": (ops.GaussianMeasurements(20, 64, random_state=1), 0.02),
    "many": (ops.GaussianMeasurements(32, 64, random_state=1), 0.02),
    "coarse": (ops.Downsampling((8, 8), 2), 0.02),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_calibrated_intervals_hold_what_they_promise(both, name):
    operator, noise = OPERATORS[name]
    X, varies = digits()[1500:], digits()[:1500].std(axis=0) > 0.01
    Y = as_measurement(operator, 64).forward(X)
    Y = Y + noise * np.random.default_rng(0).normal(size=Y.shape)
    answers = [m.adapt(operator=operator, noise_std=noise).predict(Y, True) for m in both]
    assert_array_equal(answers[0][0], answers[1][0])
    images, std = answers[1]
    assert 0.85 < covered(X[:, varies], images[:, varies], std[:, varies]) < 0.95
    assert 0.85 < covered(X, images, std) < 0.95
    if name == "many":  # the range says more than the posterior knows
        assert covered(X, images, answers[0][1]) > 0.955


def test_calibration_leaves_the_prior_as_it_is():
    X = digits()[:300]
    kept = [
        MixturePriorReconstructor(std=kind, random_state=np.random.RandomState(0)).fit(X)
        for kind in KINDS
    ]
    for name, value in kept[0].prior_.items():
        assert_array_equal(kept[1].prior_[name], value)
    assert kept[0].n_iter_ == kept[1].n_iter_
    assert kept[0].widths_ == {} and set(kept[1].widths_) == {"place", "width", "scale"}


def test_what_was_learned_is_saved_and_checked(tmp_path):
    X, A = digits()[:300], ops.GaussianMeasurements(9, 64, random_state=0)
    model = MixturePriorReconstructor(std="calibrated", random_state=0).fit(X)
    skmeta.save(model, tmp_path / "model")
    again = skmeta.load(tmp_path / "model")
    Y = A.matmat(X.T).T
    expected = model.adapt(operator=A).predict(Y, return_std=True)
    for one, other in zip(expected, again.adapt(operator=A).predict(Y, True), strict=True):
        assert_array_equal(one, other)
    content, arrays = from_bytes((tmp_path / "model").read_bytes())
    content.pop("sha256")
    for name, value in (("place", 0.0), ("width", 1.0), ("width", np.nan)):
        changed = {**arrays, f"widths_/{name}": value * np.ones_like(arrays["widths_/width"][:2])}
        (tmp_path / "model").write_bytes(to_bytes(content, changed))
        with pytest.raises(ValueError, match=r"Cannot load.*learned of its errors"):
            skmeta.load(tmp_path / "model")


def test_calibration_needs_whole_images_and_some_to_spare():
    model = GaussianPriorReconstructor(std="calibrated")
    with pytest.raises(ValueError, match="9 are too few: at least 10"):
        model.fit(digits()[:9])
    with pytest.raises(ValueError, match="patch_shape"):
        model.set_params(image_shape=(8, 8), patch_shape=(4, 4)).fit(digits()[:50])
    with pytest.raises(ValueError, match="std"):
        GaussianPriorReconstructor(std="wide").fit(digits()[:50])
    same = GaussianPriorReconstructor(std="calibrated").fit(np.ones((20, 6)))
    assert_allclose(same.predict(np.zeros((2, 6)), return_std=True)[1], 0, atol=1e-6)
