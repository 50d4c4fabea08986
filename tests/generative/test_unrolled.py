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
from skmeta import GaussianPriorReconstructor, UnrolledReconstructor
from skmeta import operators as ops
from skmeta.core.tasks import Episodes, TaskRows
from skmeta.generative._projection import project
from skmeta.generative._unrolled_learner import UnrolledLearner
from skmeta.generative._unrolled_start import what_operators_share
from skmeta.model_selection import predict_tasks
from skmeta.nets import mlp
from tests.generative.cases import digits

M, P = 3, 4


def learner():
    """Everything it learns is away from where it starts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = UnrolledLearner(mlp([2 * P, 5, P], "tanh"), M, P, 3).double()
        root = torch.randn(P, 2 * P).double()
        with torch.no_grad():
            found.common.copy_(torch.randn(M, P + 1))
            found.covariance.copy_(root @ root.T / P)
            found.mean.copy_(torch.randn(P))
            found.spread.copy_(torch.tensor(0.3))
            found.gains.copy_(torch.tensor([0.3, -0.5, 0.8]))
            found.bounds.copy_(torch.tensor([[-0.8], [0.9]]).expand(2, P))
    return found.eval()


def rows(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(sizes)
    n = int(sizes.sum())
    x = torch.randn(n, M, generator=generator, dtype=torch.float64)
    y = torch.randn(n, P, generator=generator, dtype=torch.float64)
    return TaskRows.from_sizes(x, y, sizes)


def naive_operator(net, x, y):
    """Ridge regression by the normal equations; noise with what it leaves open, entry by entry."""
    images = torch.cat([y + net.mean, torch.ones(len(y), 1).double()], 1)
    penalty = net.noise / net.spread
    precision = (images.T @ images + penalty * torch.eye(P + 1)) / net.noise
    right = images.T @ x / net.noise + net.common.T / net.spread
    operator = torch.linalg.solve(precision, right).T
    typical = torch.zeros(P + 1, P + 1).double()
    typical[:P, :P] = net.covariance
    average = torch.cat([net.mean, torch.ones(1).double()])
    typical += torch.outer(average, average)
    return operator, net.noise + (torch.linalg.inv(precision) * typical).sum()


def naive_image(net, operator, noise, measured):
    """One image; posterior mean and covariance in information form, the range by many more steps.

    (By the projection of the closed-form reconstructors, which has tests of its own.)
    """
    A, constant = operator[:, :P], operator[:, P]
    missed = measured - constant - A @ net.mean
    covariance = torch.linalg.inv(torch.linalg.inv(net.covariance) + A.T @ A / noise)
    first = covariance @ A.T @ missed / noise
    bounds = float(net.bounds[0, 0]), float(net.bounds[1, 0])
    first = torch.from_numpy(project(first[None].numpy(), covariance.numpy(), bounds, 1000)[0])
    x, std = first, covariance.diag().sqrt()
    left = torch.eye(P) - covariance @ A.T @ A / noise
    for gain in net.gains:
        x = first + left @ (gain * net.net(torch.cat([x, std])[None])[0])
    return x.clamp(*bounds)


def naive_loss(net, support, query):
    losses = []
    for t in range(support.n_tasks):
        a, b = (part.take_tasks(torch.tensor([t])) for part in (support, query))
        operator, noise = naive_operator(net, a.x, a.y)
        found = torch.stack([naive_image(net, operator, noise, row) for row in b.x])
        losses.append((found - b.y).square().mean())
    return torch.stack(losses).mean()


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(0, 5))
def test_episodes_equal_a_loop_in_values_and_gradients(sizes, seed):
    net = learner()
    # Enough steps into the range for the naive reference, which takes very many.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skmeta.generative._unrolled_learner.RANGE_STEPS", 500)
        support, query = rows(sizes, seed), rows(sizes[::-1], seed + 10)
        ours = net.episode_loss(Episodes(support, query), torch.Generator())
    naive = naive_loss(net, support, query)
    torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-7)
    weights = list(net.parameters())
    for a, b in zip(
        torch.autograd.grad(ours, weights), torch.autograd.grad(naive, weights), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_both_forms_of_the_ridge_and_predictions_of_ragged_tasks():
    net, support = learner(), rows([1, 4, 30])
    state = net.condition_tasks(support)
    query = rows([2, 5, 1], seed=3)
    found = net.predict_tasks(state, query)
    at = 0
    for t, size in enumerate([2, 5, 1]):
        part = support.take_tasks(torch.tensor([t]))
        operator, noise = naive_operator(net, part.x, part.y)
        torch.testing.assert_close(state["operator"][t], operator, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(state["noise"][t], noise, rtol=1e-8, atol=1e-8)
        alone = {name: value[t : t + 1] for name, value in state.items()}
        own = net.predict(alone, TaskRows.single(query.x[at : at + size]))
        torch.testing.assert_close(found[at : at + size], own)
        at += size


def test_drawn_operators_vary_as_the_supports_leave_open():
    net = learner()
    support, query = rows([3]).padded(), rows([4], seed=1).padded()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([net._drawn(support, query, generator)[0] for _ in range(4000)])
    expected, _ = naive_operator(net, support.x[0], support.y[0])
    images = torch.cat([support.y[0] + net.mean, torch.ones(3, 1).double()], 1)
    precision = images.T @ images / net.noise + torch.eye(P + 1) / net.spread
    covariance = torch.linalg.inv(precision)
    torch.testing.assert_close(drawn.mean(0), expected, rtol=0, atol=0.06)
    for row in range(M):
        torch.testing.assert_close(drawn[:, row].T.cov(), covariance, rtol=0, atol=0.03)


@pytest.mark.parametrize("alike", [False, True])
def test_what_operators_share_is_found(alike):
    rng = np.random.default_rng(0)
    T, n, m, p = 30, 12, 5, 8
    shared = rng.normal(size=(m, p + 1)) * alike
    operators = shared + 0.2 * rng.normal(size=(T, m, p + 1))
    images = rng.normal(size=(T, n, p))
    X = images @ operators[..., :p].swapaxes(1, 2) + operators[:, None, :, p]
    X = X + 0.1 * rng.normal(size=X.shape)
    tensors = (torch.tensor(values.reshape(T * n, -1)) for values in (X, images))
    found = what_operators_share(TaskRows.from_sizes(*tensors, torch.full((T,), n)), np.zeros(p))
    assert_allclose([found.noise, found.spread], [0.01, 0.04], rtol=0.15)
    if alike:
        assert np.abs(found.common - shared).mean() < 0.05
    else:
        assert not found.common.any()


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
    """Mean squared errors on new operators and new images, of the model and of others."""
    gaussian = GaussianPriorReconstructor().fit(pairs(40, 40, seed=0)[1])
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
        "gaussian": gaussian.adapt(operator=A, noise_std=0.01).predict(measured),
    }
    return {name: np.square(found - new).mean() for name, found in answers.items()}


def test_pairs_of_a_new_operator_help_and_so_does_knowing_it(fitted):
    found = [errors(fitted, seed, 40) for seed in range(3)]
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["adapted"] < 0.5 * mean["prior"]
    assert mean["adapted"] < 0.9 * mean["ridge"] < mean["mean"]
    assert mean["known"] < 0.5 * mean["prior"]
    # The closed form that it starts from, which is told the noise.
    assert mean["known"] < 0.9 * mean["gaussian"]


def test_with_few_pairs_it_is_as_good_as_the_closed_form():
    X, y, groups = pairs(6, 15, seed=1)
    model = UnrolledReconstructor(max_epochs=3, random_state=0).fit(X, y, groups=groups)
    gaussian = GaussianPriorReconstructor(noise_std=0.01).fit(y)
    A = np.random.default_rng(5).normal(size=(24, 64)) / 24**0.5
    new = digits()[1200:1400]
    worst, best = (
        np.square(one.adapt(operator=A).predict(new @ A.T) - new).mean()
        for one in (model, gaussian)
    )
    assert worst < 1.1 * best


def test_images_stay_in_their_range_unless_asked_not_to():
    X, y, groups = pairs(6, 15, seed=1)
    ranges = {}
    for clip in (True, False):
        model = UnrolledReconstructor(max_epochs=1, clip=clip, random_state=0)
        model.fit(X, y, groups=groups)
        found = model.adapt(X[groups == 0], y[groups == 0]).predict(3 * X)
        ranges[clip] = found.min(), found.max()
    assert_allclose(ranges[True], (0, 1), atol=1e-6)
    assert 0 <= ranges[True][0] < ranges[True][1] <= 1
    assert ranges[False][0] < -0.1 < 1.1 < ranges[False][1]


def test_the_range_is_kept_to_the_last_bit_in_any_units():
    X, y, groups = pairs(6, 15, seed=1)
    for unit in (1.0, 65535 / 3, 1e-7):
        images = (0.1 + y) * unit
        model = UnrolledReconstructor((8,), max_epochs=1, random_state=0)
        model = model.fit(X, images, groups=groups).adapt(X[groups == 0], images[groups == 0])
        found = model.predict(3 * X)
        assert images.min() <= found.min() < 0.11 * unit < 1.09 * unit < found.max() <= images.max()


def test_before_any_pairs_it_is_no_worse_than_the_mean_image():
    X, y, groups = pairs(10, 30, seed=1)
    model = UnrolledReconstructor((32,), max_epochs=1, random_state=0).fit(X, y, groups=groups)
    A = np.random.default_rng(5).normal(size=(24, 64)) / 24**0.5
    new = digits()[1200:1400]
    error = np.square(model.predict(new @ A.T) - new).mean()
    assert error < 1.05 * np.square(y.mean(axis=0) - new).mean()


def test_the_prior_is_a_ridge_of_no_pairs_and_its_noise_what_operators_differ_by():
    net = learner()
    net.set_prior(rows([4, 6]))
    operator, noise = naive_operator(net, torch.zeros(0, M).double(), torch.zeros(0, P).double())
    torch.testing.assert_close(net.prior()["operator"][0], operator)
    torch.testing.assert_close(net.prior()["noise"][0], noise)
    # One task alone is the task to answer for.
    alone = rows([7])
    net.set_prior(alone)
    operator, _ = naive_operator(net, alone.x, alone.y)
    torch.testing.assert_close(net.prior()["operator"][0], operator)


@pytest.mark.parametrize(("n_operators", "share"), [(2, 0.9), (12, 0.6)])
def test_before_any_pairs_it_takes_what_operators_share(n_operators, share):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(24, 64)) / 24**0.5
    operators = shared + 0.2 * rng.normal(size=(n_operators + 1, 24, 64)) / 24**0.5
    images, groups = digits()[:360], np.arange(360) % n_operators
    X = np.einsum("nmp,np->nm", operators[groups], images)
    first = UnrolledReconstructor((32,), max_epochs=1, warm_start=True, random_state=0)
    new = digits()[1200:1400]
    for _ in range(2):  # from the start, and warm
        model = first.fit(X, images, groups=groups)
        error = np.square(model.predict(new @ operators[-1].T) - new).mean()
        assert error < share * np.square(images.mean(axis=0) - new).mean()


@pytest.mark.parametrize("unit", [1e-5, 1e5])
def test_units_change_nothing_where_a_pixel_and_a_detector_are_constant(unit):
    X, y, groups = pairs(6, 15, seed=1)
    y[:, 0], X[:, 0] = 0.25, 0.5  # a pixel, and a detector, that are always the same
    one, other = (
        UnrolledReconstructor((8,), max_epochs=1, random_state=0)
        .fit(u * X, u * y, groups=groups)
        .adapt(u * X[groups == 0], u * y[groups == 0])
        .predict(u * X[groups == 1])
        / u
        for u in (1.0, unit)
    )
    assert_allclose(other, one, atol=1e-3)


def test_scales_are_those_of_what_varies():
    X, y, groups = pairs(6, 15, seed=1)
    y[:, :32], X[:, :12] = 0.25, 0.5
    varying = y[:, np.ptp(y, axis=0) > 0]
    model = UnrolledReconstructor((8,), max_epochs=1, random_state=0).fit(X, y, groups=groups)
    assert_allclose(model.y_scale_, np.sqrt(varying.var(axis=0).mean()))
    assert_allclose(model.x_scale_, np.sqrt(X[:, 12:].var(axis=0).mean()))
    still = UnrolledReconstructor((8,), max_epochs=1, random_state=0)
    assert (still.fit(X, np.full_like(y, 0.25), groups=groups).y_scale_ == 1).all()


@pytest.mark.parametrize(
    "module", [torch.nn.Linear(64, 64), torch.nn.Linear(128, 63), torch.nn.LSTM(128, 64)]
)
def test_a_module_that_does_not_fit_is_told_its_sizes(module):
    X, y, groups = pairs(6, 15, seed=1)
    with pytest.raises(ValueError, match=r"\(n_rows, 128\).*\(n_rows, 64\)"):
        UnrolledReconstructor(module=module).fit(X, y, groups=groups)


@pytest.mark.parametrize("size", [1e160, 1e306])
def test_what_overflows_is_refused_in_plain_words(fitted, size):
    A = np.random.default_rng(5).normal(size=(24, 64)) / 24**0.5
    images = digits()[:20]
    with pytest.raises(ValueError, match="The operator holds values so large"):
        fitted.adapt(operator=A * size)
    with pytest.raises(ValueError, match="overflow"):
        fitted.adapt(images @ A.T * size, images)
    large = fitted.adapt(operator=A * 1e100).predict(images @ A.T * 1e100)
    assert np.isfinite(large).all()


def test_too_many_pixels_for_a_covariance():
    y = np.random.default_rng(0).normal(size=(4, 8193))
    with pytest.raises(ValueError, match="8193 pixels are too many"):
        UnrolledReconstructor().fit(y[:, :3], y, groups=[0, 0, 1, 1])


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
