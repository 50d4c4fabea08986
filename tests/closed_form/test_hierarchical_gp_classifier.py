"""HierarchicalGPClassifier, against a dense computation one task at a time."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import expit, log_expit
from sklearn.metrics import log_loss

from skmeta import HierarchicalGPClassifier
from skmeta.core.gp import bound_and_slopes, shared_features
from skmeta.core.kernels import rbf_kernel, task_kernel
from skmeta.core.tasks import TaskRows
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection import predict_tasks
from tests.core.sigmoids import log_odds

FAST = {"max_iter": 25, "random_state": 0}


def tasks(kind="level", n_tasks=24, n_rows=30, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 2))
    logit = 1.5 * X[:, 0]
    if kind == "level":
        logit = logit + rng.normal(scale=2.0, size=n_tasks)[groups]
    if kind == "curve":
        logit = 3 * np.sin(2 * X[:, 0])
    return X, (rng.random(len(groups)) < expit(logit)).astype(int), groups


@pytest.fixture(scope="module")
def level():
    X, y, groups = tasks()
    return HierarchicalGPClassifier(**FAST).fit(X, y, groups=groups), X, y, groups


def naive(model, X, y, X_new, n_rounds=400):
    """Posterior of the latent process at new rows of one task; and its theta, iterated long."""
    learner = model.learner_
    h = learner.hyper(0)
    x, new = (torch.tensor(model._scaled(a)) for a in (X, X_new))
    sign = torch.tensor(2.0 * y - 1)
    phi, phi_new = (shared_features(h, a, learner.inducing) for a in (x, new))
    weights_cov = learner.root[0] @ learner.root[0].T
    prior = phi @ learner.mean[0]
    cov = phi @ weights_cov @ phi.T + task_kernel(h, x, x)
    cross = phi_new @ weights_cov @ phi.T + task_kernel(h, new, x)
    theta = torch.full_like(sign, 0.2)
    for _ in range(n_rounds):
        # Covariances of smooth kernels have no inverse to speak of: the rows' own are solved for.
        gain = torch.linalg.solve(cov + torch.diag(1 / theta), cov).T
        mean = prior + gain @ (sign / (2 * theta) - prior)
        var = cov - gain @ cov
        c = torch.sqrt(mean**2 + var.diagonal())
        theta = torch.tanh(c / 2) / (2 * c)
    gain = torch.linalg.solve(cov + torch.diag(1 / theta), cross.T).T
    mean_new = phi_new @ learner.mean[0] + gain @ (sign / (2 * theta) - prior)
    full = phi_new @ weights_cov @ phi_new.T + task_kernel(h, new, new)
    carried = phi_new[:, 1 + x.shape[1] :].square().sum(1)
    missing = (h.shared_rbf - carried).clamp(min=0) if len(learner.inducing) else 0.0
    var_new = (full - gain @ cross.T).diagonal() + missing
    return mean_new.numpy(), var_new.numpy(), theta.numpy()


@pytest.mark.parametrize("k", [1, 2, 7, 20])
def test_adaptation_is_that_of_a_dense_loop(level, k):
    model, X, y, _ = level
    support, new = X[:k], X[30:45]
    mean, var, theta = naive(model, support, y[:k], new)
    adapted = model.adapt(support, y[:k])
    assert_allclose(adapted.state_["theta"][0, :, 0], theta, rtol=1e-6)
    assert_allclose(adapted._outputs(new, "predict_variance")[:, 0], var, rtol=1e-5)
    score = np.array([log_odds(*pair) for pair in zip(mean, var, strict=True)])
    assert_allclose(adapted.decision_function(new), score, rtol=1e-5, atol=1e-8)
    assert_allclose(adapted.predict_proba(new)[:, 1], expit(score), rtol=1e-5)


@pytest.mark.parametrize(("k", "scale", "label"), [(100, 1, 0), (60, 5, 1), (60, 5, None)])
def test_adaptation_goes_on_until_it_has_settled(level, k, scale, label):
    """Where rows agree, or lie far out, plain rounds creep: thirty were half way."""
    model, X = level[:2]
    rng = np.random.default_rng(0)
    support = scale * rng.normal(size=(k, 2))
    labels = rng.integers(0, 2, k) if label is None else np.full(k, label)
    mean, var, theta = naive(model, support, labels, X[:20], n_rounds=6000)
    adapted = model.adapt(support, labels)
    assert_allclose(adapted.state_["theta"][0, :, 0], theta, rtol=1e-4)
    score = np.array([log_odds(*pair) for pair in zip(mean, var, strict=True)])
    assert_allclose(adapted.decision_function(X[:20]), score, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_inducing", [0, 6])
def test_the_loss_is_laplaces(n_inducing):
    """Hyperparameters held where they start: every step is Newton's, and the loss is known."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(5), [3, 1, 6, 4, 6])
    X, y = rng.normal(size=(20, 2)), rng.random(20) < 0.25
    model = HierarchicalGPClassifier(n_inducing=n_inducing, max_iter=40, lr=1e-12, random_state=0)
    learner = model.fit(X, y, groups=groups).learner_
    h, x = learner.hyper(0), torch.tensor(model._scaled(X))
    phi = shared_features(h, x, learner.inducing)
    alike = torch.tensor(groups[:, None] == groups)
    cov = (phi @ phi.T + task_kernel(h, x, x) * alike).numpy()
    odds, y = np.zeros(20), y.astype(float)
    for _ in range(100):
        proba = expit(odds)
        weight = proba * (1 - proba)
        odds = np.linalg.solve(np.eye(20) + cov * weight, cov @ (weight * odds + y - proba))
    loss = odds @ (y - expit(odds)) / 2 - log_expit((2 * y - 1) * odds).sum()
    loss += np.linalg.slogdet(np.eye(20) + cov * weight)[1] / 2
    if n_inducing:  # the variational term for what the inducing points do not carry
        missing = h.shared_rbf * rbf_kernel(x, x, h.shared_length) - phi[:, 3:] @ phi[:, 3:].T
        own = (task_kernel(h, x, x) * alike).numpy() + np.diag(1 / weight)
        loss += np.trace(np.linalg.solve(own, missing.numpy() * alike.numpy())) / 2
    loss += float(learner._prior_loss(learner.log_hyper[0], learner._first()))
    assert model.history_[-1]["train_loss"] == pytest.approx(loss / 20, rel=1e-6)


