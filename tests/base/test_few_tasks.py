"""Two to nine tasks: how long to train is told by leaving each of them out once."""

import os

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import skmeta.training._checkpoint as keeping
from skmeta.base import _training as few
from skmeta.base._container import from_bytes
from skmeta.core.sampling import LevelSampler, RowSampler, WaySampler
from skmeta.exceptions import TrainingDivergedError
from skmeta.model_selection import predict_tasks
from skmeta.training import _stream
from tests.base.tasks import alphabets, wards, waves
from tests.base.test_checkpoint import EPISODIC, KillAfter, Killed, data_for, dropout, same
from tests.instances import small
from tests.training.test_callbacks import Weights, assert_same_weights
from tests.training.test_train import FirstColumnIsTheTask, Spy, clock

__all__ = ["clock"]  # a fixture

RATE = 0.3  # of ones, where columns tell nothing


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(few, "TRIAL_PATIENCE", 2)


@pytest.fixture
def short(monkeypatch):
    """Epochs of few steps, where only their number matters."""
    monkeypatch.setattr(_stream, "MIN_STEPS", 5)


def maml(**changes):
    how = {"max_epochs": 6, "tasks_per_batch": 4, "n_inner_steps": 1, "lr": 0.03}
    return small("MAMLRegressor", **{**how, **changes})


def some(n_tasks, data=None):
    """The first tasks of a data set."""
    X, y, groups = waves() if data is None else data
    kept = groups < n_tasks
    return X[kept], y[kept], groups[kept]


def fitted(model, data):
    X, y, groups = data
    return model.fit(X, y, groups=groups)


def trials_of(folder):
    """What the only checkpoint of a folder says of the trials."""
    (name,) = os.listdir(folder)
    head, _ = from_bytes((folder / name).read_bytes())
    return [trial["losses"] for trial in head["trials"]]


@pytest.fixture
def counted(monkeypatch):
    """How many samplers of training and of left-out tasks each fit was given."""
    counts = []
    plain = few.EpisodicTraining._run_trials

    def spied(self, learner, trials, *args, **how):
        counts.append(len(trials))
        return plain(self, learner, trials, *args, **how)

    monkeypatch.setattr(few.EpisodicTraining, "_run_trials", spied)
    return counts


# ---------------------------------------------------------------- what it is for


