"""Linear mixed models from moments, against dense normal distributions over all rows."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import block_diag, null_space
from scipy.stats import multivariate_normal

from skmeta.core import mixed
from skmeta.core.tasks import TaskRows

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=7)
RAGGED = [5, 1, 8, 3, 3, 12]


def make_tasks(sizes, n_features=2, n_outputs=1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(sum(sizes), n_features)) + 0.3
    coef = rng.normal(size=(len(sizes), n_features + 1, n_outputs))
    z = np.column_stack([np.ones(len(x)), x])
    y = np.einsum("np,npo->no", z, np.repeat(coef, sizes, axis=0))
    y = y + 0.5 * rng.normal(size=y.shape)
    return TaskRows.from_sizes(torch.tensor(x), torch.tensor(y), torch.tensor(sizes))


def one_by_one(rows):
    """(Z, y) of every task, with a column of ones, as numpy arrays."""
    for t in range(rows.n_tasks):
        task = rows.slice_tasks(t, t + 1)
        yield np.column_stack([np.ones(len(task.x)), task.x.numpy()]), task.y.numpy()


def root_of(p, rank=None, seed=1):
    return np.random.default_rng(seed).normal(size=(p, rank or p)) * 0.7


# -- moments --------------------------------------------------------------------------------------


@given(sizes=SIZES, d=st.integers(1, 3), o=st.integers(1, 2), at_once=st.sampled_from([1, 16, 999]))
def test_moments_are_sums_over_the_rows_of_a_task(sizes, d, o, at_once):
    rows = make_tasks(sizes, d, o)
    with mock.patch.object(mixed, "ROWS_AT_A_TIME", at_once):
        found = mixed.moments(rows)
    assert found.n_rows == sum(sizes)
    for t, (z, y) in enumerate(one_by_one(rows)):
        gram, cross, square = np.zeros((d + 1, d + 1)), np.zeros((d + 1, o)), np.zeros(o)
        for z_row, y_row in zip(z, y, strict=True):
            gram += np.outer(z_row, z_row)
            cross += np.outer(z_row, y_row)
            square += y_row**2
        assert_allclose(found.gram[t], gram, rtol=1e-10, atol=1e-12)
        assert_allclose(found.cross[t], cross, rtol=1e-10, atol=1e-12)
        assert_allclose(found.square[t], square, rtol=1e-10, atol=1e-12)


def test_very_different_sizes_meet_in_one_answer():
    rows = make_tasks([1, 200, 2, 64, 1])  # padding all to the widest would waste most of it
    found = mixed.moments(rows)
    for t, (z, y) in enumerate(one_by_one(rows)):
        assert_allclose(found.gram[t], z.T @ z, rtol=1e-10)
        assert_allclose(found.cross[t], z.T @ y, rtol=1e-10)


# -- marginal likelihood ---------------------------------------------------------------------------


def fit_of(rows, factor, log_alpha, restricted):
    sums = mixed.moments(rows)
    p = sums.gram.shape[1]
    half, level = mixed.rooted(sums.gram, sums.cross)
    return mixed.mixed_model(
        torch.as_tensor(factor),
        None if log_alpha is None else torch.as_tensor(log_alpha, dtype=torch.float64),
        half,
        level[..., 0],
        sums.square[:, 0],
        sums.n_rows,
        torch.zeros(p, p, dtype=torch.float64),
        restricted=restricted,
    )


def dense(rows, factor, log_alpha):
    """Covariance of all rows in units of the noise variance, the columns under a flat prior, y."""
    parts = list(one_by_one(rows))
    design, y = np.vstack([z for z, _ in parts]), np.concatenate([y for _, y in parts])[:, 0]
    within = np.eye(len(y)) + block_diag(*[z @ factor @ factor.T @ z.T for z, _ in parts])
    if log_alpha is None:
        return within, within, design, design, y
    slopes = design[:, 1:]
    return within + slopes @ slopes.T / np.exp(log_alpha), within, design[:, :1], design, y


CASES = {
    "ragged": (RAGGED, None),
    "equal": ([4] * 5, None),
    "one task": ([9], None),
    "low rank": (RAGGED, 1),
}


@pytest.mark.parametrize("restricted", [True, False], ids=["reml", "ml"])
@pytest.mark.parametrize("log_alpha", [None, -1.3, 2.0], ids=["flat", "ridge", "strong ridge"])
@pytest.mark.parametrize("case", CASES)
def test_deviance_mean_and_noise_equal_those_of_one_large_normal(case, log_alpha, restricted):
    sizes, rank = CASES[case]
    rows, factor = make_tasks(sizes), root_of(3, rank)
    found = fit_of(rows, factor, log_alpha, restricted)
    covariance, within, flat, design, y = dense(rows, factor, log_alpha)

    # Generalised least squares for what has a flat prior.
    weight = np.linalg.inv(covariance)
    level = np.linalg.solve(flat.T @ weight @ flat, flat.T @ weight @ y)
    surprise = y - flat @ level
    dof = len(y) - restricted * flat.shape[1]
    noise = surprise @ weight @ surprise / dof
    assert_allclose(found.noise, noise, rtol=1e-7)
    if restricted:
        # The textbook: the density of contrasts that no coefficient moves, and log |X'X|.
        contrasts = null_space(flat.T)
        density = multivariate_normal(cov=noise * contrasts.T @ covariance @ contrasts)
        expected = -2 * density.logpdf(contrasts.T @ y) + np.linalg.slogdet(flat.T @ flat)[1]
        # ... which is log |V| + log |X'V^-1 X| and the rest.
        again = (
            np.linalg.slogdet(covariance)[1]
            + np.linalg.slogdet(flat.T @ weight @ flat)[1]
            + dof * (1 + np.log(2 * np.pi * noise))
        )
        assert_allclose(again, expected, rtol=1e-9)
    else:
        expected = -2 * multivariate_normal(flat @ level, noise * covariance).logpdf(y)
    assert_allclose(found.deviance, expected, rtol=1e-7)

    mean = level
    if log_alpha is not None:
        slopes = design[:, 1:].T @ weight @ surprise / np.exp(log_alpha)
        mean = np.concatenate([level, slopes])
    assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-9)
    prior = np.zeros(3) if log_alpha is None else np.array([0, *[np.exp(log_alpha)] * 2])
    precision = design.T @ np.linalg.inv(within) @ design + np.diag(prior)
    assert_allclose(found.precision, precision, rtol=1e-8, atol=1e-8)


@given(
    sizes=SIZES.filter(lambda sizes: sum(sizes) > 4),
    d=st.integers(1, 3),
    rank=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_deviance_of_any_ragged_tasks(sizes, d, rank, seed):
    rows, factor = make_tasks(sizes, d, seed=seed), root_of(d + 1, min(rank, d + 1), seed)
    found = fit_of(rows, factor, 0.2, False)
    covariance, _, flat, _, y = dense(rows, factor, 0.2)
    level, noise = float(found.mean[0]), float(found.noise)
    distribution = multivariate_normal(flat[:, 0] * level, noise * covariance)
    assert_allclose(found.deviance, -2 * distribution.logpdf(y), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("log_alpha", [None, 0.5], ids=["flat", "ridge"])
def test_no_other_mean_or_noise_is_likelier(log_alpha):
    rows, factor = make_tasks(RAGGED), root_of(3)
    found = fit_of(rows, factor, log_alpha, False)
    covariance, _, flat, _, y = dense(rows, factor, log_alpha)
    level = found.mean.numpy()[: flat.shape[1]]
    for step in (-1e-2, 1e-2):
        for noise, mean in [(found.noise * (1 + step), level), (found.noise, level + step)]:
            other = multivariate_normal(flat @ mean, float(noise) * covariance).logpdf(y)
            assert -2 * other > found.deviance


@pytest.mark.parametrize("restricted", [True, False], ids=["reml", "ml"])
@pytest.mark.parametrize("flat", [True, False], ids=["flat", "ridge"])
def test_gradients_equal_finite_differences(flat, restricted):
    rows = make_tasks(RAGGED)

    def deviance(factor, log_alpha):
        return fit_of(rows, factor, None if flat else log_alpha, restricted).deviance

    factor = torch.tensor(root_of(3), requires_grad=True)
    log_alpha = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(deviance(factor, log_alpha), factor)
    assert float(slopes.abs().max()) > 1e-2
    free = (factor,) if flat else (factor, log_alpha)
    assert torch.autograd.gradcheck(
        lambda *values: deviance(*values, *([log_alpha] if flat else [])), free, rtol=1e-5
    )


def test_targets_on_one_line_leave_the_least_noise():
    rows = make_tasks([6, 6, 6])
    exact = TaskRows(rows.x, 1 + rows.x @ torch.tensor([[2.0], [-1.0]]).double(), rows.offsets)
    for restricted, dof in ((True, 15), (False, 18)):
        found = fit_of(exact, 0.0 * root_of(3), None, restricted)
        assert_allclose(found.noise, mixed.LEAST_NOISE * 18 / dof, rtol=1e-3)
        assert_allclose(found.mean, [1, 2, -1], rtol=1e-9)
        assert torch.isfinite(found.deviance)


# -- what the rows say nothing of ------------------------------------------------------------------


def test_all_directions_of_independent_columns_are_known():
    gram = mixed.moments(make_tasks([30])).gram[0]
    assert (mixed.unknown_directions(gram) == 0).all()


@pytest.mark.parametrize("kind", ["constant", "equal", "sum", "all", "p > n"])
def test_unknown_directions(kind):
    rows = make_tasks([30], 3)
    x = rows.x.clone()
    if kind == "constant":
        x[:, 1] = 0
    elif kind == "equal":
        x[:, 1] = x[:, 0]
    elif kind == "sum":
        x[:, 2] = x[:, 0] - 2 * x[:, 1]
    elif kind == "all":
        x[:] = 0
    else:
        x = torch.cat([x[:3], x[3:6]], dim=1)
    z = mixed.with_constant(x)
    gram = z.T @ z
    ridge = mixed.unknown_directions(gram).numpy()
    unknown = null_space(z.numpy())
    largest = np.linalg.eigvalsh(gram.numpy())[-1]
    assert_allclose(ridge, largest * unknown @ unknown.T, atol=1e-7 * largest)
    assert np.linalg.eigvalsh(gram.numpy() + ridge)[0] > 1e-4 * largest


# -- posteriors ------------------------------------------------------------------------------------


@given(
    sizes=SIZES,
    d=st.integers(1, 3),
    rank=st.integers(1, 4),
    noises=st.lists(st.floats(1e-3, 10), min_size=1, max_size=2),
    seed=st.integers(0, 2**16),
)
def test_posteriors_equal_dense_conditioning_task_by_task(sizes, d, rank, noises, seed):
    p, o = d + 1, len(noises)
    rng = np.random.default_rng(seed)
    rows = make_tasks(sizes, d, o, seed)
    mean, root = rng.normal(size=(o, p)), rng.normal(size=(o, p, min(rank, p)))
    new = rng.normal(size=(len(sizes), 4, p))
    sums = mixed.moments(rows)
    tensors = [torch.tensor(value) for value in (mean, root, noises)]
    coef = mixed.posterior_mean(sums.gram, sums.cross, *tensors)
    variance = mixed.posterior_variance(torch.tensor(new), sums.gram, *tensors[1:])
    chol = mixed.posterior_factor(sums.gram, *tensors[1:])
    assert coef.shape == (len(sizes), p, o) and variance.shape == (len(sizes), 4, o)
    for t, (z, y) in enumerate(one_by_one(rows)):
        for j, noise in enumerate(noises):
            prior = root[j] @ root[j].T
            gain = np.linalg.solve(z @ prior @ z.T + noise * np.eye(len(z)), z @ prior).T
            expected = mean[j] + gain @ (y[:, j] - z @ mean[j])
            assert_allclose(coef[t, :, j], expected, rtol=1e-6, atol=1e-8)
            left = prior - gain @ z @ prior
            spread = np.einsum("ip,pq,iq->i", new[t], left, new[t])
            assert_allclose(variance[t, :, j], spread, rtol=1e-6, atol=1e-8)
            inside = np.linalg.inv((chol[t, j] @ chol[t, j].T).numpy())
            assert_allclose(root[j] @ inside @ root[j].T, left, rtol=1e-6, atol=1e-8)


def test_without_rows_the_posterior_is_the_prior():
    gram, cross = torch.zeros(1, 3, 3).double(), torch.zeros(1, 3, 1).double()
    mean, root = torch.tensor([[1.0, 2, 3]]).double(), torch.tensor(root_of(3))[None]
    noise = torch.tensor([0.5]).double()
    assert_allclose(mixed.posterior_mean(gram, cross, mean, root, noise)[0, :, 0], mean[0])
    z = torch.tensor([[[1.0, 0.5, -2.0]]]).double()
    expected = (z @ root).square().sum(2)
    assert_allclose(mixed.posterior_variance(z, gram, root, noise)[..., 0], expected)
