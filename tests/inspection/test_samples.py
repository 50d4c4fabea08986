"""Grids of images: every pixel in its place, one scale for all, refusals in words."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from skmeta import GANSampler
from skmeta.inspection import ImageGridDisplay
from tests.instances import small

grid, from_images = ImageGridDisplay.from_estimator, ImageGridDisplay.from_images


def numbered(n, height=2, width=3, channels=()):
    """Images in which no value is met twice."""
    size = int(np.prod((*channels, height, width)))
    return np.arange(1.0, n * size + 1).reshape(n, size)


@pytest.fixture(scope="module")
def density():
    return KernelDensity(bandwidth=0.5).fit(load_digits().data[:100])


def test_every_pixel_is_in_its_place(ax):
    truth = numbered(3)
    display = from_images({"truth": truth, "guess": -truth}, (2, 3), ax=ax)
    assert display.ax_ is ax and display.figure_ is ax.figure
    np.testing.assert_array_equal(display.images, np.stack([truth, -truth]).reshape(2, 3, 2, 3))
    shown = display.image_.get_array()
    gaps = np.ma.getmaskarray(shown)
    # Two rows of two pixels with a line between them, three images of three with two lines.
    assert shown.shape == (5, 11)
    assert gaps[2].all() and gaps[:, [3, 7]].all() and gaps.sum() == 11 + 2 * 5 - 2
    for j in range(3):
        there = np.s_[4 * j : 4 * j + 3]
        np.testing.assert_array_equal(shown[:2, there].ravel(), truth[j])
        np.testing.assert_array_equal(shown[3:, there].ravel(), -truth[j])


def test_names_stand_in_the_middle_of_their_rows(svg):
    display = from_images({"truth": numbered(2), "mixture": numbered(2)}, (2, 3))
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["truth", "mixture"]
    np.testing.assert_array_equal(display.ax_.get_yticks(), [0.5, 3.5])
    assert "mixture" in svg(display)


@pytest.mark.parametrize("n", [1, 4, 30])
def test_long_names_are_not_cut_off(n):
    names = {"truth": numbered(n), "least squares, no prior": numbered(n)}
    figure = from_images(names, (2, 3), n_images=n).figure_
    figure.canvas.draw()
    drawn = figure.get_tightbbox()
    assert drawn.x0 >= 0 and drawn.x1 <= figure.get_figwidth()


def test_the_first_row_is_the_scale():
    truth = numbered(2)
    display = from_images({"truth": truth, "far off": 100 * truth}, (2, 3))
    assert display.image_.get_clim() == (1.0, 12.0)
    given = from_images({"truth": truth}, (2, 3), value_range=(0, 50))
    assert given.image_.get_clim() == (0.0, 50.0)
    rows = from_images({"truth": truth, "far off": 100 * truth}, (2, 3), value_range="row")
    shown = rows.image_.get_array()
    np.testing.assert_allclose(shown[:2].compressed(), shown[3:].compressed())
    assert shown.min() == 0 and shown.max() == 1
    # What is held stays in the units that were given.
    assert rows.images.max() == 1200
    assert from_images({"flat": np.ones((1, 6))}, (2, 3), value_range="row").images.max() == 1


def test_only_the_first_images_are_shown():
    display = from_images({"truth": numbered(30)}, (2, 3), n_images=4)
    np.testing.assert_array_equal(display.images[0].reshape(4, 6), numbered(30)[:4])
    assert from_images({"truth": numbered(2)}, (2, 3), n_images=4).images.shape == (1, 2, 2, 3)


def test_colours():
    rows = numbered(2, channels=(3,)) - 1  # 0 to 35
    display = from_images({"truth": rows}, (3, 2, 3), value_range=(0, 34))
    assert display.images.shape == (1, 2, 2, 3, 3)
    shown = display.image_.get_array()
    assert shown.shape == (2, 7, 4)
    np.testing.assert_allclose(shown[0, 0], [0, 6 / 34, 12 / 34, 1])
    np.testing.assert_allclose(shown[1, 6], [23 / 34, 29 / 34, 1, 1])
    assert (shown[:, 3, 3] == 0).all()  # between the images the background is seen
    one = from_images({"truth": numbered(2)}, (1, 2, 3))
    assert one.images.shape == (1, 2, 2, 3)


def test_samples_are_those_of_the_seed(density):
    display = grid(density, n_samples=7, image_shape=(8, 8), n_columns=4, random_state=0)
    drawn = density.sample(7, random_state=0)
    np.testing.assert_array_equal(display.images.reshape(8, 64)[:7], drawn)
    assert np.isnan(display.images[1, 3]).all()
    assert display.image_.get_clim() == (drawn.min(), drawn.max())
    assert len(display.ax_.get_yticks()) == 0
    few = grid(density, n_samples=3, image_shape=(8, 8), n_columns=10, random_state=0)
    assert few.images.shape == (1, 3, 8, 8)


def test_a_sampler_knows_its_shape(recwarn):
    X = load_digits().data[:60] / 16
    gan = small("GANSampler").set_params(image_shape=(8, 8)).fit(X)
    assert isinstance(gan, GANSampler)
    display = grid(gan, n_samples=5, random_state=1)
    np.testing.assert_array_equal(display.images.reshape(5, 64), gan.sample(5, random_state=1))


def test_options_reach_imshow():
    display = from_images({"truth": numbered(1)}, (2, 3), cmap="gray_r", alpha=0.5)
    assert display.image_.get_cmap().name == "gray_r" and display.image_.get_alpha() == 0.5


def test_refuses_in_words(density):
    truth = numbered(3)
    with pytest.raises(ValueError, match=r"no sample\(n_samples, random_state\)"):
        grid(StandardScaler().fit(truth), image_shape=(2, 3))
    with pytest.raises(ValueError, match="GaussianMixture has no sample"):
        grid(GaussianMixture().fit(load_digits().data[:50, 20:26]), image_shape=(2, 3))
    with pytest.raises(ValueError, match="give image_shape"):
        grid(density)
    with pytest.raises(ValueError, match="n_samples must be a positive integer, got 0"):
        grid(density, n_samples=0, image_shape=(8, 8))
    with pytest.raises(ValueError, match="samples has 64 values an image"):
        grid(density, image_shape=(7, 8))
    with pytest.raises(ValueError, match=r"row 'measured' has 4 values.*operator.T @ measure"):
        from_images({"truth": truth, "measured": truth[:, :4]}, (2, 3))
    with pytest.raises(ValueError, match=r"same images.*'truth': 3, 'guess': 2"):
        from_images({"truth": truth, "guess": truth[:2]}, (2, 3))
    with pytest.raises(ValueError, match="one row at least"):
        from_images({}, (2, 3))
    with pytest.raises(ValueError, match="NaN"):
        from_images({"truth": truth * np.nan}, (2, 3))
    for shape in ((6,), (2, 2, 3), (2.0, 3), (0, 6)):
        with pytest.raises(ValueError, match="1 or 3 channels"):
            from_images({"truth": truth}, shape)
    for wrong, words in (((1, 1), "low < high"), ("rows", "'row' or None")):
        with pytest.raises(ValueError, match=words):
            from_images({"truth": truth}, (2, 3), value_range=wrong)
