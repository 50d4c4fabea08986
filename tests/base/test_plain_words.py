"""What cannot be learned from is refused, or warned of, in words that name the cause."""

import numpy as np
import pytest
from sklearn.base import is_classifier

from skmeta import HierarchicalRidge
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection import cross_validate_tasks
from tests.instances import estimator_names, reconstructor_names, small

NAMES = [name for name in estimator_names() if name not in reconstructor_names()]
CLASSIFIERS = [name for name in NAMES if is_classifier(small(name))]
REGRESSORS = [name for name in NAMES if name not in CLASSIFIERS]
SHARED_ALONE = ["AutoMetaClassifier", "HierarchicalGPClassifier", "HierarchicalLogisticRegression"]


def tasks():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 6)
    return rng.normal(size=(72, 2)), rng.normal(size=72), groups


@pytest.mark.parametrize("name", REGRESSORS)
@pytest.mark.parametrize("kind", ["m8[D]", "M8[s]"])
def test_dates_and_durations_are_no_numbers(name, kind):
    """scikit-learn makes -9.2e18 of one that is missing."""
    X, y, groups = tasks()
    odd = (1000 * y).astype(int).astype(kind)
    odd[0] = "NaT"
    with pytest.raises(ValueError, match="y holds dates or durations"):
        small(name).fit(X, odd, groups=groups)
    with pytest.raises(ValueError, match="X holds dates or durations"):
        small(name).fit(odd[:, None], y, groups=groups)


@pytest.mark.parametrize("name", ["HierarchicalRidge", "AutoMetaRegressor", "MAMLRegressor"])
def test_dates_are_refused_at_adapt_and_predict_too(name):
    X, y, groups = tasks()
    model = small(name).fit(X, y, groups=groups)
    odd = X.astype(int).astype("M8[D]")
    for call in (lambda: model.adapt(odd, y), lambda: model.predict(odd)):
        with pytest.raises(ValueError, match="X holds dates or durations"):
            call()
    with pytest.raises(ValueError, match="y holds dates or durations"):
        model.adapt(X, y.astype("m8[s]"))


def test_frames_and_series_of_numbers_pass():
    pd = pytest.importorskip("pandas")
    X, y, groups = tasks()
    HierarchicalRidge().fit(pd.DataFrame(X), pd.Series(y), groups=groups).predict(pd.DataFrame(X))
    HierarchicalRidge().fit(X.tolist(), y.tolist(), groups=groups).predict(X.tolist())


def test_dates_in_lists_series_and_frames_are_refused():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    X, y, groups = tasks()
    days = (1000 * y).astype(int).astype("M8[D]")
    model = HierarchicalRidge()
    for odd in (list(days), pd.Series(days), pl.Series(days)):
        with pytest.raises(ValueError, match="y holds dates or durations"):
            model.fit(X, odd, groups=groups)
    for odd in (pd.DataFrame({"a": days, "b": days - days[0]}), pl.DataFrame({"a": days})):
        with pytest.raises(ValueError, match=r"columns that are not numbers: \['a'"):
            model.fit(odd, y, groups=groups)
    with pytest.raises(ValueError, match="X holds dates or durations"):
        model.fit([[day] for day in days], y, groups=groups)
    labels = np.where(y > 0, days[0], np.datetime64("NaT"))
    with pytest.raises(ValueError, match="missing labels"):
        small("MetaSVC").fit(X, labels, groups=groups)


@pytest.mark.parametrize("name", SHARED_ALONE)
def test_labels_that_no_two_tasks_share_are_refused(name):
    X, y, groups = tasks()
    own = np.where(y > 0, "a", "b").astype(object) + groups.astype(str)
    with pytest.raises(ValueError, match=r"No label occurs in two tasks.*ProtoNetClassifier"):
        small(name).fit(X, own, groups=groups)
    own[groups == 1] = own[groups == 0]  # two tasks that share theirs are enough to begin with
    if name != "AutoMetaClassifier":  # which has to judge by tasks left out
        small(name).fit(X, own, groups=groups)


@pytest.mark.parametrize("name", SHARED_ALONE)
@pytest.mark.parametrize("labels", [["ab", "cd", "abcd"], ["a", "b", "ab"], ["a", "b", "ab", "a"]])
def test_labels_that_only_some_tasks_share_are_not(name, labels):
    """Nor where those that share them are left out, and the others are all that a member sees."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(len(labels)), 8)
    y = np.array([label for own in labels for label in (own * 8)[:8]])
    model = small(name).fit(rng.normal(size=(len(y), 2)), y, groups=groups)
    assert model.classes_.tolist() == sorted(set(y))


# The prototypical net needs two classes in a task, and says so.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "ProtoNetClassifier"])
def test_tasks_of_one_row_lack_a_second(name):
    X, y, _ = tasks()
    y = y > 0 if name in CLASSIFIERS else y
    with pytest.raises(ValueError, match="Every task has a single row"):
        small(name).fit(X, y, groups=np.arange(len(y)))


def test_one_task_is_told_from_no_groups():
    X, y, groups = tasks()
    with pytest.warns(SingleTaskWarning, match="All rows have the same id in groups"):
        HierarchicalRidge().fit(X, y, groups=np.zeros(len(y)))
    with pytest.warns(SingleTaskWarning, match="Pass groups="):
        HierarchicalRidge().fit(X, y)
    two = groups < 2
    with pytest.warns(SingleTaskWarning, match="there must be three or more") as found:
        cross_validate_tasks(HierarchicalRidge(), X[two], y[two], groups[two], n_support=1)
    assert not any("Pass groups=" in str(w.message) for w in found)
