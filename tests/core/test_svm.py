"""Batched support vector machines against slow solvers, one at a time, and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.svm import LinearSVC
from torch.nn import functional as F  # noqa: N812

from skmeta.core.heads import svm
from skmeta.core.heads.svm import JITTER, svm_duals
from skmeta.core.heads.svm_large import project, svm_duals_large


def problem(labels, n_classes, d, seed=0, offset=0.5):
    """Rows, one-hot classes and offsets of one task."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(len(labels), d, dtype=torch.float64, generator=generator)
    o = offset * torch.randn(len(labels), n_classes, dtype=torch.float64, generator=generator)
    return z, F.one_hot(torch.tensor(labels), n_classes).double(), o


def objectives(z, y, o, alpha, C, present):
    """Primal and dual objective; they meet at the solution and nowhere else."""
    weights = z.T @ alpha
    scores = torch.where(present, o + z @ weights, -torch.inf)
    own = (y * (o + z @ weights)).sum(1, keepdim=True)
    losses = (1 - y + scores - own).amax(1)
    size = weights.square().sum() / 2
    b = y - alpha / C
    dual = C * ((b * (1 - y + o)).sum() - (y * o).sum()) - size
    return float(size + C * losses.sum()), float(dual)


def naive(z, y, o, C):
    """Weights by a general solver: (d, n_classes)."""
    K, y, o = (z @ z.T).numpy(), y.numpy(), o.numpy()
    n, c = y.shape

    def dual(v):
        alpha = v.reshape(n, c)
        slope = K @ alpha - (y - o)
        return 0.5 * np.sum(alpha * (K @ alpha)) - np.sum(alpha * (y - o)), slope.ravel()

    rows = np.kron(np.eye(n), np.ones(c))
    found = minimize(
        dual,
        np.zeros(n * c),
        jac=True,
        bounds=[(None, C * label) for label in y.ravel()],
        constraints={"type": "eq", "fun": lambda v: rows @ v, "jac": lambda v: rows},
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-16},
    )
    return z.T @ torch.from_numpy(found.x.reshape(n, c))


everything = torch.ones(1, 3, dtype=torch.bool)


@pytest.mark.parametrize("C", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("d", [4, 12])
def test_weights_are_those_of_a_general_solver(C, d):
    z, y, o = problem([0, 1, 2, 0, 1, 2, 2, 2, 1], 3, d)
    alpha = svm_duals((z @ z.T)[None], y[None], everything, C, o[None])[0]
    torch.testing.assert_close(z.T @ alpha, naive(z, y, o, C), rtol=1e-5, atol=2e-6)
    primal, dual = objectives(z, y, o, alpha, C, everything[0])
    assert primal - dual < 1e-5 * (1 + abs(primal))  # the jitter of the kernel shows


@settings(max_examples=40)
@given(
    labels=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=5),
    d=st.integers(1, 12),
    log_C=st.integers(-3, 2),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    own_classes=st.booleans(),
)
@example(labels=[[0, 0]], d=1, log_C=1, scale=30.0, own_classes=False)
def test_ragged_tasks_are_solved_and_equal_themselves_alone(labels, d, log_C, scale, own_classes):
    assume(10.0**log_C * scale**2 <= 1e4)  # beyond, rounding errors are more than the jitter
    n, C = max(map(len, labels)), 10.0**log_C
    kernel, y = torch.zeros(len(labels), n, n).double(), torch.zeros(len(labels), n, 4).double()
    o, rows = torch.zeros_like(y), []
    for t, own in enumerate(labels):
        z, one_hot, offsets = problem(own, 4, d, seed=t)
        z = scale * z
        offsets = 0 * offsets if own_classes else offsets
        k = len(own)
        kernel[t, :k, :k], y[t, :k], o[t, :k] = z @ z.T, one_hot, offsets
        kernel[t, k:] = 7.0  # nobody looks at padding
        rows.append((z, one_hot, offsets))
    present = (y.sum(1) > 0) if own_classes else torch.ones(len(labels), 4, dtype=torch.bool)
    alpha = svm_duals(kernel, y, present, C, o)
    assert (alpha <= C * y + 1e-9).all()
    for t, (z, one_hot, offsets) in enumerate(rows):
        k = len(z)
        assert (alpha[t, k:] == 0).all()
        assert (alpha[t][:, ~present[t]] == 0).all()
        primal, dual = objectives(z, one_hot, offsets, alpha[t, :k], C, present[t])
        # What a kernel with a larger diagonal may leave: scores are off by jitter times weight.
        jitter = JITTER * max(float(z.square().sum(1).mean()), 1e-3 / C)
        left = 2 * C * jitter * float((alpha[t, :k] * one_hot).sum())
        assert primal - dual < 1e-5 * (1 + abs(primal)) + left
        with torch.no_grad():  # the exact solution, where there is no gradient to be had
            exact = svm_duals((z @ z.T)[None], one_hot[None], present[t][None], C, offsets[None])[0]
        primal, dual = objectives(z, one_hot, offsets, exact, C, present[t])
        assert primal - dual < 1e-5 * (1 + abs(primal))
        alone = svm_duals((z @ z.T)[None], one_hot[None], present[t][None], C, offsets[None])[0]
        torch.testing.assert_close(z.T @ alpha[t, :k], z.T @ alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("d", [4, 12])
@pytest.mark.parametrize("C", [0.1, 0.7])
def test_gradients_are_those_of_finite_differences(d, C):
    tasks = [problem([0, 1, 2, 0, 1, 1, 2], 3, d, seed=s) for s in range(3)]
    z, y, o = (torch.stack(parts) for parts in zip(*tasks, strict=True))
    y[1, 5:] = 0  # padding
    z.requires_grad_(), o.requires_grad_()
    weight = torch.randn(3, d, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    present = everything.expand(3, 3)

    def loss(z, o):
        real = y.sum(2, keepdim=True)
        return (weight * ((z * real).mT @ svm_duals(z @ z.mT, y, present, C, o))).sum()

    found = torch.autograd.grad(loss(z, o), (z, o))
    with torch.no_grad():
        for i, (value, gradient) in enumerate(zip((z, o), found, strict=True)):
            for entry in np.ndindex(*value.shape):
                step = torch.zeros_like(value)
                step[entry] = 1e-5
                ends = [
                    loss(*(v + sign * step if j == i else v for j, v in enumerate((z, o))))
                    for sign in (1, -1)
                ]
                numeric = float(ends[0] - ends[1]) / 2e-5
                assert float(gradient[entry]) == pytest.approx(numeric, rel=2e-6, abs=3e-6)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e3, 1e4])
