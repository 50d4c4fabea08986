"""Few tasks, and tasks of a single row: folds that leave enough to learn from."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skmeta import (
    AutoMetaClassifier,
    AutoMetaRegressor,
    HierarchicalGPRegressor,
    HierarchicalLogisticRegression,
)


def rows_of(sizes):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    X = rng.normal(size=(len(groups), 2))
    return X, X[:, 0] + rng.normal(size=len(sizes))[groups], groups


@pytest.mark.parametrize("cv", [2, 3, 5])
@pytest.mark.parametrize("sizes", [[9] * 3, [99, 9, 9, 9], [9, 9, 9] + [1] * 30, [500] + [2] * 40])
def test_every_fold_leaves_two_tasks_of_several_rows(sizes, cv):
    _, _, numbers = rows_of(sizes)
    for seed in range(5):
        rng = np.random.RandomState(seed)
        folds = AutoMetaRegressor(cv=cv)._folds(numbers, rng)
        assert len(folds) in (min(cv, len(sizes)), 3)
        assert set.union(*(set(test) for _, test, _ in folds)) == set(range(len(numbers)))
        for train, test, _ in folds:
            assert not set(numbers[train]) & set(numbers[test])
            assert (np.bincount(numbers[train]) > 1).sum() >= 2


@pytest.mark.parametrize("Auto", [AutoMetaClassifier, AutoMetaRegressor])
def test_two_folds_of_three_tasks(Auto):
    X, y, groups = rows_of([12] * 3)
    y = y > 0 if Auto is AutoMetaClassifier else y
    model = Auto(cv=2, n_support=(2,), n_repeats=1, random_state=0).fit(X, y, groups=groups)
    assert sum(model.selected_.values()) == pytest.approx(1)
    assert np.isfinite(model.scores_.to_numpy()).all()


def test_tasks_of_one_row_are_nothing_to_choose_on():
    X, y, groups = rows_of([30, 1, 1])
    model = AutoMetaRegressor(random_state=0).fit(X, y, groups=groups)
    assert model.selected_ == {"gp": 1.0} and model.n_tasks_ == 3 and not model.adapted_
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    plain = HierarchicalGPRegressor(random_state=seed).fit(X, y, groups=groups)
    assert_allclose(model.adapt(X[:4], y[:4]).predict(X), plain.adapt(X[:4], y[:4]).predict(X))

    X, y, groups = rows_of([12, 12, 1])
    model = AutoMetaClassifier(random_state=0).fit(X, y > 0, groups=groups)
    assert model.selected_ == {"linear": 1.0}
    plain = HierarchicalLogisticRegression(random_state=seed).fit(X, y > 0, groups=groups)
    assert_allclose(model.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("Auto", [AutoMetaClassifier, AutoMetaRegressor])
def test_single_rows_alone_are_refused(Auto):
    X, y, groups = rows_of([1] * 4)
    with pytest.raises(ValueError, match=r"single row|two rows"):
        Auto().fit(X, y > 0 if Auto is AutoMetaClassifier else y, groups=groups)
