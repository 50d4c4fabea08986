"""``shuffle=False``: the automatic choice for tasks that show their first rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skmeta import AutoMetaClassifier, AutoMetaRegressor, HierarchicalRidge
from skmeta.auto import _regressor

SIZES = (0, 2, 5)


def drifting(n_tasks=24, n_rows=14, seed=0):
    """Random walks in time: the first rows say less of the last than rows in between do."""
    rng = np.random.default_rng(seed)
    time = np.tile(np.linspace(-1, 1, n_rows), n_tasks)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    walk = rng.normal(size=(n_tasks, n_rows)).cumsum(axis=1)
    return time[:, None], walk.ravel() + 0.1 * rng.normal(size=len(groups)), groups


@pytest.fixture(scope="module")
def fitted():
    X, y, groups = drifting()
    how = {"cv": 3, "n_support": SIZES, "random_state": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_regressor, "TASKS_FOR_A_NET", 1000)  # it takes long, and nothing hangs on it
        yield {
            shuffle: AutoMetaRegressor(shuffle=shuffle, **how).fit(X, y, groups=groups)
            for shuffle in (True, False)
        }


def test_members_are_judged_by_what_follows_the_first_rows(fitted):
    X, y, groups = drifting()
    rng = np.random.RandomState(0)
    rng.randint(np.iinfo(np.int32).max)  # the seed of the members comes first
    folds = AutoMetaRegressor(cv=3)._folds(groups, rng)
    losses = {k: [] for k in SIZES}
    for train, test, _ in folds:
        ridge = HierarchicalRidge().fit(X[train], y[train], groups=groups[train])
        for task in np.unique(groups[test]):
            own = np.flatnonzero(groups == task)
            for k in SIZES:
                adapted = ridge.adapt(X[own[:k]], y[own[:k]]) if k else ridge
                losses[k].append(np.mean((adapted.predict(X[own[k:]]) - y[own[k:]]) ** 2))
    expected = [np.mean(losses[k]) / y.var() for k in SIZES]
    assert_allclose(fitted[False].scores_.loc["linear"], expected, rtol=1e-6)


def test_one_draw_whatever_n_repeats(fitted):
    X, y, groups = drifting()
    again = AutoMetaRegressor(
        cv=3, n_support=SIZES, n_repeats=1, shuffle=False, random_state=0
    ).fit(X, y, groups=groups)
    assert_allclose(again.scores_, fitted[False].scores_)


def test_scores_and_intervals_tell_of_what_is_to_come(fitted):
    X, y, groups = drifting(n_tasks=60, seed=1)
    losses, inside = [], []
    for task in range(60):
        own = np.flatnonzero(groups == task)
        adapted = fitted[False].adapt(X[own[:5]], y[own[:5]])
        mean, std = adapted.predict(X[own[5:]], return_std=True)
        losses.append(np.mean((mean - y[own[5:]]) ** 2) / drifting()[1].var())
        inside.append(np.abs(y[own[5:]] - mean) < 1.645 * std)
    expected = {shuffle: model.scores_.loc["blend", 5] for shuffle, model in fitted.items()}
    assert_allclose(np.mean(losses), expected[False], rtol=0.4)
    assert np.mean(losses) > 2 * expected[True]
    assert 0.84 < np.mean(inside) < 0.97


def test_labels_in_order():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(16), 20)
    level = rng.normal(0, 2, size=16)
    X = rng.normal(size=(320, 1))
    y = np.where(level[groups] + X[:, 0] + rng.logistic(size=320) > 0, "sick", "well")
    first = np.tile(np.arange(20) < 3, 16)
    y[first] = rng.choice(["sick", "well"], size=first.sum())  # says nothing of the task
    how = {"cv": 2, "n_support": (3,), "random_state": 0}
    scores = {
        shuffle: AutoMetaClassifier(shuffle=shuffle, **how).fit(X, y, groups=groups).scores_[3]
        for shuffle in (True, False)
    }
    assert scores[False]["linear"] > scores[False]["pooled logistic"]
    assert scores[True]["linear"] < scores[True]["pooled logistic"]