@pytest.mark.parametrize("labels", [[0, 1, 2] * 4, [0, 1, 2] * 20])
@pytest.mark.parametrize("d", [3, 20])
def test_without_a_gradient_long_rows_are_solved(labels, d, scale):
    z, y, o = problem(labels, 3, d)
    z = torch.cat([scale * z, torch.ones(len(z), 1)], 1)
    kernel, y, o = (z @ z.T)[None], y[None], o[None]
    with torch.no_grad():
        alpha = svm_duals(kernel, y, everything, 0.5, o)[0]
    # The same machine with less C, where no row takes half of it: then its losses count less.
    C = min(0.5, 2 * float(alpha.max()))
    primal, dual = objectives(z, y[0], o[0], alpha, C, everything[0])
    assert abs(primal - dual) < 1e-3 * primal
    if scale == 1:
        rough = svm_duals(kernel, y, everything, 0.5, o)[0]
        torch.testing.assert_close(z.T @ alpha, z.T @ rough, rtol=1e-4, atol=1e-5)


def test_without_a_gradient_rows_that_leave_no_digit_are_refused():
    z, y, o = problem([0, 1, 2, 0, 1, 2], 3, 1)
    z = torch.cat([1e9 * z, torch.ones(6, 1)], 1)
    with torch.no_grad(), pytest.raises(ValueError, match="far outside"):
        svm_duals((z @ z.T)[None], y[None], everything, 1.0, o[None])


def test_both_solvers_agree(monkeypatch):
    tasks = [problem([0, 1, 2, 0, 1, 2, 2, 2, 1] * 3, 3, 30, seed=s) for s in range(4)]
    z, y, o = (torch.stack(parts) for parts in zip(*tasks, strict=True))
    z.requires_grad_()
    found = []
    for n_steps in (svm.ACTIVE_SET_STEPS, 1, 0):
        if n_steps == 0:  # the interior point alone
            monkeypatch.setattr(svm, "POLISHING_STEPS", 1)
            monkeypatch.setattr(svm, "_active_set", _never(svm._active_set))
            n_steps = 1
        monkeypatch.setattr(svm, "ACTIVE_SET_STEPS", n_steps)
        weights = z.mT @ svm_duals(z @ z.mT, y, everything.expand(4, 3), 0.3, o)
        (gradient,) = torch.autograd.grad(weights.sin().sum(), z)
        found.append((weights.detach(), gradient))
    for weights, gradient in found[1:]:
        torch.testing.assert_close(weights, found[0][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-7)


def _never(active_set):
    def solve(*args):
        found, solved = active_set(*args)
        return found, torch.zeros_like(solved)

    return solve


def test_single_precision_in_and_out():
    z, y, o = problem([0, 1, 2, 2], 3, 5)
    exact = svm_duals((z @ z.T)[None], y[None], everything, 1.0, o[None])
    rough = svm_duals((z @ z.T)[None].float(), y[None].float(), everything, 1.0, o[None].float())
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.double(), exact, rtol=1e-4, atol=1e-5)