def noise(n_tasks, seed, levels=False):
    """Tasks of thirty rows and ten columns that say nothing of the target."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), 30)
    X = rng.normal(size=(len(groups), 10))
    if levels:
        return X, rng.normal(size=len(groups)), groups
    return X, (rng.random(len(groups)) < RATE).astype(int), groups


def left_out(model, X, y, groups, method):
    """Answers for twenty rows of each task after ten, and the truth."""
    known = np.arange(len(groups)) % 30 < 10
    given = X[known], y[known], groups[known], X[~known], groups[~known]
    return predict_tasks(model, *given, method=method), y[~known]


@pytest.mark.parametrize("name", ["MAMLClassifier", "ProtoNetClassifier", "RidgeHeadClassifier"])
def test_classifiers_do_not_learn_few_tasks_by_heart(name):
    def log_loss(early_stopping):
        how = {"max_epochs": 8, "tasks_per_batch": 4, "lr": 0.01, "early_stopping": early_stopping}
        how |= {"n_inner_steps": 1} if name == "MAMLClassifier" else {}
        model = fitted(small(name, **how), noise(3, 0))
        p, truth = left_out(model, *noise(20, 1), "predict_proba")
        return -np.log(p[np.arange(len(p)), truth].clip(1e-9)).mean()

    base_rate = -(RATE * np.log(RATE) + (1 - RATE) * np.log(1 - RATE))
    assert log_loss(False) > base_rate + 1.5
    assert log_loss("auto") < base_rate + 0.4


@pytest.mark.parametrize("name", ["MAMLRegressor", "RidgeHeadRegressor", "ALPaCARegressor"])
def test_regressors_do_not_learn_few_tasks_by_heart(name):
    def excess(early_stopping):
        how = {"max_epochs": 8, "tasks_per_batch": 4, "lr": 0.01, "early_stopping": early_stopping}
        how |= {"n_inner_steps": 1} if name == "MAMLRegressor" else {}
        model = fitted(small(name, **how), noise(3, 0, levels=True))
        predicted, truth = left_out(model, *noise(20, 1, levels=True), "predict")
        return np.mean((predicted - truth) ** 2) - np.mean(truth**2)

    assert excess("auto") < 0.5 * excess(False)


# ---------------------------------------------------------------- what is done


@pytest.mark.parametrize("n_tasks", [2, 3, 8])
def test_it_trains_for_the_epochs_that_did_best(n_tasks, tmp_path, short):
    data = some(n_tasks)
    model = fitted(maml(checkpoint=tmp_path), data)
    curves = trials_of(tmp_path)
    assert len(curves) == min(3, n_tasks)
    assert all(len(curve) <= 6 for curve in curves)
    # A trial ends two epochs after its best, or with the last epoch.
    assert all(len(curve) in (np.argmin(curve) + 3, 6) for curve in curves)
    longest = max(map(len, curves))
    filled = [np.pad(curve, (0, longest - len(curve)), mode="edge") for curve in curves]
    assert model.n_iter_ == len(model.history_) == np.mean(filled, axis=0).argmin() + 1
    assert [row["epoch"] for row in model.history_] == list(range(1, model.n_iter_ + 1))
    assert all("valid_loss" not in row for row in model.history_)
    assert os.listdir(tmp_path)


@pytest.mark.parametrize("name", [*EPISODIC, "dropout"])
def test_the_trials_leave_nothing_behind(name, short):
    """Trained on all tasks from the same start, with the same draws, as if there were none."""
    how = {"max_epochs": 5, "tasks_per_batch": 2, "lr": 0.05}
    if name == "dropout":  # and batch norm
        name, how["module"] = "MAMLRegressor", dropout
    told = fitted(small(name, **how), data_for(name))
    plain = small(name, **{**how, "max_epochs": told.n_iter_}, early_stopping=False)
    same(told, fitted(plain, data_for(name)))


def test_what_changes_in_the_course_of_training_has_its_whole_course(short):
    weights = Weights()
    how = {"algorithm": "maml++", "averaging": 0}
    told = fitted(maml(**how), waves())
    fitted(maml(**how, early_stopping=False, callbacks=[weights]), waves())
    assert told.n_iter_ < 6
    assert_same_weights(told, weights.kept[told.n_iter_ - 1])


@pytest.mark.parametrize("name", ["MAMLRegressor", "ProtoNetClassifier"])
def test_each_task_is_left_out_once(name, monkeypatch, short):
    proto = name == "ProtoNetClassifier"
    spy = Spy(monkeypatch, WaySampler if proto else RowSampler)
    X, y, groups = wards() if proto else waves()
    X = np.column_stack([groups, X[:, 0]])
    fitted(small(name, module=FirstColumnIsTheTask, max_epochs=2), (X, y, groups))
    all_tasks = set(range(8))
    whole, *parts = spy.units()
    assert whole == all_tasks and len(parts) == 6
    pairs = [sorted(pair, key=len) for pair in zip(parts[::2], parts[1::2], strict=True)]
    for out, trained in pairs:
        assert trained | out == all_tasks and not trained & out
    assert sorted(task for out, _ in pairs for task in out) == sorted(all_tasks)


def test_tasks_left_out_have_no_levels_added(monkeypatch, short):
    drawn = []
    plain = LevelSampler.draw
    monkeypatch.setattr(
        LevelSampler, "draw", lambda s, *a: drawn.append(len(s.eligible)) or plain(s, *a)
    )
    fitted(maml(augmentation=2.0, max_epochs=2), some(4))
    assert set(drawn) == {4, 3, 2}  # two of four tasks are left out, one, and one


def test_same_seed_same_model(short):
    first, second, other = (fitted(maml(random_state=seed), waves()) for seed in (0, 0, 1))
    same(first, second)
    assert first.history_ != other.history_


def test_tasks_that_give_no_episode_are_none_of_the_few(counted, short):
    X, y, groups = waves()
    first = np.arange(len(groups)) % 10 == 0
    # Eight tasks, of which three have more than one row; one; twelve, of which two have.
    for kept in (first | (groups < 3), first | (groups < 1)):
        assert fitted(maml(), (X[kept], y[kept], groups[kept])).n_iter_ >= 1
    more = np.concatenate([groups[groups < 2], np.arange(50, 60)])
    rows = X[: len(more)], y[: len(more)], more
    fitted(maml(), rows)
    assert counted == [3, 0, 2]
    # A task of one class gives no episode to a method that draws classes.
    X, y, groups = some(3, wards())
    y = np.where(groups == 0, "well", y)
    fitted(small("ProtoNetClassifier", max_epochs=3), (X, y, groups))
    assert counted[3] in (1, 2)


# ---------------------------------------------------------------- where it is not done


def test_elsewhere_there_are_no_trials(monkeypatch, short):
    def never(self, learner, trials, *args, **kwargs):
        assert not trials
        return []

    from skmeta.datasets import make_sinusoids

    warm = fitted(maml(warm_start=True), some(4))
    monkeypatch.setattr(few.EpisodicTraining, "_run_trials", never)
    assert fitted(warm, some(4)).n_iter_ == 6
    ten = fitted(maml(), make_sinusoids(10, 10, random_state=0))
    assert "valid_loss" in ten.history_[0]
    for changes in ({"early_stopping": False}, {"max_epochs": 1}):
        model = maml(**changes)
        assert fitted(model, some(4)).n_iter_ == model.max_epochs
    assert "valid_loss" in fitted(maml(early_stopping=True), some(4)).history_[0]
    # Tasks with classes of their own, and a single task.
    fitted(small("ProtoNetClassifier"), alphabets())
    with pytest.warns(UserWarning, match="groups"):
        assert fitted(maml(), some(1)).n_iter_ == 6


def test_trials_that_diverge_leave_the_word_to_training(monkeypatch, short):
    from skmeta.training import EpisodicNet

    plain = EpisodicNet.run_single_epoch

    def diverging(net, iterator, training, prefix, **kwargs):
        if not training and iterator is not None:
            raise TrainingDivergedError("in a trial")
        plain(net, iterator, training, prefix, **kwargs)

    monkeypatch.setattr(EpisodicNet, "run_single_epoch", diverging)
    assert fitted(maml(), waves()).n_iter_ == 6
    with pytest.raises(TrainingDivergedError, match=r"epoch \d+, step \d+.*Lower lr"):
        fitted(maml(lr=1e30), waves())


# ---------------------------------------------------------------- checkpoints and progress


class KillTrials:
    """Ends a fit after some trials."""

    def __init__(self, monkeypatch, n_done):
        from skmeta import training

        plain, self.n_trained = training.train, 0

        def train(*args, **kwargs):
            if self.n_trained == n_done:
                raise Killed
            self.n_trained += 1
            return plain(*args, **kwargs)

        monkeypatch.setattr(training, "train", train)


@pytest.mark.parametrize("random_state", [0, None])
def test_a_fit_killed_in_its_trials_goes_on(random_state, tmp_path, monkeypatch, short):
    monkeypatch.setattr(keeping, "SECONDS_BETWEEN", 0.0)
    how = {"module": dropout, "random_state": random_state}
    model = maml(**how, checkpoint=tmp_path)
    for n_done in (1, 2):
        with monkeypatch.context() as patch:
            KillTrials(patch, n_done if n_done == 1 else 1)
            with pytest.raises(Killed):
                fitted(model, waves())
        assert len(trials_of(tmp_path)) == n_done
    with pytest.raises(Killed):
        fitted(model.set_params(callbacks=[KillAfter(0)]), waves())
    assert len(trials_of(tmp_path)) == 3
    done = fitted(model.set_params(callbacks=None), waves())
    if random_state == 0:
        same(done, fitted(maml(**how), waves()))
    # Once done, calling fit again only reads.
    with monkeypatch.context() as patch:
        KillTrials(patch, 1)
        again = fitted(maml(**how, checkpoint=tmp_path, callbacks=[KillAfter(0)]), waves())
    same(done, again)
    assert_array_equal(done.predict(waves()[0]), again.predict(waves()[0]))


def test_callbacks_hear_of_the_training_on_all_tasks_alone(short):
    weights = Weights()
    model = fitted(maml(callbacks=[weights]), waves())
    assert len(weights.kept) == model.n_iter_
    assert weights.streams[1] is None


def test_the_bar_says_which_tasks_are_left_out(capsys, clock, short):
    clock.step = 0.7
    model = fitted(maml(verbose=1), waves())
    err = capsys.readouterr().err
    for part in ("tasks left out 1/3", "tasks left out 3/3", "valid_loss"):
        assert part in err
    assert f"{model.n_iter_}/{model.n_iter_} " in err
