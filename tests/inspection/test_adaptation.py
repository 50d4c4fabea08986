"""Adaptation curves: scores as a slow loop gives them, the same rows for all, no ids."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_absolute_error, r2_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmeta
from skmeta.inspection import AdaptationCurveDisplay
from skmeta.model_selection._verdict import bootstrap_means
from tests.inspection.cases import held_out, mixed_model
from tests.instances import small
from tests.model_selection.cases import (
    SIZES,
    MeanRegressor,
    classifier,
    labelled_tasks,
    own_class_tasks,
    own_classifier,
)
from tests.model_selection.compare_cases import tasks

KS = (0, 1, 2, 5, 9)
curve = AdaptationCurveDisplay.from_estimator


def naive(answer, score, X, y, groups, ks, n_repeats, *, cells=None, needed=None, random_state=0):
    """Scores (k, task), by loops: ``answer(support, query)`` predicts."""
    needed = needed or (lambda rows, k: len(rows) >= k + 2)
    seed = np.random.RandomState(random_state).randint(np.iinfo(np.int32).max)
    result = np.full((len(ks), len(np.unique(groups))), np.nan)
    for i, k in enumerate(ks):
        repeats = n_repeats if k else 1
        keys = np.random.RandomState(seed).random_sample((repeats, len(y)))
        for t, task in enumerate(np.unique(groups)):
            rows = np.flatnonzero(groups == task)
            if not needed(rows, k):
                continue
            values = []
            for key in keys:
                support = []
                for cell in [rows] if cells is None else cells(rows):
                    support += cell[np.argsort(key[cell])][:k].tolist()
                query = np.setdiff1d(rows, support)
                values.append(score(y[query], answer(np.array(support, dtype=int), query)))
            values = np.array(values)
            if not np.isnan(values).all():
                result[i, t] = np.nanmean(values)
    return result


# ------------------------------------------------------------------- numbers


def test_scores_are_those_of_a_loop():
    model, (X, y, groups) = mixed_model(), held_out()
    pooled = Ridge().fit(X[:20], y[:20])
    display = curve(
        model, X, y, groups, n_support=KS, n_repeats=3,
        baselines={"pooled": pooled, "alone": Ridge(3.0)},
    )  # fmt: skip

    def adapted(support, query):
        one = skmeta.adapt(model, X[support], y[support]) if len(support) else model
        return one.predict(X[query])

    def alone(support, query):
        if len(support) == 0:
            return np.full(len(query), np.nan)
        return Ridge(3.0).fit(X[support], y[support]).predict(X[query])

    def score(y_true, y_pred):
        return ((y_true - y_pred) ** 2).mean() / y.var()

    answers = [adapted, lambda support, query: pooled.predict(X[query]), alone]
    for found, answer in zip(display.scores, answers, strict=True):
        np.testing.assert_allclose(found, naive(answer, score, X, y, groups, KS, 3), rtol=1e-9)
    assert display.names == ["HierarchicalRidge", "pooled", "alone"]
    assert display.is_baseline.tolist() == [False, True, True]
    assert display.n_support.tolist() == list(KS)
    # Not fitted: nothing to say before the first row.
    assert np.isnan(display.means_[2, 0]) and np.isfinite(display.means_[2, 1:]).all()


def test_means_band_and_counts():
    model, (X, y, groups) = mixed_model(), held_out()
    display = curve(model, X, y, groups, n_support=KS, n_repeats=2)
    sizes = np.array(SIZES)
    for k, n in enumerate(KS):
        values = display.scores[0, k]
        scored = np.isfinite(values)
        assert scored.sum() == (sizes >= n + 2).sum() == display.n_tasks_[k]
        np.testing.assert_allclose(display.means_[0, k], values[scored].mean())
        low, high = bootstrap_means(values[None, scored])
        np.testing.assert_allclose([display.low_[0, k], display.high_[0, k]], [low[0], high[0]])
    x, mean = display.lines_[0].get_data()
    np.testing.assert_array_equal(x, KS)
    np.testing.assert_array_equal(mean, display.means_[0])

    quantiles = display.plot(band=(0.25, 0.75))
    assert quantiles is display
    expected = np.nanquantile(display.scores[0], [0.25, 0.75], axis=1)
    np.testing.assert_allclose([display.low_[0], display.high_[0]], expected)
    display.plot(band=None)
    assert np.isnan(display.low_).all() and display.bands_ == [None]

    display.plot(same_tasks=True)
    common = np.isfinite(display.scores[0]).all(axis=0)
    assert 0 < common.sum() < len(SIZES)
    np.testing.assert_allclose(display.means_[0], display.scores[0][:, common].mean(axis=1))
    assert set(display.n_tasks_.tolist()) == {common.sum()}


def test_all_curves_are_over_the_same_tasks():
    scores = np.array([[[1.0, 2, 3]], [[np.nan, 4, 5]]])
    display = AdaptationCurveDisplay(n_support=[1], scores=scores, names=["a", "b"]).plot()
    np.testing.assert_array_equal(display.means_, [[2.5], [4.5]])
    assert display.n_tasks_.tolist() == [2]


def test_one_task_has_no_interval():
    display = AdaptationCurveDisplay(n_support=[0, 2], scores=[[[1.0], [2.0]]], names=["a"]).plot()
    assert np.isnan(display.low_).all() and display.bands_ == [None]
    np.testing.assert_array_equal(display.means_, [[1, 2]])


@pytest.mark.parametrize(
    ("scoring", "score", "sign"),
    [("neg_mean_absolute_error", mean_absolute_error, "lower"), ("r2", r2_score, "higher")],
)
def test_metrics(scoring, score, sign):
    model, (X, y, groups) = mixed_model(), held_out()
    display = curve(model, X, y, groups, n_support=(1, 5), n_repeats=2, scoring=scoring)

    def adapted(support, query):
        return model.adapt(X[support], y[support]).predict(X[query])

    expected = naive(adapted, score, X, y, groups, (1, 5), 2)
    np.testing.assert_allclose(display.scores[0], expected, rtol=1e-9)
    assert sign in display.ax_.get_ylabel()


def test_classes_that_tasks_share():
    model, (X, y, groups) = classifier(), labelled_tasks(5)
    pooled = DummyClassifier().fit(X, y)
    single = LogisticRegression()
    display = curve(
        model, X, y, groups, n_support=(0, 1, 3), n_repeats=3,
        baselines={"pooled": pooled, "alone": single},
    )  # fmt: skip
    labels = model.classes_

    def adapted(support, query):
        one = model.adapt(X[support], y[support]) if len(support) else model
        return one.predict_proba(X[query])

    def alone(support, query):
        if len(support) == 0:
            return None
        values = np.zeros((len(query), 3))
        known = np.unique(y[support])
        if len(known) == 1:  # no logistic regression is needed to know
            values[:, labels == known[0]] = 1
        else:
            one = clone(single).fit(X[support], y[support])
            values[:, np.isin(labels, known)] = one.predict_proba(X[query])
        return values

    def score(y_true, values):
        if values is None:
            return np.nan
        return log_loss(y_true, values.clip(1e-6), labels=labels)

    def clipped(y_true, values):
        if values is None:
            return np.nan
        chosen = values[np.arange(len(y_true)), np.searchsorted(labels, y_true)]
        return -np.log(chosen.clip(1e-6)).mean()

    answers = [adapted, lambda support, query: pooled.predict_proba(X[query]), alone]
    for found, answer in zip(display.scores, answers, strict=True):
        expected = naive(answer, clipped, X, y, groups, (0, 1, 3), 3)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(
        display.scores[0], naive(adapted, score, X, y, groups, (0, 1, 3), 3), rtol=1e-5
    )
    assert "log loss" in display.ax_.get_ylabel()


def test_rows_a_class():
    model, (X, y, groups) = classifier(), labelled_tasks(5)
    display = curve(model, X, y, groups, n_shot=(1, 2), n_repeats=3, scoring="accuracy")

    def cells(rows):
        return [rows[y[rows] == label] for label in np.unique(y[rows])]

    expected = naive(
        lambda support, query: model.adapt(X[support], y[support]).predict(X[query]),
        lambda a, b: (a == b).mean(), X, y, groups, (1, 2), 3,
        cells=cells, needed=lambda rows, k: min(map(len, cells(rows))) >= k + 1,
    )  # fmt: skip
    assert 0 < np.isfinite(expected[1]).sum() < len(SIZES)
    np.testing.assert_allclose(display.scores[0], expected)
    assert "a class" in display.ax_.get_xlabel()


@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_classes_of_a_tasks_own(scoring):
    model, (X, y, groups) = own_classifier(), own_class_tasks(7)
    nearest = KNeighborsClassifier(1)
    display = curve(
        model, X, y, groups, n_shot=(1, 4), n_repeats=3, scoring=scoring,
        baselines={"nearest": nearest},
    )  # fmt: skip

    def answers(fit):
        verb = "predict" if scoring is None else "predict_proba"

        def answer(support, query):
            one = fit(support)
            return getattr(one, verb)(X[query]), one.classes_

        return answer

    def score(y_true, answer):
        values, classes = answer
        if scoring is None:
            return (values == y_true).mean()
        return log_loss(y_true, values, labels=classes)

    def cells(rows):
        return [rows[y[rows] == label] for label in np.unique(y[rows])]

    fits = [
        lambda support: model.adapt(X[support], y[support]),
        lambda support: clone(nearest).fit(X[support], y[support]),
    ]
    for found, fit in zip(display.scores, fits, strict=True):
        expected = naive(answers(fit), score, X, y, groups, (1, 4), 3, cells=cells)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isfinite(display.scores).all()


def test_wrappers_frames_and_other_libraries():
    pd = pytest.importorskip("pandas")
    X, y, groups = held_out()
    frame = pd.DataFrame(X, columns=["x"])
    X_old, y_old, old = tasks(0, (20,) * 6)
    frame_old = pd.DataFrame(X_old[:, 1:], columns=["x"])
    plain = small("HierarchicalRidge").fit(frame_old, y_old, groups=old)
    pipe = make_pipeline(StandardScaler(), small("HierarchicalRidge"))
    pipe.fit(frame_old, y_old, hierarchicalridge__groups=old)
    mean = MeanRegressor().fit(frame_old, y_old)
    scaled = TransformedTargetRegressor(Ridge(1e-9), transformer=StandardScaler())
    kwargs = {"n_support": (2, 4), "n_repeats": 2}
    display = curve(
        pipe, frame, y, groups, baselines={"mean": mean, "alone": scaled}, **kwargs
    )  # fmt: skip
    assert display.names[0] == "HierarchicalRidge"  # what is at the heart of the pipeline
    alone = curve(plain, frame, y, groups, baselines={"alone": Ridge(1e-9)}, **kwargs)
    np.testing.assert_allclose(display.scores[2], alone.scores[1], rtol=1e-4)
    expected = naive(
        lambda support, query: np.full(len(query), y[support].mean()),
        lambda a, b: ((a - b) ** 2).mean() / y.var(), X, y, groups, (2, 4), 2,
    )  # fmt: skip
    np.testing.assert_allclose(display.scores[1], expected)


def test_seeds():
    model, (X, y, groups) = mixed_model(), held_out()
    kwargs = {"n_support": (3,), "n_repeats": 2}
    first = curve(model, X, y, groups, **kwargs)
    again = curve(model, X, y, groups, random_state=0, **kwargs)
    other = curve(model, X, y, groups, random_state=np.random.RandomState(1), **kwargs)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert np.nanmax(np.abs(first.scores - other.scores)) > 1e-6


# ------------------------------------------------------------------- comparisons


def test_from_comparison_shows_its_table():
    pytest.importorskip("pandas")
    X, y, groups = held_out()
    comparison = skmeta.model_selection.compare_tasks(
        {"mixed": small("HierarchicalRidge")}, X, y, groups,
        n_support=(0, 2, 9), cv=3, n_repeats=2, baselines=["pooled ridge"],
    )  # fmt: skip
    display = AdaptationCurveDisplay.from_comparison(comparison)
    assert display.names == ["mixed", "pooled ridge"]
    assert display.is_baseline.tolist() == [False, True]
    for m, name in enumerate(display.names):
        lines = comparison.table_[comparison.table_["method"] == name].sort_values("k")
        np.testing.assert_allclose(display.means_[m], lines["score"])
        np.testing.assert_allclose(display.low_[m], lines["low"])
        np.testing.assert_allclose(display.high_[m], lines["high"])
        np.testing.assert_array_equal(display.n_tasks_, lines["n_tasks"])
    assert comparison.metric_ in display.ax_.get_ylabel()
    with pytest.raises(ValueError, match="result of compare_tasks"):
        AdaptationCurveDisplay.from_comparison(comparison.table_)


# ------------------------------------------------------------------- the figure


def test_draws_on_the_axes_given(ax):
    model, (X, y, groups) = mixed_model(), held_out()
    display = curve(model, X, y, groups, n_support=KS, n_repeats=1, ax=ax, name="mixed")
    assert display.ax_ is ax and display.figure_ is ax.figure
    assert len(plt.get_fignums()) == 1
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mixed"]
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels == ["0\n7", "1\n7", "2\n7", "5\n7", "9\n3"]  # tasks that were large enough
    display.plot(line_kw={"color": "red"}, band_kw={"alpha": 0.5})
    assert display.ax_ is not ax
    assert display.lines_[0].get_color() == "red"
    assert display.bands_[0].get_alpha() == 0.5


def test_everything_drawn_is_inside():
    scores = np.array([[[1.0, 2], [1, 2]], [[50.0, 90], [1, 3]]])
    display = AdaptationCurveDisplay(
        n_support=[0, 20], scores=scores, names=["a", "b"], is_baseline=[False, True]
    ).plot()
    low, high = display.ax_.get_ylim()
    assert low < 1 and high > 90
    left, right = display.ax_.get_xlim()
    assert left < 0 and right > 20


def test_many_curves_and_errors_over_decades():
    scores = np.array([[[100.0, 120], [10, 12], [0.1, 0.2]]] * 6)
    display = AdaptationCurveDisplay(
        n_support=[0, 1, 20], scores=scores, names=list("abcdef"), lower_is_better=True,
        is_baseline=[False, False, True, True, True, True],
    ).plot()  # fmt: skip
    assert display.ax_.get_yscale() == "log" and display.ax_.get_xscale() == "symlog"
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["a", "b", *(f"{name} (baseline)" for name in "cdef")]
    assert len({line.get_color() for line in display.lines_}) == 6


def test_no_id_is_kept_or_drawn(svg):
    model, (X, y, groups) = mixed_model(), held_out()
    ids = np.array([f"SECRET{one}" for one in groups])
    display = curve(model, X, y, ids, n_support=(0, 2), n_repeats=1, name="mixed")
    text = svg(display)
    assert "mixed" in text and "SECRET" not in text
    assert "SECRET" not in repr(vars(display))
