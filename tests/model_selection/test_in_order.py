"""``shuffle=False``: support rows are the first of their task, where rows come in time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold

from skmeta import HierarchicalRidge
from skmeta.inspection import AdaptationCurveDisplay
from skmeta.model_selection import TaskScorer, compare_tasks, cross_validate_tasks
from skmeta.model_selection._baselines import RegressorBaseline
from skmeta.model_selection._draws import draw_repeats
from tests.model_selection.cases import own_class_tasks, own_classifier
from tests.model_selection.compare_cases import tasks

CV = GroupKFold(3)


def naive_fold(estimator, X, y, groups, train, test, k):
    """Squared error of every held-out task after its first k rows, by task id."""
    model = estimator.fit(X[train], y[train], groups=groups[train])
    found = {}
    for task in np.unique(groups[test]):
        own = np.flatnonzero(groups == task)
        adapted = model.adapt(X[own[:k]], y[own[:k]])
        found[task] = np.mean((adapted.predict(X[own[k:]]) - y[own[k:]]) ** 2)
    return found


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 6))
def test_the_first_rows_of_every_cell(numbers, k):
    numbers = np.unique(numbers, return_inverse=True)[1]
    n_tasks = numbers.max() + 1
    draw = draw_repeats(numbers, np.full(n_tasks, k), numbers, 1, None)
    for task in range(n_tasks):
        own = [i for i, number in enumerate(numbers) if number == task]
        assert draw.support[draw.support_draw == task].tolist() == own[:k]
        assert draw.query[draw.query_draw == task].tolist() == own[k:]


@pytest.mark.parametrize("n_repeats", [1, 4])
def test_task_scorer_scores_what_follows_the_first_rows(n_repeats):
    X, y, groups = tasks()
    train = np.isin(groups, np.unique(groups)[::2])
    rows = np.arange(len(y))
    expected = naive_fold(HierarchicalRidge(), X, y, groups, rows[train], rows[~train], 3)
    model = HierarchicalRidge().fit(X[train], y[train], groups=groups[train])
    scorer = TaskScorer(
        "neg_mean_squared_error", n_support=3, n_repeats=n_repeats, shuffle=False, random_state=None
    )
    found = scorer.score_tasks(model, X[~train], y[~train], groups[~train])
    np.testing.assert_allclose(-found, [expected[task] for task in sorted(expected)], rtol=1e-9)


def test_task_scorer_takes_the_first_rows_of_every_class():
    X, y, groups = own_class_tasks(ways=(2, 3), n_rows=6)
    model, hits = own_classifier(), []
    for task in np.unique(groups):
        own = np.flatnonzero(groups == task)
        support = np.concatenate([own[y[own] == label][:2] for label in np.unique(y[own])])
        query = np.setdiff1d(own, support)
        adapted = model.adapt(X[support], y[support])
        hits.append(np.mean(adapted.predict(X[query]) == y[query]))
    found = TaskScorer(n_shot=2, shuffle=False).score_tasks(model, X, y, groups)
    np.testing.assert_allclose(found, hits)


def test_cross_validate_tasks_hands_it_on():
    X, y, groups = tasks()
    numbers = np.unique(groups, return_inverse=True)[1]
    found = cross_validate_tasks(
        HierarchicalRidge(), X, y, groups, cv=CV, scoring="neg_mean_squared_error", n_support=4,
        shuffle=False,
    )["test_score"]  # fmt: skip
    expected = [
        np.mean(list(naive_fold(HierarchicalRidge(), X, y, groups, *fold, 4).values()))
        for fold in CV.split(X, y, numbers)
    ]
    np.testing.assert_allclose(-found, expected, rtol=1e-9)


class Backwards(GroupKFold):
    """Names the rows of a fold in reverse."""

    def split(self, X, y=None, groups=None):
        for train, test in super().split(X, y, groups):
            yield train[::-1], test[::-1]


@pytest.mark.parametrize("cv", [CV, Backwards(3)], ids=["in order", "backwards"])
def test_compare_tasks_scores_what_follows_the_first_rows(cv):
    X, y, groups = tasks()
    numbers = np.unique(groups, return_inverse=True)[1]
    found = compare_tasks(
        HierarchicalRidge(), X, y, groups, n_support=(2, 5), cv=cv, n_repeats=3, shuffle=False,
        baselines=False, scoring="neg_mean_squared_error",
    ).table_.set_index("k")["score"]  # fmt: skip
    for k in (2, 5):
        values = {}
        for fold in CV.split(X, y, numbers):
            values |= naive_fold(HierarchicalRidge(), X, y, groups, *fold, k)
        large = [values[task] for task in values if (groups == task).sum() >= k + 2]
        np.testing.assert_allclose(found[k], np.mean(large), rtol=1e-9)


def test_baselines_are_tuned_in_the_same_order():
    # A task's first two rows say nothing of its level; those after do.
    rng = np.random.default_rng(0)
    level = 3 * rng.normal(size=(40, 1))
    y = level + 0.1 * rng.normal(size=(40, 12))
    y[:, :2] = 3 * rng.normal(size=(40, 2))
    groups, X = np.repeat(np.arange(40), 12), rng.normal(size=(480, 1))
    Z = (y - y.mean()) / y.std()
    losses = {}
    for penalty in RegressorBaseline._penalties:
        offset = Z[:, :2].sum(axis=1, keepdims=True) / (2 + penalty)
        losses[penalty] = np.mean((Z[:, 2:] - offset) ** 2)
    baseline = RegressorBaseline(("mean",), "offset", (2,), False).fit(X, y.ravel(), groups)
    assert baseline.choices_[0].penalty == min(losses, key=losses.__getitem__) > 1
    drawn = RegressorBaseline(("mean",), "offset", (2,)).fit(X, y.ravel(), groups)
    assert drawn.choices_[0].penalty < 1


@pytest.mark.parametrize("n_shot", [None, (1, 2)])
def test_the_curve_of_first_rows(n_shot):
    import matplotlib.pyplot as plt

    if n_shot is None:
        X, y, groups = tasks()
        model = HierarchicalRidge().fit(X, y, groups=groups)
        how = {"n_support": (1, 2), "scoring": "neg_mean_squared_error"}
        scorer = {k: TaskScorer(how["scoring"], n_support=k, shuffle=False) for k in (1, 2)}
    else:
        X, y, groups = own_class_tasks(ways=(2, 3), n_rows=6)
        model, how = own_classifier(), {"n_shot": n_shot}
        scorer = {k: TaskScorer(n_shot=k, shuffle=False) for k in (1, 2)}
    display = AdaptationCurveDisplay.from_estimator(
        model, X, y, groups, shuffle=False, random_state=None, **how
    )
    plt.close(display.figure_)
    for i, k in enumerate((1, 2)):
        expected = np.abs(scorer[k].score_tasks(model, X, y, groups))
        np.testing.assert_allclose(display.scores[0, i], expected, rtol=1e-9)
