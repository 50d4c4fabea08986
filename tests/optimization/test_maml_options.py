"""The options of MAMLRegressor and MAMLClassifier: algorithms, losses, classes, schedules."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn

from skmeta import MAMLClassifier, MAMLRegressor, ProtoNetClassifier
from skmeta.datasets import make_sinusoids
from skmeta.model_selection import TaskScorer
from tests.base.tasks import alphabets, wards

SMALL = {"random_state": 0, "hidden_layer_sizes": (16,), "lr": 0.01}
ALGORITHMS = ["maml", "fomaml", "anil", "reptile", "maml++"]


def counts(n_tasks=12, n_rows=20, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_tasks * n_rows, 2))
    groups = np.repeat(np.arange(n_tasks), n_rows)
    level = rng.normal(size=n_tasks)[groups]
    return X, rng.poisson(20 * np.exp(0.5 * X[:, 0] + 0.5 * level)).astype(float), groups


def batch_norm(n_inputs, n_outputs=8):
    return nn.Sequential(
        nn.Linear(n_inputs, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_outputs)
    )


# ---------------------------------------------------------------- algorithms


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_learns_to_learn_sinusoids(algorithm):
    X, y, groups = make_sinusoids(n_tasks=100, n_rows=20, random_state=0)
    reptile = {"max_epochs": 60} if algorithm == "reptile" else {}
    model = MAMLRegressor(
        (32, 32), algorithm=algorithm, **{"max_epochs": 25, "random_state": 0, **reptile}
    )
    model.fit(X, y, groups=groups)
    new = make_sinusoids(n_tasks=60, n_rows=20, random_state=1)
    before, after = (
        -TaskScorer("neg_mean_squared_error", n_support=k, n_repeats=2)(model, *new)
        for k in (0, 10)
    )
    assert after < 0.5 * before, (before, after)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_any_number_of_ways_at_adapt(algorithm):
    X, y, groups = alphabets(n_tasks=6, n_classes=4)
    model = MAMLClassifier(algorithm=algorithm, max_epochs=2, n_way=3, **SMALL)
    model.fit(X, y, groups=groups)
    assert not model.shared_classes_
    for labels in (["x"], ["b", "a"], list("fedcba")):
        rng = np.random.default_rng(len(labels))
        centres = 4 * rng.normal(size=(len(labels), X.shape[1]))
        codes = np.repeat(np.arange(len(labels)), 3)
        rows = centres[codes] + 0.1 * rng.normal(size=(len(codes), X.shape[1]))
        adapted = model.adapt(rows, np.array(labels)[codes])
        assert_array_equal(adapted.classes_, sorted(labels))
        assert adapted.predict_proba(rows).shape == (len(rows), len(labels))
        assert_array_equal(adapted.predict(rows), np.array(labels)[codes])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("module", [None, batch_norm])
def test_shared_classes_keep_every_column_after_a_support_of_one_class(algorithm, module):
    X, y, groups = wards()
    model = MAMLClassifier(algorithm=algorithm, module=module, max_epochs=1, **SMALL)
    if algorithm == "maml++" and module is None:
        assert model._inner_options()["per_step_norm"]  # nothing to do without batch norms
    model.fit(X, y, groups=groups)
    one = y == y[0]
    adapted = model.adapt(X[one][:3], y[one][:3])
    assert_array_equal(adapted.classes_, model.classes_)
    assert adapted.predict_proba(X[:5]).shape == (5, len(model.classes_))


def test_adaptation_helps_where_tasks_turn_the_labels_round():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40 * 24, 2))
    groups = np.repeat(np.arange(40), 24)
    turn = rng.choice([-1, 1], size=40)[groups]
    y = np.where(turn * X[:, 0] > 0, "sick", "well")
    train = groups < 30
    model = MAMLClassifier(max_epochs=10, **SMALL).fit(X[train], y[train], groups=groups[train])
    new = X[~train], y[~train], groups[~train]
    before, after = (TaskScorer("accuracy", n_support=k)(model, *new) for k in (0, 10))
    assert before < 0.65 and after > 0.8, (before, after)


def test_more_steps_at_adapt_than_in_training():
    X, y, groups = wards()
    few, many = (
        MAMLClassifier(max_epochs=1, n_inner_steps=1, n_adapt_steps=n, **SMALL)
        .fit(X, y, groups=groups)
        .adapt(X[:8], y[:8])
        for n in (None, 20)
    )
    rows = np.arange(8)
    sure = [m.predict_proba(X[:8])[rows, np.searchsorted(m.classes_, y[:8])] for m in (few, many)]
    assert np.log(sure[1]).mean() > np.log(sure[0]).mean()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"algorithm": "reptile", "learn_inner_lr": "layer"}, "learn_inner_lr"),
        ({"algorithm": "reptile", "multi_step_loss": True}, "multi_step_loss"),
        ({"algorithm": "fomaml", "derivative_order_annealing": True}, "derivative_order"),
        ({"algorithm": "anil", "per_step_norm": True}, "per_step_norm"),
    ],
)
def test_an_option_that_the_algorithm_has_no_use_for_is_refused(options, name):
    X, y, groups = make_sinusoids(n_tasks=5, n_rows=6, random_state=0)
    with pytest.raises(ValueError, match=name):
        MAMLRegressor(**options).fit(X, y, groups=groups)


def test_cosine_schedule_falls_to_zero():
    class Rates(Callback):
        def __init__(self):
            self.seen = []

        def on_epoch_begin(self, net, **kwargs):
            self.seen.append(net.optimizer_.param_groups[0]["lr"])

    X, y, groups = make_sinusoids(n_tasks=5, n_rows=8, random_state=0)
    options = {"max_epochs": 4, "early_stopping": False, "random_state": 0, "lr": 0.01}
    for schedule in ("cosine", "constant"):
        rates = Rates()
        model = MAMLRegressor(lr_schedule=schedule, callbacks=[rates], **options)
        model.fit(X, y, groups=groups)
        wanted = 0.01 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
        assert_allclose(rates.seen, wanted if schedule == "cosine" else 0.01)
        assert "event_lr" not in model.history_[0]


@pytest.mark.parametrize("algorithm", ["maml++", "anil"])
def test_warm_start_and_another_start_keep_shapes(algorithm):
    X, y, groups = alphabets(n_tasks=5, n_classes=3)
    model = MAMLClassifier(
        algorithm=algorithm, module=batch_norm, max_epochs=1, warm_start=True, random_state=0
    )
    first = model.fit(X, y, groups=groups).meta_params_
    first = {name: value.copy() for name, value in first.items()}
    model.fit(X, y, groups=groups)
    assert {n: v.shape for n, v in first.items()} == {
        n: v.shape for n, v in model.meta_params_.items()
    }
    assert any(not np.array_equal(first[n], v) for n, v in model.meta_params_.items())


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize(
    ("name", "torch_loss"),
    [
        ("squared_error", nn.MSELoss()),
        ("absolute_error", nn.L1Loss(reduction="sum")),
        ("huber", nn.HuberLoss()),
    ],
)
def test_a_torch_loss_is_the_named_one(name, torch_loss):
    X, y, groups = make_sinusoids(n_tasks=12, n_rows=10, random_state=0)
    named, given = (
        MAMLRegressor(loss=loss, max_epochs=1, **SMALL).fit(X, y, groups=groups).adapt(X[:5], y[:5])
        for loss in (name, torch_loss)
    )
    assert_allclose(named.predict(X), given.predict(X), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_quantiles_cover_what_they_say():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 1))
    groups = np.repeat(np.arange(30), 40)
    y = rng.normal(size=30)[groups] + X[:, 0] + rng.exponential(size=1200)
    model = MAMLRegressor(loss="quantile", quantile=0.8, n_support=20, max_epochs=20, **SMALL)
    model.fit(X, y, groups=groups)
    assert abs((y < model.predict(X)).mean() - 0.8) < 0.08  # of the population
    below = []
    for task in range(5):
        own = groups == task
        below.append(y[own][20:] < model.adapt(X[own][:20], y[own][:20]).predict(X[own][20:]))
    assert abs(np.mean(below) - 0.8) < 0.12


def test_poisson_rates():
    X, y, groups = counts()
    model = MAMLRegressor(loss="poisson", max_epochs=15, **SMALL).fit(X, y, groups=groups)
    assert_allclose(model.y_scale_, y.mean())
    rate = model.predict(X)
    assert (rate > 0).all()
    assert abs(rate.mean() / y.mean() - 1) < 0.25
    own = groups == 0
    adapted = model.adapt(X[own][:10], y[own][:10]).predict(X[own][10:])
    errors = [np.square(p - y[own][10:]).mean() for p in (adapted, rate[own][10:])]
    assert errors[0] < errors[1]


def test_poisson_says_no_to_what_is_no_count():
    X, y, groups = counts(4)
    with pytest.raises(ValueError, match="counts"):
        MAMLRegressor(loss="poisson").fit(X, y - 1e6, groups=groups)
    with pytest.raises(ValueError, match="augmentation"):
        MAMLRegressor(loss="poisson", augmentation=0.5).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="loss='poisson'"):
        MAMLRegressor(loss=nn.PoissonNLLLoss()).fit(X, y, groups=groups)
    model = MAMLRegressor(loss="poisson", max_epochs=1, **SMALL).fit(X, y, groups=groups)
    model.set_params(loss="squared_error")  # no effect before the next fit
    with pytest.raises(ValueError, match="counts"):
        model.adapt(X[:2], [-1.0, 2.0])
    assert (model.predict(X) > 0).all()


@pytest.mark.parametrize("options", [{"quantile": 0.5}, {"loss": "quantile"}])
def test_a_quantile_goes_with_its_loss(options):
    X, y, groups = counts(4)
    with pytest.raises(ValueError, match="quantile"):
        MAMLRegressor(**options).fit(X, y, groups=groups)


def test_class_weights_move_the_border():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2))
    y = np.where(X[:, 0] + rng.normal(size=600) > 1.5, "sick", "well")
    groups = np.repeat(np.arange(10), 60)
    options = {"max_epochs": 5, "random_state": 0, "hidden_layer_sizes": (8,)}
    plain, balanced, named = (
        MAMLClassifier(class_weight=w, **options).fit(X, y, groups=groups)
        for w in (None, "balanced", {"sick": (y == "well").mean(), "well": (y == "sick").mean()})
    )
    assert_allclose(balanced.class_weight_, named.class_weight_)
    assert_allclose(balanced.class_weight_[np.searchsorted(balanced.classes_, y)].mean(), 1.0)
    share = [(m.predict(X) == "sick").mean() for m in (plain, balanced)]
    assert share[1] > share[0] + 0.1
    assert_array_equal(plain.class_weight_, [1.0, 1.0])


@pytest.mark.parametrize("estimator", [MAMLClassifier, ProtoNetClassifier])
def test_a_torch_loss_for_classes(estimator):
    options = {"max_epochs": 1, "random_state": 0, "hidden_layer_sizes": (8,)}
    for X, y, groups in (wards(), alphabets(n_tasks=5, n_classes=3)):
        plain, same, smooth = (
            clone(estimator(loss=loss, **options))
            .fit(X, y, groups=groups)
            .adapt(X[:16:2], y[:16:2])
            for loss in (
                "log_loss",
                nn.CrossEntropyLoss(),
                nn.CrossEntropyLoss(label_smoothing=0.3),
            )
        )
        assert_allclose(plain.predict_proba(X), same.predict_proba(X), atol=1e-3)
        assert np.abs(plain.predict_proba(X) - smooth.predict_proba(X)).max() > 1e-3


def test_class_weights_that_mean_nothing_are_refused():
    X, y, groups = alphabets(n_tasks=5, n_classes=3)
    with pytest.raises(ValueError, match="class_weight"):
        MAMLClassifier(class_weight="balanced").fit(X, y, groups=groups)
    X, y, groups = wards()
    with pytest.raises(ValueError, match="class_weight"):
        MAMLClassifier(class_weight="balanced", loss=nn.CrossEntropyLoss()).fit(X, y, groups=groups)
    for odd in (0.0, -1.0, np.nan, np.inf):
        weights = dict.fromkeys(np.unique(y).tolist(), odd)
        with pytest.raises(ValueError, match="class_weight must be finite, not negative"):
            MAMLClassifier(class_weight=weights).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="number for every row"):
        MAMLClassifier(loss=lambda scores, labels: scores.mean()).fit(X, y, groups=groups)


def test_adapting_predicts_alike_in_one_call_and_alone():
    X, y, groups = alphabets(n_tasks=6, n_classes=4)
    model = MAMLClassifier(module=batch_norm, max_epochs=1, random_state=0)
    model.fit(X, y, groups=groups)
    assert all(torch.isfinite(v).all() for v in model.state_.values())
    from skmeta.model_selection import predict_tasks

    own = groups == groups[0]
    other = groups == groups[-1]
    both = own | other
    proba = predict_tasks(
        model, X[both], y[both], groups[both], X[both], groups[both], method="predict_proba"
    )
    classes = np.unique(y[both])
    alone = model.adapt(X[own], y[own])
    columns = np.searchsorted(classes, alone.classes_)
    assert_allclose(proba[own[both]][:, columns], alone.predict_proba(X[own]), atol=1e-9)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (nn.L1Loss, r"loss is a class: give an instance, L1Loss\(\)"),
        (lambda outputs, targets: np.abs(outputs - targets), "The loss failed on outputs"),
    ],
)
def test_a_loss_that_fails_is_not_taken_for_a_module(loss, words):
    X, y, groups = make_sinusoids(4, 6, random_state=0)
    with pytest.raises(ValueError, match=words):
        MAMLRegressor(loss=loss, max_epochs=1).fit(X, y, groups=groups)
