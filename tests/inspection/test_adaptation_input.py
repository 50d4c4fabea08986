"""Adaptation curves: what is left out, and what is refused, in words."""

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skmeta.exceptions import SkippedTaskWarning
from skmeta.inspection import AdaptationCurveDisplay
from tests.inspection.cases import held_out, mixed_model
from tests.instances import small
from tests.model_selection.cases import (
    classifier,
    labelled_tasks,
    own_class_tasks,
    own_classifier,
)

curve = AdaptationCurveDisplay.from_estimator


def test_undefined_metrics_are_counted():
    model = classifier(("no", "yes"))
    X, y, groups = labelled_tasks(3, labels=("no", "yes"))
    first = np.unique(groups)[0]
    y = np.where(groups == first, "no", y)
    with pytest.warns(SkippedTaskWarning, match="undefined for 1 of 7") as caught:
        display = curve(
            model, X, y, groups, n_support=(0, 1), n_repeats=1, scoring="roc_auc", baselines={}
        )
    assert [w.filename for w in caught] == [__file__] * 2
    assert display.n_tasks_.tolist() == [6, 6]
    rows = groups == np.unique(groups)[3]
    expected = roc_auc_score(y[rows], model.predict_proba(X[rows])[:, 1])
    np.testing.assert_allclose(display.scores[0, 0, 3], expected)


def test_a_k_that_no_task_has_rows_for():
    model, (X, y, groups) = mixed_model(), held_out()
    with pytest.warns(SkippedTaskWarning, match="k = 14: it is left out"):
        display = curve(model, X, y, groups, n_support=(0, 14), n_repeats=1)
    assert display.n_tasks_.tolist() == [7, 0]
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["0"]
    display.plot(same_tasks=True)
    assert display.n_tasks_.tolist() == [7, 0]
    with pytest.raises(ValueError, match="No task could be scored"):
        curve(model, X, y, groups, n_support=50)


def test_refuses_what_it_cannot_draw():
    model, (X, y, groups) = mixed_model(), held_out()

    def refused(match, estimator=model, y=y, groups=groups, **kwargs):
        with pytest.raises(ValueError, match=match):
            curve(estimator, X, y, groups, **{"n_repeats": 1, "n_support": 2, **kwargs})

    refused("is not fitted", small("HierarchicalRidge"))
    refused("cannot adapt", Ridge().fit(X, y))
    refused("adapted to a task", model.adapt(X[:5], y[:5]))
    refused("groups is missing", groups=None)
    refused("entries for", y=y[1:])
    refused("numbers of rows", n_support=-1)
    refused("n_repeats", n_repeats=0)
    refused("for a regressor use n_support", n_shot=1)
    refused("must be a dict", baselines=[Ridge()])
    refused("has the name", name="mine", baselines={"mine": Ridge()})
    refused("a classifier", baselines={"odd": LogisticRegression()})
    refused("'mine' is not fitted", baselines={"mine": small("HierarchicalRidge")})
    wrapped = TransformedTargetRegressor(make_pipeline(small("HierarchicalRidge")))
    refused("'mine' is not fitted", baselines={"mine": wrapped})
    refused("adapted to a task", baselines={"mine": model.adapt(X[:5], y[:5])})
    refused("pair of quantiles", band=(0.9, 0.1))
    refused("pair of quantiles", band="all")
    refused("'tiny' failed in scoring at k = 2", baselines={"tiny": Ridge(alpha=-1)})


def test_refuses_labels_that_do_not_fit():
    X, y, groups = labelled_tasks(5)
    model = classifier()

    def refused(match, estimator=model, y=y, **kwargs):
        with pytest.raises(ValueError, match=match):
            curve(estimator, X, y, groups, **{"n_repeats": 1, "n_support": 2, **kwargs})

    refused("has not seen", y=np.where(y == "no", "never", y))
    refused("other classes", baselines={"odd": DummyClassifier().fit(X, np.roll(y, 1) == "no")})
    refused("rows a class", n_shot=0)
    refused("which it does not have", baselines={"svm": LinearSVC()})
    X, y, groups = own_class_tasks(7)
    refused("n_shot=", own_classifier(), y=y)
    refused("Pass it unfitted", own_classifier(), y=y, n_shot=1, baselines={
        "pooled": DummyClassifier().fit(X, y)
    })  # fmt: skip


def test_the_shape_of_scores_is_checked():
    with pytest.raises(ValueError, match="one line a name"):
        AdaptationCurveDisplay(n_support=[1], scores=np.zeros((2, 1, 3)), names=["a"])
    display = AdaptationCurveDisplay(
        n_support=[1, 2], scores=[[[1, np.nan], [np.nan, 1]]], names=["a"]
    )
    with pytest.raises(ValueError, match="No task has a score at every k"):
        display.plot(same_tasks=True)
