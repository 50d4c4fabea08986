"""Prototypes, distances and the episode loss against plain loops; then fit and adapt."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skmeta import ProtoNetClassifier
from skmeta.core.heads.prototypes import log_scores, prototypes
from skmeta.core.learner import NEVER
from skmeta.core.tasks import Episodes, TaskRows
from skmeta.metric._protonet import ProtoNetLearner
from skmeta.nets import mlp


def rows_of(labels, seed, d=3):
    """``labels``: one list a task."""
    flat = [label for task in labels for label in task]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(flat), d, dtype=torch.float64, generator=generator)
    return TaskRows.from_sizes(x, torch.tensor(flat), torch.tensor([len(t) for t in labels]))


def naive_scores(z, support_z, support_y, n_classes, distance):
    """One row at a time."""
    scores = torch.full((len(z), n_classes), NEVER, dtype=z.dtype)
    for i, row in enumerate(z):
        for c in range(n_classes):
            own = [v for v, label in zip(support_z, support_y, strict=True) if label == c]
            if own:
                centre = sum(own) / len(own)
                if distance == "cosine":
                    scores[i, c] = row @ centre / (row.norm() * centre.norm())
                else:
                    scores[i, c] = -((row - centre) ** 2).sum()
    return scores


labels_of_tasks = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=5
)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@given(labels=labels_of_tasks, data=st.data())
def test_scores_equal_the_naive_loop(distance, labels, data):
    support = rows_of(labels, 0)
    n_query = data.draw(st.lists(st.integers(1, 4), min_size=len(labels), max_size=len(labels)))
    query = rows_of([[0] * n for n in n_query], 1)
    means, present = prototypes(support, 4)
    scale = torch.tensor(1.7, dtype=torch.float64)
    found = log_scores(query, means, present, distance, scale)
    expected = []
    for t in range(len(labels)):
        s, q = support.slice_tasks(t, t + 1), query.slice_tasks(t, t + 1)
        expected.append(naive_scores(q.x, s.x, s.y, 4, distance))
    expected = torch.cat(expected)
    expected = torch.where(expected == NEVER, NEVER, 1.7 * expected)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_episode_loss_and_gradients_equal_the_naive_loop(distance):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = mlp([3, 5, 4], "tanh")
    learner = ProtoNetLearner(
        net, distance=distance, learn_temperature=True, n_classes=None
    ).double()
    support = rows_of([[0, 0, 1, 2], [0, 1], [1, 0, 1]], 0)
    query = rows_of([[0, 1, 2], [1, 0, 1, 1], [0]], 1)
    losses = []
    for t in range(3):
        s, q = support.slice_tasks(t, t + 1), query.slice_tasks(t, t + 1)
        ways = int(s.y.max()) + 1
        scores = naive_scores(net(q.x), net(s.x), s.y, ways, distance)
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
        mlp([3, 4]), distance="cosine", learn_temperature=False, n_classes=None
    )
    assert not learner.log_scale.requires_grad
    assert float(learner.log_scale.exp()) == pytest.approx(10)


def test_shared_classes_without_a_row_keep_the_pooled_prototype():
    learner = ProtoNetLearner(
        nn.Identity(), distance="euclidean", learn_temperature=False, n_classes=2
    ).double()
    everything = rows_of([[0, 1, 1, 0, 1]], 0)
    learner.set_prior(everything)
    state = learner.condition(rows_of([[1, 1]], 1))
    torch.testing.assert_close(state["prototypes"][0, 0], learner.prior()["prototypes"][0, 0])
    assert not torch.allclose(state["prototypes"][0, 1], learner.prior()["prototypes"][0, 1])
    assert bool(state["present"].all())


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


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_more_ways_in_training_than_later(digits, distance):
    X, y = digits
    model = ProtoNetClassifier(n_way=3, n_shot=1, distance=distance, max_epochs=2, random_state=0)
    model.fit(X, y)
    assert model.score(X, y) > 0.9
