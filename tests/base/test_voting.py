"""Committees of scikit-learn's: every member adapts that can."""

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmeta
from skmeta.base._adapt import can_adapt
from skmeta.inspection import AdaptationCurveDisplay, EmbeddingDisplay
from skmeta.model_selection import TaskScorer, compare_tasks, predict_tasks
from tests.base.tasks import alphabets, maml, proto, wards, waves

X, Y, GROUPS = waves()
WORDS = ("sick", "well")


@pytest.fixture(autouse=True)
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def three():
    """Two that adapt, one of them in a pipeline, and one that cannot."""
    members = [
        ("a", maml(random_state=0)),
        ("b", make_pipeline(StandardScaler(), maml(random_state=1))),
        ("out", "drop"),
        ("pooled", Ridge()),
    ]
    return VotingRegressor(members, weights=[1.0, 2.0, 5.0, 1.0])


def test_members_adapt_and_their_mean_is_told():
    model = three().fit(X, Y, groups=GROUPS)
    before = model.predict(X)
    new = skmeta.adapt(model, X[:5], Y[:5])
    a, b, pooled = model.estimators_
    told = [skmeta.adapt(one, X[:5], Y[:5]).predict(X) for one in (a, b)]
    expected = (told[0] + 2 * told[1] + pooled.predict(X)) / 4
    assert_allclose(new.predict(X), expected)
    assert not np.allclose(expected, before)
    assert_allclose(model.predict(X), before)
    assert new.named_estimators_["b"] is new.estimators_[1]
    assert new.named_estimators_["out"] == "drop"
    assert model.named_estimators_["b"] is b


def test_many_tasks_in_one_call_are_those_of_a_loop():
    model = make_pipeline(StandardScaler(), three()).fit(X, Y, groups=GROUPS)
    shown = (np.arange(len(X)) % 10 < 4) & (GROUPS[0] != GROUPS)
    found = predict_tasks(model, X[shown], Y[shown], GROUPS[shown], X, GROUPS)
    for task in np.unique(GROUPS):
        own, rows = task == GROUPS, shown & (task == GROUPS)
        one = skmeta.adapt(model, X[rows], Y[rows]) if rows.any() else model
        assert_allclose(found[own], one.predict(X[own]), rtol=1e-9)


def test_it_is_scored_compared_and_drawn():
    pytest.importorskip("matplotlib")
    scorer = TaskScorer("neg_mean_squared_error", n_repeats=2)
    found = cross_val_score(
        three(), X, Y, cv=GroupKFold(2), scoring=scorer, params={"groups": GROUPS}
    )
    assert np.isfinite(found).all()
    result = compare_tasks(
        {"three": three()}, X, Y, GROUPS, n_support=3, cv=2, baselines="pooled ridge", n_repeats=1
    )
    assert result.table_.set_index("method").loc["three", "kind"] == "yours"
    model = three().fit(X, Y, groups=GROUPS)
    shown = AdaptationCurveDisplay.from_estimator(
        model, X, Y, GROUPS, n_support=(0, 2), n_repeats=1
    )
    assert np.isfinite(shown.means_).all()


def test_labels_of_any_kind_are_voted_on():
    X, words, groups = wards()
    members = [
        ("a", proto(shared_classes=True, random_state=0)),
        ("b", proto(shared_classes=True, random_state=1)),
        ("pooled", LogisticRegression()),
    ]
    model = VotingClassifier(members, voting="soft").fit(X, words, groups=groups)
    new = skmeta.adapt(model, X[:8], words[:8])
    numbers = np.searchsorted(WORDS, words[:8])
    a, b, pooled = model.estimators_
    expected = np.mean(
        [a.adapt(X[:8], numbers).predict_proba(X), b.adapt(X[:8], numbers).predict_proba(X),
         pooled.predict_proba(X)], axis=0,
    )  # fmt: skip
    assert_allclose(new.predict_proba(X), expected)
    assert_array_equal(new.predict(X), np.array(WORDS)[expected.argmax(axis=1)])
    with pytest.raises(ValueError, match="unseen labels"):
        skmeta.adapt(model, X[:2], ["well", "dead"])


def test_classes_of_a_tasks_own_are_not_voted_on():
    X, y, groups = alphabets()
    model = VotingClassifier([("a", proto())], voting="soft").fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="shared_classes=True"):
        skmeta.adapt(model, X[:4], y[:4])


def test_a_committee_of_which_nobody_can_adapt():
    model = VotingRegressor([("a", Ridge())]).fit(X, Y)
    assert not can_adapt(model)
    assert can_adapt(FrozenEstimator(three().fit(X, Y, groups=GROUPS)))
    with pytest.raises(TypeError, match="No member of this VotingRegressor can adapt"):
        skmeta.adapt(model, X[:3], Y[:3])


def test_no_support_row():
    model = three().fit(X, Y, groups=GROUPS)
    with pytest.raises(ValueError, match="at least one support row"):
        skmeta.adapt(model, X[:0], Y[:0])


def test_an_adapted_committee_has_no_curve_and_no_embedding():
    pytest.importorskip("matplotlib")
    model = three().fit(X, Y, groups=GROUPS)
    with pytest.raises(ValueError, match="adapted"):
        AdaptationCurveDisplay.from_estimator(skmeta.adapt(model, X[:4], Y[:4]), X, Y, GROUPS)
    with pytest.raises(ValueError, match="learns no embedding"):
        EmbeddingDisplay.from_estimator(model, X[:4], Y[:4], X)


def test_before_fit():
    for call in (
        lambda: skmeta.adapt(three(), X[:4], Y[:4]),
        lambda: predict_tasks(three(), X[:4], Y[:4], GROUPS[:4], X, GROUPS),
    ):
        with pytest.raises(NotFittedError):
            call()
