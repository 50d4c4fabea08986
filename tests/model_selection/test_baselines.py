"""The baselines against slow references: what they tune, what they answer, what they take."""

import itertools
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from skmeta.model_selection import _pooled, predict_tasks
from skmeta.model_selection._baselines import (
    CLASSIFICATION,
    REGRESSION,
    ClassifierBaseline,
    RegressorBaseline,
    choose_baselines,
    make_baseline,
)
from skmeta.model_selection._draws import draw_repeats
from skmeta.model_selection._pooled import fit_pooled
from skmeta.model_selection._shots import MOST_REPEATS, fit_tasks, solve_logistic
from tests.model_selection.cases import labelled_tasks

N_ROWS = 9
PENALTIES = RegressorBaseline._penalties


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr(_pooled, "ROUNDS_A_STAGE", 3)


def offset_tasks(n_tasks=8, random_state=0, spread=2.0, n_outputs=None):
    """A line that all tasks share, offsets of their own; rows shuffled together."""
    rng = np.random.default_rng(random_state)
    groups = rng.permutation(np.repeat(np.arange(n_tasks), N_ROWS))
    X = rng.normal(3.0, 2.0, size=(len(groups), 2))
    y = X @ [1.0, -0.5] + spread * rng.normal(size=n_tasks)[groups]
    y = y + 0.5 * rng.normal(size=len(y))
    return X, y if n_outputs is None else np.column_stack([y, X[:, 0] - y]), groups


def standardised(X, y):
    return StandardScaler().fit_transform(X), (y - y.mean()) / y.std()


def by_task(loss, numbers):
    return np.mean([loss[numbers == task].mean() for task in np.unique(numbers)])


def naive_ridge(Z, Y, numbers):
    """Scikit-learn's ridge with the penalty that is best on tasks left out."""
    best = None
    for alpha in _pooled.RIDGE_PENALTIES:
        out = np.empty(len(Y))
        for rest, held in GroupKFold(5).split(Z, groups=numbers):
            out[held] = Ridge(alpha=alpha).fit(Z[rest], Y[rest]).predict(Z[held])
        loss = by_task((Y - out) ** 2, numbers)
        if best is None or loss < best[0]:
            best = loss, out, Ridge(alpha=alpha).fit(Z, Y)
    return best[1], best[2]


def naive_draws(numbers, k):
    """(support, query) of every draw of the game, as row numbers."""
    n_tasks = numbers.max() + 1
    draw = draw_repeats(
        numbers, np.full(n_tasks, k), numbers, MOST_REPEATS, np.random.RandomState(0)
    )
    return [
        (draw.support[draw.support_draw == d], draw.query[draw.query_draw == d])
        for d in range(n_tasks * MOST_REPEATS)
    ]


def naive_game(numbers, k, candidates, answer, Y):
    """The candidate whose answers after k rows are best, and its loss."""
    draws = naive_draws(numbers, k)
    losses = [np.mean([np.mean((Y[q] - answer(c, s, q)) ** 2) for s, q in draws])
              for c in candidates]  # fmt: skip
    return candidates[int(np.argmin(losses))], min(losses)


@pytest.mark.parametrize("spread", [0.1, 2.0])
def test_shrunken_offset_is_the_naive_one(spread):
    X, y, numbers = offset_tasks(spread=spread)
    Z, Y = standardised(X, y)
    sizes = np.bincount(numbers)

    def kappa_of(out):
        def answer(kappa, support, query):
            return out[query] + (Y - out)[support].sum() / (len(support) + kappa)

        return naive_game(numbers, 3, PENALTIES, answer, Y)

    out, model = naive_ridge(Z, Y, numbers)
    kappa, loss = kappa_of(out)
    # Once more, with the offsets of the training tasks taken out.
    means = np.bincount(numbers, weights=Y - out) / sizes
    rest = Y - (means * sizes / (sizes + kappa))[numbers]
    out, again = naive_ridge(Z, rest, numbers)
    new_kappa, new_loss = kappa_of(out)
    if new_loss < loss:
        model, kappa = again, new_kappa

    baseline = RegressorBaseline(("ridge",), "offset", (3,)).fit(X, y, numbers)
    assert baseline.choices_[0].penalty == pytest.approx(kappa)
    assert (kappa > 100) == (spread < 1)  # alike tasks: nearly no offset

    X_new, y_new, new = offset_tasks(4, random_state=1, spread=spread)
    support = np.zeros(len(new), bool)
    for task, n in enumerate((1, 3, 5, 0)):  # ragged, and one task without support
        support[np.flatnonzero(new == task)[:n]] = True
    predicted = baseline.predict_tasks_(
        X_new[support], y_new[support], new[support], X_new[~support], new[~support]
    )
    Z_new = (X_new - X.mean(0)) / X.std(0)
    expected = model.predict(Z_new)
    residual = (y_new - y.mean()) / y.std() - expected
    for task in range(4):
        own = support & (new == task)
        expected[new == task] += residual[own].sum() / (own.sum() + kappa)
    np.testing.assert_allclose(predicted, (expected * y.std() + y.mean())[~support], rtol=1e-8)


