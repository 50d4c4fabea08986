"""The edge-case table, first part: one task, and what a label means."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skmeta.base._rows import TaskBatch
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection import predict_tasks
from tests.base.tasks import alphabets, finite, maml, proto, wards, waves


@pytest.fixture(scope="module")
def shared():
    X, y, groups = wards()
    return proto(max_epochs=3).fit(X, y, groups=groups)


@pytest.fixture(scope="module")
def local():
    X, y, groups = alphabets()
    return proto(max_epochs=3).fit(X, y, groups=groups)


# ---- regressor, fit without groups or with one distinct id


@pytest.mark.parametrize("ids", [None, 7, "a"])
def test_regressor_one_task_is_an_ordinary_fitted_model(ids):
    X, y, _ = waves()
    X, y = X[:10], y[:10]
    groups = None if ids is None else np.full(len(X), ids)
    text = "groups=.*enable_metadata_routing" if ids is None else "same id in groups"
    with pytest.warns(SingleTaskWarning, match=text) as record:
        model = maml(max_epochs=10).fit(X, y, groups=groups)
    assert len(record) == 1
    assert record[0].filename == __file__  # points at the user's line, not at ours
    assert model.n_tasks_ == 1 and model.adapted_
    assert model.score(X, y) > 0.9


# ---- what a label means: shared_classes


def one_label_in_common():
    X, y, groups = alphabets()
    y = y.astype("<U6")
    y[y == "1a"] = "common"
    y[y == "2a"] = "common"
    return X, y, groups


@pytest.mark.parametrize(
    ("given", "data", "expected"),
    [
        ("auto", wards, True),
        ("auto", alphabets, False),
        ("auto", one_label_in_common, True),
        (True, wards, True),
        (True, alphabets, True),
        (False, wards, False),
        (False, alphabets, False),
        (np.bool_(False), wards, False),
    ],
)
def test_shared_classes_with_groups(given, data, expected):
    X, y, groups = data()
    model = proto(shared_classes=given).fit(X, y, groups=groups)
    assert model.shared_classes_ is expected
    assert_array_equal(model.classes_, np.unique(y))
    assert_array_equal(model.prior_classes_, np.unique(y))
    assert model.shared_classes == given


def test_shared_classes_auto_without_groups_and_three_classes_is_few_shot_without_a_warning():
    X, y, _ = alphabets(n_tasks=1)
    assert proto().fit(X, y).shared_classes_ is False


@pytest.mark.parametrize("n_classes", [2, 3])
def test_shared_classes_auto_with_one_distinct_id_is_one_task(n_classes):
    X, y, groups = alphabets(n_tasks=1, n_classes=n_classes)
    with pytest.warns(SingleTaskWarning):
        model = proto(max_epochs=3).fit(X, y, groups=groups)
    assert model.shared_classes_ and model.n_tasks_ == 1
    assert model.score(X, y) > 0.9


def test_classifier_without_groups_and_two_classes_is_one_task():
    X, y, _ = alphabets(n_tasks=1, n_classes=2)
    with pytest.warns(SingleTaskWarning) as record:
        model = proto(max_epochs=3).fit(X, y)
    assert record[0].filename == __file__
    assert model.shared_classes_ and model.adapted_
    assert model.score(X, y) > 0.9


def test_shared_classes_true_without_groups_and_three_classes_is_one_task():
    X, y, _ = alphabets(n_tasks=1)
    with pytest.warns(SingleTaskWarning):
        model = proto(shared_classes=True).fit(X, y)
    assert model.shared_classes_
    with pytest.raises(ValueError, match="Unknown label"):
        model.adapt(X[:2], ["new", "new"])


# ---- shared classes


def test_shared_classes_stay_after_a_support_of_one_class(shared):
    X, y, _ = wards()
    rows = np.flatnonzero(y == "sick")[:5]
    new = shared.adapt(X[rows], y[rows])
    assert_array_equal(new.classes_, ["sick", "well"])
    proba = new.predict_proba(X)
    assert proba.shape == (len(X), 2)
    # The class without a support row keeps what fit learned: it can still be the answer.
    assert 0 < np.mean(new.predict(X) == "well") < 1
    assert_array_equal(new.state_["prototypes"][0, 1], shared.state_["prototypes"][0, 1])


def test_shared_classes_refuse_an_unknown_label_by_name(shared):
    X, _, _ = wards()
    with pytest.raises(ValueError, match=r"Unknown label\(s\) \['dead'\].*shared_classes=False"):
        shared.adapt(X[:3], ["sick", "dead", "well"])
    with pytest.raises(ValueError, match=r"Unknown label\(s\) \[0, 1\]"):
        shared.adapt(X[:2], [0, 1])


# ---- task-specific classes


def test_task_specific_classes_come_from_the_support(local):
    X, y, _ = alphabets(n_tasks=1, n_classes=5, seed=1)
    support = np.arange(len(X)) % 4 == 0
    names = np.char.add("new-", y)
    new = local.adapt(X[support], names[support])
    assert_array_equal(new.classes_, np.unique(names))
    assert new.predict_proba(X).shape == (len(X), 5)
    assert new.score(X[~support], names[~support]) > 0.9
    assert len(local.classes_) == 18  # the estimator that fit gave is left as it was


def test_task_specific_one_class_support_gives_one_column(local):
    X, y, _ = alphabets()
    new = local.adapt(X[:3], y[:3])
    assert_array_equal(new.classes_, y[:1])
    assert_array_equal(new.predict_proba(X), np.ones((len(X), 1)))
    assert_array_equal(new.predict(X), np.full(len(X), y[0]))
    assert finite(new.decision_function(X))


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["x", "y", "z"]),
        np.array([7, -3, 10**12]),
        np.array([2.0, 5.0, 9.0]),
        np.array([True, False, True]),
        np.array(["x", "a much longer label", "z"], dtype=object),
        np.array([3, 4, 5], dtype=np.uint8),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_task_specific_unseen_labels_of_any_type(local, labels):
    X, _, _ = alphabets(n_tasks=1, seed=1)
    y = np.repeat(labels, 8)
    if labels.dtype == bool:
        X, y = X[:16], y[:16]
    support = np.arange(len(X)) % 2 == 0
    new = local.adapt(X[support], y[support])
    assert new.classes_.dtype == labels.dtype
    predicted = new.predict(X[~support])
    assert predicted.dtype == labels.dtype
    assert np.mean(predicted == y[~support]) > 0.9


def test_task_specific_ways_are_drawn_inside_one_task(monkeypatch):
    sampler = spy_on_samplers(monkeypatch)
    X, y, groups = alphabets()
    model = proto().fit(np.column_stack([X, groups]), y, groups=groups)
    episodes = sampler().draw(sampler().eligible.repeat(20), generator())
    task = np.rint(episodes.support.x[:, -1].numpy() * model.x_scale_[-1] + model.x_mean_[-1])
    for part in np.split(task, episodes.support.offsets[1:-1].numpy()):
        assert len(set(part)) == 1


def test_task_specific_many_classes_in_a_small_support_give_no_warning(local):
    # scikit-learn takes more than 20 rows with nearly as many labels for a regression problem.
    X, y, _ = alphabets(n_tasks=1, n_classes=8, n_rows=3, seed=1)
    names = [f"{label}{i}" for i, label in enumerate(y)]
    assert len(local.adapt(X, names).classes_) == 24


def test_task_specific_labels_of_another_type_beside_tasks_without_support(local):
    X, _, groups = alphabets()
    with pytest.raises(ValueError, match=r"labels of one type"):
        predict_tasks(local, X[:4], [1, 1, 2, 2], groups[:4], X, groups)
    # Where every task has support, fit's labels play no part.
    assert set(predict_tasks(local, X[:4], [1, 1, 2, 2], groups[:4], X[:8], groups[:8])) <= {1, 2}


@pytest.mark.parametrize("factor", [1, 1e6, 1e12, 1e18, 1e30])
def test_task_specific_rows_far_away_never_get_a_class_of_another_task(local, factor):
    X, y, groups = alphabets()
    far, text = X * factor, ""
    try:
        predicted = predict_tasks(local, X, y, groups, far, groups)
    except ValueError as error:
        text = str(error)
    if not text:
        assert [label[0] for label in predicted] == [label[0] for label in y]
    assert factor > 1e12 or not text
    assert not text or "far outside the training rows" in text


# ---- classifier, fit without groups, three or more classes: N-way K-shot


def test_without_groups_predict_knows_all_training_classes():
    X, y, _ = alphabets(n_tasks=4)
    model = proto(max_epochs=3, n_way=5).fit(X, y)
    assert_array_equal(model.classes_, np.unique(y))
    assert model.predict_proba(X).shape == (len(X), 12)
    assert model.score(X, y) > 0.9
    X_new, y_new, _ = alphabets(n_tasks=1, seed=3)
    support = np.arange(len(X_new)) % 4 == 0
    new = model.adapt(X_new[support], y_new[support])
    assert_array_equal(new.classes_, np.unique(y_new))
    assert new.score(X_new[~support], y_new[~support]) > 0.9


def test_without_groups_episodes_draw_classes(monkeypatch):
    sampler = spy_on_samplers(monkeypatch)
    X, y, _ = alphabets(n_tasks=4)
    proto(n_way=5, n_shot=2, n_query=3).fit(X, y)
    episodes = sampler().draw(sampler().eligible.repeat(50), generator())
    assert_array_equal(episodes.support.sizes, 5 * 2)
    assert_array_equal(episodes.query.sizes, 5 * 3)


# ---- fit with one class


@pytest.mark.parametrize("groups", [None, np.arange(10) % 2])
def test_fit_with_one_class(groups):
    X = np.arange(10.0)[:, None]
    with pytest.raises(ValueError, match=r"only one class, 'a'"):
        proto().fit(X, ["a"] * 10, groups=groups)


# ---- fitting an adapted estimator anew


@pytest.mark.parametrize("many", [False, True])
def test_an_adapted_classifier_can_be_fitted_anew(local, many):
    X, y, groups = alphabets()
    batch = TaskBatch(np.zeros(5, dtype=np.int64), np.zeros(len(X), dtype=np.int64), 1)
    extra = {"_batch": batch} if many else {}
    again = local.adapt(X[:5], y[:5], **extra).fit(X, y, groups=groups)
    assert_array_equal(again.predict_proba(X), local.predict_proba(X))
    assert_array_equal(again.adapt(X[:9], y[:9]).predict(X), local.adapt(X[:9], y[:9]).predict(X))


# ---- helpers


def spy_on_samplers(monkeypatch):
    """Function that gives the sampler of training episodes of the last fit."""
    import skmeta.training

    seen, train = [], skmeta.training.train

    def spy(learner, sampler, *args, **kwargs):
        seen.append(sampler)
        return train(learner, sampler, *args, **kwargs)

    monkeypatch.setattr(skmeta.training, "train", spy)
    return lambda: seen[-1]


def generator():
    import torch

    return torch.Generator().manual_seed(0)
