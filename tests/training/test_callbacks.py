"""skorch's callbacks, and a user's own, in a meta-training."""

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import accuracy_score, mean_squared_error
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
)

from skmeta.core.tasks import Episodes, TaskRows
from skmeta.datasets import make_sinusoids
from skmeta.training import EpisodicNet
from tests.instances import small

STEPS = 50  # of an epoch, where there are few tasks


def quick(name="MAMLRegressor", **changes):
    sizes = {
        "max_epochs": 2,
        "tasks_per_batch": 4,
        "hidden_layer_sizes": (8,),
        "early_stopping": False,
    }
    if name == "MAMLRegressor":
        sizes["n_inner_steps"] = 1
    return small(name, **{**sizes, **changes})


def sinusoids():
    X, y, groups = make_sinusoids(12, 10, random_state=0)
    return {"X": X, "y": y, "groups": groups}


def blobs(ways=(3,) * 8, shared=True):
    """Classes that tasks share, or that each task has of its own."""
    rng = np.random.default_rng(0)
    X, y, groups = [], [], []
    for task, n_way in enumerate(ways):
        for way in range(n_way):
            X.append(rng.normal(size=(6, 3)) + rng.normal(size=3))
            y += [way if shared else 10 * task + way] * 6
            groups += [task] * 6
    return {"X": np.concatenate(X), "y": np.array(y), "groups": np.array(groups)}


class Weights(Callback):
    """Keeps a copy of the learner at the end of every epoch."""

    kept: list = []  # noqa: RUF012 (a callback is cloned with the estimator)

    def on_train_begin(self, net, **kwargs):
        self.kept = []

    def on_epoch_end(self, net, dataset_train, dataset_valid, **kwargs):
        self.kept.append(copy.deepcopy(net.module_))
        self.streams = (dataset_train, dataset_valid)


def assert_same_weights(model, learner):
    expected = dict(learner.named_parameters())
    for name, value in model.meta_params_.items():
        np.testing.assert_array_equal(value, expected[name].detach().double().numpy())


# ---------------------------------------------------------------- skorch's callbacks


@pytest.mark.parametrize("monitor", ["train_loss", "valid_loss"])
def test_early_stopping(monitor):
    # No loss falls to a hundredth within an epoch: the first is the best, and two misses end it.
    stop = EarlyStopping(monitor=monitor, patience=2, threshold=0.99)
    model = quick(max_epochs=9, callbacks=[stop], early_stopping=monitor == "valid_loss")
    model.fit(**sinusoids())
    assert model.n_iter_ == len(model.history_) == 3
    assert np.isfinite(model.predict(sinusoids()["X"])).all()


def test_a_rate_schedule_by_epoch():
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.1)
    model = quick(lr=0.01, max_epochs=3, callbacks=[schedule]).fit(**sinusoids())
    rates = [row["event_lr"] for row in model.history_]
    np.testing.assert_allclose(rates, [0.01, 0.001, 0.0001])


def test_a_rate_schedule_by_plateau():
    schedule = LRScheduler(
        torch.optim.lr_scheduler.ReduceLROnPlateau,
        monitor="valid_loss",
        patience=0,
        threshold=0.99,
        factor=0.5,
    )
    model = quick(lr=0.01, max_epochs=3, early_stopping=True, callbacks=[schedule])
    rates = [row["event_lr"] for row in model.fit(**sinusoids()).history_]
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.005])