def test_per_task_ridge_is_the_naive_one():
    X, y, numbers = offset_tasks(6)
    Z, Y = standardised(X, y)
    out = np.empty(len(Y))
    for rest, held in GroupKFold(5).split(Z, groups=numbers):
        out[held] = Y[rest].mean()

    def answer(candidate, support, query):
        level, penalty = candidate
        F = np.column_stack([np.full(len(Z), level), Z])
        gram = F[support].T @ F[support] + penalty * np.eye(3)
        return out[query] + F[query] @ np.linalg.solve(gram, F[support].T @ (Y - out)[support])

    candidates = list(itertools.product(RegressorBaseline._levels, PENALTIES))
    (level, penalty), _ = naive_game(numbers, 4, candidates, answer, Y)
    baseline = RegressorBaseline(("mean",), "columns", (4,)).fit(X, y, numbers)
    assert (baseline.choices_[0].level, baseline.choices_[0].penalty) == (level, penalty)

    ridge = Ridge(alpha=penalty, fit_intercept=False)
    F = np.column_stack([np.full(len(Z), level), Z])
    new = baseline.adapt(X[:4], y[:4])
    expected = ridge.fit(F[:4], Y[:4]).predict(F[4:]) * y.std() + y.mean()
    np.testing.assert_allclose(new.predict(X[4:]), expected, rtol=1e-8)
    np.testing.assert_allclose(baseline.predict(X), y.mean())  # no support: the training mean


def test_a_fold_answers_for_tasks_that_it_has_not_seen():
    X, y, numbers = offset_tasks()
    Y = y[:, None]

    def squares(Y, out):
        return ((Y - out) ** 2).mean(axis=1)

    pooled = fit_pooled(_pooled.Mean, X, Y, numbers, squares)
    expected = np.empty_like(Y)
    for rest, held in GroupKFold(5).split(X, groups=numbers):
        assert not set(numbers[rest]) & set(numbers[held])
        expected[held] = Y[rest].mean()
    np.testing.assert_allclose(pooled.out, expected)
    assert pooled.loss == pytest.approx(by_task(squares(Y, expected), numbers))

    pooled = fit_pooled(_pooled.Boosting, X, Y, numbers, squares)
    model = pooled.model.models[0]
    assert isinstance(model, HistGradientBoostingRegressor)
    np.testing.assert_allclose(pooled.model.predict(X)[:, 0], model.predict(X))
    for rest, held in GroupKFold(5).split(X, groups=numbers):
        again = clone(model).fit(X[rest], y[rest])
        np.testing.assert_allclose(pooled.out[held, 0], again.predict(X[held]))


def test_large_offsets_do_not_hide_what_tasks_share():
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(30), 15)
    X = rng.normal(size=(len(numbers), 2))
    y = np.sin(2 * X[:, 0]) + 3 * rng.normal(size=30)[numbers] + 0.1 * rng.normal(size=len(X))
    train, support = numbers < 20, np.arange(len(X)) % 15 < 5
    few, rest = ~train & support, ~train & ~support
    baseline = make_baseline("pooled + shrunken offset", False, (5,))
    baseline.fit(X[train], y[train], numbers[train])
    predicted = baseline.predict_tasks_(X[few], y[few], numbers[few], X[rest], numbers[rest])
    assert np.mean((predicted - y[rest]) ** 2) < 0.25  # with no model of what is shared: 0.5


def test_pooled_logistic_is_tuned_by_tasks():
    X, y, groups = labelled_tasks(labels=("no", "yes"))
    numbers = np.unique(groups, return_inverse=True)[1]
    Z, Y = StandardScaler().fit_transform(X), (y == "yes").astype(int)
    losses = []
    for c in _pooled.LOGISTIC_C:
        loss = np.empty(len(y))
        for rest, held in GroupKFold(5).split(Z, groups=numbers):
            model = LogisticRegression(C=c).fit(Z[rest], Y[rest])
            loss[held] = -model.predict_log_proba(Z[held])[np.arange(len(held)), Y[held]]
        losses.append(by_task(loss, numbers))
    model = LogisticRegression(C=_pooled.LOGISTIC_C[int(np.argmin(losses))]).fit(Z, Y)
    baseline = make_baseline("pooled logistic", True, (3,)).fit(X, y, groups)
    np.testing.assert_allclose(baseline.predict_proba(X), model.predict_proba(Z), atol=1e-5)
    assert (baseline.predict(X) == np.where(model.predict(Z), "yes", "no")).all()


