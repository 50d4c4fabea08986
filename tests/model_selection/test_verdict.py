"""Intervals against slow ones, sentences no stronger than the intervals, tables and plots."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin

from skmeta.model_selection import compare_tasks
from skmeta.model_selection._verdict import N_BOOT, bootstrap_means, summarise
from tests.model_selection.cases import quick


def compared(
    gains, spread=0.1, n_tasks=40, lower=True, n_support=(0, 5), names=("net",), baselines=True
):
    """A comparison in which ``gains[k][method]`` is the mean gain over two baselines at 1 and 2."""
    rng = np.random.default_rng(0)
    sign = -1 if lower else 1
    scores = []
    for gain in gains:
        noise = spread * rng.normal(size=(len(names), n_tasks))
        noise -= noise.mean(axis=1, keepdims=True)
        base = rng.uniform(0.5, 1.5, size=n_tasks)
        base += 1 - base.mean()
        own = base + sign * (np.atleast_1d(gain)[:, None] + noise)
        scores.append(np.vstack([own, base, base - sign] if baselines else own))
    methods = [*names, "pooled ridge", "per-task model"] if baselines else list(names)
    return summarise(
        np.array(scores),
        methods=methods,
        is_baseline=[method not in names for method in methods],
        n_support=n_support,
        n_held_out=n_tasks,
        fit_seconds=np.ones(len(methods)),
        metric="error" if lower else "success",
        lower_is_better=lower,
    )


# ------------------------------------------------------------------- intervals


def test_intervals_are_those_of_a_slow_bootstrap():
    rng = np.random.default_rng(1)
    values = rng.exponential(size=(2, 15))
    low, high = bootstrap_means(values)
    means = np.array(
        [[rng.choice(line, 15).mean() for _ in range(10 * N_BOOT)] for line in values[:1]]
    )
    wide = high[0] - low[0]
    np.testing.assert_allclose(
        [low[0], high[0]], np.quantile(means[0], [0.025, 0.975]), atol=0.05 * wide
    )


def test_intervals_resample_whole_tasks_for_all_lines_alike():
    values = np.random.default_rng(0).normal(size=(3, 12))
    counts, even = np.random.default_rng(0), np.full(12, 1 / 12)
    means = []
    for _ in range(20):
        for draw in counts.multinomial(12, even, size=N_BOOT // 20):
            means.append(values[:, np.repeat(np.arange(12), draw)].mean(axis=1))
    low, high = bootstrap_means(values)
    np.testing.assert_allclose(low, np.quantile(means, 0.025, axis=0))
    np.testing.assert_allclose(high, np.quantile(means, 0.975, axis=0))
    np.testing.assert_allclose(bootstrap_means(values[:, ::1]), (low, high))


def test_table_pairs_by_task():
    result = compared([0.3, 0.0], spread=0.05)
    scores = result.scores_.pivot(index="task", columns=["k", "method"], values="score")
    for k in (0, 5):
        line = result.table_.query("k == @k and method == 'net'").iloc[0]
        gain = (scores[k, "pooled ridge"] - scores[k, "net"]).to_numpy()
        low, high = bootstrap_means(gain[None])
        assert line["reference"] == "pooled ridge"
        np.testing.assert_allclose(line["gain"], gain.mean())
        np.testing.assert_allclose([line["gain_low"], line["gain_high"]], [low[0], high[0]])
        assert (line["helped"], line["hurt"]) == ((gain > 0).mean(), (gain < 0).mean())
        # Tasks differ a lot, methods on one task little: only pairing can see it.
        assert line["gain_high"] - line["gain_low"] < 0.2 * (line["high"] - line["low"])
    itself = result.table_.query("method == 'pooled ridge'")
    assert (itself[["gain", "gain_low", "gain_high", "helped", "hurt"]] == 0).all(axis=None)


def test_tasks_without_a_score_of_every_method_are_left_out():
    scores = np.random.default_rng(0).uniform(size=(2, 3, 20))
    scores[0, 1, :4] = scores[1, :, 5:] = np.nan
    result = summarise(
        scores, methods=["net", "a", "b"], is_baseline=[False, True, True], n_support=(1, 3),
        n_held_out=20, fit_seconds=[1, 2, 3], metric="error", lower_is_better=True,
    )  # fmt: skip
    assert list(result.table_["n_tasks"]) == [16] * 3 + [5] * 3
    assert list(result.table_["n_skipped"]) == [4] * 3 + [15] * 3
    assert result.table_["score"][0] == pytest.approx(scores[0, 0, 4:].mean())


def test_no_difference_is_seldom_called_one():
    gains = np.random.default_rng(0).normal(size=(2000, 12))
    low, high = bootstrap_means(gains)
    assert 0.01 < (low > 0).mean() < 0.06  # 0.025 for very many tasks
    assert 0.01 < (high < 0).mean() < 0.06


# ------------------------------------------------------------------- sentences


@pytest.mark.parametrize("lower", [True, False])
def test_help_is_said_where_it_is_shown(lower):
    overall, own, best = compared([0.3, 0.25], lower=lower).verdict_.splitlines()
    assert overall == "Meta-learning helps here at every k: net."
    by = ("(by 30%)", "(by 25%)") if lower else ("(by 0.3)", "(by 0.25)")
    assert own == f"net beats the best baseline at every k, k = 0 {by[0]} and 5 {by[1]}."
    assert best.startswith("Best baseline: pooled ridge. It is picked after the fact at every k")

    overall, own, _ = compared([0.0, 0.25], lower=lower).verdict_.splitlines()
    assert overall == "Meta-learning helps here at k = 5: net."
    assert (
        own
        == f"net beats the best baseline at k = 5 {by[1]}; it shows no clear difference at k = 0."
    )


def test_a_loss_is_said_too():
    overall, own, _ = compared([-0.2, 0.25]).verdict_.splitlines()
    assert overall == "Meta-learning helps here at k = 5: net."
    assert "it is worse than the best baseline at k = 0 (by 20%)" in own
    overall, own, _ = compared([-0.2, -0.3]).verdict_.splitlines()
    assert overall.startswith("Meta-learning does not help here: pooled ridge is as good or better")
    assert own.startswith("net is worse than the best baseline at every k")


def test_no_help_needs_narrow_intervals():
    narrow = compared([0.0, 0.0], spread=0.05).verdict_
    assert narrow.startswith("Meta-learning does not help here: pooled ridge is as good or better")
    assert "net shows no clear difference at any k." in narrow
    wide = compared([0.0, 0.0], spread=0.5).verdict_
    assert wide.startswith("No clear difference from the best baseline at any k")
    mixed = compared([-0.4, 0.0], spread=0.5).verdict_
    assert mixed.startswith("No gain shown")


def test_a_small_gain_that_is_sure_is_still_a_gain():
    verdict = compared([0.02, 0.02], spread=0.01).verdict_
    assert verdict.startswith("Meta-learning helps here at every k") and "(by 2%)" in verdict


def test_few_tasks_allow_no_sentence():
    verdict = compared([0.5, 0.5], spread=0.01, n_tasks=5).verdict_
    assert verdict.startswith("Too few tasks to say anything: 5 were scored, and 6 are needed.")
    assert "cannot be judged at every k" in verdict
    assert compared([0.5], spread=0.01, n_tasks=6, n_support=(1,)).verdict_.startswith("Meta-le")


def test_several_estimators():
    result = compared([[0.0, 0.3], [0.2, -0.2]], names=("net", "gp"))
    overall, net, gp, _ = result.verdict_.splitlines()
    assert overall == "Meta-learning helps here at every k: gp and net."
    assert net.startswith("net beats the best baseline at k = 5 (by 20%)")
    assert gp == (
        "gp beats the best baseline at k = 0 (by 30%); it is worse than the best baseline at k = 5 "
        "(by 20%)."
    )


def test_nothing_to_compare_with():
    assert compared([0.1, 0.1], baselines=False).verdict_.startswith("No baselines were run")
    assert compared([0.1], names=(), n_support=(1,)).verdict_.startswith("None of the estimators")


# ------------------------------------------------------------------- tasks that are known


MEAN = np.array([0.0, 3.0, -3.0, 2.0])


class KnownSlopes(RegressorMixin, BaseEstimator):
    """Bayes' answer where coefficients of tasks are normal about MEAN, and the noise is 0.3."""

    def fit(self, X, y):
        self.coef_ = MEAN
        return self

    def adapt(self, X, y):
        F = np.column_stack([np.ones(len(X)), X])
        new = KnownSlopes()
        gram = F.T @ F + 0.09 * np.eye(len(MEAN))
        new.coef_ = MEAN + np.linalg.solve(gram, F.T @ (y - F @ MEAN))
        return new

    def predict(self, X):
        return self.coef_[0] + X @ self.coef_[1:]


