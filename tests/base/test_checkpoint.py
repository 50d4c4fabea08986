"""Training that is killed goes on where it was, and ends with the same bits."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import nn

import skmeta
import skmeta.training._checkpoint as keeping
import skmeta.training._stream as streaming
from skmeta.base._checkpoint import CheckpointFile
from skmeta.base._container import from_bytes
from tests.base.tasks import alphabets, maml, proto, wards, waves
from tests.instances import small

EPISODIC = [
    "ALPaCARegressor",
    "MAMLClassifier",
    "MAMLRegressor",
    "MetaSVC",
    "ProtoNetClassifier",
    "RidgeHeadClassifier",
    "RidgeHeadRegressor",
]


class Killed(BaseException):
    """Stands for SIGKILL inside one process: nothing in the package catches it."""


class KillAfter(Callback):
    """Ends training after an epoch, or in the midst of one."""

    def __init__(self, epoch, batch=None):
        self.epoch, self.batch = epoch, batch

    def on_epoch_begin(self, net, **kwargs):
        self.n_batches_ = 0
        if self.batch is None and len(net.history) > self.epoch:
            raise Killed

    def on_batch_end(self, net, training=None, **kwargs):
        self.n_batches_ += 1
        if len(net.history) > self.epoch and self.n_batches_ == self.batch:
            raise Killed


class StopIn(Callback):
    """Ends training as a user may: at the begin, in the midst, or at the end of an epoch."""

    def __init__(self, epoch, hook):
        self.epoch, self.hook = epoch, hook

    def on_train_begin(self, net, **kwargs):
        self.n_epochs_ = 0

    def on_epoch_begin(self, net, **kwargs):
        self.n_epochs_ += 1
        self.stop("on_epoch_begin", net)

    def on_batch_end(self, net, **kwargs):
        self.stop("on_batch_end", net)

    def on_epoch_end(self, net, **kwargs):
        self.stop("on_epoch_end", net)

    def stop(self, hook, net):
        if (hook, len(net.history)) == (self.hook, self.epoch):
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def every_short_epoch(request, monkeypatch):
    monkeypatch.setattr(keeping, "SECONDS_BETWEEN", 0.0)
    if not request.node.get_closest_marker("slow"):  # those train in processes of their own
        monkeypatch.setattr(streaming, "MIN_STEPS", 8)


def data_for(name):
    return wards() if "Classifier" in name or name == "MetaSVC" else waves()


def dropout(n_inputs, n_outputs=4):
    """Draws from torch's own generator, and has averages besides weights."""
    return nn.Sequential(
        nn.Linear(n_inputs, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(8, n_outputs),
    )


def files(folder):
    return sorted(os.listdir(folder))


def same(first, second):
    for name, value in first.meta_params_.items():
        assert_array_equal(value, second.meta_params_[name], err_msg=name)
    for name, value in dict(first.learner_.named_buffers()).items():
        assert_array_equal(value.numpy(), dict(second.learner_.named_buffers())[name].numpy())
    assert first.history_ == second.history_
    assert first.n_iter_ == second.n_iter_


@pytest.mark.parametrize("name", EPISODIC)
def test_a_killed_fit_ends_with_the_same_bits(name, tmp_path):
    X, y, groups = data_for(name)
    model = small(name, max_epochs=4, early_stopping=True, tasks_per_batch=2)
    whole = model.fit(X, y, groups=groups)
    killed = small(name, max_epochs=4, early_stopping=True, tasks_per_batch=2)
    killed.set_params(checkpoint=tmp_path)
    for kill in (KillAfter(1), KillAfter(2, batch=3)):
        with pytest.raises(Killed):
            killed.set_params(callbacks=[kill]).fit(X, y, groups=groups)
        assert len(files(tmp_path)) == 1
    same(whole, killed.set_params(callbacks=None).fit(X, y, groups=groups))
    assert_array_equal(whole.predict(X), killed.predict(X))
    # Once done, calling fit again only reads.
    killed.set_params(callbacks=[KillAfter(0)]).fit(X, y, groups=groups)
    same(whole, killed)


@pytest.mark.parametrize("epoch", [0, 1, 3, 5])
def test_dropout_schedules_and_optimizers_go_on(epoch, tmp_path):
    X, y, groups = waves()
    options = {
        "module": dropout,
        "max_epochs": 6,
        "algorithm": "maml++",
        "optimizer": "adamw",
        "early_stopping": True,
        "validation_fraction": 0.3,
    }
    whole = maml(**options).fit(X, y, groups=groups)
    killed = maml(**options, checkpoint=str(tmp_path), callbacks=[KillAfter(epoch, batch=2)])
    with pytest.raises(Killed):
        killed.fit(X, y, groups=groups)
    same(whole, killed.set_params(callbacks=None).fit(X, y, groups=groups))


def test_a_fit_that_had_stopped_early_does_not_go_on(tmp_path, monkeypatch):
    import skmeta.training._train as training

    monkeypatch.setattr(training, "PATIENCE", 2)
    X, y, groups = waves()
    options = {"max_epochs": 40, "early_stopping": True, "lr": 0.3}
    whole = maml(**options).fit(X, y, groups=groups)
    assert whole.n_iter_ < 40

    def killed_before_the_end(self, *args, **kwargs):
        raise Killed

    model = maml(**options, checkpoint=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(keeping.KeepState, "on_train_end", killed_before_the_end)
        with pytest.raises(Killed):
            model.fit(X, y, groups=groups)
    same(whole, model.fit(X, y, groups=groups))


@pytest.mark.parametrize("name", ["MAMLRegressor", "MetaSVC", "ProtoNetClassifier"])
@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_batch_end", "on_epoch_end"])
def test_a_fit_that_a_callback_ended_goes_on(name, hook, tmp_path, monkeypatch):
    if hook != "on_batch_end":  # nothing is written but because training ends
        monkeypatch.setattr(keeping, "SECONDS_BETWEEN", 1e9)
    X, y, groups = data_for(name)
    options = {"max_epochs": 5, "early_stopping": True, "tasks_per_batch": 2}
    whole = small(name, **options).fit(X, y, groups=groups)
    model = small(name, **options, checkpoint=tmp_path)
    n_done = 2 if hook == "on_epoch_end" else 1
    for stop, n_epochs in ((StopIn(2, hook), n_done), (StopIn(4, "on_epoch_begin"), 3)):
        model.set_params(callbacks=[stop]).fit(X, y, groups=groups)
        assert model.history_ == whole.history_[:n_epochs]
        assert model.n_iter_ == n_epochs
        again = model.predict(X)
        # Ended at once, it is what it was.
        stop = StopIn(n_epochs + 1, "on_epoch_begin")
        model.set_params(callbacks=[stop]).fit(X, y, groups=groups)
        if hook != "on_batch_end" or n_epochs == 3:
            assert_array_equal(model.predict(X), again)
    counting = StopIn(None, None)
    same(whole, model.set_params(callbacks=[counting]).fit(X, y, groups=groups))
    assert counting.n_epochs_ == 2
    assert_array_equal(whole.predict(X), model.predict(X))


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_dropout_and_schedules_go_on_after_a_callback_ended_training(epoch, tmp_path):
    X, y, groups = waves()
    options = {"module": dropout, "max_epochs": 4, "optimizer": "adamw", "algorithm": "maml++"}
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.5)
    whole = maml(**options, callbacks=[schedule]).fit(X, y, groups=groups)
    model = maml(**options, checkpoint=tmp_path)
    model.set_params(callbacks=[StopIn(epoch, "on_epoch_end"), schedule]).fit(X, y, groups=groups)
    assert model.n_iter_ == epoch
    same(whole, model.set_params(callbacks=[KillAfter(4), schedule]).fit(X, y, groups=groups))


def test_other_callbacks_cannot_go_on_with_what_schedules_left(tmp_path):
    X, y, groups = waves()
    model = maml(max_epochs=3, checkpoint=tmp_path, callbacks=[StopIn(1, "on_epoch_end")])
    model.fit(X, y, groups=groups)
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.5)
    with pytest.raises(ValueError, match=r"with 0 rate schedules .* now there are 1"):
        model.set_params(callbacks=[schedule]).fit(X, y, groups=groups)


