"""Training itself: epochs, early stopping on held-out tasks, divergence, seeds, the bar."""

import copy
import itertools
import types

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EpochScoring, LRScheduler
from torch import nn

from skmeta.core.learner import Learner
from skmeta.core.sampling import RowSampler, WaySampler
from skmeta.core.tasks import TaskRows
from skmeta.exceptions import TrainingDivergedError
from skmeta.training import _stream, train
from skmeta.training._stream import EpisodeStream
from skmeta.training._train import PATIENCE
from tests.training.test_callbacks import Weights, assert_same_weights, blobs, quick, sinusoids

# ---------------------------------------------------------------- the stream


def stream(n_tasks, tasks_per_batch, sizes=None):
    """A stream over tasks whose every row holds the number of its task."""
    sizes = torch.full((n_tasks,), 4) if sizes is None else torch.tensor(sizes)
    x = torch.repeat_interleave(torch.arange(float(len(sizes))), sizes)[:, None]
    sampler = RowSampler(TaskRows.from_sizes(x, x.clone(), sizes), 2, 2)
    return EpisodeStream(sampler, tasks_per_batch, torch.Generator().manual_seed(0))


def tasks_of(episodes):
    support = episodes.support.x[episodes.support.offsets[:-1], 0].long().tolist()
    assert support == episodes.query.x[episodes.query.offsets[:-1], 0].long().tolist()
    return support


def joined(batches):
    return list(itertools.chain.from_iterable(batches))


def test_an_epoch_visits_every_task_once():
    epochs = stream(240, 4)
    orders = []
    for _ in range(2):
        batches = [tasks_of(episodes) for episodes in epochs]
        assert len(batches) == len(epochs) == 60
        orders.append(joined(batches))
        assert sorted(orders[-1]) == list(range(240))
    assert orders[0] != orders[1]


def test_an_epoch_of_tasks_that_do_not_fill_the_last_batch():
    batches = [tasks_of(episodes) for episodes in stream(203, 4)]
    assert [len(batch) for batch in batches] == [4] * 51
    assert set(joined(batches)) == set(range(203))


@pytest.mark.parametrize(("n_tasks", "tasks_per_batch"), [(7, 4), (3, 4), (1, 2), (60, 4)])
def test_few_tasks_make_fifty_steps(n_tasks, tasks_per_batch):
    batches = [tasks_of(episodes) for episodes in stream(n_tasks, tasks_per_batch)]
    assert [len(batch) for batch in batches] == [tasks_per_batch] * 50
    counts = np.bincount(joined(batches), minlength=n_tasks)
    assert np.ptp(counts) <= 1  # passes are whole, but for the last


@pytest.mark.parametrize("numbers", [1, 100, 2**24])
def test_blocks_of_draws_are_cut_into_meta_batches(monkeypatch, numbers):
    monkeypatch.setattr(_stream, "BLOCK_NUMBERS", numbers)
    batches = [tasks_of(episodes) for episodes in stream(240, 4)]
    assert [len(batch) for batch in batches] == [4] * 60
    assert sorted(joined(batches)) == list(range(240))


def test_tasks_of_one_row_never_come_up():
    batches = [tasks_of(episodes) for episodes in stream(0, 3, sizes=[4, 1, 5, 2, 1])]
    assert set(joined(batches)) == {0, 2, 3}


def test_fixed_episodes_are_drawn_once():
    epochs = stream(5, 2)
    fixed = epochs.fix(3)
    drawn = joined(tasks_of(episodes) for episodes in fixed)
    assert np.bincount(drawn).tolist() == [3] * 5
    assert epochs.X is fixed and epochs.X is fixed
    assert len(epochs.y) == sum(len(episodes.query.x) for episodes in fixed)


# ---------------------------------------------------------------- early stopping


