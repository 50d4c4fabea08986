"""UnrolledReconstructor: against a loop over tasks and rows, and on operators it has never met."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

import skmeta
from skmeta import UnrolledReconstructor
from skmeta import operators as ops
from skmeta.core.tasks import Episodes, TaskRows
from skmeta.generative._unrolled_learner import UnrolledLearner
from skmeta.model_selection import predict_tasks
from skmeta.nets import mlp
from tests.generative.cases import digits

M, P = 3, 4


def learner():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = UnrolledLearner(mlp([2 * P, 5, P], "tanh"), M, P, 3).double()
        with torch.no_grad():
            found.common.copy_(torch.randn(M, P + 1))
            found.steps.copy_(torch.tensor([0.9, 1.1, 0.7]))
    return found


def rows(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(sizes)
    n = int(sizes.sum())
    x = torch.randn(n, M, generator=generator, dtype=torch.float64)
    y = torch.randn(n, P, generator=generator, dtype=torch.float64)
    return TaskRows.from_sizes(x, y, sizes)


def naive_operator(net, x, y):
    """Ridge regression, by the normal equations."""
    images = torch.cat([y, torch.ones(len(y), 1).double()], 1)
    gram = images.T @ images + net.penalty() * torch.eye(P + 1)
    return torch.linalg.solve(gram, images.T @ x + net.penalty() * net.common.T).T


def naive_image(net, operator, measured):
    """One image, and the largest singular value from a decomposition."""
    A, constant = operator[:, :P], operator[:, P]
    longest = 1 / torch.linalg.matrix_norm(A, 2) ** 2
    x = torch.zeros(P, dtype=torch.float64)
    for step, gain in zip(net.steps, net.gains, strict=True):
        move = longest * A.T @ (measured - constant - A @ x)
        x = x + step * move
        x = x + gain * net.net(torch.cat([x, move])[None])[0]
    return x


def naive_loss(net, support, query):
    losses = []
    for t in range(support.n_tasks):
        a, b = (part.take_tasks(torch.tensor([t])) for part in (support, query))
        operator = naive_operator(net, a.x, a.y)
        found = torch.stack([naive_image(net, operator, row) for row in b.x])
        losses.append((found - b.y).square().mean())
    return torch.stack(losses).mean()


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(0, 5))
def test_episodes_equal_a_loop_in_values_and_gradients(sizes, seed):
    net = learner()
    # Enough power iterations for the naive reference, which has the exact value.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skmeta.generative._unrolled_learner.POWER_ITERATIONS", 3000)
        support, query = rows(sizes, seed), rows(sizes[::-1], seed + 10)
        ours = net.episode_loss(Episodes(support, query), torch.Generator())
    naive = naive_loss(net, support, query)
    torch.testing.assert_close(ours, naive, rtol=1e-6, atol=1e-9)
    weights = list(net.parameters())
    for a, b in zip(
        torch.autograd.grad(ours, weights), torch.autograd.grad(naive, weights), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_both_forms_of_the_ridge_and_predictions_of_ragged_tasks():
    net, support = learner(), rows([1, 4, 30])
    state = net.condition_tasks(support)
    query = rows([2, 5, 1], seed=3)
    found = net.predict_tasks(state, query)
    at = 0
    for t, size in enumerate([2, 5, 1]):
        part = support.take_tasks(torch.tensor([t]))
        expected = naive_operator(net, part.x, part.y)
        torch.testing.assert_close(state["operator"][t], expected.detach(), rtol=1e-8, atol=1e-8)
        alone = {"operator": state["operator"][t : t + 1]}
        own = net.predict(alone, TaskRows.single(query.x[at : at + size]))
        torch.testing.assert_close(found[at : at + size], own)
        at += size


def pairs(n_operators, n_rows, seed, m=24):
    """Digits measured by operators of their own; the operators."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n_operators, m, 64)) / m**0.5
    images = digits()[rng.integers(0, 1200, n_operators * n_rows)]
    groups = np.repeat(np.arange(n_operators), n_rows)
    X = np.einsum("nmp,np->nm", A[groups], images)
    return X + 0.01 * rng.normal(size=X.shape), images, groups


