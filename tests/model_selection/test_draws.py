"""Support and query draws: exact sizes, no overlap, uniform, independent."""

import numpy as np
import pytest
from scipy import stats

from skmeta.model_selection import TaskScorer
from skmeta.model_selection._draws import draw_repeats
from tests.model_selection.cases import (
    MeanRegressor,
    labelled_tasks,
    own_class_tasks,
    quick,
    ragged_sinusoids,
)


def spied_supports(scorer, X, y, groups):
    """The support of every draw, as the first column of X (every value is its own)."""
    model = MeanRegressor().fit(X, y)
    scorer(model, X, y, groups)
    return model.supports_


def spied_queries(scorer, estimator, X, y, groups):
    """Labels, tasks and rows of every query."""
    rows = []

    def score(adapted, X_query, y_query):
        rows.append([int(np.flatnonzero((x == X).all(1))[0]) for x in X_query])
        return 0.0

    scorer.set_params(scoring=score)(estimator, X, y, groups)
    return rows


def test_support_and_query_share_out_the_rows_of_every_draw():
    rng = np.random.RandomState(0)
    numbers = rng.permutation(np.repeat([0, 1, 2], [4, 9, 6]))
    draw = draw_repeats(numbers, np.array([3, 2, 5]), numbers, 20, rng)
    for repeat in range(20):
        for task, quota in enumerate([3, 2, 5]):
            support = draw.support[draw.support_draw == repeat * 3 + task]
            query = draw.query[draw.query_draw == repeat * 3 + task]
            assert len(support) == quota
            rows = np.concatenate([support, query])
            np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(numbers == task))
    assert len(draw.support) + len(draw.query) == 20 * len(numbers)


def test_every_subset_is_as_likely_and_repeats_are_independent():
    numbers = np.array([1, 0, 1, 0, 0, 1, 0, 1])
    n_repeats = 12_000
    draw = draw_repeats(
        numbers,
        np.array([2, 2]),
        numbers,
        n_repeats,
        np.random.RandomState(0),
    )
    subsets = []
    for task in (0, 1):
        rows = np.flatnonzero(numbers == task)
        chosen = np.zeros((n_repeats, len(numbers)), dtype=int)
        own = draw.support_draw % 2 == task
        chosen[draw.support_draw[own] // 2, draw.support[own]] = 1
        code = chosen[:, rows] @ [1, 2, 4, 8]
        assert len(np.unique(code)) == 6  # the pairs out of four rows
        subsets.append(np.unique(code, return_inverse=True)[1])
        assert stats.chisquare(np.bincount(subsets[-1])).pvalue > 1e-3
        # One repeat says nothing of the next.
        pairs = np.bincount(subsets[-1][:-1:2] * 6 + subsets[-1][1::2], minlength=36)
        assert stats.chisquare(pairs).pvalue > 1e-3
    # Nor one task of another.
    both = np.bincount(subsets[0] * 6 + subsets[1], minlength=36)
    assert stats.chisquare(both).pvalue > 1e-3


def test_an_int_seed_gives_every_candidate_the_same_draws():
    X, y, groups = ragged_sinusoids()

    def supports(random_state):
        return np.concatenate(
            spied_supports(TaskScorer(n_repeats=3, random_state=random_state), X, y, groups)
        )

    np.testing.assert_array_equal(supports(0), supports(0))
    assert not np.array_equal(supports(0), supports(1))
    assert not np.array_equal(supports(None), supports(None))
    rng = np.random.RandomState(0)
    first = supports(rng)
    assert not np.array_equal(first, supports(rng))


@pytest.mark.parametrize("n_support", [1, 3, 5])
def test_n_support_rows_of_one_task_in_every_draw(n_support):
    X, y, groups = ragged_sinusoids()
    supports = spied_supports(TaskScorer(n_support=n_support, n_repeats=4), X, y, groups)
    assert len(supports) == 4 * len(np.unique(groups))
    task_of = dict(zip(X[:, 0], groups, strict=True))
    for support in supports:
        assert len(support) == len(np.unique(support)) == n_support
        assert len({task_of[value] for value in support}) == 1
    # Repeats differ.
    assert len({tuple(sorted(support)) for support in supports}) > 3 * len(np.unique(groups))


def test_plain_draws_do_not_look_at_labels():
    """Stratified draws would tell the estimator how common a class is."""
    X, y, groups = labelled_tasks(sizes=(12,) * 8)
    model = quick("ProtoNetClassifier").fit(X, y, groups=groups)
    assert model.shared_classes_
    queries = spied_queries(TaskScorer(n_support=6, n_repeats=20), model, X, y, groups)
    counts = {tuple(np.unique(y[rows], return_counts=True)[1]) for rows in queries}
    assert len(counts) > 5


def test_n_shot_is_the_number_of_support_rows_a_class():
    X, y, groups = labelled_tasks(sizes=(12,) * 5)
    model = quick("ProtoNetClassifier").fit(X, y, groups=groups)
    queries = spied_queries(TaskScorer(n_shot=3, n_repeats=4), model, X, y, groups)
    assert len(queries) == 5 * 4
    for rows in queries:  # four rows a class, three of them support
        labels, counts = np.unique(y[rows], return_counts=True)
        assert len(labels) == 3 and (counts == 1).all()


def test_a_class_keeps_a_query_row_where_it_can():
    X, y, groups = labelled_tasks(sizes=(7, 7))  # two or three rows a class
    model = quick("ProtoNetClassifier").fit(X, y, groups=groups)
    for rows in spied_queries(TaskScorer(n_shot=5, n_repeats=2), model, X, y, groups):
        assert np.unique(y[rows], return_counts=True)[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("n_support", "n_shot", "a_class"), [(6, None, 3), (1, None, 1), (5, 4, 4)]
)
def test_task_specific_classes_are_stratified(n_support, n_shot, a_class):
    X, y, groups = own_class_tasks(ways=(2, 2, 2), n_rows=6)
    model = quick("ProtoNetClassifier").fit(X, y, groups=groups)
    assert not model.shared_classes_
    scorer = TaskScorer(n_support=n_support, n_shot=n_shot, n_repeats=3)
    for rows in spied_queries(scorer, model, X, y, groups):
        assert np.unique(y[rows], return_counts=True)[1].tolist() == [6 - a_class] * 2
