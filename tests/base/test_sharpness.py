"""Probabilities are as sure as tasks that were left out say that they may be."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss

from skmeta.base._sharpness import (
    GRID,
    PRIOR,
    PRIOR_SHARE,
    SHARES,
    _losses,
    best_multiples,
    calibrated_at,
    part_of_way,
)
from skmeta.core.learner import NEVER
from skmeta.core.tasks import TaskRows
from skmeta.model_selection import predict_tasks
from tests.instances import small

SHARP = ["MetaSVC", "RidgeHeadClassifier", "ProtoNetClassifier", "MAMLClassifier"]


def questions(n_tasks, n_rows=24, seed=0):
    """Yes or no by a noisy line; each task has a level of its own, and many columns say nothing."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 8))
    level = rng.normal(size=n_tasks)[groups]
    y = np.where(X[:, 0] + level + rng.normal(size=len(groups)) > 0, "yes", "no")
    return X, y, groups


# ---------------------------------------------------------------- against a slow reference


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    n_classes=st.integers(2, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_losses_are_those_of_a_loop_over_tasks(sizes, n_classes, seed):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    scores, y = rng.normal(size=(n, n_classes)), rng.integers(n_classes, size=n)
    absent = rng.random((n, n_classes)) < 0.3
    absent[np.arange(n), y] = False
    scores[absent] = NEVER
    query = TaskRows.from_sizes(torch.zeros(n, 1), torch.tensor(y), torch.tensor(sizes))
    found = _losses(torch.tensor(scores), query).numpy()
    ends = np.cumsum(sizes)
    for power, loss in zip(np.exp(GRID), found, strict=True):
        tasks = []
        for first, end in zip(ends - sizes, ends, strict=True):
            rows = []
            for row in range(first, end):
                here = ~absent[row]
                logs = np.full(n_classes, -np.inf)
                logs[here] = log_softmax(power * scores[row, here])
                rows.append(-logs[y[row]])
            tasks.append(np.mean(rows))
        np.testing.assert_allclose(loss, np.mean(tasks), rtol=1e-9, atol=1e-12)


def test_a_row_of_a_class_that_is_not_known_has_nothing_to_say():
    scores = torch.tensor([[1.0, 0.0, NEVER], [0.5, 2.0, NEVER]], dtype=torch.float64)
    query = TaskRows.from_sizes(torch.zeros(2, 1), torch.tensor([1, 2]), torch.tensor([2]))
    expected = [-log_softmax(power * np.array([1.0, 0.0]))[1] / 2 for power in np.exp(GRID)]
    np.testing.assert_allclose(_losses(scores, query), expected, rtol=1e-9)


def test_trials_count_by_their_tasks():
    rng = np.random.default_rng(0)
    curves = rng.normal(size=(3, len(SHARES), len(GRID)))
    trials = [
        [(0, 4, curves[0].tolist()), (2, 3, curves[1].tolist())],
        [(2, 5, curves[2].tolist())],
        [],
    ]
    found = best_multiples(trials)
    np.testing.assert_array_equal(found["sizes"], [0, 2])
    totals = [4 * curves[0], 3 * curves[1] + 5 * curves[2]]
    for i, total in enumerate(totals):
        least = np.inf
        for share, line in zip(SHARES, total, strict=True):
            for power, loss in zip(GRID, line, strict=True):
                loss += PRIOR * power**2 + PRIOR_SHARE * (1 - share) ** 2
                if loss < least:
                    least, expected = loss, (np.exp(power), share)
        np.testing.assert_allclose((found["multiples"][i], found["shares"][i]), expected)
    alone = GRID[np.argmin(totals[-1][-1] + PRIOR * GRID**2)]
    np.testing.assert_allclose(np.log(found["alone"]), alone)
    assert best_multiples([[], []]) is None


def test_tasks_with_classes_of_their_own_go_all_the_way():
    """There is no population to stay with: one line of losses, that of their own scores."""
    line = np.random.default_rng(0).normal(size=len(GRID))
    found = best_multiples([[(1, 1, [line.tolist()])]])
    np.testing.assert_array_equal(found["shares"], [1.0])
    expected = GRID[np.argmin(line + PRIOR * GRID**2)]
    np.testing.assert_allclose(np.log(found["multiples"]), [expected])
    np.testing.assert_allclose(np.log(found["alone"]), expected)


def test_a_part_of_the_way_leaves_classes_that_are_not_there():
    before, own = np.array([[1.0, NEVER, 3.0, NEVER]]), np.array([[5.0, 2.0, NEVER, NEVER]])
    expected = [[2.0, 2.0, NEVER, NEVER]]
    np.testing.assert_array_equal(part_of_way(before, own, 0.25), expected)
    found = part_of_way(torch.tensor(before), torch.tensor(own), 0.25)
    np.testing.assert_array_equal(found, expected)


def test_between_sizes_it_is_interpolated_and_beyond_them_a_task_has_its_own_say():
    found = {"sizes": np.array([0.0, 1.0, 5.0]), "multiples": np.array([2.0, 0.5, 0.125])}
    found |= {"shares": np.array([1.0, 0.2, 0.6]), "alone": np.array(0.25)}
    multiples, shares = calibrated_at(found, np.array([0, 0.5, 1, 2, 5, 20, np.inf]))
    half = np.log(1.5) / np.log(2)
    part = (np.log(3) - np.log(2)) / (np.log(6) - np.log(2))
    # Weight of a prior as strong as 5 (1 - .6) / .6 rows, and 1 - .6 after 5 of them.
    fade = (5 + 10 / 3) / (20 + 10 / 3)
    expected = [2.0, 2 * 0.25**half, 0.5, 0.5 * 0.25**part, 0.125, 0.25 * 0.5**fade, 0.25]
    np.testing.assert_allclose(multiples, expected)
    np.testing.assert_allclose(shares, [1, 0.2, 0.2, 0.2 + 0.4 * part, 0.6, 1 - 0.4 * fade, 1])


def test_many_rows_are_heard_even_where_a_few_were_not():
    found = {"sizes": np.array([0.0, 5.0]), "multiples": np.ones(2), "alone": np.array(1.0)}
    shares = calibrated_at(found | {"shares": np.zeros(2)}, np.array([5, 10, 50, 1e4]))[1]
    np.testing.assert_allclose(shares, 1 - 50 / (np.array([5, 10, 50, 1e4]) + 45))


# ---------------------------------------------------------------- in the estimators


@pytest.mark.parametrize("name", SHARP)
def test_scores_go_a_part_of_the_way_and_are_multiplied(name):
    X, y, groups = questions(12)
    model = small(name, max_epochs=2, early_stopping=True).fit(X, y, groups=groups)
    found = {**model._sharpness, "shares": np.linspace(0.2, 0.8, len(model._sharpness["sizes"]))}
    model, plain = model._sibling(_sharpness=found), model._sibling(_sharpness=None)
    before = plain.decision_function(X)
    np.testing.assert_allclose(model.decision_function(X), found["multiples"][0] * before)
    for n_rows in (1, 6, 20):
        adapted = model.adapt(X[:n_rows], y[:n_rows])
        own = plain.adapt(X[:n_rows], y[:n_rows]).decision_function(X)
        multiple, share = calibrated_at(found, n_rows / 2)
        scores = adapted.decision_function(X)
        expected = multiple * ((1 - share) * before + share * own)
        np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(adapted.predict(X), model.classes_[(scores > 0).astype(int)])
        both = np.column_stack([np.zeros(len(X)), scores])
        np.testing.assert_allclose(adapted.predict_proba(X), softmax(both, 1), atol=1e-9)


@pytest.mark.parametrize("name", SHARP)
def test_where_tasks_are_alike_a_row_or_two_do_no_harm(name):
    """All tasks follow one rule: whatever a task learns of its few rows is noise."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(48), 24)
    X = rng.normal(size=(len(groups), 4))
    y = np.where(X[:, 0] + rng.logistic(size=len(groups)) > 0, "yes", "no")
    seen, shown = groups < 30, np.arange(len(groups)) % 24
    model = small(name, max_epochs=5, early_stopping=True).fit(
        X[seen], y[seen], groups=groups[seen]
    )
    query = ~seen & (shown >= 6)
    losses = []
    for k in (0, 1, 2, 6):
        rows = ~seen & (shown < k)
        proba = predict_tasks(
            model, X[rows], y[rows], groups[rows], X[query], groups[query], method="predict_proba"
        )
        losses.append(log_loss(y[query], proba))
    assert max(losses) < losses[0] + 0.015


@pytest.mark.parametrize("name", ["MetaSVC", "RidgeHeadClassifier"])
def test_more_rows_than_any_task_left_out_had_do_little_harm(name):
    """The multiple that was found for scores of the population is not that of a task's own."""
    rng = np.random.default_rng(0)
    groups = np.concatenate([np.repeat(np.arange(30), 16), np.repeat(np.arange(30, 36), 200)])
    X = rng.normal(size=(len(groups), 4))
    y = np.where(X[:, 0] + rng.logistic(size=len(groups)) > 0, "yes", "no")
    model = small(name, max_epochs=5, early_stopping=True)
    model.fit(X[:480], y[:480], groups=groups[:480])
    own = model._sibling(_sharpness=None)
    order = np.concatenate([np.arange(480), 480 + np.arange(1200) % 200])
    shown, query = (order < 580) & (groups >= 30), (order >= 580) & (groups >= 30)
    losses = []
    for one in (model, own):
        rows = X[shown], y[shown], groups[shown], X[query], groups[query]
        losses.append(log_loss(y[query], predict_tasks(one, *rows, method="predict_proba")))
    assert losses[0] < losses[1] + 0.01
    assert losses[0] < 0.75


@pytest.mark.parametrize("name", SHARP)
def test_tasks_in_one_batch_have_each_its_own(name):
    X, y, groups = questions(14)
    seen = groups < 12
    model = small(name, max_epochs=1, early_stopping=True)
    model.fit(X[seen], y[seen], groups=groups[seen])
    support = np.concatenate([np.flatnonzero(groups == 12)[:2], np.flatnonzero(groups == 13)[:12]])
    query = np.flatnonzero(groups >= 11)  # the eleventh shows nothing
    found = predict_tasks(
        model, X[support], y[support], groups[support], X[query], groups[query],
        method="predict_proba",
    )  # fmt: skip
    for task in (11, 12, 13):
        own = support[groups[support] == task]
        one = model.adapt(X[own], y[own]) if len(own) else model
        expected = one.predict_proba(X[query[groups[query] == task]])
        np.testing.assert_allclose(found[groups[query] == task], expected, rtol=1e-4, atol=1e-6)


def test_a_machine_is_no_surer_than_it_may_be():
    """New tasks: without what tasks left out say, a machine of many rows is far too sure."""
    X, y, groups = questions(36, n_rows=40)
    seen = groups < 24
    model = small("MetaSVC", max_epochs=8, early_stopping="auto", validation_fraction=0.3)
    model.fit(X[seen], y[seen], groups=groups[seen])
    assert model._sharpness["multiples"][-1] < 0.8
    losses, sure, right = [], [], []
    for task in range(24, 36):
        rows = np.flatnonzero(groups == task)
        for one in (model, model._sibling(_sharpness=None)):
            adapted = one.adapt(X[rows[:24]], y[rows[:24]])
            proba = adapted.predict_proba(X[rows[24:]])
            losses.append(log_loss(y[rows[24:]], proba, labels=adapted.classes_))
            if one is model:
                sure.append(proba.max(axis=1).mean())
                right.append((adapted.predict(X[rows[24:]]) == y[rows[24:]]).mean())
    assert np.mean(losses[::2]) < np.mean(losses[1::2])
    assert abs(np.mean(sure) - np.mean(right)) < 0.1


@pytest.mark.filterwarnings("ignore::skmeta.exceptions.SingleTaskWarning")
@pytest.mark.parametrize("name", ["MetaSVC", "RidgeHeadClassifier"])
def test_without_groups_rows_are_left_out_once(name):
    X, y = make_classification(240, 12, flip_y=0.3, random_state=0)
    model = small(name, max_epochs=15, early_stopping="auto").fit(X[:160], y[:160])
    np.testing.assert_array_equal(model._sharpness["sizes"], [0])
    plain = model._sibling(_sharpness=None)
    losses = [log_loss(y[160:], m.predict_proba(X[160:])) for m in (model, plain)]
    assert losses[0] < losses[1]


def test_without_groups_classes_of_a_tasks_own_are_left_out_once():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(9), 12)
    X = rng.normal(size=(9, 5))[y] + rng.normal(size=(len(y), 5))
    model = small("MetaSVC", max_epochs=3, early_stopping="auto").fit(X, y)
    assert not model.shared_classes_
    np.testing.assert_array_equal(model._sharpness["sizes"], [1, 2, 5, 10])
    # Before any support all rows have been seen: the last of them.
    plain = model._sibling(_sharpness=None).decision_function(X)
    multiple = model._sharpness["multiples"][-1]
    np.testing.assert_allclose(model.decision_function(X), multiple * plain, rtol=1e-9)


@pytest.mark.parametrize("name", SHARP)
def test_nothing_is_left_out_where_the_user_says_so(name):
    X, y, groups = questions(5)
    assert (
        small(name, max_epochs=1, early_stopping=False).fit(X, y, groups=groups)._sharpness is None
    )


def test_a_fit_forgets_the_task_adapted_to_before():
    X, y, groups = questions(12)
    model = small("ProtoNetClassifier", max_epochs=1, early_stopping=True)
    whole = model.fit(X, y, groups=groups).decision_function(X)
    again = model.adapt(X[:20], y[:20]).fit(X, y, groups=groups)
    np.testing.assert_array_equal(again.decision_function(X), whole)


def test_a_warm_start_that_leaves_nothing_out_keeps_what_was_known():
    X, y, groups = questions(5)
    model = small("MetaSVC", max_epochs=2, early_stopping="auto", warm_start=True)
    known = model.fit(X, y, groups=groups)._sharpness
    assert known is not None
    assert model.fit(X, y, groups=groups)._sharpness is known
    assert model.set_params(warm_start=False, early_stopping=False).fit(
        X, y, groups=groups
    )._sharpness is None  # fmt: skip