def test_a_rate_schedule_by_step():
    seen = []

    class Rates(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(net.optimizer_.param_groups[0]["lr"])

    schedule = LRScheduler("StepLR", step_size=1, gamma=0.9, step_every="batch")
    quick(lr=0.01, callbacks=[schedule, Rates()]).fit(**sinusoids())
    np.testing.assert_allclose(seen, [0.01 * 0.9**STEPS, 0.01 * 0.9 ** (2 * STEPS)])


class BatchHook(Callback):
    def on_batch_end(self, net, **kwargs):
        pass


@pytest.mark.parametrize("others", [[], [BatchHook()]], ids=["epoch hooks", "batch hooks"])
def test_checkpoints_are_written_and_load(tmp_path, others):
    weights = Weights()
    checkpoint = Checkpoint(
        monitor="train_loss_best",
        dirname=str(tmp_path),
        f_params="params-{last_epoch[epoch]}.pt",
    )
    model = quick(max_epochs=3, callbacks=[weights, checkpoint, *others]).fit(**sinusoids())
    best = [row["epoch"] for row in model.history_ if row["train_loss_best"]]
    assert len(best) >= 2
    assert [row["event_cp"] for row in model.history_] == [
        row["train_loss_best"] for row in model.history_
    ]
    written = {path.name for path in tmp_path.iterdir() if path.name.startswith("params")}
    assert written == {f"params-{epoch}.pt" for epoch in best}
    for epoch in best:
        state = torch.load(tmp_path / f"params-{epoch}.pt", weights_only=True)
        kept = weights.kept[epoch - 1]
        for name, value in kept.state_dict().items():
            assert torch.equal(state[name], value)
        copy.deepcopy(kept).load_state_dict(state)
    assert (tmp_path / "optimizer.pt").exists() and (tmp_path / "history.json").exists()


def test_a_checkpoint_can_bring_back_the_best_epoch(tmp_path):
    weights = Weights()
    checkpoint = Checkpoint(monitor="is_second", dirname=str(tmp_path), load_best=True)

    class Second(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("is_second", len(net.history) == 2)

    model = quick(max_epochs=4, callbacks=[weights, Second(), checkpoint]).fit(**sinusoids())
    assert len(weights.kept) == 4
    assert_same_weights(model, weights.kept[1])
    assert model.n_iter_ == 2  # skorch winds the history back with the weights


def test_a_progress_bar_counts_meta_batches(capsys):
    seen = []

    class Bar(ProgressBar):
        def on_epoch_end(self, net, **kwargs):
            seen.append((self.pbar_.n, self.pbar_.total))
            super().on_epoch_end(net, **kwargs)

    quick(callbacks=[Bar()]).fit(**sinusoids())
    assert seen == [(STEPS, STEPS)] * 2
    assert f"/{STEPS}" in capsys.readouterr().err


def by_hand(learner, episodes):
    """Query answers and targets, each task by itself."""
    answers, targets = [], []
    for batch in episodes:
        for t in range(batch.n_tasks):
            support, query = batch.support.slice_tasks(t, t + 1), batch.query.slice_tasks(t, t + 1)
            state = learner.condition(TaskRows.single(support.x, support.y))
            with torch.no_grad():
                outputs = learner.predict(state, TaskRows.single(query.x))
            answers.append(outputs.argmax(1) if outputs.shape[1] > 1 else outputs[:, 0])
            targets.append(query.y.flatten())
    return torch.cat(targets).numpy(), torch.cat(answers).numpy()


@pytest.mark.parametrize("on_train", [True, False])
@pytest.mark.parametrize(
    ("name", "data", "scoring"),
    [
        ("MAMLRegressor", sinusoids(), "neg_mean_squared_error"),
        ("ProtoNetClassifier", blobs(), "accuracy"),
        ("ProtoNetClassifier", blobs((2, 3, 2, 4, 2, 3, 2, 4), shared=False), "accuracy"),
    ],
    ids=["regression", "shared classes", "classes of each task"],
)
def test_scores_of_an_epoch_are_those_of_its_fixed_episodes(name, data, scoring, on_train):
    weights = Weights()
    score = EpochScoring(scoring, lower_is_better=False, on_train=on_train, use_caching=False)
    model = quick(
        name,
        tasks_per_batch=2,
        early_stopping=True,
        validation_fraction=0.4,
        callbacks=[weights, score],
    ).fit(**data)
    episodes = weights.streams[0 if on_train else 1].X
    assert episodes is weights.streams[0 if on_train else 1].X
    for row, learner in zip(model.history_, weights.kept, strict=True):
        y, answers = by_hand(learner.eval(), episodes)
        metric = accuracy_score if scoring == "accuracy" else mean_squared_error
        expected = metric(y, answers)
        np.testing.assert_allclose(abs(row[scoring]), expected, rtol=1e-4)
    assert (model.history_[0][scoring] < 0) == (scoring != "accuracy")
    assert model.history_[0][f"{scoring}_best"] is True


@pytest.mark.parametrize("use_caching", [True, False])
def test_scoring_without_validation_or_with_caching_asked_for(use_caching):
    """skorch's default would cache outputs of batches, which there are none of."""
    score = EpochScoring("neg_mean_squared_error", on_train=True, use_caching=use_caching)
    nothing = EpochScoring("neg_mean_squared_error", name="valid", use_caching=use_caching)
    model = quick(callbacks=[score, nothing]).fit(**sinusoids())
    assert all(row["neg_mean_squared_error"] < 0 for row in model.history_)
    assert not any("valid" in row for row in model.history_)


class Norms(Callback):
    def __init__(self, norms):
        self.norms = norms

    def on_grad_computed(self, net, named_parameters, **kwargs):
        squares = [p.grad.square().sum() for _, p in named_parameters if p.grad is not None]
        self.norms.append(float(torch.stack(squares).sum().sqrt()))


def test_gradients_are_clipped():
    before, after = [], []
    callbacks = [Norms(before), GradientNormClipping(0.05), ("after", Norms(after))]
    quick(callbacks=callbacks).fit(**sinusoids())
    assert len(before) == len(after) == 2 * STEPS
    assert np.mean(np.array(before) > 0.06) > 0.5
    np.testing.assert_allclose(after, np.minimum(before, 0.05), rtol=1e-4)


# ---------------------------------------------------------------- a user's callbacks


class EpochHooks(Callback):
    def on_epoch_begin(self, net, **kwargs):
        net.history.record("seen", len(net.history))


@pytest.fixture
def notified(monkeypatch):
    names, notify = [], EpisodicNet.notify

    def spy(self, method_name, **kwargs):
        names.append(method_name)
        notify(self, method_name, **kwargs)

    monkeypatch.setattr(EpisodicNet, "notify", spy)
    return names


def test_epoch_hooks_alone_do_not_switch_batch_hooks_on(notified):
    model = quick(max_epochs=3, callbacks=[EpochHooks()]).fit(**sinusoids())
    assert notified == [
        "on_train_begin",
        *["on_epoch_begin", "on_epoch_end"] * 3,
        "on_train_end",
    ]
    assert [row["seen"] for row in model.history_] == [1, 2, 3]


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_batch_hook_is_called_once_a_meta_batch(notified, early_stopping):
    seen = []

    class Batches(Callback):
        def on_batch_end(self, net, batch, training, loss, **kwargs):
            assert isinstance(batch, Episodes)
            recorded = net.history[-1, "batches", -1, f"{'train' if training else 'valid'}_loss"]
            assert recorded == float(loss)
            seen.append((training, batch.n_tasks, recorded))

    model = quick(callbacks=[Batches()], early_stopping=early_stopping).fit(**sinusoids())
    training = [entry for entry in seen if entry[0]]
    assert len(training) == 2 * STEPS and {n for _, n, _ in training} == {4}
    assert (len(training) < len(seen)) == early_stopping
    assert notified.count("on_batch_end") == notified.count("on_batch_begin") == len(seen)
    losses = [loss for _, _, loss in training[:STEPS]]
    np.testing.assert_allclose(model.history_[0]["train_loss"], np.mean(losses))


def test_named_callbacks_and_clones():
    model = quick(callbacks=[("mine", EpochHooks()), EpochHooks()])
    for one in (model, clone(model)):
        assert one.fit(**sinusoids()).history_[1]["seen"] == 2
    assert clone(model).callbacks[1] is not model.callbacks[1]


class StopAt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt  # skorch's word for it


def test_callbacks_after_the_one_that_stops_hear_of_the_last_epoch():
    weights, after = Weights(), EpochScoring("neg_mean_squared_error", on_train=True)
    model = quick(
        max_epochs=9,
        early_stopping=True,
        validation_fraction=0.5,
        callbacks=[StopAt(2), weights, after],
        random_state=2,
    ).fit(**sinusoids())
    assert model.n_iter_ == len(weights.kept) == 2
    assert all("neg_mean_squared_error" in row for row in model.history_)
    # The last epoch is the best, and it is the one that is kept.
    assert model.history_[1]["valid_loss"] < 0.99 * model.history_[0]["valid_loss"]
    assert_same_weights(model, weights.kept[1])


def test_a_hook_can_stop_in_the_middle_of_an_epoch():
    class Impatient(Callback):
        def on_batch_end(self, net, training, **kwargs):
            if len(net.history[-1, "batches"]) == 7:
                raise KeyboardInterrupt

    model = quick(callbacks=[Impatient()]).fit(**sinusoids())
    assert model.n_iter_ == len(model.history_) == 0  # of whole epochs
    assert np.isfinite(model.predict(sinusoids()["X"])).all()
