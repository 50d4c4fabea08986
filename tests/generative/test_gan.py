"""GANSampler as its users meet it."""

import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

import skmeta
from skmeta import GANSampler
from skmeta.exceptions import ModeCollapseWarning
from skmeta.generative import sample_quality
from skmeta.generative._quality import missing_modes
from tests.generative.cases import secret_images

quiet = pytest.mark.filterwarnings("ignore::skmeta.exceptions.ModeCollapseWarning")


def two_clouds(n=400, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.where(rng.random(n) < 0.3, -4.0, 4.0)
    return np.column_stack([centres, 10 - centres]) + rng.normal(size=(n, 2)) * [0.5, 1.0]


def small(**changes):
    given = {"hidden_layer_sizes": (32, 32), "latent_size": 4, "max_epochs": 3, "random_state": 0}
    return GANSampler(**{**given, **changes})


def test_it_draws_both_clouds_in_their_proportions():
    X = two_clouds()
    gan = small(max_epochs=60, penalty=1.0).fit(X)
    drawn = gan.sample(2000, random_state=1)
    left = drawn[:, 0] < 0
    assert gan.missing_modes_ == 0
    assert 0.15 < left.mean() < 0.45
    for side, centre in ((left, [-4, 14]), (~left, [4, 6])):
        assert np.abs(np.median(drawn[side], axis=0) - centre).max() < 0.6
    found = sample_quality(two_clouds(seed=1), drawn[:400])
    assert found["precision"] > 0.7 and found["recall"] > 0.5


@pytest.mark.slow
@quiet
def test_adapt_moves_samples_to_the_task():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, 2)) * 3
    groups = np.repeat(np.arange(30), 20)
    X = centres[groups] + 0.3 * rng.normal(size=(600, 2))
    gan = small(max_epochs=40, n_adapt_steps=60, inner_lr=0.01).fit(X, groups=groups)
    assert gan.n_tasks_ == 30 and not gan.adapted_
    for centre in ([3.0, -2.0], [-3.0, 1.0]):
        support = centre + 0.3 * rng.normal(size=(8, 2))
        before = gan.sample(500, random_state=0)
        new = gan.adapt(support)
        after = new.sample(500, random_state=0)
        assert new is not gan and new.adapted_
        np.testing.assert_array_equal(gan.sample(500, random_state=0), before)
        gap = np.linalg.norm(after.mean(0) - centre)
        assert gap < 0.5 * np.linalg.norm(before.mean(0) - centre)
        # From where fit left off, whoever is asked.
        np.testing.assert_array_equal(new.adapt(support).sample(500, random_state=0), after)


@quiet
def test_seeds_and_shapes():
    X = two_clouds(100)
    gan = small().fit(X)
    a, b = gan.sample(5, random_state=3), gan.sample(5, random_state=3)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(small().fit(X).sample(5, random_state=3), a)
    assert a.shape == (5, 2) and a.dtype == np.float64 and gan.sample().shape == (1, 2)
    assert not np.array_equal(gan.sample(5, random_state=4), a)
    state = torch.get_rng_state()
    small().fit(X).adapt(X[:3]).sample(2)
    assert torch.equal(torch.get_rng_state(), state)


@quiet
@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (3, 5, 7)])
@pytest.mark.parametrize("architecture", ["mlp", "dcgan"])
def test_images_stay_in_their_range(shape, architecture):
    n = int(np.prod(shape))
    X = np.random.default_rng(0).uniform(2, 7, size=(40, n))
    gan = small(image_shape=shape, architecture=architecture, max_epochs=1).fit(X)
    drawn = gan.sample(50, random_state=0)
    assert drawn.shape == (50, n)
    assert drawn.min() >= X.min() - 1e-9 and drawn.max() <= X.max() + 1e-9


@quiet
@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(4), 25)])
def test_kept_in_a_pickle_and_in_a_file(tmp_path, groups):
    X = two_clouds(100)
    gan = small().fit(X, groups=groups)
    for model in (gan, gan.adapt(X[:4])):
        expected = model.sample(7, random_state=0)
        again = pickle.loads(pickle.dumps(model))
        skmeta.save(model, tmp_path / "gan")
        for copy in (again, skmeta.load(tmp_path / "gan")):
            np.testing.assert_array_equal(copy.sample(7, random_state=0), expected)
            np.testing.assert_array_equal(
                copy.adapt(X[5:9]).sample(3, random_state=0),
                gan.adapt(X[5:9]).sample(3, random_state=0),
            )


@quiet
def test_no_row_and_no_id_is_kept(tmp_path):
    X = secret_images()
    groups = [f"pupil-{i % 6}" for i in range(len(X))]
    gan = small().fit(X, groups=groups)
    data = pickle.dumps(gan)
    skmeta.save(gan, tmp_path / "gan")
    for content in (data, (tmp_path / "gan").read_bytes(), gan._repr_html_().encode()):
        assert b"pupil" not in content
        for row in X:
            assert row.tobytes() not in content
            assert row[:3].tobytes() not in content