class Spy:
    """Records which tasks each sampler draws; a task is told by the first column of its rows."""

    def __init__(self, monkeypatch, cls):
        self.seen = {}
        draw = cls.draw

        def spied(sampler, tasks, generator):
            episodes = draw(sampler, tasks, generator)
            for rows in (episodes.support, episodes.query):
                self.seen.setdefault(id(sampler), (sampler, set()))[1].update(rows.x[:, 0].tolist())
            return episodes

        monkeypatch.setattr(cls, "draw", spied)

    def units(self):
        return [rows for _, rows in self.seen.values()]


class FirstColumnIsTheTask(nn.Module):
    """Not standardised, because it is a module of the user's; ignores the first column."""

    def __init__(self, n_inputs, n_outputs=4):
        super().__init__()
        self.linear = nn.Linear(1, n_outputs)

    def forward(self, x):
        return self.linear(x[:, 1:])


def test_no_row_of_a_validation_task_is_trained_on(monkeypatch):
    spy = Spy(monkeypatch, RowSampler)
    data = sinusoids()
    data["X"] = np.column_stack([data["groups"], data["X"]])
    model = quick(module=FirstColumnIsTheTask, early_stopping=True, validation_fraction=0.25)
    model.fit(**data)
    valid, train = sorted(spy.units(), key=len)
    assert (len(train), len(valid)) == (9, 3)
    assert not train & valid
    assert train | valid == set(range(12))


def test_no_row_of_a_validation_class_is_trained_on_without_groups(monkeypatch):
    spy = Spy(monkeypatch, WaySampler)
    data = blobs((12,), shared=False)
    data["X"] = np.column_stack([data["y"], data["X"][:, 0]])
    model = quick("ProtoNetClassifier", module=FirstColumnIsTheTask, early_stopping=True)
    model.set_params(validation_fraction=0.25).fit(data["X"], data["y"])
    # (Held-out classes are asked once more, of how sure the answers may be.)
    train, valid, *again = sorted(spy.units(), key=len)[::-1]
    assert again and all(part <= valid for part in again)
    assert (len(train), len(valid)) == (9, 3)
    assert not train & valid
    assert train | valid == set(range(12))


def loss_of(learner, episodes):
    learner = copy.deepcopy(learner).float().eval()
    losses = [learner.episode_loss(batch, torch.Generator()).item() for batch in episodes]
    return np.average(losses, weights=[batch.n_tasks for batch in episodes])


def test_early_stopping_ends_a_stalled_training_with_the_best_weights():
    weights = Weights()
    model = quick(
        lr=0.03,
        max_epochs=60,
        early_stopping=True,
        validation_fraction=0.5,
        callbacks=[weights],
        random_state=1,
    ).fit(**sinusoids())
    losses = [row["valid_loss"] for row in model.history_]
    best = int(np.argmin(losses))
    assert len(losses) == model.n_iter_ == best + PATIENCE + 1 < 60
    assert_same_weights(model, weights.kept[best])
    episodes = weights.streams[1].X
    np.testing.assert_allclose(loss_of(model.learner_, episodes), losses[best], rtol=1e-4)
    assert loss_of(weights.kept[-1], episodes) > losses[best]
    assert [row["valid_loss_best"] for row in model.history_] == [
        loss < min(losses[:i], default=np.inf) for i, loss in enumerate(losses)
    ]


def test_early_stopping_needs_tasks_to_hold_out():
    def fit(keep):
        data = {key: value[keep] for key, value in sinusoids().items()}
        return quick(early_stopping=True).fit(**data)

    groups = sinusoids()["groups"]
    assert "valid_loss" in fit(groups < 2).history_[0]
    # A task of one row gives no episode, so it is none to hold out either.
    first_row = np.arange(len(groups)) == 0
    with pytest.raises(ValueError, match="holds out whole tasks"):
        fit(first_row | (groups == 1))


# ---------------------------------------------------------------- losses that are not finite