def lines(alike, n_tasks=24, n_rows=16):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 3))
    coef = np.tile([1.0, 1.0, 0.0, 0.0], (n_tasks, 1))
    if not alike:
        coef = MEAN + rng.normal(size=(n_tasks, 4))
    y = coef[groups, 0] + (X * coef[groups, 1:]).sum(axis=1) + 0.3 * rng.normal(size=len(groups))
    return X, y, groups


def test_slopes_of_their_own_call_for_meta_learning():
    result = compare_tasks(
        {"known": KnownSlopes()}, *lines(alike=False), n_support=(0, 3, 5), cv=3, n_repeats=3,
        baselines=["pooled ridge", "per-task model"],
    )  # fmt: skip
    overall, own, _ = result.verdict_.splitlines()
    assert overall.startswith("Meta-learning helps here at") and "k = 3 and 5: known." in overall
    assert "beats the best baseline at k = 3" in own


def test_tasks_that_are_alike_do_not():
    result = compare_tasks(
        {"net": quick(max_epochs=3), "known": KnownSlopes()}, *lines(alike=True),
        n_support=(0, 5), cv=3, n_repeats=2, baselines=["pooled ridge", "per-task model"],
    )  # fmt: skip
    overall = result.verdict_.splitlines()[0]
    assert overall.startswith("Meta-learning does not help here: pooled ridge is as good or better")