@pytest.mark.parametrize("ending", ["early stopping", "last epoch"])
def test_a_fit_that_is_done_does_not_go_on(ending, tmp_path):
    X, y, groups = waves()
    # No loss falls to a hundredth within an epoch: the second miss is in epoch three.
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=0.99)
    n_epochs = 9 if ending == "early stopping" else 3
    callbacks = [StopIn(3, "on_epoch_end"), *([stop] if n_epochs == 9 else [])]
    model = maml(max_epochs=n_epochs, checkpoint=tmp_path, callbacks=callbacks)
    done = model.fit(X, y, groups=groups)
    assert done.n_iter_ == 3
    counting = StopIn(None, None)
    callbacks = [counting, *callbacks[1:]]
    again = maml(max_epochs=n_epochs, checkpoint=tmp_path, callbacks=callbacks)
    same(done, again.fit(X, y, groups=groups))
    assert counting.n_epochs_ == 0


def test_ended_before_its_first_epoch_it_has_no_history(tmp_path):
    X, y, groups = waves()
    model = maml(max_epochs=2, checkpoint=tmp_path, early_stopping=True)
    model.set_params(callbacks=[StopIn(1, "on_epoch_begin")]).fit(X, y, groups=groups)
    assert model.history_ == [] and model.n_iter_ == 0
    whole = maml(max_epochs=2, early_stopping=True).fit(X, y, groups=groups)
    same(whole, model.set_params(callbacks=None).fit(X, y, groups=groups))


