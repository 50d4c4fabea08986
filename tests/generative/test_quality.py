"""Measures of samples, against what they are defined as."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits

from skmeta import GANSampler
from skmeta.generative import sample_quality
from skmeta.generative._quality import missing_modes


@pytest.fixture(scope="module")
def halves():
    X = load_digits().data
    return X[:400] / 16, X[400:800] / 16


def same(rows):
    return rows


def test_frechet_distance_is_that_of_the_root_of_the_product(halves):
    a, b = (half[:, 2:6] for half in halves)
    first, second = np.cov(a.T), np.cov(b.T)
    root = sqrtm(first @ second).real
    naive = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first + second - 2 * root)
    found = sample_quality(a, b, embedding=same)["frechet_distance"]
    assert found == pytest.approx(naive, rel=1e-9)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-7, 0.0), (1e7, 0.0), (1.0, 1e4)])
def test_units_do_not_matter(halves, scale, shift):
    a, b = halves
    plain = sample_quality(a, 1 - b)
    moved = sample_quality(scale * a + shift, scale * (1 - b) + shift)
    for name in ("precision", "recall", "missing_modes"):
        assert moved[name] == pytest.approx(plain[name], abs=0.01)
    assert plain["precision"] < 0.5  # turned black to white, they are no digits
    ratio = moved["frechet_distance"] / plain["frechet_distance"]
    assert ratio == pytest.approx(scale**2, rel=1e-4)


def test_rows_that_never_change_are_measured_without_a_word():
    rows = np.full((40, 3), 0.3)
    assert sample_quality(rows, rows) == {
        "frechet_distance": pytest.approx(0),
        "precision": 1.0,
        "recall": 1.0,
        "missing_modes": 0.0,
    }


def test_an_embedding_without_finite_numbers_is_refused(halves):
    with pytest.raises(ValueError, match="embedding must give rows of finite numbers"):
        sample_quality(*halves, embedding=lambda rows: np.full((len(rows), 2), np.nan))


def test_few_distinct_rows_are_as_many_kinds_at_most():
    greys = load_digits().data[:300, 20:21]  # seventeen at most
    assert missing_modes(greys, greys) == 0
    assert missing_modes(greys, greys[greys > 8][:, None]) == pytest.approx((greys <= 8).mean())


@pytest.mark.parametrize(
    ("shape", "word"), [((8, 8, 1), "channels come first"), ((True, 64), "height, width")]
)
def test_shapes_that_are_no_images_are_refused(halves, shape, word):
    with pytest.raises(ValueError, match=word):
        GANSampler(max_epochs=1, image_shape=shape).fit(halves[0])


def test_a_warm_start_that_does_not_fit_says_so_in_plain_words(halves):
    rows = halves[0][:9]  # too few for a collapse to be told
    gan = GANSampler(max_epochs=1, hidden_layer_sizes=(4,), warm_start=True, random_state=0)
    gan.fit(rows).set_params(hidden_layer_sizes=(5,))
    with pytest.raises(ValueError, match="sizes of layers") as refusal:
        gan.fit(rows)
    assert "size mismatch" not in str(refusal.value)