@pytest.fixture(scope="module")
def fitted():
    X, y, groups = pairs(40, 40, seed=0)
    return UnrolledReconstructor(
        (128,), max_epochs=15, n_support=40, n_query=20, random_state=0
    ).fit(X, y, groups=groups)


def errors(model, seed, n_pairs):
    """Mean squared errors on new operators and new images: adapted, not adapted, known, ridge."""
    rng = np.random.default_rng(100 + seed)
    A = rng.normal(size=(24, 64)) / 24**0.5
    known, new = digits()[:1200][:n_pairs], digits()[1200:1400]
    Y = known @ A.T + 0.01 * rng.normal(size=(n_pairs, 24))
    measured = new @ A.T + 0.01 * rng.normal(size=(200, 24))
    centre = known.mean(axis=0)
    B = np.linalg.solve(
        (Y - Y.mean(0)).T @ (Y - Y.mean(0)) + 0.1 * np.eye(24), (Y - Y.mean(0)).T @ (known - centre)
    )
    answers = {
        "adapted": model.adapt(Y, known).predict(measured),
        "prior": model.predict(measured),
        "known": model.adapt(operator=A).predict(measured),
        "ridge": centre + (measured - Y.mean(0)) @ B,
        "mean": np.tile(centre, (200, 1)),
    }
    return {name: np.square(found - new).mean() for name, found in answers.items()}


def test_pairs_of_a_new_operator_help_and_so_does_knowing_it(fitted):
    found = [errors(fitted, seed, 40) for seed in range(3)]
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["adapted"] < 0.5 * mean["prior"]
    assert mean["adapted"] < 0.9 * mean["ridge"] < mean["mean"]
    assert mean["known"] < 0.5 * mean["prior"]


def test_many_exact_pairs_are_as_good_as_the_operator(fitted):
    A = np.random.default_rng(5).normal(size=(24, 64)) / 24**0.5
    images = np.random.default_rng(6).random(size=(5000, 64))
    by_pairs, known = fitted.adapt(images @ A.T, images), fitted.adapt(operator=A)
    Y = digits()[1200:1210] @ A.T
    assert_allclose(by_pairs.predict(Y), known.predict(Y), atol=0.02)
    for kind in (A.tolist(), aslinearoperator(A), sparse.csr_array(A)):
        assert_allclose(fitted.adapt(operator=kind).predict(Y), known.predict(Y), rtol=1e-9)


def test_many_operators_in_one_call(fitted):
    X, y, groups = pairs(5, 30, seed=9)
    support = np.arange(150) % 30 < 12
    together = predict_tasks(
        fitted, X[support], y[support], groups[support], X[~support], groups[~support]
    )
    for g in range(5):
        own = fitted.adapt(X[support & (groups == g)], y[support & (groups == g)])
        assert_allclose(
            together[groups[~support] == g], own.predict(X[~support & (groups == g)]), atol=1e-9
        )


def test_saved_and_loaded_adapted_to_an_operator(fitted, tmp_path):
    A = np.random.default_rng(5).normal(size=(24, 64)) / 24**0.5
    model = fitted.adapt(operator=A)
    skmeta.save(model, tmp_path / "unrolled")
    Y = digits()[:5] @ A.T
    np.testing.assert_array_equal(skmeta.load(tmp_path / "unrolled").predict(Y), model.predict(Y))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"operator": np.ones((24, 63))}, "63"),
        ({"operator": np.ones((5, 64))}, "5 measurements"),
        ({"operator": np.ones((24, 64)) * 1j}, "complex"),
        ({"operator": np.full((24, 64), np.nan)}, "NaN|finite"),
        ({"operator": ops.ForwardModel(torch.exp, 64, 64)}, "linear"),
        ({"X": np.ones((2, 24)), "y": np.ones((2, 64)), "operator": np.ones((24, 64))}, "not both"),
        ({}, "support rows"),
    ],
)
def test_bad_input(fitted, given, words):
    with pytest.raises(ValueError, match=words):
        fitted.adapt(**given)
