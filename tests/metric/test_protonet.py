"""Prototypes, distances and the episode loss against plain loops; then fit and adapt."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F  # noqa: N812

import skmeta
from skmeta import MetaSVC, ProtoNetClassifier, RidgeHeadClassifier
from skmeta.core.heads.prototypes import log_scores, prototypes, whitening
from skmeta.core.learner import NEVER
from skmeta.core.losses import class_loss
from skmeta.core.tasks import Episodes, TaskRows
from skmeta.metric._protonet import ProtoNetLearner
from skmeta.model_selection import TaskScorer
from skmeta.nets import mlp
from tests.base.tasks import wards
from tests.instances import small

# What ProtoNetLearner needs in every test here.
LEARNER = {"width": 4, "loss": class_loss()}
SHRINKAGE = 2.5


def rows_of(labels, seed, d=3):
    """``labels``: one list a task."""
    flat = [label for task in labels for label in task]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(flat), d, dtype=torch.float64, generator=generator)
    return TaskRows.from_sizes(x, torch.tensor(flat), torch.tensor([len(t) for t in labels]))


def naive_covariance(support_z, support_y, shrinkage):
    """Within the classes of a task, one row at a time, shrunk towards the identity."""
    labels = support_y.tolist()
    d = support_z.shape[1]
    squares = torch.zeros(d, d, dtype=support_z.dtype)
    for row, label in zip(support_z, labels, strict=True):
        own = [v for v, other in zip(support_z, labels, strict=True) if other == label]
        off = row - sum(own) / len(own)
        squares = squares + torch.outer(off, off)
    n = len(labels) - len(set(labels))
    return (squares + shrinkage * torch.eye(d, dtype=squares.dtype)) / (n + shrinkage)


def naive_scores(z, support_z, support_y, n_classes, distance, shrinkage=SHRINKAGE):
    """One row at a time."""
    if distance == "mahalanobis":
        precision = torch.linalg.inv(naive_covariance(support_z, support_y, shrinkage))
    scores = torch.full((len(z), n_classes), NEVER, dtype=z.dtype)
    for i, row in enumerate(z):
        for c in range(n_classes):
            own = [v for v, label in zip(support_z, support_y, strict=True) if label == c]
            if own:
                centre = sum(own) / len(own)
                if distance == "cosine":
                    scores[i, c] = row @ centre / (row.norm() * centre.norm())
                elif distance == "mahalanobis":
                    scores[i, c] = -((row - centre) @ precision @ (row - centre))
                else:
                    scores[i, c] = -((row - centre) ** 2).sum()
    return scores


labels_of_tasks = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=5
)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "mahalanobis"])
@given(labels=labels_of_tasks, data=st.data())
def test_scores_equal_the_naive_loop(distance, labels, data):
    support = rows_of(labels, 0)
    n_query = data.draw(st.lists(st.integers(1, 4), min_size=len(labels), max_size=len(labels)))
    query = rows_of([[0] * n for n in n_query], 1)
    means, present = prototypes(support, 4)
    scale = torch.tensor(1.7, dtype=torch.float64)
    whiten = None
    if distance == "mahalanobis":
        whiten = whitening(support, means, torch.tensor(SHRINKAGE, dtype=torch.float64))
    found = log_scores(query, means, present, distance, scale, whiten)
    expected = []
    for t in range(len(labels)):
        s, q = support.slice_tasks(t, t + 1), query.slice_tasks(t, t + 1)
        expected.append(naive_scores(q.x, s.x, s.y, 4, distance))
    expected = torch.cat(expected)
    expected = torch.where(expected == NEVER, NEVER, 1.7 * expected)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "mahalanobis"])
def test_episode_loss_and_gradients_equal_the_naive_loop(distance):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = mlp([3, 5, 4], "tanh")
    learner = ProtoNetLearner(
        net, distance=distance, learn_temperature=True, n_classes=None, **LEARNER
    ).double()
    support = rows_of([[0, 0, 1, 2], [0, 1], [1, 0, 1]], 0)
    query = rows_of([[0, 1, 2], [1, 0, 1, 1], [0]], 1)
    losses = []
    for t in range(3):
        s, q = support.slice_tasks(t, t + 1), query.slice_tasks(t, t + 1)
        ways = int(s.y.max()) + 1
        shrinkage = learner.shrinkage() if distance == "mahalanobis" else None
        scores = naive_scores(net(q.x), net(s.x), s.y, ways, distance, shrinkage)
        losses.append(F.cross_entropy(learner.log_scale.exp() * scores, q.y))
    expected = torch.stack(losses).mean()
    wanted = torch.autograd.grad(expected, list(learner.parameters()))
    found = learner.episode_loss(Episodes(support, query), torch.Generator())
    gradients = torch.autograd.grad(found, list(learner.parameters()))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for gradient, reference in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-8, atol=1e-11)


def test_fixed_temperature_is_not_trained():
    learner = ProtoNetLearner(
        mlp([3, 4]), distance="cosine", learn_temperature=False, n_classes=None, **LEARNER
    )
    assert not learner.log_scale.requires_grad
    assert float(learner.log_scale.exp()) == pytest.approx(10)


def test_shared_classes_without_a_row_keep_the_pooled_prototype():
    learner = ProtoNetLearner(
        nn.Identity(), distance="euclidean", learn_temperature=False, n_classes=2, **LEARNER
    ).double()
    everything = rows_of([[0, 1, 1, 0, 1]], 0)
    learner.set_prior(everything)
    state = learner.condition(rows_of([[1, 1]], 1))
    torch.testing.assert_close(state["prototypes"][0, 0], learner.prior()["prototypes"][0, 0])
    assert not torch.allclose(state["prototypes"][0, 1], learner.prior()["prototypes"][0, 1])
    assert bool(state["present"].all())


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_shared_classes_are_as_frequent_as_in_training(distance):
    """The density of a class times how often it comes, as for normal classes; one that never came
    is not there."""
    learner = ProtoNetLearner(
        nn.Identity(), distance=distance, learn_temperature=False, n_classes=4, **LEARNER
    ).double()
    everything = rows_of([[0, 2, 2], [0, 2, 2, 2, 1]], 0)
    learner.set_prior(everything)
    tasks, query = rows_of([[1, 2], [0, 0, 1]], 1), rows_of([[0, 0], [0]], 2)
    state = learner.condition_tasks(tasks)
    found = learner.predict(state, query)
    frequency = torch.tensor([2 / 8, 1 / 8, 5 / 8, 1.0], dtype=torch.float64)
    for task, rows in enumerate(([0, 1], [2])):
        for row in rows:
            for c in range(4):
                if c == 3:
                    assert found[row, c] == NEVER
                    continue
                own = state["prototypes"][task, c]
                score = -(query.x[row] - own).square().sum()
                if distance == "cosine":
                    score = 10 * F.cosine_similarity(query.x[row], own, dim=0)
                expected = score + frequency[c].log()
                torch.testing.assert_close(found[row, c], expected)
    torch.testing.assert_close(learner.prior()["log_share"][0, :3], frequency[:3].log())


def test_a_rare_class_is_told_as_rarely():
    rng = np.random.default_rng(0)
    groups, X = np.repeat(np.arange(30), 40), rng.normal(size=(1200, 3))
    y = X[:, 0] + rng.logistic(size=1200) > 3.5
    model = ProtoNetClassifier(max_epochs=5, random_state=0).fit(X, y, groups=groups)
    told = model.predict_proba(X)[:, 1].mean()
    assert 0.5 < told / y.mean() < 2
    assert y.mean() < 0.08


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def test_no_groups_and_many_classes_is_n_way_k_shot(digits):
    X, y = digits
    model = ProtoNetClassifier(max_epochs=3, random_state=0).fit(X[::2], y[::2])
    assert not model.shared_classes_ and model.n_tasks_ == 1
    assert model.score(X[1::2], y[1::2]) > 0.93  # all ten digits, new images


def test_classes_never_seen(digits):
    X, y = digits
    seen = y < 6
    model = ProtoNetClassifier(max_epochs=3, random_state=0).fit(X[seen], y[seen])
    new = np.flatnonzero(~seen)
    few = np.concatenate([new[y[new] == d][:5] for d in (6, 7, 8, 9)])
    names = np.array([f"digit {d}" for d in y])
    adapted = model.adapt(X[few], names[few])
    assert adapted.classes_.tolist() == ["digit 6", "digit 7", "digit 8", "digit 9"]
    rest = np.setdiff1d(new, few)
    assert adapted.score(X[rest], names[rest]) > 0.5
    assert adapted.predict_proba(X[rest]).shape == (len(rest), 4)


def test_transform_is_the_space_of_the_prototypes(digits):
    X, y = digits
    model = ProtoNetClassifier((16, 8), max_epochs=1, random_state=0).fit(X, y)
    embedded = model.transform(X)
    assert embedded.shape == (len(X), 8)
    assert len(model.get_feature_names_out()) == 8
    means = np.array([embedded[y == d].mean(0) for d in range(10)])
    nearest = ((embedded[:, None] - means) ** 2).sum(2).argmin(1)
    np.testing.assert_array_equal(model.predict(X), nearest)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8)])
def test_conv4_on_images(digits, shape):
    X, y = digits
    model = ProtoNetClassifier(
        module="conv4", image_shape=shape, max_epochs=1, tasks_per_batch=1, random_state=0
    ).fit(X[:600], y[:600])
    assert model.score(X[600:800], y[600:800]) > 0.8


def test_conv4_needs_a_shape_that_fits(digits):
    X, y = digits
    with pytest.raises(ValueError, match="image_shape"):
        ProtoNetClassifier(module="conv4").fit(X, y)
    with pytest.raises(ValueError, match="63 pixels, but X has 64 columns"):
        ProtoNetClassifier(module="conv4", image_shape=(9, 7)).fit(X, y)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "mahalanobis"])
def test_more_ways_in_training_than_later(digits, distance):
    X, y = digits
    model = ProtoNetClassifier(n_way=3, n_shot=1, distance=distance, max_epochs=2, random_state=0)
    model.fit(X, y)
    assert model.score(X, y) > 0.9


# ---------------------------------------------------------------- Mahalanobis distance


def test_one_row_a_class_is_the_euclidean_distance():
    rows = rows_of([[0, 1, 2]], 0)
    means, _ = prototypes(rows, 3)
    whiten = whitening(rows, means, torch.tensor(4.0, dtype=torch.float64))
    torch.testing.assert_close(whiten[0], torch.eye(3, dtype=torch.float64))


def test_mahalanobis_sees_that_a_direction_means_nothing():
    def clouds(n_tasks, seed):
        """Classes differ along the first column; the scatter is wide in one that varies."""
        rng = np.random.default_rng(seed)
        task = np.repeat(np.arange(n_tasks), 60)
        y = np.tile(np.arange(2), 30 * n_tasks)
        wide = rng.integers(1, 4, size=n_tasks)[task]
        X = 0.3 * rng.normal(size=(len(y), 4))
        X[:, 0] += y
        X[np.arange(len(y)), wide] += 4 * rng.normal(size=len(y))
        return X, y, task

    X, y, groups = clouds(30, 0)
    new = clouds(30, 1)
    found = {}
    for distance in ("euclidean", "mahalanobis"):
        model = ProtoNetClassifier(
            module=nn.Identity(), distance=distance, max_epochs=1, random_state=0
        ).fit(X, y, groups=groups)
        found[distance] = TaskScorer("accuracy", n_support=20)(model, *new)
    assert found["mahalanobis"] > found["euclidean"] + 0.05, found


def test_mahalanobis_of_many_tasks_is_that_of_each():
    learner = ProtoNetLearner(
        nn.Identity(), distance="mahalanobis", learn_temperature=True, n_classes=None, **LEARNER
    ).double()
    support = rows_of([[0, 1, 0, 1, 0], [0, 0], [0, 1, 2] * 11, [1, 0]], 0)
    query = rows_of([[0, 0]] * 4, 1)
    scores = learner.predict_tasks(learner.condition_tasks(support), query)
    for t in range(4):
        state = learner.condition(support.slice_tasks(t, t + 1))
        alone = learner.predict(state, query.slice_tasks(t, t + 1))
        together = scores[2 * t : 2 * t + 2]
        torch.testing.assert_close(together[:, : alone.shape[1]], alone)
        assert (together[:, alone.shape[1] :] == NEVER).all()


# ---------------------------------------------------------------- turned images


@pytest.mark.parametrize("estimator", [ProtoNetClassifier, RidgeHeadClassifier, MetaSVC])
def test_turned_images_are_further_classes_in_training_alone(monkeypatch, estimator):
    monkeypatch.setattr("skmeta.training._stream.MIN_STEPS", 3)  # what they learn is not asked
    X, y = load_digits(return_X_y=True)
    model = estimator(
        module="conv4", image_shape=(8, 8), rotate_classes=True, max_epochs=1, random_state=0
    )
    seen = {}
    plain = type(model)._way_sampler

    def spy(self, X, y, numbers):
        if len(X) == 800:  # not the trials of a head
            seen["X"], seen["y"] = X, y
        return plain(self, X, y, numbers)

    class Spied(estimator):
        _way_sampler = spy

    model = Spied(**model.get_params()).fit(X[:200], y[:200])
    assert len(model.classes_) == 10
    images = seen["X"].reshape(4, 200, 8, 8)
    labels = seen["y"].reshape(4, 200)
    for k in range(4):
        np.testing.assert_array_equal(images[k], np.rot90(images[0], k, axes=(1, 2)))
        np.testing.assert_array_equal(labels[k], labels[0] + 10 * k)
    assert model.adapt(X[:20], y[:20]).predict(X[:5]).shape == (5,)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"module": "conv4"}, "image_shape"),
        ({"image_shape": (8, 8)}, "module"),
        ({"module": nn.Identity(), "image_shape": (4, 16)}, "square"),
        ({"module": "conv4", "image_shape": (8, 8), "shared_classes": True}, "of their own"),
    ],
)
def test_turning_what_cannot_be_turned_is_refused(options, word):
    X, y = load_digits(return_X_y=True)
    groups = np.arange(len(y)) % 3 if options.get("shared_classes") else None
    with pytest.raises(ValueError, match=word):
        ProtoNetClassifier(rotate_classes=True, **options).fit(X, y, groups=groups)


def test_states_lie_in_row_order_so_that_files_bring_back_every_bit(tmp_path):
    X, y, groups = wards()
    model = small("ProtoNetClassifier", distance="mahalanobis").fit(X, y, groups=groups)
    for one in (model, model.adapt(X[:5], y[:5])):
        assert one.state_["whitening"].is_contiguous()
        skmeta.save(one, tmp_path / "model")
        loaded = skmeta.load(tmp_path / "model")
        np.testing.assert_array_equal(loaded.predict_proba(X), one.predict_proba(X))
