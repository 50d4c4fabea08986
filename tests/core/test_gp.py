"""Gaussian processes over tasks, against dense normal distributions over all rows, in float64."""

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import block_diag
from scipy.stats import multivariate_normal

from skmeta.core.gp import (
    JITTER,
    WIDE,
    add,
    bound_and_slopes,
    evidence,
    negative_bound,
    parts_of,
    shared_features,
    solve,
    weights_posterior,
)
from skmeta.core.kernels import Hyper, rbf_kernel, task_kernel, task_variance
from skmeta.core.tasks import TaskRows

INDUCING_JITTER = 1e-6
D = 2


def make_hyper(seed=0, d=D, **changes):
    rng = np.random.default_rng(seed)
    values = {
        "noise": rng.uniform(0.05, 0.5),
        "constant": rng.uniform(0.1, 1),
        "rbf": rng.uniform(0.1, 1),
        "linear": rng.uniform(0.05, 0.5, d),
        "length": rng.uniform(0.5, 2, d),
        "shared_linear": rng.uniform(0.2, 1),
        "shared_rbf": rng.uniform(0.2, 1),
        "shared_length": rng.uniform(0.5, 2, d),
        **changes,
    }
    return Hyper(**{name: torch.tensor(value).double() for name, value in values.items()})


def make_tasks(sizes, d=D, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(sum(sizes), d)), rng.normal(size=sum(sizes))
    return TaskRows.from_sizes(torch.tensor(x), torch.tensor(y), torch.tensor(sizes))


def make_inducing(m, d=D, seed=5):
    return torch.tensor(np.random.default_rng(seed).normal(size=(m, d)))


# -- what the module says -------------------------------------------------------------------------


def terms(h, rows, inducing, own_part=True, noise=None):
    """Covariances and masked targets of one padded batch."""
    padded = rows.padded()
    parts = parts_of(h, padded.x, padded.mask, inducing, own_part=own_part, noise=noise)
    return parts, padded.y if padded.mask is None else padded.y * padded.mask


def evidence_of(h, rows, inducing, own_part=True, noise=None):
    parts, y = terms(h, rows, inducing, own_part, noise)
    return evidence(parts, solve(parts, y), y)


def minus_log(found, n_rows):
    """The bound with the constant that it leaves out."""
    return float(found) + n_rows * math.log(2 * math.pi) / 2


# -- what a loop over pairs of rows says ----------------------------------------------------------


def slow_rbf(a, b, length):
    out = np.empty((len(a), len(b)))
    for i, j in np.ndindex(*out.shape):
        out[i, j] = math.exp(-0.5 * sum(((a[i] - b[j]) / length) ** 2))
    return out


class Dense:
    """Covariances of all rows, pair by pair."""

    def __init__(self, h, rows, inducing, own_part=True):
        h = {name: value.detach().numpy() for name, value in vars(h).items()}
        x, self.y = rows.x.numpy(), rows.y.numpy()
        task = rows.task_of_row.numpy()
        same = task[:, None] == task[None]
        self.task = task
        # Shared: level, slopes, and the part of the curve that the inducing points carry.
        self.shared = WIDE**2 + h["shared_linear"] * x @ x.T
        z = inducing.numpy()
        curve = h["shared_rbf"] * slow_rbf(x, x, h["shared_length"])
        carried = np.zeros_like(curve)
        if len(z):
            among = slow_rbf(z, z, h["shared_length"]) + INDUCING_JITTER * np.eye(len(z))
            cross = slow_rbf(x, z, h["shared_length"])
            carried = h["shared_rbf"] * cross @ np.linalg.solve(among, cross.T)
            self.rest = curve - carried
        else:
            self.rest = np.zeros_like(curve)
        self.exact = self.shared + curve
        self.shared = self.shared + carried
        # Of a task's own.
        own = h["constant"] + (x * h["linear"]) @ x.T + h["rbf"] * slow_rbf(x, x, h["length"])
        self.own = own * same * own_part
        self.noise = (h["noise"] + JITTER) * np.eye(len(x))

    def bound(self):
        """Minus the log density of all rows, plus half the trace term, task by task."""
        own = self.own + self.noise
        density = multivariate_normal(cov=self.shared + own).logpdf(self.y)
        trace = 0
        for t in np.unique(self.task):
            rows = np.flatnonzero(self.task == t)
            trace += np.trace(
                np.linalg.solve(own[np.ix_(rows, rows)], self.rest[np.ix_(rows, rows)])
            )
        return -density + 0.5 * trace