@pytest.mark.parametrize(
    ("n_tasks", "n_rows", "center", "sd", "least"), [(300, 3, -1, 1.5, 0.9), (200, 10, -5, 2, 1.3)]
)
def test_levels_are_seen_to_vary_in_small_tasks_and_where_a_label_is_rare(
    n_tasks, n_rows, center, sd, least
):
    """The bound of Polya-Gamma augmentation is best at .3 and .15."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 1))
    logit = center + X[:, 0] / sd**2 * 4 + rng.normal(scale=sd, size=n_tasks)[groups]
    y = (rng.random(len(X)) < expit(logit)).astype(int)
    model = HierarchicalGPClassifier(random_state=0).fit(X, y, groups=groups)
    assert least < float(model.learner_.hyper(0).constant) ** 0.5 < sd
    # New tasks are told the label as often as it came.
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), rel=1e-3)


def test_before_any_support_the_spread_between_tasks_counts(level):
    model, X, _, _ = level
    h = model.learner_.hyper(0)
    x = torch.tensor(model._scaled(X[:5]))
    phi = shared_features(h, x, model.learner_.inducing)
    var = model._outputs(X[:5], "predict_variance")[:, 0]
    known = (phi @ model.learner_.root[0]).square().sum(1)
    assert (var >= (known + h.constant).numpy() - 1e-9).all()
    assert float(h.constant) > 1  # the levels have a variance of 4


def test_ragged_tasks_in_a_batch_are_those_alone_and_update_is_exact(level):
    model, X, y, groups = level
    support = np.arange(len(y)) % 30 < 1 + groups % 7
    rest = ~support
    together = predict_tasks(
        model, X[support], y[support], groups[support], X[rest], groups[rest],
        method="predict_proba",
    )  # fmt: skip
    for task in (0, 5, 13):
        own = groups == task
        alone = model.adapt(X[own & support], y[own & support])
        assert_allclose(
            together[groups[rest] == task], alone.predict_proba(X[own & rest]), rtol=1e-7
        )
    once = model.adapt(X[:9], y[:9])
    steps = model.adapt(X[:4], y[:4]).update(X[4:9], y[4:9])
    assert_allclose(once.predict_proba(X), steps.predict_proba(X), rtol=1e-9)


def test_a_new_level_is_learned_from_a_few_rows():
    X, y, groups = tasks(n_tasks=60, seed=1)
    train = groups < 30
    model = HierarchicalGPClassifier(**FAST).fit(X[train], y[train], groups=groups[train])
    losses = []
    for k in (0, 5, 15):
        support, query = (
            ~train & (np.arange(len(y)) % 30 < k),
            ~train & (np.arange(len(y)) % 30 >= 15),
        )
        proba = predict_tasks(
            model, X[support], y[support], groups[support], X[query], groups[query],
            method="predict_proba",
        )  # fmt: skip
        losses.append(log_loss(y[query], proba))
    assert losses[2] < losses[1] < losses[0] - 0.05


def test_identical_tasks_stay_as_they_are_and_curves_are_found():
    X, y, groups = tasks("curve", n_tasks=60, seed=2)
    train = groups < 30
    model = HierarchicalGPClassifier(**FAST).fit(X[train], y[train], groups=groups[train])
    support, query = ~train & (np.arange(len(y)) % 30 < 5), ~train & (np.arange(len(y)) % 30 >= 5)
    proba = predict_tasks(
        model, X[support], y[support], groups[support], X[query], groups[query],
        method="predict_proba",
    )  # fmt: skip
    truth = log_loss(y[query], expit(3 * np.sin(2 * X[query, 0])))
    pooled = log_loss(y[query], model.predict_proba(X[query]))
    assert pooled < truth + 0.04
    assert log_loss(y[query], proba) < pooled + 0.01


def test_three_classes_with_names():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 24)
    X = rng.normal(size=(480, 2))
    shift = rng.normal(scale=1.0, size=(20, 3))[groups]
    scores = np.column_stack([2 * X[:, 0], 2 * X[:, 1], -2 * X.sum(axis=1)]) + shift
    y = np.array(["ash", "birch", "cedar"])[(scores + rng.gumbel(size=scores.shape)).argmax(axis=1)]
    model = HierarchicalGPClassifier(**FAST).fit(X, y, groups=groups)
    assert model.score(X, y) > 0.6
    new = model.adapt(X[:3], ["ash"] * 3)  # a support of one class keeps all columns
    proba = new.predict_proba(X)
    assert list(new.classes_) == ["ash", "birch", "cedar"] and proba.shape == (480, 3)
    assert_allclose(proba.sum(axis=1), 1)
    # Each class against the rest, integrated over; then they sum to 1.
    learner = new.learner_
    rows = TaskRows.single(torch.tensor(new._scaled(X[:6]))).padded()
    mean, variance = (part[0].numpy() for part in learner._latent(new.state_, rows, spread=True))
    odds = [
        [log_odds(*p) for p in zip(*both, strict=True)] for both in zip(mean, variance, strict=True)
    ]
    assert_allclose(proba[:6], expit(odds) / expit(odds).sum(1, keepdims=True), rtol=1e-5)
    assert proba[:, 0].mean() > model.predict_proba(X)[:, 0].mean()
    summary = model.kernel_summary_
    assert len(summary["output"].unique()) == 3
    assert "noise" not in set(summary["who"])
    with pytest.raises(ValueError, match="Unknown label"):
        model.adapt(X[:2], ["ash", "oak"])


def test_probabilities_are_calibrated():
    X, y, groups = tasks(n_tasks=80, seed=4)
    train = groups < 30
    model = HierarchicalGPClassifier(**FAST).fit(X[train], y[train], groups=groups[train])
    support, query = ~train & (np.arange(len(y)) % 30 < 5), ~train & (np.arange(len(y)) % 30 >= 5)
    proba = predict_tasks(
        model, X[support], y[support], groups[support], X[query], groups[query],
        method="predict_proba",
    )[:, 1]  # fmt: skip
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        here = (proba >= low) & (proba < low + 0.2)
        assert abs(proba[here].mean() - y[query][here].mean()) < 0.1


def test_large_tasks_few_inducing_points_and_a_step_that_sees_some_tasks(monkeypatch):
    import skmeta.closed_form._gp_base as base

    monkeypatch.setattr(base, "ROWS_PER_STEP", 200)
    monkeypatch.setattr(base, "MAX_TASK_ROWS", 40)
    X, y, groups = tasks(n_tasks=12, n_rows=70, seed=5)
    for n_inducing in (0, 7):
        model = HierarchicalGPClassifier(n_inducing=n_inducing, **FAST).fit(X, y, groups=groups)
        again = pickle.loads(pickle.dumps(model))
        assert_allclose(again.predict_proba(X), model.predict_proba(X), rtol=0)
        own = groups == 0
        loss = log_loss(y[own], model.adapt(X[own][:30], y[own][:30]).predict_proba(X[own]))
        assert loss < log_loss(y[own], model.predict_proba(X[own]))


def test_rows_left_out_of_large_tasks_do_not_take_a_rare_label_along(monkeypatch):
    import skmeta.closed_form._gp_base as base

    monkeypatch.setattr(base, "MAX_TASK_ROWS", 20)
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(5), 300)
    X, y = rng.normal(size=(1500, 1)), np.zeros(1500, int)
    y[[3, 700, 1400]] = 1  # of 100 rows that are looked at, most often none
    for seed in range(3):
        model = HierarchicalGPClassifier(n_inducing=0, max_iter=10, random_state=seed)
        told = model.fit(X, y, groups=groups).predict_proba(X)[:, 1].mean()
        assert told == pytest.approx(1 / 500, rel=0.05)
    # One large task counts for no more than the rows of it that are looked at.
    groups = np.repeat(np.arange(31), [1200, *[10] * 30])
    y = (rng.random(1500) < np.where(groups == 0, 0.05, 0.5)).astype(int)
    model.fit(X, y, groups=groups)
    share = (20 * y[:1200].mean() + y[1200:].sum()) / 320
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(share, abs=0.02)


def test_levels_are_seen_to_vary_in_steps_that_see_few_of_the_tasks(monkeypatch):
    import skmeta.closed_form._gp_base as base

    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(400), 20)
    X = rng.normal(size=(8000, 1))
    y = rng.random(8000) < expit(-3 + 2 * rng.normal(size=400)[groups] + X[:, 0])
    found = []
    for n_rows in (8000, 400):  # a row is seen two or three times: without looking again, .79
        monkeypatch.setattr(base, "ROWS_PER_STEP", n_rows)
        model = HierarchicalGPClassifier(n_inducing=0, random_state=0).fit(X, y, groups=groups)
        found.append(float(model.learner_.hyper(0).constant) ** 0.5)
    assert found[1] == pytest.approx(found[0], rel=0.12)


def test_separable_rows_give_finite_answers():
    X, _, groups = tasks(n_tasks=8)
    y = (X[:, 0] > 0).astype(int)
    model = HierarchicalGPClassifier(**FAST).fit(X, y, groups=groups)
    assert model.score(X, y) > 0.95
    proba = model.adapt(X[:20], y[:20]).predict_proba(100 * X)
    assert np.isfinite(proba).all() and (proba >= 0).all()


@pytest.mark.parametrize(("n_inducing", "sizes"), [(0, [3, 1, 6, 4]), (5, [3, 1, 6, 4]), (5, [14])])
def test_the_slope_is_that_of_the_loss_with_the_mode_found_anew(n_inducing, sizes):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    X, y = rng.normal(size=(14, 2)), rng.random(14) < 0.3
    y[:2] = False, True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingleTaskWarning)
        model = HierarchicalGPClassifier(n_inducing=n_inducing, max_iter=1, random_state=0)
        model.fit(X, y, groups=groups)
    learner = model.learner_
    x = torch.tensor(model._scaled(X))
    rows = TaskRows.from_sizes(x, torch.arange(14), torch.tensor(sizes)).padded()
    learner._sign = torch.tensor(2.0 * y - 1)
    learner._theta, learner._at = None, torch.zeros(14, dtype=torch.float64)

    def loss(values):
        """And its slope, once Newton's method has come to its end."""
        for _ in range(60):
            values = values.detach().requires_grad_()
            h = learner._unpack(values)
            factor = learner._factor(h)
            parts = [learner._parts(h, rows, len(sizes) > 1, factor)]
            bound = bound_and_slopes(parts, 1.0, learner._bend([rows]))
            bound.backward()
            more = learner._look_again([rows], bound)
        return float(bound.value) + more, values.grad

    at = learner._first() + 0.3 * torch.randn(len(learner._first()), dtype=torch.float64)
    slope = loss(at)[1]
    for i in range(len(at)):
        step = torch.zeros_like(at)
        step[i] = 1e-4
        expected = (loss(at + step)[0] - loss(at - step)[0]) / 2e-4
        assert float(slope[i]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert float(slope.abs().max()) > 0.1
