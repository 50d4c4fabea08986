"""Support rows of any length: the answer of exact arithmetic, or a refusal in words."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skmeta import HierarchicalRidge
from skmeta.core.tasks import TaskRows
from skmeta.model_selection import predict_tasks
from tests.base.tasks import instance, wards, waves
from tests.instances import small

LINEAR = ["ALPaCARegressor", "RidgeHeadRegressor", "RidgeHeadClassifier"]
N_SUPPORT, N_QUERY = 6, 3


def exact(values):
    """As an array of fractions."""
    return np.vectorize(Fraction, otypes=[object])(np.asarray(values, dtype=np.float64))


def solve(matrix, right):
    """By Gauss and Jordan, without a rounding error; ``matrix`` is positive definite."""
    rows = np.concatenate([matrix, right], axis=1)
    for i in range(len(rows)):
        rows[i] = rows[i] / rows[i, i]
        others = np.arange(len(rows)) != i
        rows[others] -= rows[others, i][:, None] * rows[i]
    return rows[:, len(rows) :]


def ridge(z, y, penalty, query):
    """Predictions at ``query``, and their variance without the noise."""
    z, y, query = exact(z), exact(y), exact(query)
    matrix = z.T @ z + exact(penalty * np.eye(z.shape[1]))
    found = solve(matrix, np.concatenate([z.T @ y, query.T], axis=1))
    mean = query @ found[:, : y.shape[1]]
    variance = (query.T * found[:, y.shape[1] :]).sum(axis=0)
    return mean.astype(float), variance.astype(float)


@pytest.fixture(scope="module")
def models():
    found = {}
    for own_net in (True, False):
        for name in [*LINEAR, "MetaSVC"]:
            X, y, groups = waves() if name.endswith("Regressor") else wards()
            module = None if own_net else instance(nn.Linear, X.shape[1], 4)
            model = small(name, module=module, early_stopping=False).fit(X, y, groups=groups)
            found[name, own_net] = model, X, y
    return found


def stretched(X, scale, rows):
    """The support rows, all of them or the first one ``scale`` times as long; and others."""
    support = X[:N_SUPPORT].copy()
    support[: 1 if rows == "one" else None] *= scale
    return support, X[-N_QUERY:]


def tensors(model, *arrays):
    return [torch.from_numpy(model._scaled(array)) for array in arrays]


def right(model, adapted, support, y, query):
    """Whether a linear head answers as exact arithmetic does."""
    learner, state = adapted.learner_, adapted.state_
    x, q = tensors(model, support, query)
    y = torch.from_numpy(model._encode(y, np.zeros(len(y), int), 1))
    with torch.no_grad():
        found = learner.predict(state, TaskRows.single(q)).numpy()
        if hasattr(learner, "noise"):
            (plain, z), (plain_q, z_q) = learner.features(x), learner.features(q)
            rest, common = y - plain @ learner.mean_weights, plain_q @ learner.mean_weights
            mean, variance = ridge(z, rest, 1.0, z_q)
            std = learner.predict_variance(state, TaskRows.single(q)).sqrt().numpy()
            wanted = np.sqrt((1 + variance[:, None]) * learner.noise().numpy())
            np.testing.assert_allclose(std, wanted, rtol=1e-3)
            scale = 1.0
        else:
            z, z_q, weights = learner.features(x), learner.features(q), learner.common_weights
            targets = y if y.is_floating_point() else F.one_hot(y, weights.shape[1])
            rest, common = targets - z @ weights, z_q @ weights
            mean, _ = ridge(z, rest, float(learner.head.penalty()), z_q)
            scale = float(learner.scale()) if hasattr(learner, "scale") else 1.0
    wanted = scale * (common.numpy() + mean)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def right_machine(model, adapted, support, y, C):
    """Whether primal and dual objective of the machine meet, in exact arithmetic."""
    learner = adapted.learner_
    (x,) = tensors(model, support)
    with torch.no_grad():
        z = learner.features(x)
        offsets = exact(z @ learner.common_weights)
    one_hot = exact(F.one_hot(torch.from_numpy(np.searchsorted(model.classes_, y)), 2))
    z, alpha = exact(z), exact(adapted.dual_coef_)
    alpha = alpha - alpha.sum(axis=1, keepdims=True) * one_hot  # rows sum to 0 but for rounding
    # Less than C is as good where no row has so much: then losses count less.
    most = min(Fraction(C), 2 * alpha.max())
    assert 0 < alpha.max() <= most
    weights = z.T @ alpha
    margin = 1 - one_hot + offsets
    losses = (margin + z @ weights).max(axis=1) - (one_hot * (margin + z @ weights)).sum(axis=1)
    size = (weights**2).sum() / 2
    primal, dual = size + most * losses.sum(), -(alpha * margin).sum() - size
    assert 0 <= primal - dual <= primal / 50


@pytest.mark.parametrize("rows", ["one", "all"])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e3, 1e4, 1e6, 1e9, 1e12, 1e15, 1e30, 1e200])
@pytest.mark.parametrize("own_net", [True, False])
@pytest.mark.parametrize("name", [*LINEAR, "MetaSVC"])
def test_the_answer_is_right_or_refused(models, name, own_net, scale, rows):
    model, X, y = models[name, own_net]
    support, query = stretched(X, scale, rows)
    refusal = ""
    try:
        adapted = model.adapt(support, y[:N_SUPPORT])
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert "far outside the training rows" in refusal
        # What has to be answered, and is: machines have products of the rows for a kernel.
        assert scale > (1e3 if name == "MetaSVC" else 1e9)
        return
    # Before its own net a regressor draws in what is far.
    assert scale < 1e30 or (own_net and name.endswith("Regressor"))
    if name == "MetaSVC":
        right_machine(model, adapted, support, y[:N_SUPPORT], model.C)
    else:
        right(model, adapted, support, y[:N_SUPPORT], query)


def test_rows_far_out_can_be_added(models):
    model, X, y = models["ALPaCARegressor", False]
    far = 1e9 * X[:3]
    one = model.adapt(X[3:6], y[3:6]).update(far, y[:3])
    both = np.concatenate([X[3:6], far]), np.concatenate([y[3:6], y[:3]])
    right(model, one, *both, X[-N_QUERY:])


def test_one_task_among_many_is_enough_to_refuse(models):
    model, X, y = models["ALPaCARegressor", False]
    tasks = np.repeat([0, 1, 2], 2)
    support = X[:6].copy()
    support[3] *= 1e30
    with pytest.raises(ValueError, match="far outside the training rows"):
        predict_tasks(model, support, y[:6], tasks, X[:6], tasks)


def test_a_machine_of_many_long_rows_says_that_it_is_not_solved(models):
    model, X, y = models["MetaSVC", False]
    many = np.random.default_rng(0).integers(len(X), size=600)
    labels = np.random.default_rng(1).permutation(y[many])
    with pytest.warns(ConvergenceWarning, match="not solved to the end.*lower C"):
        far = model.adapt(300 * X[many], labels)
    assert np.isfinite(far.decision_function(X)).all()


def test_a_mixed_model_answers_exactly_or_refuses():
    """It keeps moments alone: squares, in which a noise of usual size must not be lost."""
    rng = np.random.default_rng(0)
    groups, X = np.repeat(np.arange(20), 8), rng.normal(size=(160, 2))
    slopes = rng.normal(1, 0.5, (20, 2))[groups]
    y = rng.normal(size=20)[groups] + (slopes * X).sum(1) + 0.3 * rng.normal(size=160)
    model = HierarchicalRidge().fit(X, y, groups=groups)
    rows, targets = rng.normal(size=(10, 2)), rng.normal(size=10)
    for far in (1e2, 1e4, 1e5):
        support = rows + np.array([far, 0.0])
        z = np.column_stack([np.ones(10), model._scaled(support)])
        level, root, noise = (model.meta_params_[name][0] for name in ("mean", "root", "noise"))
        known = (targets - model.y_mean_) / model.y_scale_ - z @ level
        # Coordinates of the root: a ridge regression with the noise as its penalty.
        mean, _ = ridge(z @ root, known[:, None], noise, z @ root)
        wanted = model.y_mean_ + model.y_scale_ * (z @ level + mean[:, 0])
        halves = model.adapt(support[:5], targets[:5]).update(support[5:], targets[5:])
        for adapted in (model.adapt(support, targets), halves):
            np.testing.assert_allclose(adapted.predict(support), wanted, atol=1e-4)
    adapted = model.adapt(rows, targets)
    for call in (
        lambda: model.adapt(rows + 1e7, targets),
        lambda: adapted.update(rows + 1e7, targets),
        lambda: model.task_effects(rows + 1e10, targets, np.zeros(10)),
    ):
        with pytest.raises(ValueError, match="so far outside the training rows"):
            call()
