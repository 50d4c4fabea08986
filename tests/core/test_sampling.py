"""Draws: without replacement, inside the task, uniform, and the same for the same seed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from skmeta.core.sampling import (
    LevelSampler,
    RowSampler,
    WaySampler,
    _floyd,
    _random_keys,
    draw_without_replacement,
)
from skmeta.core.tasks import TaskRows

ways_of_drawing = pytest.mark.parametrize(
    "draw", [_floyd, _random_keys, draw_without_replacement], ids=lambda f: f.__name__
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@ways_of_drawing
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=20).filter(any), n=st.integers(1, 25)
)
def test_draws_are_distinct_and_inside(draw, sizes, n):
    drawn = draw(torch.tensor(sizes), n, seeded())
    assert drawn.shape == (len(sizes), n)
    for size, row in zip(sizes, drawn.tolist(), strict=True):
        real = row[: min(n, size)]
        assert len(set(real)) == len(real)
        assert all(0 <= v < size for v in real)
        assert all(v == -1 for v in row[min(n, size) :])


@ways_of_drawing
def test_every_place_of_a_draw_is_uniform(draw):
    size, n, n_tasks = 7, 4, 20_000
    drawn = draw(torch.full((n_tasks,), size), n, seeded())
    for column in drawn.T:
        assert chisquare(torch.bincount(column, minlength=size).numpy()).pvalue > 1e-4
    # Pairs too: the order of a draw says nothing about its members.
    pairs = drawn[:, 0] * size + drawn[:, -1]
    counts = torch.bincount(pairs, minlength=size * size).numpy()
    off_diagonal = counts[~np.eye(size, dtype=bool).ravel()]
    assert counts[np.eye(size, dtype=bool).ravel()].sum() == 0
    assert chisquare(off_diagonal).pvalue > 1e-4


@ways_of_drawing
def test_the_seed_decides(draw):
    sizes = torch.tensor([30, 5, 12])
    assert torch.equal(draw(sizes, 6, seeded(3)), draw(sizes, 6, seeded(3)))
    assert not torch.equal(draw(sizes, 6, seeded(3)), draw(sizes, 6, seeded(4)))


def test_large_tasks_take_the_other_path_with_the_same_guarantees():
    sizes = torch.tensor([100_000, 3])
    drawn = draw_without_replacement(sizes, 5, seeded())
    assert len(set(drawn[0].tolist())) == 5
    assert sorted(drawn[1].tolist()) == [-1, -1, 0, 1, 2]


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=10).filter(lambda s: max(s) > 1),
    n_support=st.integers(1, 8),
    n_query=st.integers(1, 8),
)
def test_row_episodes(sizes, n_support, n_query):
    n = sum(sizes)
    rows = TaskRows.from_sizes(torch.arange(n), torch.arange(n), torch.tensor(sizes))
    sampler = RowSampler(rows, n_support, n_query)
    assert sampler.eligible.tolist() == [t for t, size in enumerate(sizes) if size >= 2]
    tasks = sampler.eligible.repeat(2)
    episodes = sampler.draw(tasks, seeded())
    owner = rows.task_of_row
    for t, task in enumerate(tasks.tolist()):
        support = episodes.support.slice_tasks(t, t + 1)
        query = episodes.query.slice_tasks(t, t + 1)
        size = sizes[task]
        assert len(support.x) == min(n_support, size - 1)
        assert len(query.x) == min(n_query, size - len(support.x))
        both = torch.cat([support.x, query.x])
        assert len(set(both.tolist())) == len(both)
        assert (owner[both] == task).all()
        assert torch.equal(support.x, support.y)


def way_sampler(class_sizes, n_way, n_shot, n_query):
    """``class_sizes``: one list a task."""
    flat = [size for task in class_sizes for size in task]
    n = sum(flat)
    cell = torch.repeat_interleave(torch.arange(len(flat)), torch.tensor(flat))
    rows = TaskRows.from_sizes(
        torch.stack([torch.arange(n), cell], 1), cell, torch.tensor([sum(t) for t in class_sizes])
    )
    counts = torch.tensor([len(task) for task in class_sizes])
    return WaySampler(rows, torch.tensor(flat), counts, n_way, n_shot, n_query)


@given(
    class_sizes=st.lists(
        st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=1, max_size=6
    ),
    n_way=st.integers(2, 5),
    n_shot=st.integers(1, 4),
    n_query=st.integers(1, 4),
)
def test_way_episodes(class_sizes, n_way, n_shot, n_query):
    sampler = way_sampler(class_sizes, n_way, n_shot, n_query)
    good = [t for t, sizes in enumerate(class_sizes) if len(sizes) >= 2 and max(sizes) >= 2]
    assert sampler.eligible.tolist() == good
    if not good:
        return
    tasks = sampler.eligible.repeat(2)
    episodes = sampler.draw(tasks, seeded())
    first_cell = np.cumsum([0, *[len(sizes) for sizes in class_sizes]])
    for t, task in enumerate(tasks.tolist()):
        support = episodes.support.slice_tasks(t, t + 1)
        query = episodes.query.slice_tasks(t, t + 1)
        ways = min(n_way, len(class_sizes[task]))
        assert sorted(set(support.y.tolist())) == list(range(ways))
        seen_cells = set()
        for way in range(ways):
            own, asked = support.x[support.y == way], query.x[query.y == way]
            (cell,) = set(own[:, 1].tolist())
            seen_cells.add(cell)
            size = class_sizes[task][cell - first_cell[task]]
            assert len(own) == min(n_shot, max(1, size - 1))
            assert len(asked) == min(n_query, size - len(own))
            assert set(asked[:, 1].tolist()) <= {cell}
            drawn = torch.cat([own[:, 0], asked[:, 0]]).tolist()
            assert len(set(drawn)) == len(drawn)
        assert len(seen_cells) == ways


def test_random_levels_reach_support_and_query_alike():
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(200, 2, dtype=torch.float64, generator=generator)
    rows = TaskRows.from_sizes(torch.randn(200, 3), y, torch.tensor([60, 50, 90]))
    plain = RowSampler(rows, 4, 6)
    levels = LevelSampler(plain, torch.tensor([2.0, 0.5]))
    assert torch.equal(levels.eligible, plain.eligible)
    tasks = torch.arange(3).repeat(400)
    before = plain.draw(tasks, torch.Generator().manual_seed(5))
    after = levels.draw(tasks, torch.Generator().manual_seed(5))
    assert torch.equal(after.support.x, before.support.x)
    own = (after.support.y - before.support.y).reshape(1200, 4, 2)
    other = (after.query.y - before.query.y).reshape(1200, 6, 2)
    torch.testing.assert_close(own, own[:, :1].expand_as(own))
    torch.testing.assert_close(other, own[:, :1].expand_as(other))
    torch.testing.assert_close(
        own[:, 0].std(0), torch.tensor([2.0, 0.5]).double(), rtol=0.1, atol=0
    )
