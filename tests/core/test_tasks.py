"""Ragged tasks against plain Python lists."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from skmeta.core.tasks import MAX_PADDING, Episodes, TaskRows, offsets_of, ranges

sizes_of_tasks = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def make(sizes, n_features=2):
    n = sum(sizes)
    x = torch.arange(n * n_features, dtype=torch.float64).reshape(n, n_features)
    return TaskRows.from_sizes(x, torch.arange(n, dtype=torch.float64), torch.tensor(sizes))


def as_lists(rows):
    ends = rows.offsets.tolist()
    return [rows.y[a:b].tolist() for a, b in zip(ends[:-1], ends[1:], strict=True)]


@given(sizes_of_tasks)
def test_task_of_row_and_sizes(sizes):
    rows = make(sizes)
    assert rows.sizes.tolist() == sizes
    assert rows.task_of_row.tolist() == [t for t, n in enumerate(sizes) for _ in range(n)]


@given(sizes_of_tasks, st.data())
def test_take_tasks(sizes, data):
    rows = make(sizes)
    chosen = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=15))
    taken = rows.take_tasks(torch.tensor(chosen))
    assert as_lists(taken) == [as_lists(rows)[t] for t in chosen]
    assert torch.equal(taken.x[:, 0], taken.y * 2)


@given(sizes_of_tasks)
def test_slices_share_memory(sizes):
    rows = make(sizes)
    start, stop = len(sizes) // 3, len(sizes)
    part = rows.slice_tasks(start, stop)
    assert as_lists(part) == as_lists(rows)[start:stop]
    assert part.x.data_ptr() == rows.x[int(rows.offsets[start])].data_ptr()


@given(sizes_of_tasks)
def test_padded_holds_every_row_once_and_flat_undoes_it(sizes):
    rows = make(sizes)
    padded = rows.padded()
    if len(set(sizes)) == 1:
        assert padded.mask is None
        assert padded.x.data_ptr() == rows.x.data_ptr()
    else:
        assert padded.mask.sum(1).tolist() == sizes
    assert torch.equal(padded.flat(padded.x), rows.x)
    assert torch.equal(padded.flat(padded.y), rows.y)
    assert torch.isfinite(padded.x).all()


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(1, 7))
def test_buckets_cover_all_tasks_and_bound_the_padding(sizes, max_tasks):
    if sum(sizes) == 0:
        sizes[0] = 1
    rows = make(sizes, 1)
    batches = list(rows.buckets(max_tasks))
    assert sorted(torch.cat(batches).tolist()) == list(range(len(sizes)))
    assert all(len(batch) <= max_tasks for batch in batches)
    real = rows.sizes.clamp(min=1)
    area = sum(len(b) * int(real[b].max()) for b in batches)
    assert area <= MAX_PADDING * int(real.sum()) + 1e-9


def test_empty_tasks_are_padded_with_masked_rows():
    rows = make([2, 0, 1])
    padded = rows.padded()
    assert padded.mask.tolist() == [[True, True], [False, False], [True, False]]
    assert torch.equal(padded.flat(padded.y), rows.y)


@given(sizes_of_tasks, st.integers(1, 5))
def test_episodes_split(sizes, max_tasks):
    support, query = make(sizes), make([n + 1 for n in sizes])
    parts = list(Episodes(support, query).split(max_tasks))
    assert sum((as_lists(p.support) for p in parts), []) == as_lists(support)
    assert sum((as_lists(p.query) for p in parts), []) == as_lists(query)


@given(sizes_of_tasks)
def test_ranges(sizes):
    starts = np.random.default_rng(0).integers(0, 100, len(sizes))
    expected = [v for s, n in zip(starts, sizes, strict=True) for v in range(s, s + n)]
    assert ranges(torch.from_numpy(starts), torch.tensor(sizes)).tolist() == expected
    assert offsets_of(torch.tensor(sizes)).tolist() == [0, *np.cumsum(sizes).tolist()]