def ragged_support(groups):
    """The first 0 to 4 rows of every task."""
    chosen = np.zeros(len(groups), bool)
    for i, task in enumerate(np.unique(groups)):
        chosen[np.flatnonzero(groups == task)[: i % 5]] = True
    return chosen


@pytest.mark.parametrize(
    ("pooled", "part", "n_outputs"),
    [*((*both, None) for both in REGRESSION.values()), (("mean",), "columns", 2),
     (("ridge",), "offset", 2), (("boosting",), None, 2)],
)  # fmt: skip
def test_regressors_adapt_alone_as_in_a_batch(pooled, part, n_outputs):
    X, y, groups = offset_tasks(n_outputs=n_outputs)
    baseline = RegressorBaseline(pooled, part, (0, 2)).fit(X, y, groups)
    s = ragged_support(groups)
    batch = baseline.predict_tasks_(X[s], y[s], groups[s], X[~s], groups[~s])
    assert batch.shape == y[~s].shape
    one_by_one = predict_tasks(baseline, X[s], y[s], groups[s], X[~s], groups[~s])
    np.testing.assert_allclose(batch, one_by_one, rtol=1e-9)
    none = groups[~s] == 0  # the task without support
    np.testing.assert_allclose(batch[none], baseline.predict(X[~s][none]))


def test_fits_are_repeatable():
    X, y, groups = offset_tasks()
    first, second = (
        RegressorBaseline(("boosting",), "offset", (2,)).fit(X, y, groups).adapt(X[:2], y[:2])
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict(X), second.predict(X))


@pytest.mark.parametrize("labels", [("no", "yes"), (1, 5, 7)], ids=["two", "three"])
@pytest.mark.parametrize("name", list(CLASSIFICATION))
def test_classifiers_adapt_alone_as_in_a_batch(name, labels):
    X, y, groups = labelled_tasks(labels=labels)
    baseline = make_baseline(name, True, (3,)).fit(X, y, groups)
    s = ragged_support(groups)
    given = X[s], y[s], groups[s], X[~s], groups[~s]
    proba = baseline.predict_tasks_(*given, "predict_proba")
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    one_by_one = predict_tasks(baseline, *given, method="predict_proba")
    np.testing.assert_allclose(proba, one_by_one, atol=1e-6)
    predicted = baseline.predict_tasks_(*given, "predict")
    np.testing.assert_array_equal(predicted, np.array(labels)[proba.argmax(axis=1)])


def test_one_class_support_moves_towards_it_and_not_to_certainty():
    X, y, groups = labelled_tasks(labels=("no", "yes"))
    for name in ("per-task logistic", "pooled logistic + shrunken offset"):
        baseline = make_baseline(name, True, (3,)).fit(X, y, groups)
        yes = np.flatnonzero(y == "yes")[:3]
        before = baseline.predict_proba(X)[:, 1].mean()
        after = baseline.adapt(X[yes], y[yes]).predict_proba(X)[:, 1].mean()
        assert before < after < 0.99


def test_another_number_of_rows_takes_the_nearest_tuning():
    X, y, groups = offset_tasks()
    both = RegressorBaseline(("mean",), "columns", (1, 6)).fit(X, y, groups)
    six = RegressorBaseline(("mean",), "columns", (6,)).fit(X, y, groups)
    assert both.choices_[0] != both.choices_[1]
    np.testing.assert_allclose(
        both.adapt(X[:5], y[:5]).predict(X), six.adapt(X[:5], y[:5]).predict(X)
    )


def test_tasks_too_small_for_any_game():
    X, y, _ = offset_tasks()
    pairs = np.arange(len(y)) // 2
    baseline = RegressorBaseline(("ridge",), "offset", (5, 10)).fit(X, y, pairs)
    assert np.isfinite(baseline.adapt(X[:5], y[:5]).predict(X)).all()


def test_a_class_that_some_folds_lack():
    X, y, groups = labelled_tasks()
    first = groups == groups.max()
    y = np.where(first, y, "no")  # two labels in one task alone, and then one label in all others
    for name in CLASSIFICATION:
        proba = make_baseline(name, True, (3,)).fit(X, y, groups).predict_proba(X)
        assert proba.shape == (len(X), 3) and np.isfinite(proba).all()


def test_unknown_labels_are_refused():
    X, y, groups = labelled_tasks()
    baseline = make_baseline("per-task logistic", True, (3,)).fit(X, y, groups)
    with pytest.raises(ValueError, match="fit knew"):
        baseline.adapt(X[:2], np.array(["yes", "zzz"])).predict(X)


