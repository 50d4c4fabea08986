"""Embeddings in two dimensions: support, prototypes and query where they belong."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skmeta.inspection import EmbeddingDisplay
from tests.instances import small
from tests.model_selection.cases import (
    classifier,
    labelled_tasks,
    own_class_tasks,
    own_classifier,
    quick,
    ragged_sinusoids,
)

show = EmbeddingDisplay.from_estimator


def one_task(task=0):
    X, y, groups = labelled_tasks(5, sizes=(20, 20))
    rows = np.flatnonzero(groups == np.unique(groups)[task])
    return X[rows[:8]], y[rows[:8]], X[rows[8:]], y[rows[8:]]


def distances(points):
    return np.linalg.norm(points[:, None] - points, axis=2)


def test_principal_components_of_the_embedding():
    model, (Xs, ys, X, y) = classifier(), one_task()
    before = model.predict_proba(X)
    display = show(model, Xs, ys, X, y)
    rows = np.concatenate([model.transform(Xs), model.transform(X)])
    left, size, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    found = np.concatenate([display.support, display.query])
    # The sign of a component is anybody's choice.
    np.testing.assert_allclose(distances(found), distances(left[:, :2] * size[:2]), atol=1e-8)
    assert f"({size[0] ** 2 / (size**2).sum():.0%})" in display.ax_.get_xlabel()
    np.testing.assert_array_equal(display.support_labels, ys)
    np.testing.assert_array_equal(display.query_labels, y)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert not model.adapted_


def test_prototypes_are_those_of_the_state():
    model, (Xs, ys, X, y) = classifier(), one_task()
    few = ys != "yes"  # of a class that the support lacks, training has a prototype
    display = show(model, Xs[few], ys[few], X, y)
    assert display.prototype_labels.tolist() == ["no", "perhaps", "yes"]
    for point, label in zip(display.prototypes[:2], ["no", "perhaps"], strict=True):
        # Projections are linear, so means stay means.
        np.testing.assert_allclose(point, display.support[ys[few] == label].mean(0), atol=1e-8)
    pca = PCA(2, svd_solver="full").fit(model.transform(np.concatenate([Xs[few], X])))
    state = model.adapt(Xs[few], ys[few]).state_["prototypes"][0].numpy()
    np.testing.assert_allclose(display.prototypes, pca.transform(state), atol=1e-8)


@pytest.mark.parametrize("name", ["MetaSVC", "RidgeHeadClassifier"])
def test_class_means_where_there_are_no_prototypes(name):
    X_old, y_old, groups = labelled_tasks(0)
    model = make_pipeline(StandardScaler(), small(name))
    model.fit(X_old, y_old, **{f"{name.lower()}__groups": groups})
    Xs, ys, X, y = one_task()
    few = ys != "yes"
    display = show(model, Xs[few], ys[few], X, y)
    assert display.prototype_labels.tolist() == ["no", "perhaps"]
    for point, label in zip(display.prototypes, ["no", "perhaps"], strict=True):
        np.testing.assert_allclose(point, display.support[ys[few] == label].mean(0), atol=1e-8)
    assert "mean of the support" in [t.get_text() for t in display.legend_.get_texts()]


def test_classes_of_a_tasks_own():
    X, y, groups = own_class_tasks(9)
    rows = np.flatnonzero(groups == np.unique(groups)[1])
    model = own_classifier()
    display = show(model, X[rows[:12]], y[rows[:12]], X[rows[12:]])
    assert display.prototype_labels.tolist() == np.unique(y[rows]).tolist()
    for point, label in zip(display.prototypes, display.prototype_labels, strict=True):
        expected = display.support[y[rows[:12]] == label].mean(0)
        np.testing.assert_allclose(point, expected, atol=1e-8)
    answers = model.adapt(X[rows[:12]], y[rows[:12]]).predict(X[rows[12:]])
    np.testing.assert_array_equal(display.query_labels, answers)
    assert display.predicted
    assert "Class (query: predicted)" in [t.get_text() for t in display.legend_.get_texts()]


@pytest.mark.parametrize("width", [1, 2])
def test_few_dimensions_are_shown_as_they_are(width):
    X_old, y_old, groups = labelled_tasks(0)
    model = quick("ProtoNetClassifier", hidden_layer_sizes=(8, width))
    model.fit(X_old, y_old, groups=groups)
    Xs, ys, X, y = one_task()
    display = show(model, Xs, ys, X, y)
    np.testing.assert_array_equal(display.support[:, :width], model.transform(Xs))
    np.testing.assert_array_equal(display.query[:, :width], model.transform(X))
    assert (display.query[:, width:] == 0).all()


def test_reducers():
    model, (Xs, ys, X, y) = classifier(), one_task()
    reducer = PCA(2, whiten=True)
    display = show(model, Xs, ys, X, y, reducer=reducer)
    assert not hasattr(reducer, "components_")  # a copy was fitted
    expected = PCA(2, whiten=True).fit(model.transform(np.concatenate([Xs, X])))
    np.testing.assert_allclose(display.query, expected.transform(model.transform(X)), atol=1e-8)
    assert display.ax_.get_xlabel() == "PCA 1"
    # Without transform all points are placed together.
    placed = show(model, Xs, ys, X, y, reducer=TSNE(perplexity=3, max_iter=250, random_state=0))
    assert placed.query.shape == X[:, :2].shape and placed.prototypes.shape == (3, 2)
    with pytest.raises(ValueError, match=r"two columns, got an array of shape \(.*, 3\)"):
        show(model, Xs, ys, X, y, reducer=PCA(3))
    with pytest.raises(ValueError, match="two columns"):
        show(model, Xs, ys, X, y, reducer=FunctionTransformer())
    with pytest.raises(ValueError, match="must be a transformer, got Ridge"):
        show(model, Xs, ys, X, y, reducer=Ridge())


def test_colours_markers_and_legend(ax):
    model, (Xs, ys, X, y) = classifier(), one_task()
    display = show(model, Xs, ys, X, y, ax=ax, query_kw={"s": 7})
    assert display.ax_ is ax and display.figure_ is ax.figure and len(plt.get_fignums()) == 1
    texts = [t.get_text() for t in display.legend_.get_texts() if t.get_text()]
    assert texts == ["support", "prototype", "query", "Class", "no", "perhaps", "yes"]
    colours = {}
    for points, labels in (
        (display.support_, ys), (display.query_, y), (display.prototypes_, display.prototype_labels)
    ):  # fmt: skip
        for colour, label in zip(points.get_facecolors(), labels, strict=True):
            colours.setdefault(label, set()).add(tuple(colour[:3]))
    assert {len(found) for found in colours.values()} == {1}
    assert len(set.union(*colours.values())) == 3
    np.testing.assert_array_equal(display.support_.get_offsets(), display.support)
    np.testing.assert_array_equal(display.query_.get_offsets(), display.query)
    assert display.query_.get_sizes().tolist() == [7]
    assert display.colorbar_ is None
    assert ax.get_aspect() == 1  # distances can be seen


def test_many_classes_are_named_at_their_prototypes():
    rng = np.random.default_rng(0)
    labels = np.array([f"class {i:02d}" for i in range(14)])
    display = EmbeddingDisplay(
        support=rng.normal(size=(14, 2)), support_labels=labels,
        query=rng.normal(size=(14, 2)), query_labels=labels,
        prototypes=rng.normal(size=(14, 2)), prototype_labels=labels,
    ).plot()  # fmt: skip
    assert [text.get_text() for text in display.ax_.texts] == labels.tolist()
    assert [t.get_text() for t in display.legend_.get_texts()] == ["support", "prototype", "query"]
    assert len(np.unique(display.support_.get_facecolors(), axis=0)) == 14


@pytest.mark.parametrize("n_outputs", [None, 2])
def test_targets_that_are_numbers(n_outputs):
    X, y, groups = ragged_sinusoids(0, n_outputs)
    model = small("RidgeHeadRegressor").fit(X, y, groups=groups)
    display = show(model, X[:5], y[:5], X[5:15])
    assert display.prototypes is None and display.prototypes_ is None
    first = y if n_outputs is None else y[:, 0]
    np.testing.assert_array_equal(display.support_.get_array(), first[:5])
    assert display.support_.get_clim() == display.query_.get_clim()
    assert "predicted" in display.colorbar_.ax.get_ylabel()
    assert [t.get_text() for t in display.legend_.get_texts()] == ["support", "query"]


def test_refuses_what_has_no_embedding():
    X, y, groups = ragged_sinusoids(0)
    mixed = small("HierarchicalRidge").fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="learns no embedding"):
        show(mixed, X[:5], y[:5], X[5:9])
    with pytest.raises(ValueError, match="learns no embedding"):
        show(PCA(1).fit(X), X[:5], y[:5], X[5:9])
    model, (Xs, ys, X, y) = classifier(), one_task()
    with pytest.raises(ValueError, match=r"y has 1 entries"):
        show(model, Xs, ys, X, y[:1])
    with pytest.raises(ValueError, match=r"y_support has 1 entries"):
        show(model, Xs, ys[:1], X, y)
