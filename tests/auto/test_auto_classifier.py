"""The automatic choice among classifiers: what it chooses, and that it does so without leaking."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit

from skmeta import AutoMetaClassifier, HierarchicalLogisticRegression
from skmeta.auto._classifier import Classifiers
from skmeta.model_selection import predict_tasks

FAST = {"cv": 3, "n_repeats": 2, "n_support": (0, 2, 8), "random_state": 0}


def tasks(kind, n_tasks=24, n_rows=30, seed=0, n_classes=2):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 2))
    if kind == "shifts":
        odds = 2 * X[:, 0] + rng.normal(0, 2.5, size=n_tasks)[groups]
    elif kind == "same":
        odds = 4 * np.sin(3 * X[:, 0])
    elif kind == "slopes":
        odds = (rng.normal(0, 4, size=(n_tasks, 2))[groups] * X).sum(axis=1)
    if n_classes == 2:
        return X, np.where(rng.random(len(X)) < expit(odds), "sick", "well"), groups
    return X, np.digitize(odds + rng.logistic(size=len(X)), [-1.5, 1.5]), groups


def split(groups, first_test, n_support, n_rows=30):
    train = groups < first_test
    place = np.arange(len(groups)) % n_rows
    return train, ~train & (place < n_support), ~train & (place >= n_support)


def losses(model, X, y, groups, support, query):
    """Log loss of the query adapted and not."""
    found = []
    code = np.searchsorted(model.classes_, y[query])
    data = (X[support], y[support], groups[support], X[query], groups[query])
    for proba in (
        predict_tasks(model, *data, method="predict_proba"),
        model.predict_proba(X[query]),
    ):
        assert_allclose(proba.sum(axis=1), 1)
        found.append(-np.log(proba[np.arange(len(code)), code]).mean())
    return found


@pytest.fixture(scope="module")
def shifts():
    X, y, groups = tasks("shifts")
    return AutoMetaClassifier(**FAST).fit(X, y, groups=groups), X, y, groups


def test_tasks_that_shift_get_members_that_adapt(shifts):
    model = shifts[0]
    assert model.scores_.loc["linear", 8] < 0.75 * model.scores_.loc["pooled logistic", 8]
    adapting = sum(model.weights_.loc[n, 8] for n in ("shifted", "linear", "gp") if n in
                   model.weights_.index)  # fmt: skip
    assert adapting > 0.9
    X, y, groups = tasks("shifts", seed=1)
    _, support, query = split(groups, 0, 8)
    adapted, population = losses(model, X, y, groups, support, query)
    assert adapted < 0.8 * population


@pytest.mark.slow
def test_identical_tasks_lose_nothing_and_curves_are_seen():
    X, y, groups = tasks("same", n_tasks=40)
    train, support, query = split(groups, 28, 5)
    model = AutoMetaClassifier(**FAST).fit(X[train], y[train], groups=groups[train])
    adapted, population = losses(model, X, y, groups, support, query)
    assert adapted < 1.03 * population
    assert model.scores_.loc["pooled logistic", 8] > 1.2 * model.scores_.loc["blend", 8]
    assert model.selected_.get("pooled logistic", 0) < 0.1


def test_no_member_sees_the_tasks_it_is_judged_on(monkeypatch):
    X, y, groups = tasks("shifts", n_tasks=6)
    X[:, 1] = groups  # every row says whose it is
    seen, judged = [], []
    fit, predict = Classifiers.fit, Classifiers.predict

    def spy(candidates, X, y, numbers):
        seen.append(set(X[:, 1]))
        return fit(candidates, X, y, numbers)

    def spy_predict(names, fits, population, X, **how):
        judged.append(set(X[:, 1]))
        return predict(names, fits, population, X, **how)

    monkeypatch.setattr(Classifiers, "fit", spy)
    monkeypatch.setattr(Classifiers, "predict", spy_predict)
    AutoMetaClassifier(**FAST).fit(X, y, groups=groups)
    assert len(seen) == 4 and len(judged) == 9  # three folds and all tasks; three support sizes
    for i, tasks_judged in enumerate(judged):
        assert not tasks_judged & seen[i // 3]
    assert set.union(*judged) == set(range(6))


def test_update_is_adapt_on_all_rows_and_batches_are_single_tasks(shifts):
    model, X, y, groups = shifts
    once = model.adapt(X[:6], y[:6]).predict_proba(X[6:30])
    assert_allclose(model.adapt(X[:3], y[:3]).update(X[3:6], y[3:6]).predict_proba(X[6:30]), once)
    assert_allclose(model.update(X[:6], y[:6]).predict_proba(X[6:30]), once)
    support = np.arange(len(y)) % 30 < 1 + groups % 5
    data = (X[support], y[support], groups[support], X[~support], groups[~support])
    together = predict_tasks(model, *data, method="predict_proba")
    for task in (0, 7, 23):
        own = groups == task
        alone = model.adapt(X[own & support], y[own & support]).predict_proba(X[own & ~support])
        assert_allclose(together[groups[~support] == task], alone, rtol=1e-5)
    asked = np.where(np.arange(6) < 3, groups[30:36] + 100, groups[:6])
    unknown = predict_tasks(
        model, X[:3], y[:3], groups[:3], X[30:36], asked, method="predict_proba"
    )
    assert_allclose(unknown[:3], model.predict_proba(X[30:33]))


def test_the_scores_are_the_weighted_mean_of_log_probabilities(shifts):
    model, X, _, _ = shifts
    total = 0.0
    for name, weight in model.weights_[0].items():
        total += weight * np.log(model.members_[Classifiers.roles[name][0]].predict_proba(X[:9]))
    factor = model._factors[0]
    assert_allclose(model.decision_function(X[:9]), factor * (total[:, 1] - total[:, 0]), rtol=1e-4)
    assert_allclose(expit(model.decision_function(X[:9])), model.predict_proba(X[:9])[:, 1])


@pytest.mark.slow
def test_three_classes_one_of_which_only_few_tasks_know():
    X, y, groups = tasks("shifts", n_tasks=12, n_classes=3)
    y = np.where((y == 2) & (groups > 1), 1, y)  # two tasks only: a fold may be without it
    model = AutoMetaClassifier(**FAST).fit(X, y, groups=groups)
    adapted = model.adapt(X[:10], y[:10])
    assert list(adapted.classes_) == [0, 1, 2]
    proba = adapted.predict_proba(X[10:30])
    assert proba.shape == (20, 3) and (proba > 0).all()
    assert np.isfinite(model.scores_.to_numpy()).all()


def test_two_tasks_and_an_unknown_label(shifts):
    X, y, groups = tasks("slopes", n_tasks=2)
    two = AutoMetaClassifier(**FAST).fit(X, y, groups=groups)
    assert two.selected_ == {"linear": 1.0}
    plain = HierarchicalLogisticRegression().fit(X, y, groups=groups)
    assert_allclose(
        two.adapt(X[:5], y[:5]).predict_proba(X[5:12]),
        plain.adapt(X[:5], y[:5]).predict_proba(X[5:12]),
    )
    with pytest.raises(ValueError, match="dead"):
        shifts[0].adapt(X[:2], ["sick", "dead"])


def test_tasks_of_one_class_and_one_row_do_no_harm():
    X, y, groups = tasks("shifts", n_tasks=12)
    y[groups == 0] = "well"
    keep = (groups != 1) | (np.arange(len(y)) == 30)
    model = AutoMetaClassifier(**FAST).fit(X[keep], y[keep], groups=groups[keep])
    proba = model.adapt(X[:1], y[:1]).predict_proba(X[1:9])
    assert np.isfinite(proba).all()


def test_labels_that_tasks_do_not_share_are_refused():
    groups = np.repeat(np.arange(8), 6)
    X = np.random.default_rng(0).normal(size=(48, 1))
    labels = np.array([f"{task}-{x > 0}" for task, x in zip(groups, X[:, 0], strict=True)])
    with pytest.raises(ValueError, match=r"labels that tasks share.*ProtoNetClassifier"):
        AutoMetaClassifier(random_state=0).fit(X, labels, groups=groups)