# ------------------------------------------------------------------- what is shown


def test_text():
    result = compared([0.3, 0.2], names=("my <net>",))
    text, html = repr(result), result._repr_html_()
    assert text.startswith(result.verdict_)
    assert "error, mean [95 % interval over tasks]; lower is better" in text
    assert "k = 0 (40 tasks)" in text and "k = 5 (40 tasks)" in text
    lines = text.splitlines()[-3:]
    assert [line.split("  ")[0] for line in lines] == ["my <net>", "pooled ridge", "per-task model"]
    assert "0.7 [" in lines[0] and "0.8 [" in lines[0]
    assert "<net>" not in html and "my &lt;net&gt;" in html and "<table" in html


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    result = compared([0.3, 0.2])
    ax = result.plot()
    _, labels = ax.get_legend_handles_labels()
    assert labels == ["net", "pooled ridge (baseline)", "per-task model (baseline)"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0\n40 tasks", "5\n40 tasks"]
    assert "lower is better" in ax.get_ylabel() and ax.get_yscale() == "linear"
    drawn = ax.containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, result.table_.query("method == 'net'")["score"])
    _, other = plt.subplots()
    wide = summarise(
        np.array([[[0.01, 0.02, 0.03], [1.0, 2.0, 3.0]]]), methods=["net", "a"], metric="error",
        is_baseline=[False, True], n_support=(3,), n_held_out=3, fit_seconds=[1, 1],
        lower_is_better=True,
    )  # fmt: skip
    assert wide.plot(ax=other) is other and other.get_yscale() == "log"
    higher = compared([0.3, 0.2], lower=False).plot()
    assert "higher is better" in higher.get_ylabel()
    ax.figure.canvas.draw()
    plt.close("all")