def test_without_a_seed_it_goes_on_with_the_one_it_began_with(tmp_path):
    X, y, groups = waves()
    model = maml(random_state=None, max_epochs=3, checkpoint=tmp_path, callbacks=[KillAfter(1)])
    with pytest.raises(Killed):
        model.fit(X, y, groups=groups)
    (name,) = files(tmp_path)
    head, _ = from_bytes((tmp_path / name).read_bytes())
    assert len(head["seeds"]) == 2
    done = model.set_params(callbacks=None).fit(X, y, groups=groups)
    same(done, maml(random_state=None, max_epochs=3, checkpoint=tmp_path).fit(X, y, groups=groups))


def test_other_parameters_and_other_data_have_other_files(tmp_path):
    X, y, groups = waves()
    fits = [
        (maml(), X, y, groups),
        (maml(lr=0.02), X, y, groups),
        (maml(random_state=1), X, y, groups),
        (maml(), X + 1e-9, y, groups),
        (maml(), X, -y, groups),
        (maml(), X, y, np.roll(groups, 5)),
        (maml(module=dropout), X, y, groups),
        (proto(), *alphabets()),
    ]
    for n, (model, *rows, ids) in enumerate(fits):
        model.set_params(checkpoint=tmp_path).fit(*rows, groups=ids)
        assert len(files(tmp_path)) == n + 1
    # What changes nothing of the weights has the same file.
    maml(verbose=1, checkpoint=str(tmp_path)).fit(X, y, groups=groups)
    assert len(files(tmp_path)) == len(fits)


def test_warm_starts_from_different_places_have_different_files(tmp_path):
    X, y, groups = waves()
    model = maml(warm_start=True, checkpoint=tmp_path)
    for n in range(3):
        model.fit(X, y, groups=groups)
        assert len(files(tmp_path)) == n + 1


def test_no_id_and_no_row_in_the_file(tmp_path):
    X, y, _ = wards()
    X = X.copy()
    X[3] = 123456.78125
    ids = np.array([f"SECRET-{i // 20}" for i in range(len(X))])
    model = small("MAMLClassifier", max_epochs=1, checkpoint=tmp_path)
    model.fit(X, y, groups=ids)
    data = b"".join((tmp_path / name).read_bytes() for name in files(tmp_path))
    assert b"SECRET" not in data
    for kind in (np.float32, np.float64):
        assert np.array(123456.78125, dtype=kind).tobytes() not in data