def test_a_kernel_of_single_precision_that_is_short_of_rank():
    for seed in range(20):
        z, y, _ = problem([0] * 10 if seed % 2 else [0, 1, 2] * 4, 3, 2, seed=seed)
        z = F.normalize(z.float(), dim=1).requires_grad_()
        alpha = svm_duals((z @ z.T)[None], y[None].float(), everything, 1.0)
        (gradient,) = torch.autograd.grad((alpha**2).sum(), z)
        assert torch.isfinite(alpha).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 1e6])
@pytest.mark.parametrize("labels", [[1, 1, 1, 1], [0, 1, 1, 2], [0], [0, 1]])
@pytest.mark.parametrize("alike", [False, True])
def test_degenerate_tasks_stay_finite(scale, labels, alike):
    z, y, o = problem(labels, 3, 2)
    z = scale * (z[:1].expand_as(z) if alike else z)
    z.requires_grad_()
    for present in (everything, (y.sum(0) > 0)[None]):
        offsets = o * present
        alpha = svm_duals((z @ z.T)[None], y[None], present, 1.0, offsets[None])[0]
        weights = z.T @ alpha
        (gradient,) = torch.autograd.grad(weights.square().sum(), z)
        assert torch.isfinite(weights).all() and torch.isfinite(gradient).all()
        assert (alpha.abs() <= 1 + 1e-6).all()
        assert alpha.sum(1).abs().max() < 1e-9


def test_a_task_without_rows_has_no_weights_and_no_gradient():
    z, y, o = problem([0, 1, 2], 3, 2)
    z, y = torch.stack([z, z]), torch.stack([y, 0 * y])
    z.requires_grad_()
    alpha = svm_duals(z @ z.mT, y, everything.expand(2, 3), 1.0, torch.stack([o, 0 * o]))
    (gradient,) = torch.autograd.grad((alpha**2).sum(), z)
    assert (alpha[1] == 0).all() and (gradient[1] == 0).all()
    assert (alpha[0] != 0).any() and torch.isfinite(gradient).all()


def test_the_ordinary_machine_is_that_of_liblinear():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(60, 5))
    labels = (z @ rng.normal(size=(5, 3)) + rng.normal(size=(60, 3))).argmax(1)
    peer = LinearSVC(
        C=0.5, multi_class="crammer_singer", fit_intercept=False, tol=1e-9, max_iter=100_000
    ).fit(z, labels)
    rows, y = torch.from_numpy(z), F.one_hot(torch.from_numpy(labels), 3).double()
    alpha = svm_duals((rows @ rows.T)[None], y[None], everything, 0.5)[0]
    np.testing.assert_allclose((rows.T @ alpha).T, peer.coef_, atol=1e-6)
    first_order, _ = svm_duals_large(rows, y, 0.5, torch.zeros_like(y))
    np.testing.assert_allclose((rows.T @ first_order).T, peer.coef_, atol=2e-3)


def test_many_rows_are_solved_to_a_small_gap():
    labels = np.random.default_rng(0).integers(0, 4, size=500)
    z, y, o = problem(labels, 4, 6)
    alpha, gap = svm_duals_large(z, y, 0.1, o)
    primal, dual = objectives(z, y, o, alpha, 0.1, torch.ones(4, dtype=torch.bool))
    assert 0 <= primal - dual < 1e-4 * primal
    assert gap == pytest.approx((primal - dual) / primal)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6))
def test_projection_is_the_nearest_point(values):
    row = torch.tensor([values], dtype=torch.float64)
    (found,) = project(row)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    # The residual is the same number wherever the point is positive, and no larger elsewhere.
    rest = row[0] - found
    level = rest[found > 1e-12]
    assert level.max() - level.min() < 1e-9
    assert (rest <= level.max() + 1e-9).all()


def test_qpth_finds_the_same_machine_and_the_same_gradient():
    qp = pytest.importorskip("qpth.qp")
    z, y, _ = problem([0, 1, 2, 0, 1, 2, 2], 3, 9)
    z.requires_grad_()
    kernel = z @ z.T
    jitter = svm.JITTER * kernel.diagonal().mean().detach() * torch.eye(7)
    eye = torch.eye(3, dtype=torch.float64)
    alpha = qp.QPFunction(verbose=False, maxIter=40)(
        torch.kron(kernel + jitter, eye)[None],
        -y.reshape(1, 21),
        torch.eye(21).double()[None],
        0.5 * y.reshape(1, 21),
        torch.kron(torch.eye(7).double(), torch.ones(1, 3).double())[None],
        torch.zeros(1, 7).double(),
    ).reshape(7, 3)
    found = []
    for duals in (svm_duals(kernel[None], y[None], everything, 0.5)[0], alpha):
        weights = z.T @ duals
        (gradient,) = torch.autograd.grad(weights.sin().sum(), z, retain_graph=True)
        found.append((weights.detach(), gradient))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-4)