def test_pooled_fits_are_shared_and_their_time_is_not_lost():
    X, y, groups = offset_tasks()
    shared = {}
    first = RegressorBaseline(("boosting",)).fit(X, y, groups, shared)
    second = RegressorBaseline(("boosting",)).fit(X, y, groups, shared)
    assert second.model_ is first.model_
    assert second.fit_seconds_ > shared["boosting"][1] > 0


def test_names():
    assert set(REGRESSION) < set(choose_baselines(True, False))
    assert choose_baselines(True, True) == list(CLASSIFICATION)
    assert choose_baselines(False, True) == choose_baselines([], True) == []
    assert choose_baselines("pooled ridge", False) == ["pooled ridge"]
    with pytest.raises(ValueError, match="'pooled ridge' here"):
        choose_baselines(["pooled ridge"], True)


def test_absent_packages_are_named(monkeypatch):
    for package in ("gpboost", "merf"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("skmeta.model_selection._baselines.find_spec", lambda name: None)
    assert "merf" not in choose_baselines(True, False)
    with pytest.raises(ValueError, match="needs the package gpboost"):
        choose_baselines(["GPBoost, intercept"], False)


def test_linear_mixed_model_takes_any_table():
    X, y, groups = offset_tasks()
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(word=np.where(X[:, 0] > 3, "much", "little"))
    with sklearn.config_context(enable_metadata_routing=True):
        model = make_baseline("linear mixed model", False, (3,)).fit(frame, y, groups=groups)
    predicted = predict_tasks(model, frame, y, groups, frame, groups)
    assert np.mean((predicted - y) ** 2) < 0.4  # the noise is 0.25, the offsets 4


def test_offset_of_a_mixed_model_is_its_best_prediction():
    from skmeta.model_selection._peers import _RandomIntercept

    class Known(_RandomIntercept):
        def _fit_mixed(self, Z, y, numbers):
            return (lambda Z: Z[:, 0]), 0.5, 2.0

    X, y, groups = offset_tasks()
    shift = (y[:4] - y.mean()) / y.std() - (X[:4, 0] - X[:, 0].mean()) / X[:, 0].std()
    model = Known().fit(X, y, groups)
    # The covariance of four rows' residuals with the intercept, by the book.
    weights = np.full(4, 2.0) @ np.linalg.inv(2.0 + 0.5 * np.eye(4))
    expected = model.predict(X) + weights @ shift * y.std()
    np.testing.assert_allclose(model.adapt(X[:4], y[:4]).predict(X), expected)

    class Nothing(Known):
        def _fit_mixed(self, Z, y, numbers):
            return (lambda Z: Z[:, 0]), 0.5, 0.0

    model = Nothing().fit(X, y, groups)
    np.testing.assert_allclose(model.adapt(X[:4], y[:4]).predict(X), model.predict(X))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "package"), [("GPBoost, intercept", "gpboost"), ("merf", "merf")])
def test_mixed_models_of_others(name, package):
    pytest.importorskip(package)
    X, y, groups = offset_tasks(40)
    train, few = groups < 30, np.zeros(len(groups), bool)
    for task in range(30, 40):
        few[np.flatnonzero(groups == task)[:4]] = True
    rest = ~train & ~few
    model = make_baseline(name, False, (3,)).fit(X[train], y[train], groups[train])
    predicted = model.predict_tasks_(X[few], y[few], groups[few], X[rest], groups[rest])
    error, without = (np.mean((p - y[rest]) ** 2) for p in (predicted, model.predict(X[rest])))
    assert error < 0.5 * without


def test_classifier_penalties_are_chosen_by_log_loss():
    X, y, numbers = labelled_tasks(labels=("no", "yes"), sizes=(12,) * 6)
    numbers = np.unique(numbers, return_inverse=True)[1]
    baseline = ClassifierBaseline(("logistic",), "offset", (4,)).fit(X, y, numbers)
    pooled = fit_pooled(
        _pooled.Logistic,
        baseline.columns_.transform(X),
        baseline._encode(y),
        numbers,
        baseline._row_loss,
    )
    Y, losses = baseline._encode(y), []
    for penalty in ClassifierBaseline._penalties:
        total = []
        for s, q in naive_draws(numbers, 4):
            weights = next(
                fit_tasks(solve_logistic, np.ones((len(y), 1)), pooled.out, Y, s[None], [penalty])
            )
            log_proba = log_softmax(pooled.out[q] + weights[0], axis=1)
            total.append(-(Y[q] * log_proba).sum(axis=1).mean())
        losses.append(np.mean(total))
    assert baseline.choices_[0].penalty == ClassifierBaseline._penalties[int(np.argmin(losses))]