# -- kernels --------------------------------------------------------------------------------------


@given(n=st.integers(1, 5), m=st.integers(1, 5), d=st.integers(1, 3), seed=st.integers(0, 999))
def test_kernels_equal_loops_over_pairs(n, m, d, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(3, n, d)), rng.normal(size=(3, m, d))
    h = make_hyper(seed, d)
    ours = rbf_kernel(torch.tensor(a), torch.tensor(b), h.length)
    own = task_kernel(h, torch.tensor(a), torch.tensor(b))
    for t in range(3):
        slow = slow_rbf(a[t], b[t], h.length.numpy())
        assert_allclose(ours[t], slow, rtol=1e-10, atol=1e-13)
        linear = (a[t] * h.linear.numpy()) @ b[t].T
        expected = float(h.constant) + linear + float(h.rbf) * slow
        assert_allclose(own[t], expected, rtol=1e-10, atol=1e-12)
    alone = task_variance(h, torch.tensor(a))
    assert_allclose(
        alone, task_kernel(h, torch.tensor(a), torch.tensor(a)).diagonal(dim1=1, dim2=2)
    )


def test_rows_far_from_zero_keep_their_distances():
    a = torch.tensor([[1e7], [1e7 + 1], [1e7 + 3]]).double()
    expected = slow_rbf(np.array([[0.0], [1], [3]]), np.array([[0.0], [1], [3]]), np.array([1.5]))
    assert_allclose(rbf_kernel(a, a, torch.tensor([1.5]).double()), expected, rtol=1e-8)


