"""HierarchicalGPRegressor against dense conditioning on all rows."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skmeta import HierarchicalGPRegressor
from skmeta.core.gp import JITTER, WIDE
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection import predict_tasks
from tests.closed_form.curves import RAGGED, quick, simulate, slow_rbf

pd = pytest.importorskip("pandas")

INDUCING_JITTER = 1e-6


@pytest.fixture(scope="module")
def tasks():
    return simulate(RAGGED)


@pytest.fixture(scope="module")
def model(tasks):
    X, y, groups = tasks
    return quick(n_inducing=6).fit(X, y, groups=groups)


def dense(model, X, y, groups, X_support, y_support, X_query, output=0):
    """Mean and standard deviation at the query rows, given ALL training and support rows.

    One normal distribution over all of them, at the fitted hyperparameters. Rows share what the
    inducing points carry; what they do not is one more thing unknown at a query row.
    """
    h = {k: v.detach().numpy() for k, v in vars(model._hyper(output)).items()}
    inducing = model.meta_params_["inducing"]
    raw = np.concatenate([X, X_support, X_query])
    x = (raw - model.x_mean_) / model.x_scale_
    known = np.concatenate([y, y_support]).reshape(len(y) + len(y_support), -1)[:, output]
    known = (known - model.y_mean_[output]) / model.y_scale_[output]
    task = np.concatenate([groups, np.full(len(X_support) + len(X_query), -1)])

    covariance = WIDE**2 + h["shared_linear"] * x @ x.T
    if len(inducing):
        among = slow_rbf(inducing, inducing, h["shared_length"])
        cross = slow_rbf(x, inducing, h["shared_length"])
        solved = np.linalg.solve(among + INDUCING_JITTER * np.eye(len(inducing)), cross.T)
        carried = h["shared_rbf"] * cross @ solved
        query = np.arange(len(x)) >= len(known)
        covariance += carried + np.diag((h["shared_rbf"] - np.diag(carried)) * query)
    own = h["constant"] + (x * h["linear"]) @ x.T + h["rbf"] * slow_rbf(x, x, h["length"])
    covariance += own * (task[:, None] == task[None])
    n = len(known)
    inner = covariance[:n, :n] + (h["noise"] + JITTER) * np.eye(n)
    gain = np.linalg.solve(inner, covariance[:n, n:]).T
    mean = gain @ known
    variance = np.diag(covariance[n:, n:] - gain @ covariance[:n, n:]) + h["noise"]
    scale = model.y_scale_[output]
    return mean * scale + model.y_mean_[output], np.sqrt(variance) * scale


# -- predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, 4, 10])
@pytest.mark.parametrize("n_inducing", [6, 0])
def test_predictions_equal_dense_conditioning_on_all_rows(model, tasks, n_inducing, k):
    X, y, groups = tasks
    if not n_inducing:
        model = quick(n_inducing=0).fit(X, y, groups=groups)
    assert bool(model.n_inducing_) == bool(n_inducing)
    X_new, y_new, _ = simulate([20], seed=1)
    adapted = model.adapt(X_new[:k], y_new[:k]) if k else model
    mean, std = adapted.predict(X_new[k:], return_std=True)
    expected = dense(model, X, y, groups, X_new[:k], y_new[:k], X_new[k:])
    assert_allclose(mean, expected[0], rtol=1e-6, atol=1e-7)
    assert_allclose(std, expected[1], rtol=1e-6)
    assert_array_equal(adapted.predict(X_new[k:]), mean)


def test_the_loss_is_the_bound_of_the_hyperparameters_that_come_out(model):
    losses = [record["train_loss"] for record in model.history_]
    assert len(losses) == model.n_iter_ == 15
    assert losses[-1] < losses[0] - 0.1


def test_many_ragged_tasks_in_one_call_equal_the_loop(model):
    sizes = [1, 30, 2, 5, 1, 3, 8]
    X, y, groups = simulate(sizes, seed=2)
    X_new, _, new = simulate([4] * 9, seed=3)
    new = new - 1  # two tasks have no rows to adapt to
    found = predict_tasks(model, X, y, groups, X_new, new)
    adapted = {}
    for task in range(-1, 8):
        rows = groups == task
        adapted[task] = model.adapt(X[rows], y[rows]) if rows.any() else model
        alone = adapted[task].predict(X_new[new == task])
        assert_allclose(found[new == task], alone, rtol=1e-8, atol=1e-9)
    assert not np.allclose(adapted[1].predict(X_new), model.predict(X_new))


def test_an_unadapted_model_answers_alike_for_every_row_order(model, tasks):
    X = tasks[0]
    mean, std = model.predict(X, return_std=True)
    for rows in (slice(None, None, -1), slice(3, 4)):
        again = model.predict(X[rows], return_std=True)
        assert_allclose(again[0], mean[rows], rtol=1e-10)
        assert_allclose(again[1], std[rows], rtol=1e-10)


@pytest.mark.parametrize("cuts", [(1,), (5,), (1, 2, 3), (2, 6)])
def test_updates_equal_one_adaptation_to_all_rows(model, cuts):
    X, y, _ = simulate([30], seed=4)
    X, y, new = X[:9], y[:9], X[9:]
    grown = model
    before = pickle.dumps(model)
    for Xs, ys in zip(np.split(X, cuts), np.split(y, cuts), strict=True):
        grown = grown.update(Xs, ys)  # before adapt, it is adapt
    once = model.adapt(X, y)
    for a, b in zip(
        grown.predict(new, return_std=True), once.predict(new, return_std=True), strict=True
    ):
        assert_allclose(a, b, rtol=1e-9, atol=1e-10)
    assert grown.adapted_ and grown.learner_ is model.learner_
    assert pickle.dumps(model) == before


def test_several_outputs_equal_one_model_an_output(tasks):
    X, y, groups = tasks
    Y = np.column_stack([y, X[:, 0] ** 2 - y / 3])
    both = quick().fit(X, Y, groups=groups)
    adapted = both.adapt(X[:4], Y[:4]).update(X[4:6], Y[4:6])
    mean, std = adapted.predict(X, return_std=True)
    assert mean.shape == std.shape == Y.shape
    summary = both.kernel_summary_
    assert set(summary["output"]) == {0, 1}
    for o in range(2):
        one = quick().fit(X, Y[:, o], groups=groups)
        assert_array_equal(one.meta_params_["inducing"], both.meta_params_["inducing"])
        expected = one.adapt(X[:6], Y[:6, o]).predict(X, return_std=True)
        assert_allclose(mean[:, o], expected[0], rtol=1e-7, atol=1e-8)
        assert_allclose(std[:, o], expected[1], rtol=1e-7)
        assert_allclose(summary[summary["output"] == o]["sd"], one.kernel_summary_["sd"], rtol=1e-7)


def test_nine_of_ten_new_rows_lie_in_their_interval():
    X, y, groups = simulate([8] * 40, seed=2)
    model = HierarchicalGPRegressor(random_state=0).fit(X, y, groups=groups)
    X, y, groups = simulate([12] * 100, seed=3)
    for k in (0, 6):
        inside = []
        for task in range(100):
            Xt, yt = X[groups == task], y[groups == task]
            adapted = model.adapt(Xt[:k], yt[:k]) if k else model
            mean, std = adapted.predict(Xt[k:], return_std=True)
            inside.append(np.abs(yt[k:] - mean) < 1.645 * std)
        assert 0.85 < np.mean(inside) < 0.95


def test_adapting_helps_and_more_rows_help_more(model):
    errors = {k: [] for k in (0, 3, 15)}
    for seed in range(10, 20):
        X, y, _ = simulate([30], seed=seed)
        for k in errors:
            adapted = model.adapt(X[:k], y[:k]) if k else model
            errors[k].append(np.mean((adapted.predict(X[15:]) - y[15:]) ** 2))
    errors = {k: np.mean(values) for k, values in errors.items()}
    assert errors[15] < 0.7 * errors[3] < 0.7 * errors[0]


# -- the table to read ----------------------------------------------------------------------------


def test_kernel_summary_names_every_part(tasks):
    X, y, groups = tasks
    frame = pd.DataFrame(X, columns=["age", "dose"])
    summary = quick(max_iter=2).fit(frame, y, groups=groups).kernel_summary_
    assert list(summary.columns) == ["who", "what", "column", "sd", "length_scale"]
    assert list(summary[["who", "what", "column"]].itertuples(index=False, name=None)) == [
        ("between tasks", "level", ""),
        ("between tasks", "slope", "age"),
        ("between tasks", "slope", "dose"),
        ("between tasks", "curve", "age"),
        ("between tasks", "curve", "dose"),
        ("shared by all tasks", "slope", "age"),
        ("shared by all tasks", "slope", "dose"),
        ("shared by all tasks", "curve", "age"),
        ("shared by all tasks", "curve", "dose"),
        ("noise", "", ""),
    ]
    assert (summary["sd"] > 0).all()
    assert_array_equal(summary["length_scale"].notna(), summary["what"] == "curve")


def test_kernel_summary_is_in_the_units_of_the_data(model, tasks):
    X, y, groups = tasks
    by = np.array([0.01, 40.0])
    other = quick(n_inducing=6).fit(X * by + [3.0, -900.0], 50 * y + 8, groups=groups)
    ours, theirs = model.kernel_summary_, other.kernel_summary_
    assert_allclose(theirs["sd"], 50 * ours["sd"], rtol=1e-5)
    curves = ours["what"] == "curve"
    lengths = ours["length_scale"][curves] * np.tile(by, 2)
    assert_allclose(theirs["length_scale"][curves], lengths, rtol=1e-5)


def test_kernel_summary_tells_what_was_simulated():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    X = rng.normal(size=(400, 2))
    slope, level = rng.normal(size=(2, 40)) * [[2.0], [1.0]]
    y = slope[groups] * X[:, 1] + level[groups] + 0.3 * rng.normal(size=400)
    model = HierarchicalGPRegressor(random_state=0, n_inducing=10).fit(X, y, groups=groups)
    sd = model.kernel_summary_.set_index(["who", "what", "column"])["sd"]
    own = sd["between tasks"]
    assert sd["noise", "", ""] == pytest.approx(0.3, rel=0.1)
    assert own["slope", "x1"] == pytest.approx(slope.std(), rel=0.25)
    assert own["slope", "x0"] < 0.1
    # A curve of a long length scale is a level, too.
    assert np.hypot(own["level", ""], own["curve", "x0"]) == pytest.approx(level.std(), rel=0.25)


def test_kernel_summary_has_no_shared_curve_without_inducing_points(tasks):
    X, y, groups = tasks
    model = quick(n_inducing=0).fit(X, y, groups=groups)
    summary = model.kernel_summary_
    curve = summary[(summary["who"] == "shared by all tasks") & (summary["what"] == "curve")]
    assert (curve["sd"] == 0).all()


# -- inducing points ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_inducing", ["auto", 10, 25, 1000])
def test_no_inducing_point_is_a_row(n_inducing):
    rng = np.random.default_rng(0)
    X, y, groups = simulate([10] * 12)
    X[:30] *= 0.05  # a dense place, and rows far apart
    X[:4] = [[50.0, 0], [0, 50], [-50, 0], [0, -50]]
    model = quick(n_inducing=n_inducing, max_iter=1).fit(X, y + rng.normal(size=120), groups=groups)
    centres = model.meta_params_["inducing"] * model.x_scale_ + model.x_mean_
    assert len(centres) == model.n_inducing_
    assert 0 < len(centres) <= (15 if n_inducing == "auto" else n_inducing)
    distance = np.abs(centres[:, None] - X[None]).max(2)
    assert distance.min() > 1e-9
    nearest = ((centres[:, None] - X[None]) ** 2).sum(2).argmin(0)
    assert (np.abs(centres) < 10).all()  # those far out are alone
    assert np.bincount(nearest).sum() == 120


def test_rows_that_occur_often_may_be_inducing_points():
    X = np.repeat([[0.0], [1.0]], 20, axis=0)
    y, groups = np.sin(np.arange(40)), np.tile(np.arange(8), 5)
    model = quick(n_inducing=30).fit(X, y, groups=groups)
    assert model.n_inducing_ == 2
    assert np.isfinite(model.adapt(X[:3], y[:3]).predict(X, return_std=True)).all()


@pytest.mark.parametrize("n_rows", [4, 7, 8])
def test_few_rows_have_few_inducing_points(n_rows):
    X, y, _ = simulate([n_rows])
    model = quick().fit(X, y, groups=np.arange(n_rows) % 2)
    assert model.n_inducing_ == (n_rows == 8)
    assert np.isfinite(model.predict(X, return_std=True)).all()


def test_one_task_is_an_ordinary_process():
    X, y, _ = simulate([80], d=1)
    with pytest.warns(SingleTaskWarning):
        model = HierarchicalGPRegressor(random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
    summary = model.kernel_summary_.groupby("who")["sd"].max()
    assert summary["between tasks"] < 1e-9
    mean, std = model.predict(X, return_std=True)
    expected = dense(model, X, y, np.zeros(80), X[:0], y[:0], X)
    assert_allclose(mean, expected[0], rtol=1e-6, atol=1e-7)
    assert_allclose(std, expected[1], rtol=1e-6)


# -- seeds, pickles, dtypes -----------------------------------------------------------------------


def test_the_same_seed_gives_the_same_model(tasks):
    X, y, groups = tasks
    one, two, other = (
        quick(random_state=seed, max_iter=3).fit(X, y, groups=groups)
        for seed in (0, np.random.RandomState(0), 1)
    )
    again = quick(random_state=np.random.RandomState(0), max_iter=3).fit(X, y, groups=groups)
    assert_array_equal(two.predict(X), again.predict(X))
    assert_array_equal(one.predict(X), quick(max_iter=3).fit(X, y, groups=groups).predict(X))
    assert not np.array_equal(one.meta_params_["inducing"], other.meta_params_["inducing"])


def test_pickles_answer_and_adapt_as_before(model, tasks):
    X, y, _ = tasks
    for one in (model, model.adapt(X[:5], y[:5]), model.adapt(X[:5], y[:5]).update(X[5:6], y[5:6])):
        again = pickle.loads(pickle.dumps(one))
        for verb in (
            lambda m: m,
            lambda m: m.adapt(X[:3], y[:3]),
            lambda m: m.update(X[7:9], y[7:9]),
        ):
            for a, b in zip(
                verb(one).predict(X, return_std=True),
                verb(again).predict(X, return_std=True),
                strict=True,
            ):
                assert_array_equal(a, b)
        pd.testing.assert_frame_equal(one.kernel_summary_, again.kernel_summary_)


def test_frames_and_floats_of_single_precision(model, tasks):
    X, y, groups = tasks
    frame = pd.DataFrame(X, columns=["age", "dose"])
    named = quick(n_inducing=6).fit(frame, pd.Series(y), groups=pd.Series(groups, index=y))
    assert_allclose(named.predict(frame), model.predict(X), rtol=1e-9, atol=1e-10)
    plain = quick(n_inducing=6).fit(X.astype(np.float32), y.astype(np.float32), groups=groups)
    mean, std = plain.adapt(X[:4].astype(np.float32), y[:4]).predict(
        X.astype(np.float32), return_std=True
    )
    assert mean.dtype == std.dtype == np.float64
    assert_allclose(mean, model.adapt(X[:4], y[:4]).predict(X), atol=1e-3)


def test_a_target_of_one_column_keeps_its_shape(tasks):
    X, y, groups = tasks
    model = quick(max_iter=2).fit(X, y[:, None], groups=groups).adapt(X[:3], y[:3, None])
    mean, std = model.predict(X, return_std=True)
    assert mean.shape == std.shape == (len(X), 1)


def test_more_inducing_points_than_rows_allow():
    rng = np.random.default_rng(0)
    groups, X = np.repeat(np.arange(20), 15), rng.uniform(-3, 3, (300, 1))
    y = 2 * np.sin(2 * X[:, 0]) + rng.normal(size=20)[groups] + 0.2 * rng.normal(size=300)
    counts = []
    for n_inducing in (30, 100, 300):
        model = HierarchicalGPRegressor(n_inducing=n_inducing, max_iter=15, random_state=0)
        model.fit(X, y, groups=groups)
        counts.append(model.n_inducing_)
        assert np.mean((model.predict(X) - y.mean() - 2 * np.sin(2 * X[:, 0])) ** 2) < 0.1
    assert 25 < counts[0] < counts[1] <= counts[2]