def test_a_folder_given_as_a_path_is_saved_as_its_name(tmp_path):
    X, y, groups = waves()
    model = maml(checkpoint=tmp_path / "training").fit(X, y, groups=groups)
    skmeta.save(model, tmp_path / "model")
    again = skmeta.load(tmp_path / "model")
    assert again.checkpoint == str(tmp_path / "training")
    assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_file_is_named(damage, tmp_path):
    X, y, groups = waves()
    maml(checkpoint=tmp_path).fit(X, y, groups=groups)
    (name,) = files(tmp_path)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-5] ^= 1
    path.write_bytes({"cut": data[:-7], "empty": b"", "other": b"x" * 100}.get(damage, data))
    with pytest.raises(ValueError, match=f"(?s){name}.*Delete it"):
        maml(checkpoint=tmp_path).fit(X, y, groups=groups)


def test_a_full_disk_is_an_error_in_words(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    X, y, groups = waves()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        maml(checkpoint=tmp_path).fit(X, y, groups=groups)
    assert files(tmp_path) == []


def test_what_a_killed_process_left_half_written_is_swept(tmp_path):
    file = CheckpointFile(tmp_path, "a" * 64)
    file.save({"n": 1})
    (name,) = files(tmp_path)
    old, new = tmp_path / f".{name}.1234.tmp", tmp_path / f".{name}.5678.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert CheckpointFile(tmp_path, "a" * 64).found == {"n": 1}
    assert files(tmp_path) == sorted([name, new.name])


SCRIPT = """
import sys, os, time
import torch
torch.set_num_threads(1)
import skmeta
import skmeta.training._checkpoint as keeping
import skmeta.base._container as container
keeping.SECONDS_BETWEEN = 0.0
folder, where = sys.argv[1:]
if where != "anywhere":
    place, nth = where.split(":")
    plain, count = getattr(os, place), [0]
    def die(*args, **kwargs):
        count[0] += 1
        if count[0] == int(nth):
            os.kill(os.getpid(), 9)
        return plain(*args, **kwargs)
    setattr(container.os, place, die)
from tests.base.tasks import maml, waves
X, y, groups = waves()
print("go", flush=True)
model = maml(max_epochs=12, checkpoint=folder).fit(X, y, groups=groups)
print(model.predict(X).tobytes().hex(), flush=True)
"""


def run(folder, where, seconds=None):
    """The script in a process of its own; killed after some seconds of training."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), where],
        stdout=subprocess.PIPE,
        text=True,
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
    )
    assert process.stdout.readline() == "go\n"
    if seconds is not None:
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    return out.strip()


def whole_files(folder):
    """Every checkpoint can be read: none is torn."""
    names = [name for name in files(folder) if name.endswith(".checkpoint")]
    for name in names:
        from_bytes((folder / name).read_bytes())
    return names


@pytest.mark.slow
def test_killed_while_writing(tmp_path):
    X, y, groups = waves()
    wanted = maml(max_epochs=12).fit(X, y, groups=groups).predict(X).tobytes().hex()
    # Before the data is on the disk; before it has its name.
    for where in ("fsync:1", "replace:1", "fsync:4", "replace:3"):
        assert run(tmp_path, where) == ""
        whole_files(tmp_path)
    assert run(tmp_path, "anywhere") == wanted


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    X, y, groups = waves()
    wanted = maml(max_epochs=12).fit(X, y, groups=groups).predict(X).tobytes().hex()
    rng = np.random.default_rng(0)
    n_killed = 0
    for turn in range(25):
        folder = tmp_path / str(turn // 5)
        folder.mkdir(exist_ok=True)
        n_killed += run(folder, "anywhere", rng.uniform(0.0, 1.0)) == ""
        whole_files(folder)
    assert n_killed > 10
    for turn in range(5):
        assert run(tmp_path / str(turn), "anywhere") == wanted
