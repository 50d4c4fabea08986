"""Weights of a blend, against brute force."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from skmeta.auto._blend import (
    SUREST,
    LabelsLeftOut,
    LeftOut,
    _on_simplex,
    blend_weights,
    calibration,
    pooled,
    sharpness,
)


def left_out(n_tasks=30, sds=(0.5, 0.5, 2.0), seed=0, n_outputs=1):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, size=n_tasks)
    task = np.repeat(np.arange(n_tasks), sizes)
    y = rng.normal(size=(len(task), n_outputs))
    mean = np.stack([y + sd * rng.normal(size=y.shape) for sd in sds], axis=1)
    std = np.broadcast_to(np.array(sds)[None, :, None], mean.shape)
    return LeftOut(task, mean, std, y)


def unsure(n_outputs=1, seed=1):
    """Members that are surer of some rows than of others."""
    part, rng = left_out(n_outputs=n_outputs), np.random.default_rng(seed)
    return replace(part, std=part.std * rng.uniform(0.2, 3, size=part.std.shape))


def naive_pool(mean, std, w, typical):
    """Where a product of powers of normal densities is highest."""
    surer = [min(max(s / t, 1 / SUREST), SUREST) for s, t in zip(std, typical, strict=True)]
    found = minimize_scalar(
        lambda f: sum(w[m] * (f - mean[m]) ** 2 / (2 * surer[m] ** 2) for m in range(len(w)))
    )
    return found.x


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_loss_is_a_naive_mean_over_tasks_with_its_numeric_gradient(n_outputs):
    part, w = unsure(n_outputs), np.array([0.5, 0.3, 0.2])

    def over_tasks(values):
        return np.mean([values[part.task == t].mean() for t in range(30)])

    # As sure as they mostly are, members have their weights as shares.
    logs = np.log(part.std)
    typical = np.exp(
        [[over_tasks(logs[:, m, o : o + 1]) for o in range(n_outputs)] for m in range(3)]
    )
    assert_allclose(part.typical, typical, rtol=1e-10)
    centre = [
        [
            naive_pool(part.mean[r, :, o], part.std[r, :, o], w, typical[:, o])
            for o in range(n_outputs)
        ]
        for r in range(len(part.y))
    ]
    value, slope = part.loss(w)
    assert value == pytest.approx(over_tasks((np.array(centre) - part.y) ** 2), rel=1e-6)
    steps = 1e-6 * np.eye(3)
    numeric = [(part.loss(w + step)[0] - part.loss(w - step)[0]) / 2e-6 for step in steps]
    assert_allclose(slope, numeric, rtol=1e-6, atol=1e-9)
    for m, one in enumerate(np.eye(3)):
        alone = over_tasks((part.mean[:, m] - part.y) ** 2)
        assert part.losses()[m] == pytest.approx(alone)
        assert part.loss(one)[0] == pytest.approx(alone)


def test_a_blend_is_the_product_of_powers_of_its_members_densities():
    part, rng = unsure(2), np.random.default_rng(0)
    shape = part.mean.shape[:2]
    # Every row may have its own.
    weights, typical = rng.dirichlet(np.ones(3), size=len(part.y)), rng.uniform(0.2, 2, size=shape)
    scale = rng.uniform(0.2, 5, size=part.mean.shape)
    centre, spread = pooled(part.mean, part.std, weights, typical[:, :, None], scale)
    for r in range(len(part.y)):
        for o in range(2):
            mean, std = part.mean[r, :, o], part.std[r, :, o]
            expected = naive_pool(mean, std, weights[r], typical[r])
            assert centre[r, o] == pytest.approx(expected, abs=1e-6)
            share = weights[r] / np.clip(std / typical[r], 1 / SUREST, SUREST) ** 2
            share /= share.sum()
            # Of a mixture with these shares.
            second = (share * ((scale[r, :, o] * std) ** 2 + mean**2)).sum()
            assert spread[r, o] == pytest.approx(np.sqrt(second - centre[r, o] ** 2), rel=1e-9)
    for unit in (1e-150, 1e150):
        scaled = [unit * part.mean, unit * part.std, weights, unit * typical[:, :, None], scale]
        assert_allclose(pooled(*scaled)[0], unit * centre, rtol=1e-12)


def test_no_member_has_a_row_to_itself_because_it_is_sure():
    mean = np.array([[[0.0], [1.0], [4.0]]])
    thirds, typical = np.full((1, 3), 1 / 3), np.ones((3, 1))
    std = np.ones((1, 3, 1))
    for sure in (0.0, 1e-9, 1 / SUREST):
        std[0, 0] = sure
        centre, spread = pooled(mean, std, thirds, typical, 1.0)
        assert centre[0, 0] == pytest.approx(5 / (SUREST**2 + 2)) and np.isfinite(spread).all()
    for unsure in (SUREST, 1e9, np.inf):
        std[0, 0] = unsure
        centre, _ = pooled(mean, std, thirds, typical, 1.0)
        assert centre[0, 0] == pytest.approx(5 / (SUREST**-2 + 2))
    std[0, 0] = 0.1
    centre, _ = pooled(mean, std, thirds, np.full((3, 1), np.nan), 1.0)  # nothing is known
    assert centre[0, 0] == pytest.approx(5 / 3)


def test_a_standard_deviation_of_nothing_or_of_all_spoils_no_loss():
    part = unsure()
    for odd in (0.0, 1e200, np.inf):
        std = part.std.copy()
        std[3, 1] = odd
        std[5] = odd
        strange = replace(part, std=std)
        assert np.isfinite(strange.loss(np.full(3, 1 / 3))[0])
        (weights,) = blend_weights([strange])
        assert_allclose(weights, blend_weights([part])[0], atol=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_the_simplex_minimum_is_that_of_a_grid(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 3))
    q, b = root @ root.T + 0.1 * np.eye(3), rng.normal(size=3)
    w = _on_simplex(lambda w: (w @ q @ w / 2 - b @ w, q @ w - b), np.ones(3) / 3)
    assert w.sum() == pytest.approx(1) and (w >= 0).all()
    grid = np.array([[i, j, 100 - i - j] for i in range(101) for j in range(101 - i)]) / 100
    values = np.einsum("gi,ij,gj->g", grid, q, grid) / 2 - grid @ b
    assert w @ q @ w / 2 - b @ w <= values.min() + 1e-6


def test_good_members_share_and_bad_ones_go():
    (weights,) = blend_weights([left_out(n_tasks=200)])
    assert weights.sum() == pytest.approx(1)
    assert weights[2] < 0.05
    assert_allclose(weights[:2], 0.5, atol=0.1)


def test_weights_of_support_sizes_differ_where_the_losses_do():
    first, second = blend_weights(
        [left_out(n_tasks=200, sds=(0.3, 1.0)), left_out(n_tasks=200, sds=(1.0, 0.3))]
    )
    assert first[0] > first[1] and second[1] > second[0]


def test_a_bad_member_does_not_make_the_others_look_alike():
    """Errors of .2 and .05 differ as much beside one of 30 as without it."""
    (weights,) = blend_weights([left_out(sds=(0.2, 0.05, 30.0))])
    (alone,) = blend_weights([left_out(sds=(0.2, 0.05))])
    assert weights[1] > 0.9
    assert_allclose(weights[:2], alone, atol=0.02)


def test_a_perfect_member_takes_all_without_a_division_by_zero():
    (weights,) = blend_weights([left_out(sds=(0.0, 1.0))])
    assert weights[0] > 0.95
    (weights,) = blend_weights([left_out(sds=(0.0, 0.0))])
    assert np.isfinite(weights).all() and weights.sum() == pytest.approx(1)


def test_spread_adds_the_dispute_of_the_members():
    mean = np.array([[[0.0], [2.0]]])
    std = np.array([[[1.0], [1.0]]])
    both, one = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])
    assert pooled(mean, std, both, std, 1.0)[1][0, 0] == pytest.approx(np.sqrt(2.0))
    assert pooled(mean, std, one, std, 1.0)[1][0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize("factor", [0.1, 0.6, 1.0, 1.7, 20.0])
def test_every_member_has_its_factor_and_what_is_left_is_that_of_the_blend(factor):
    part = left_out(n_tasks=3000, sds=(1.0,))
    wrong = replace(part, std=part.std / factor)
    assert_allclose(wrong.scale, [[factor]], rtol=0.05)
    assert calibration(wrong, np.ones(1)) == pytest.approx(1.0, rel=0.02)
    # The mean of two good members is better than either says, whatever one of them says.
    right = left_out(n_tasks=3000, sds=(1.0, 1.0))
    wrong = replace(right, std=right.std * np.array([1.0, 1 / factor])[:, None])
    half, usual = np.full(2, 0.5), calibration(right, np.full(2, 0.5))
    assert usual < 0.85
    assert calibration(wrong, half) == pytest.approx(usual, rel=0.02)
    centre, spread = pooled(
        wrong.mean, wrong.std, np.full((len(wrong.y), 2), 0.5), wrong.typical, wrong.scale
    )
    inside = np.abs(wrong.y - centre) < 1.645 * usual * spread
    assert np.mean(inside) == pytest.approx(0.9, abs=0.01)


def test_the_fewer_tasks_the_more_members_are_believed():
    few, many = (left_out(n_tasks=n, sds=(1.0,)) for n in (3, 300))
    scales = [replace(part, std=100 * part.std).scale[0, 0] for part in (few, many)]
    assert 0.02 < scales[0] < 0.3 and scales[1] == pytest.approx(0.01, rel=0.15)


def test_outputs_that_differ_in_how_sure_members_are_do_not_mix():
    """Each output is blended as if it were the only one."""
    one, w = unsure(), np.array([0.5, 0.3, 0.2])
    other = unsure(seed=2)
    both = LeftOut(
        one.task,
        np.concatenate([one.mean, other.mean], axis=2),
        np.concatenate([one.std, 1e3 * other.std], axis=2),
        np.concatenate([one.y, other.y], axis=1),
    )
    assert both.loss(w)[0] == pytest.approx((one.loss(w)[0] + other.loss(w)[0]) / 2)
    assert_allclose(both.typical[:, :1], one.typical)
    assert_allclose(both.scale[:, :1], one.scale)


# ------------------------------------------------------------------- labels


def labels_left_out(n_tasks=40, noise=(0.1, 0.1, 3.0), seed=0, n_classes=2, factor=1.0):
    """Members that know the true log odds but for noise."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 30, size=n_tasks)
    task = np.repeat(np.arange(n_tasks), sizes)
    scores = 2 * rng.normal(size=(len(task), n_classes))
    codes = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    said = np.stack([factor * scores + sd * rng.normal(size=scores.shape) for sd in noise], axis=1)
    return LabelsLeftOut(task, log_softmax(said, axis=2), codes)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_loss_of_labels_is_a_naive_mean_with_its_numeric_gradient(n_classes):
    part = labels_left_out(n_tasks=7, n_classes=n_classes)
    w = np.array([0.5, 0.3, 0.2])

    def naive(w):
        per_task = []
        for t in range(7):
            rows = np.flatnonzero(part.task == t)
            proba = [softmax(sum(w[m] * part.log_proba[r, m] for m in range(3))) for r in rows]
            per_task.append(
                np.mean([-np.log(p[c]) for p, c in zip(proba, part.codes[rows], strict=True)])
            )
        return np.mean(per_task)

    value, slope = part.loss(w)
    assert value == pytest.approx(naive(w), rel=1e-10)
    steps = 1e-6 * np.eye(3)
    numeric = [(naive(w + step) - naive(w - step)) / 2e-6 for step in steps]
    assert_allclose(slope, numeric, rtol=1e-6, atol=1e-8)
    for m, one in enumerate(np.eye(3)):
        assert part.losses()[m] == pytest.approx(naive(one), rel=1e-10)


def test_good_members_of_labels_share_and_bad_ones_go():
    (weights,) = blend_weights([labels_left_out(n_tasks=300, noise=(1.0, 1.0, 5.0))])
    assert weights[2] < 0.05
    assert_allclose(weights[:2], 0.5, atol=0.1)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.5])
def test_sharpness_undoes_scores_that_are_too_sure_or_not_enough(factor):
    part = labels_left_out(n_tasks=2000, noise=(0.0,), factor=factor)
    assert sharpness(part, np.ones(1)) == pytest.approx(1 / factor, rel=0.05)