class Scripted(Learner):
    """Its loss is the square of its only weight, but for the steps that the script names."""

    def __init__(self, script=None, valid_script=None):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.scripts = {True: script or {}, False: valid_script or {}}
        self.steps = {True: 0, False: 0}

    def episode_loss(self, episodes, generator):
        what = self.scripts[self.training].get(self.steps[self.training], 1.0)
        self.steps[self.training] += 1
        if isinstance(what, BaseException):
            raise what
        return self.weight**2 * what

    def condition(self, support):
        raise NotImplementedError

    def predict(self, state, query):
        raise NotImplementedError


def run(learner, valid=False, **changes):
    sampler = stream(6, 2)._sampler
    given = {
        "max_epochs": 3,
        "tasks_per_batch": 2,
        "lr": 0.01,
        "optimizer": "adam",
        "callbacks": None,
        "classifier": False,
        "generator": torch.Generator().manual_seed(0),
        "verbose": 0,
    }
    return train(learner, sampler, sampler if valid else None, **{**given, **changes})


def test_a_diverging_training_names_epoch_and_step():
    learner = Scripted(dict.fromkeys(range(56, 200), np.nan))
    with pytest.raises(TrainingDivergedError, match=r"training loss .* epoch 2, step 7\. Lower lr"):
        run(learner)
    assert isinstance(TrainingDivergedError(), ValueError)
    learner = Scripted(valid_script=dict.fromkeys(range(20), np.inf))
    with pytest.raises(TrainingDivergedError, match=r"validation loss .* epoch 1, step 1\."):
        run(learner, valid=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_few_lost_steps_do_no_harm(value):
    learner = Scripted(dict.fromkeys((0, 20, 30, 60), value))
    history = run(learner)
    assert all(np.isfinite(row["train_loss"]) for row in history)
    assert 0 < learner.weight.item() < 1  # it went on learning


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_an_estimator_whose_training_diverges(optimizer):
    with pytest.raises(TrainingDivergedError, match=r"epoch \d+, step \d+.*Lower lr"):
        quick(lr=1e30, optimizer=optimizer).fit(**sinusoids())


def test_an_interrupt_by_the_user_is_passed_on():
    with pytest.raises(KeyboardInterrupt):
        run(Scripted({60: KeyboardInterrupt()}))
    with pytest.raises(ZeroDivisionError):
        run(Scripted({60: ZeroDivisionError()}))


@pytest.mark.parametrize("hook", ["on_train_begin", "on_train_end"])
def test_an_interrupt_outside_of_the_epochs_is_passed_on(hook):
    def interrupt(self, net, **kwargs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Scripted(), callbacks=[type("Interrupted", (Callback,), {hook: interrupt})()])


def test_large_gradients_are_shortened():
    class Norm(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            norms.append(float(net.module_.weight.grad.abs()))

    norms = []
    run(Scripted(dict.fromkeys(range(0, 150, 2), 1000000.0)), callbacks=[Norm()])
    np.testing.assert_allclose(norms[::2], 10.0, rtol=1e-5)
    assert max(norms[1::2]) <= 2.0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", torch.optim.RMSprop])
def test_optimizers(optimizer):
    learner = Scripted()
    run(learner, optimizer=optimizer, max_epochs=1)
    same = torch.tensor(1.0, requires_grad=True)
    cls = _OPTIMIZERS.get(optimizer, optimizer)
    reference = cls([same], lr=0.01)
    for _ in range(50):
        reference.zero_grad()
        (same**2).backward()
        reference.step()
    np.testing.assert_allclose(learner.weight.item(), same.item(), rtol=1e-4)


_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


# ---------------------------------------------------------------- records, seeds, warm starts


def test_the_history_is_plain():
    callbacks = [
        LRScheduler("StepLR", step_size=1),
        EpochScoring("neg_mean_squared_error", on_train=True),
        EpochScoring("r2", lower_is_better=False),
    ]
    model = quick(early_stopping=True, callbacks=callbacks).fit(**sinusoids())
    assert type(model.history_) is list
    for row in model.history_:
        assert type(row) is dict
        assert {"epoch", "train_loss", "valid_loss", "event_lr", "r2"} <= set(row)
        assert {type(value) for value in row.values()} == {int, float, bool}
    assert [row["epoch"] for row in model.history_] == [1, 2]


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("name", ["MAMLRegressor", "ProtoNetClassifier"])
def test_same_seed_same_model(name, early_stopping):
    data = sinusoids() if name == "MAMLRegressor" else blobs()

    def fit(random_state, callbacks=None):
        model = quick(name, early_stopping=early_stopping, random_state=random_state)
        return model.set_params(callbacks=callbacks).fit(**data)

    first, second, other = fit(0), fit(0), fit(1)
    assert first.history_ == second.history_ != other.history_
    # Listening changes nothing.
    watched = fit(0, [Weights()])
    assert watched.history_ == first.history_
    for key, value in first.meta_params_.items():
        np.testing.assert_array_equal(value, second.meta_params_[key])
        np.testing.assert_array_equal(value, watched.meta_params_[key])


def test_warm_start_goes_on_from_the_last_fit():
    data = sinusoids()
    model = quick(warm_start=True, max_epochs=10).fit(**data)
    before = {key: value.copy() for key, value in model.meta_params_.items()}
    losses = [row["train_loss"] for row in model.history_]
    model.set_params(max_epochs=1, lr=1e-12).fit(**data)
    for key, value in model.meta_params_.items():
        np.testing.assert_allclose(value, before[key], atol=1e-8)
    assert model.history_[0]["train_loss"] < losses[0]
    assert model.n_iter_ == 1
    cold = quick(max_epochs=1, lr=1e-12).fit(**data)
    assert any(np.abs(cold.meta_params_[key] - before[key]).max() > 1e-2 for key in before)


def test_warm_start_refuses_other_sizes():
    data = sinusoids()
    model = quick(warm_start=True).fit(**data)
    model.set_params(hidden_layer_sizes=(9,))
    text = "warm_start=True, but the fitted parameters do not fit"
    with pytest.raises(ValueError, match=text) as refusal:
        model.fit(**data)
    assert "state_dict" not in str(refusal.value) and refusal.value.__suppress_context__
    model.set_params(hidden_layer_sizes=(8,)).fit(**data)
    with pytest.raises(ValueError, match="Set warm_start=False to start anew"):
        model.fit(np.column_stack([data["X"]] * 2), data["y"], groups=data["groups"])


def test_devices():
    data = sinusoids()
    expected = quick(device="cpu").fit(**data)
    if not torch.cuda.is_available():
        auto = quick(device="auto").fit(**data)
        np.testing.assert_array_equal(auto.predict(data["X"]), expected.predict(data["X"]))
        with pytest.raises(ValueError, match="device='cuda' cannot be used here"):
            quick(device="cuda").fit(**data)
    with pytest.raises(ValueError, match="device='abacus' cannot be used here"):
        quick(device="abacus").fit(**data)
    assert {p.device.type for p in expected.learner_.parameters()} == {"cpu"}


# ---------------------------------------------------------------- the bar


@pytest.fixture
def clock(monkeypatch):
    """A clock for the bar that runs ``step`` seconds at every glance."""
    state = types.SimpleNamespace(now=0.0, step=0.0)

    def glance():
        state.now += state.step
        return state.now

    monkeypatch.setattr("tqdm.std.time", glance)
    return state


@pytest.mark.parametrize(
    ("verbose", "step", "shown"), [(1, 0.7, True), (1, 0.0, False), (0, 0.7, False)]
)
def test_a_bar_is_shown_on_long_fits_only(capsys, clock, verbose, step, shown):
    clock.step = step
    quick(max_epochs=4, early_stopping=True, verbose=verbose).fit(**sinusoids())
    out, err = capsys.readouterr()
    assert out == ""
    assert bool(err) == shown
    if shown:
        for part in ("4/4", "epoch", "train_loss", "valid_loss"):
            assert part in err