def test_slopes_of_the_kernel_in_its_length_scales():
    x, z = make_tasks([4]).x, make_inducing(3)
    length = torch.tensor([0.7, 1.9]).double().requires_grad_()
    weight = torch.tensor(np.random.default_rng(1).normal(size=(4, 3)))
    assert torch.autograd.gradcheck(lambda v: (rbf_kernel(x, z, v) * weight).sum(), (length,))
    batch = torch.stack([x, 2 * x])
    assert torch.autograd.gradcheck(lambda v: rbf_kernel(batch, batch, v).square().sum(), (length,))
    assert torch.autograd.gradcheck(lambda v: rbf_kernel(batch, z, v).square().sum(), (length,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scale_that_underflowed_has_no_slope(dtype):
    x = make_tasks([4]).x.to(dtype)
    length = torch.ones(2, dtype=dtype, requires_grad=True)
    scale = torch.zeros((), dtype=dtype, requires_grad=True)
    rbf_kernel(x, x, length, scale).sum().backward()
    assert scale.grad == 0 and (length.grad == 0).all()


@pytest.mark.parametrize("m", [0, 1, 6])
def test_products_of_shared_features_are_the_shared_covariance(m):
    h, rows, inducing = make_hyper(), make_tasks([7]), make_inducing(m)
    phi = shared_features(h, rows.x, inducing)
    assert phi.shape == (7, 1 + D + m)
    assert_allclose(phi @ phi.T, Dense(h, rows, inducing).shared, rtol=1e-6, atol=1e-9)


def test_inducing_points_at_the_rows_carry_the_whole_curve():
    h, rows = make_hyper(), make_tasks([7])
    phi = shared_features(h, rows.x, rows.x)
    assert_allclose(phi @ phi.T, Dense(h, rows, rows.x).exact, rtol=1e-4, atol=1e-5)


# -- the bound ------------------------------------------------------------------------------------

SIZES = {"equal": [4, 4, 4], "ragged": [3, 7, 1, 4], "one": [6]}


@pytest.mark.parametrize("own_part", [True, False])
@pytest.mark.parametrize("m", [0, 1, 5])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_bound_equals_the_dense_computation(sizes, m, own_part):
    h, rows, inducing = make_hyper(), make_tasks(SIZES[sizes]), make_inducing(m)
    found = minus_log(negative_bound(evidence_of(h, rows, inducing, own_part)), len(rows.x))
    assert_allclose(found, Dense(h, rows, inducing, own_part).bound(), rtol=1e-7)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    m=st.integers(0, 5),
    d=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_the_bound_of_any_ragged_tasks(sizes, m, d, seed):
    h, rows, inducing = make_hyper(seed, d), make_tasks(sizes, d, seed), make_inducing(m, d, seed)
    found = minus_log(negative_bound(evidence_of(h, rows, inducing)), len(rows.x))
    assert_allclose(found, Dense(h, rows, inducing).bound(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("own_part", [True, False])
def test_a_batch_with_masks_equals_task_by_task(own_part):
    h, rows, inducing = make_hyper(), make_tasks([3, 7, 1, 4]), make_inducing(4)
    padded = rows.padded()
    assert padded.mask is not None
    together = evidence_of(h, rows, inducing, own_part)
    alone = [evidence_of(h, rows.slice_tasks(t, t + 1), inducing, own_part) for t in range(4)]
    total = functools.reduce(add, alone)
    for name, value in vars(total).items():
        assert_allclose(getattr(together, name), value, rtol=1e-9, atol=1e-10, err_msg=name)


def test_with_inducing_points_at_all_rows_the_bound_is_the_exact_marginal_likelihood():
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, size=(12, D))
    x = np.concatenate([x, x[:4]])  # distinct rows are enough
    sizes = torch.tensor([5, 3, 8])
    rows = TaskRows.from_sizes(torch.tensor(x), torch.tensor(rng.normal(size=16)), sizes)
    h = make_hyper(shared_length=[0.6, 0.8])
    few, more, all_rows = (
        minus_log(negative_bound(evidence_of(h, rows, torch.tensor(x[:m]))), 16) for m in (3, 8, 12)
    )
    dense = Dense(h, rows, rows.x[:12])
    exact = -multivariate_normal(cov=dense.exact + dense.own + dense.noise).logpdf(dense.y)
    assert_allclose(all_rows, exact, rtol=1e-5)
    assert few > more > exact  # it is a bound, the closer the more points there are


def test_a_weight_counts_tasks_as_often():
    h, rows, inducing = make_hyper(), make_tasks([3, 5]), make_inducing(4)
    thrice = rows.take_tasks(torch.tensor([0, 1, 0, 1, 0, 1]))
    once = evidence_of(h, rows, inducing)
    assert_allclose(
        negative_bound(once, 3.0),
        negative_bound(evidence_of(h, thrice, inducing)),
        rtol=1e-9,
    )


@pytest.mark.parametrize("weight", [1.0, 2.5])
@pytest.mark.parametrize("own_part", [True, False])
@pytest.mark.parametrize("m", [0, 4])
def test_slopes_equal_finite_differences_of_the_bound(m, own_part, weight):
    h, inducing = make_hyper(), make_inducing(m)
    batches = [make_tasks([3, 5, 2]), make_tasks([4], seed=1)]
    for value in vars(h).values():
        value.requires_grad_()
    bound = bound_and_slopes([terms(h, rows, inducing, own_part) for rows in batches], weight)
    bound.backward()

    def slow(changed):
        total = add(*(evidence_of(changed, rows, inducing, own_part) for rows in batches))
        return float(negative_bound(total, weight))

    with torch.no_grad():
        assert_allclose(bound.value, slow(h), rtol=1e-12)
        largest = 0.0
        for name, value in vars(h).items():
            for i in np.ndindex(*value.shape):
                step = torch.zeros_like(value)
                step[i] = 1e-5
                higher, lower = (
                    slow(dataclasses.replace(h, **{name: value + s * step})) for s in (1, -1)
                )
                expected = (higher - lower) / 2e-5
                slope = 0.0 if value.grad is None else float(value.grad[i])
                assert_allclose(slope, expected, rtol=1e-5, atol=1e-6, err_msg=f"{name} {i}")
                largest = max(largest, abs(expected))
        assert largest > 0.1


@pytest.mark.parametrize("own_part", [True, False])
def test_what_a_bound_was_made_of(own_part):
    h, inducing, rows = make_hyper(), make_inducing(4), make_tasks([3, 7, 1, 4])
    terms_of_both = [
        terms(h, rows.slice_tasks(*ends), inducing, own_part) for ends in [(0, 2), (2, 4)]
    ]
    bound = bound_and_slopes(terms_of_both)
    mean, root = weights_posterior(evidence_of(h, rows, inducing, own_part))
    assert_allclose(bound.mean, mean, rtol=1e-9, atol=1e-12)
    assert_allclose(bound.root @ bound.root.T, root @ root.T, rtol=1e-9, atol=1e-12)
    dense = Dense(h, rows, inducing, own_part)
    inverse = np.linalg.inv(dense.shared + dense.own + dense.noise)
    expected, (first, second) = inverse @ dense.y, bound.surprise
    real = torch.tensor([[1, 1, 1, 0, 0, 0, 0], [1] * 7]).bool()
    assert_allclose(first[real], expected[:10], rtol=1e-6, atol=1e-9)
    real = torch.tensor([[1, 0, 0, 0], [1] * 4]).bool()
    assert_allclose(second[real], expected[10:], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("own_part", [True, False])
def test_every_row_may_have_a_noise_of_its_own(own_part):
    h, inducing, rows = make_hyper(), make_inducing(4), make_tasks([3, 5, 1])
    noise = torch.tensor(np.random.default_rng(0).uniform(0.1, 2, size=(3, 5)))
    found = evidence_of(h, rows, inducing, own_part, noise)
    dense = Dense(h, rows, inducing, own_part)
    dense.noise = np.diag(np.concatenate([noise[0, :3], noise[1], noise[2, :1]]) + JITTER)
    assert_allclose(minus_log(negative_bound(found), 9), dense.bound(), rtol=1e-7)


# -- the posterior of the shared weights ----------------------------------------------------------


@pytest.mark.parametrize("own_part", [True, False])
@pytest.mark.parametrize("m", [0, 5])
@pytest.mark.parametrize("sizes", SIZES)
def test_weights_equal_dense_conditioning_on_all_rows(sizes, m, own_part):
    h, rows, inducing = make_hyper(), make_tasks(SIZES[sizes]), make_inducing(m)
    mean, root = weights_posterior(evidence_of(h, rows, inducing, own_part))
    dense = Dense(h, rows, inducing, own_part)
    phi = shared_features(h, rows.x, inducing).numpy()
    # A priori the weights are standard normal, and y = phi w + what else there is.
    gain = np.linalg.solve(phi @ phi.T + dense.own + dense.noise, phi).T
    assert_allclose(mean, gain @ dense.y, rtol=1e-6, atol=1e-9)
    assert_allclose(root @ root.T, np.eye(len(mean)) - gain @ phi, rtol=1e-6, atol=1e-8)


def test_without_shared_information_tasks_are_independent():
    h = make_hyper(shared_linear=1e-12, shared_rbf=1e-12)
    rows = make_tasks([4, 6])
    dense = Dense(h, rows, make_inducing(0))
    assert_allclose(dense.own, block_diag(dense.own[:4, :4], dense.own[4:, 4:]))
    exact = dense.own + dense.noise + WIDE**2
    found = minus_log(negative_bound(evidence_of(h, rows, make_inducing(0))), 10)
    assert_allclose(found, -multivariate_normal(cov=exact).logpdf(dense.y), rtol=1e-8)