@quiet
def test_a_killed_fit_ends_in_the_same_weights(tmp_path):
    class Kill(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 3:
                raise RuntimeError("killed")

    X = two_clouds(100)
    whole = small(max_epochs=4).fit(X)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skmeta.training._checkpoint.SECONDS_BETWEEN", 0.0)
        with pytest.raises(RuntimeError, match="killed"):
            small(max_epochs=4, checkpoint=str(tmp_path), callbacks=[Kill()]).fit(X)
    resumed = small(max_epochs=4, checkpoint=str(tmp_path)).fit(X)
    assert resumed.history_ == whole.history_
    for name, value in whole.meta_params_.items():
        np.testing.assert_array_equal(resumed.meta_params_[name], value)


@quiet
def test_callbacks_hear_of_batches_and_gradients():
    class Count(Callback):
        calls = 0

        def on_grad_computed(self, net, named_parameters, **kwargs):
            self.calls += 1

    counter = Count()
    small(callbacks=[counter]).fit(two_clouds(100))
    assert counter.calls == 3 * 20 * 2  # epochs, steps, players


@quiet
def test_warm_start_goes_on():
    X = two_clouds(100)
    gan = small(warm_start=True).fit(X)
    first = gan.meta_params_["n_steps"].item()
    assert gan.fit(X).meta_params_["n_steps"].item() == 2 * first
    gan.set_params(latent_size=5)
    with pytest.raises(ValueError, match="warm_start"):
        gan.fit(X)


def test_a_collapsed_generator_is_named():
    X = two_clouds()
    stuck = nn.Linear(4, 2)
    nn.init.zeros_(stuck.weight)
    with pytest.warns(ModeCollapseWarning, match="kinds"):
        gan = small(generator=stuck, lr=1e-9, max_epochs=1).fit(X)
    assert gan.missing_modes_ > 0.5
    assert (stuck.weight == 0).all()  # a template: its copy was trained
    assert (gan.meta_params_["generator.weight"] != 0).any()


def test_missing_modes_counts_rows_of_kinds_that_are_not_drawn():
    rng = np.random.default_rng(0)
    centres = 100 * rng.normal(size=(10, 3))
    kinds = rng.integers(10, size=1000)
    X = centres[kinds] + rng.normal(size=(1000, 3))
    again = centres[rng.integers(10, size=1000)] + rng.normal(size=(1000, 3))
    assert missing_modes(X, again) == 0
    assert missing_modes(X, X[kinds > 3]) == pytest.approx((kinds <= 3).mean())
    assert missing_modes(np.ones((50, 2)), np.zeros((9, 2))) == 0


def test_quality_of_equal_and_of_distant_rows():
    a, b = np.random.default_rng(0).normal(size=(2, 300, 4))
    same = sample_quality(a, a)
    assert same["frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert same["precision"] == same["recall"] == 1
    far = sample_quality(a, b + 50)
    assert far["precision"] == far["recall"] == 0
    # Means 50 apart in each of four columns, equal covariances up to sampling.
    assert far["frechet_distance"] == pytest.approx(4 * 50**2, rel=0.02)
    spread = sample_quality(a, 0.01 * b)
    assert spread["precision"] > 0.95 and spread["recall"] < 0.1
    with pytest.raises(ValueError, match="columns"):
        sample_quality(a, b[:, :3])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_shape": (3, 3)}, "image_shape must be"),
        ({"image_shape": (2.0, 1)}, "image_shape must be"),
        ({"architecture": "dcgan"}, "needs image_shape"),
        ({"generator": nn.Linear(4, 3)}, r"must turn \(2, 4\) into \(2, 2\)"),
        ({"generator": nn.Linear(5, 2)}, "generator failed"),
        (
            {"generator": nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))},
            "lets rows see each other",
        ),
        ({"discriminator": nn.Linear(2, 2)}, r"into \(2, 1\)"),
        ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes"),
        ({"averaging": 1.0}, "averaging"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        small(**changes).fit(two_clouds(30))


@quiet
def test_bad_rows_are_refused():
    X = two_clouds(30)
    gan = small(max_epochs=1).fit(X)
    for bad in (X[:0], np.full((2, 2), np.nan), X[:, :1], [["a", "b"]]):
        with pytest.raises(ValueError):
            gan.adapt(bad)
    with pytest.raises(ValueError, match="too large"):
        gan.adapt(np.full((2, 2), 1e300))
    with pytest.raises(ValueError, match="n_samples"):
        gan.sample(0)
    with pytest.raises(ValueError, match="groups"):
        small().fit(X, groups=np.arange(3))
    with pytest.raises(ValueError, match="minimum of 2"):
        small().fit(X[:1])
    small(max_epochs=1).fit(np.ones((5, 3))).sample(3)  # constant columns are no harm
