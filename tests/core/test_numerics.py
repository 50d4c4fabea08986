"""Small numerical tools."""

import numpy as np
import pytest

from skmeta.core.numerics import (
    between_sizes,
    between_task_sd,
    draw_in_tails,
    location_and_scale,
)


def test_tails_are_drawn_in_without_a_jump():
    values = np.linspace(-50, 50, 2001)
    drawn = draw_in_tails(values)
    inside = np.abs(values) <= 3
    np.testing.assert_array_equal(drawn[inside], values[inside])
    assert (np.diff(drawn) > 0).all() and np.diff(drawn).max() < 0.0501
    np.testing.assert_allclose(drawn, -drawn[::-1])
    np.testing.assert_allclose(drawn[-1], 3 + np.log1p(47))
    assert np.isfinite(draw_in_tails(np.array([1e300]))).all()


@pytest.mark.parametrize("seed", range(3))
def test_between_task_sd_is_that_of_a_naive_sum(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, size=40)
    numbers = np.repeat(np.arange(40), sizes)
    y = np.column_stack(
        [
            rng.normal(size=40)[numbers] * 2 + rng.normal(size=len(numbers)),
            rng.normal(size=len(numbers)),
        ]
    )
    for column, found in zip(y.T, between_task_sd(y, numbers), strict=True):
        own = [column[numbers == t] for t in range(40)]
        within = sum(((v - v.mean()) ** 2).sum() for v in own) / sum(len(v) - 1 for v in own)
        between = np.var([v.mean() for v in own], ddof=1) - np.mean([within / len(v) for v in own])
        assert found == pytest.approx(np.sqrt(max(between, 0)))
    assert between_task_sd(y, numbers)[0] == pytest.approx(2, rel=0.4)


def test_between_task_sd_of_nothing_to_compare_is_zero():
    assert between_task_sd(np.ones((3, 1)), np.array([0, 0, 0]))[0] == 0
    assert between_task_sd(np.ones((3, 2)), np.array([0, 1, 2])).tolist() == [0, 0]


def test_location_and_scale_of_the_largest_numbers():
    values = np.array([[1e308, 1.7e308], [-1e308, 1.7e308], [0.0, 1.7e308]])
    mean, scale = location_and_scale(values)
    np.testing.assert_allclose(mean, [0, 1.7e308])
    np.testing.assert_allclose(scale, [np.sqrt(2 / 3) * 1e308, 1])


def test_between_sizes_it_is_interpolated_in_the_logarithm_of_one_more_row():
    sizes = np.array([0.0, 3.0, 7.0])
    table = np.random.default_rng(0).normal(size=(3, 2, 4))
    found = between_sizes(np.array([0, 1, 3, 7, 500]), sizes, table)
    expected = [table[0], (table[0] + table[1]) / 2, table[1], table[2], table[2]]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(between_sizes(1, sizes, table[:, 0, 0]), expected[1][0, 0])
    np.testing.assert_allclose(between_sizes(np.arange(3), sizes[:1], table[:1]), [table[0]] * 3)
