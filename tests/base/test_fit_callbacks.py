"""scikit-learn's own callbacks: told of every epoch, and of no influence but to stop."""

import gc
import importlib.util
import pickle
import sys
import threading
import warnings

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from torch import nn

import skmeta
from skmeta.base import _callbacks
from skmeta.base._adaptive import Adaptive
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection import TaskScorer
from tests.base.tasks import alphabets, instance, maml, proto, waves
from tests.generative.cases import secret_images
from tests.instances import estimator_names, small
from tests.test_contract import tasks_for

framework = pytest.importorskip("sklearn.callback")
# A generator that is trained for two epochs draws little of what there is.
pytestmark = pytest.mark.filterwarnings("ignore::skmeta.exceptions.ModeCollapseWarning")
WITHOUT_TASKS = estimator_names(Adaptive)
NAMES = estimator_names() + WITHOUT_TASKS


class Notes:
    """Writes down what it is told; draws numbers, as a callback may."""

    max_propagation_depth = None

    def __init__(self, stop_after=None, fail_at=None):
        self.stop_after, self.fail_at = stop_after, fail_at
        self.told, self.shapes = [], set()

    def _note(self, what, context, X, y):
        torch.rand(3), torch.nn.Linear(2, 2)
        if (what, context.task_name) == self.fail_at:
            raise RuntimeError("the callback broke")
        self.told.append((what, context.estimator_name, context.task_name, context.task_id))
        self.shapes.add((np.shape(X), np.shape(y)))

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        assert metadata is None  # no task ids
        self._note("begin", context, X, y)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
        assert metadata is None
        self._note("end", context, X, y)
        return self.stop_after is not None and context.task_id + 1 == self.stop_after


class Snapshots(Notes):
    """Keeps the estimator that could be used at the end of every epoch."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.told.append((context.task_name, fitted_estimator))


def data():
    X, y, groups = waves()
    return {"X": X, "y": y, "groups": groups}


def learned(model):
    return {k: v.copy() for k, v in model.meta_params_.items()}


def quick(name):
    model = small(name)
    if "max_epochs" in model.get_params():
        model.set_params(max_epochs=2)
    if "early_stopping" in model.get_params() and name != "RidgeHeadRegressor":
        model.set_params(early_stopping=False)  # trials before training: for one of them is enough
    return model


def few_tasks(name):
    if name in WITHOUT_TASKS:
        return {"X": secret_images()}
    X, y, groups = tasks_for(name)
    rows = np.isin(groups, np.unique(groups)[: 2 if "Auto" in name else 4])
    return {"X": X[rows], "y": y[rows], "groups": groups[rows]}


# ---------------------------------------------------------------- what they hear, what they change


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_is_the_same_bit_for_bit_and_told_of(name):
    notes = Notes()
    told = quick(name).set_callbacks(notes).fit(**few_tasks(name))
    alone = quick(name).fit(**few_tasks(name))
    assert pickle.dumps(told.set_callbacks()) == pickle.dumps(alone)
    n_epochs = alone.n_iter_ if "max_epochs" in alone.get_params() else 0
    epochs = [(w, name, "epoch", i) for i in range(n_epochs) for w in ("begin", "end")]
    fit = [(what, name, "fit", 0) for what in ("begin", "end")]
    assert notes.told == ["setup", fit[0], *epochs, fit[1], "teardown"]
    given = few_tasks(name)
    assert notes.shapes == {(np.shape(given["X"]), np.shape(given.get("y")))}


def test_dropout_does_not_notice_that_a_callback_draws():
    X, y, groups = alphabets()
    net = instance(nn.Sequential, nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    alone = proto(module=net, max_epochs=3).fit(X, y, groups=groups)
    told = proto(module=net, max_epochs=3).set_callbacks(Notes()).fit(X, y, groups=groups)
    for key, value in learned(alone).items():
        np.testing.assert_array_equal(value, told.meta_params_[key])


def test_nothing_is_done_without_callbacks(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("nobody is to be told")

    monkeypatch.setattr(skmeta.MAMLRegressor, "_init_callback_context", refuse)
    monkeypatch.setattr(_callbacks.EpochTeller, "__init__", refuse)
    model = maml().set_callbacks(Notes()).set_callbacks().fit(**data())
    assert not [key for key in vars(model) if "callback_" in key or "_skl" in key]
    with pytest.raises(AssertionError, match="nobody"):
        maml().set_callbacks(Notes()).fit(**data())


def test_skorch_callbacks_work_beside_them():
    from skorch.callbacks import EarlyStopping

    notes = Notes()
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=0.99)
    model = maml(max_epochs=9, callbacks=[stop], verbose=1).set_callbacks(notes).fit(**data())
    assert model.n_iter_ == 3
    assert [row[3] for row in notes.told if row[0] == "end" and row[2] == "epoch"] == [0, 1, 2]
    assert notes.told[-2:] == [("end", "MAMLRegressor", "fit", 0), "teardown"]


@pytest.mark.parametrize("name", ["MAMLRegressor", "GANSampler"])
def test_they_are_given_the_rows_as_the_user_gave_them(name):
    pd = pytest.importorskip("pandas")
    seen = []

    class Look(Notes):
        def on_fit_task_end(self, estimator, context, *, X=None):
            seen.append(X)

    given = few_tasks(name)
    frame = pd.DataFrame(given.pop("X")).add_prefix("column ")
    model = quick(name).set_callbacks(Look()).fit(frame, **given)
    assert len(seen) == 3  # two epochs and the fit
    assert all(X is frame for X in seen)
    assert not set(vars(model)) & set(_callbacks.WHILE_FITTING)


# ---------------------------------------------------------------- stopping, and what goes wrong


def test_a_callback_may_stop_training():
    model = maml(max_epochs=9).set_callbacks(Notes(stop_after=2), other := Notes()).fit(**data())
    assert model.n_iter_ == len(model.history_) == 2
    assert other.told[-2:] == [("end", "MAMLRegressor", "fit", 0), "teardown"]
    same = maml(max_epochs=2).fit(**data())
    np.testing.assert_array_equal(model.predict(data()["X"]), same.predict(data()["X"]))


@pytest.mark.parametrize("name", ["GANSampler", "GANReconstructor"])
def test_a_callback_may_stop_the_training_of_a_generator(name):
    notes = Notes(stop_after=1)
    model = quick(name).set_params(max_epochs=9).set_callbacks(notes).fit(**few_tasks(name))
    assert model.n_iter_ == len(model.history_) == 1
    assert notes.told[-2:] == [("end", name, "fit", 0), "teardown"]


def test_a_generator_that_a_callback_stopped_goes_on_from_its_checkpoint(tmp_path):
    X, options = secret_images(), {"max_epochs": 3, "checkpoint": tmp_path}
    small("GANSampler", **options).set_callbacks(Notes(stop_after=1)).fit(X)
    again = small("GANSampler", **options).set_callbacks(notes := Notes()).fit(X)
    whole = small("GANSampler", max_epochs=3).fit(X)
    assert again.history_ == whole.history_
    np.testing.assert_array_equal(again.sample(7, random_state=0), whole.sample(7, random_state=0))
    assert len([row for row in notes.told if row[:3] == ("end", "GANSampler", "epoch")]) == 2


def test_a_refit_that_a_callback_breaks_leaves_the_old_sampler():
    X = secret_images()
    model = small("GANSampler", max_epochs=1, warm_start=True).fit(X)
    before = model.sample(5, random_state=0)
    with pytest.raises(RuntimeError, match="the callback broke"):
        model.set_callbacks(Notes(fail_at=("end", "epoch"))).fit(X + 100)
    np.testing.assert_array_equal(model.sample(5, random_state=0), before)
    assert not set(vars(model)) & set(_callbacks.WHILE_FITTING)


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("where", [("begin", "fit"), ("begin", "epoch"), ("end", "epoch")])
def test_a_callback_that_breaks_is_torn_down(where, warm_start):
    model = maml(max_epochs=2, warm_start=warm_start).fit(**data())
    before = model.predict(data()["X"])
    notes = Notes(fail_at=where)
    with pytest.raises(RuntimeError, match="the callback broke"):
        model.set_callbacks(notes).fit(**data())
    assert notes.told[-1] == "teardown"
    assert not set(vars(model)) & set(_callbacks.WHILE_FITTING)
    if warm_start:  # what was learned stays usable
        np.testing.assert_array_equal(model.predict(data()["X"]), before)


@pytest.mark.parametrize(
    ("changes", "rows", "message"),
    [
        ({"max_epochs": "many"}, {}, "max_epochs"),
        ({}, {"y": np.full(80, np.nan)}, "NaN"),
        ({}, {"groups": np.arange(80)}, "single row"),
    ],
)
def test_errors_are_those_of_a_fit_without(changes, rows, message):
    notes = Notes()
    model = maml(**changes).set_callbacks(notes)
    with pytest.raises(ValueError, match=message):
        model.fit(**{**data(), **rows})
    assert notes.told[-1:] == ([] if changes else ["teardown"])
    assert not set(vars(model)) & set(_callbacks.WHILE_FITTING)


def test_a_warning_points_at_the_line_of_the_user():
    X, y, _ = waves()
    model = maml().set_callbacks(Notes())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    assert [w.category for w in caught] == [SingleTaskWarning]
    assert caught[0].filename == __file__


# ---------------------------------------------------------------- an estimator at every epoch


@pytest.mark.parametrize("build", [maml, proto])
def test_the_estimator_of_an_epoch_is_that_of_a_shorter_fit(build):
    X, y, groups = waves() if build is maml else alphabets()
    kept = Snapshots()
    model = build(max_epochs=3).set_callbacks(kept).fit(X, y, groups=groups)
    epochs = [row[1] for row in kept.told if len(row) == 2 and row[0] == "epoch"]
    assert len(epochs) == 3
    for n, snapshot in enumerate(epochs, start=1):
        shorter = build(max_epochs=n).fit(X, y, groups=groups)
        np.testing.assert_array_equal(snapshot.predict(X), shorter.predict(X))
        new, expected = (one.adapt(X[:8], y[:8]) for one in (snapshot, shorter))
        np.testing.assert_array_equal(new.predict(X), expected.predict(X))
        assert snapshot.history_ == shorter.history_ and snapshot.n_iter_ == n
        # It is no part of a fit any more: what is pickled holds no tree of tasks and no row.
        assert not set(vars(snapshot)) & set(_callbacks.WHILE_FITTING)
    name, last = kept.told[-2]
    assert name == "fit"
    np.testing.assert_array_equal(last.predict(X), model.predict(X))


def test_the_generator_of_an_epoch_is_that_of_a_shorter_fit():
    X, kept = secret_images(), Snapshots()
    model = small("GANSampler", max_epochs=3).set_callbacks(kept).fit(X)
    epochs = [row[1] for row in kept.told if len(row) == 2 and row[0] == "epoch"]
    assert len(epochs) == 3
    for n, snapshot in enumerate(epochs, start=1):
        shorter = small("GANSampler", max_epochs=n).fit(X)
        for one, other in ((snapshot, shorter), (snapshot.adapt(X[:4]), shorter.adapt(X[:4]))):
            drawn, expected = (gan.sample(7, random_state=0) for gan in (one, other))
            np.testing.assert_array_equal(drawn, expected)
        assert snapshot.history_ == shorter.history_ and snapshot.n_iter_ == n
        assert snapshot.missing_modes_ == shorter.missing_modes_
        assert not set(vars(snapshot)) & set(_callbacks.WHILE_FITTING)
    last, expected = (gan.sample(7, random_state=0) for gan in (kept.told[-2][1], model))
    np.testing.assert_array_equal(last, expected)


def test_the_reconstructor_of_an_epoch_reconstructs():
    X, kept = secret_images(), Snapshots()
    A = np.random.default_rng(0).normal(size=(6, 12))
    # Rates fall along a cosine of all epochs: a shorter fit is another one, but for its last.
    model = small("GANReconstructor", max_epochs=2).set_callbacks(kept).fit(X)
    first, second = (row[1] for row in kept.told if len(row) == 2 and row[0] == "epoch")
    for adapted, rows in ((False, X), (True, X @ A.T)):
        images = [
            (rec.adapt(operator=A) if adapted else rec).predict(rows)
            for rec in (first, second, model)
        ]
        np.testing.assert_array_equal(images[1], images[2])
        assert np.abs(images[0] - images[2]).max() > 0
    assert first.n_iter_ == 1 and first.history_ == model.history_[:1]
    again = pickle.loads(pickle.dumps(first.set_callbacks()))
    np.testing.assert_array_equal(again.predict(X), first.predict(X))


def test_scoring_monitor():
    pytest.importorskip("pandas")
    monitor = framework.ScoringMonitor(scoring="r2")
    for routing in (False, True):  # a scorer by name takes no groups
        with sklearn.config_context(enable_metadata_routing=routing):
            model = maml(max_epochs=3).set_callbacks(monitor).fit(**data())
        log = monitor.get_logs().data_as_pandas
        assert list(log["task_name"]) == ["fit", "epoch", "epoch", "epoch"]
        assert log["r2"].iloc[0] == log["r2"].iloc[-1] == model.score(data()["X"], data()["y"])
        assert log["r2"].nunique() == 3


# ---------------------------------------------------------------- progress, in pipelines, searches


def test_progress_bar(capsys):
    pytest.importorskip("rich")
    model = maml(max_epochs=2).set_callbacks(framework.ProgressBar()).fit(**data())
    shown = capsys.readouterr().out
    assert "MAMLRegressor - fit" in shown and "100%" in shown
    assert pickle.loads(pickle.dumps(model)).n_iter_ == 2
    assert "RichProgressMonitor" not in [type(one).__name__ for one in threading.enumerate()]


def test_a_pipeline_and_a_search_pass_them_on():
    notes = Notes()
    X, y, groups = waves()
    scorer = TaskScorer(n_support=3, n_repeats=1)
    pipe = make_pipeline("passthrough", maml(max_epochs=2))
    grid = {"mamlregressor__n_inner_steps": [1, 2]}
    search = GridSearchCV(pipe, grid, cv=GroupKFold(2), scoring=scorer, error_score="raise")
    with sklearn.config_context(enable_metadata_routing=True):
        told = clone(search).set_callbacks(notes).fit(X, y, groups=groups)
        alone = search.fit(X, y, groups=groups)
    np.testing.assert_array_equal(told.predict(X), alone.predict(X))
    ends = [row for row in notes.told if row[:3] == ("end", "MAMLRegressor", "epoch")]
    assert len(ends) == (2 * 2 + 1) * 2  # candidates, folds, the refit; epochs
    assert [row for row in notes.told if isinstance(row, str)] == ["setup", "teardown"]
    inner = told.best_estimator_[-1]
    assert not [key for key in vars(inner) if "callback_" in key or "_skl" in key]
    told.set_callbacks()
    gc.collect()
    assert "Notes" not in str(pickle.dumps(told))


# ---------------------------------------------------------------- clone, pickle, save, checkpoint


def test_clone_and_pickle_keep_them_as_in_scikit_learn():
    monitor = framework.ScoringMonitor(scoring="r2")
    model = maml().set_callbacks(monitor)
    assert clone(model)._skl_callbacks[0] is monitor
    for estimator in (model, model.fit(**data())):
        again = pickle.loads(pickle.dumps(estimator))
        assert [type(one) for one in again._skl_callbacks] == [framework.ScoringMonitor]
        again.fit(**data())
        assert len(again._skl_callbacks[0].get_logs().data) == 2  # the epoch and the fit


def test_set_callbacks_refuses_what_is_none():
    with pytest.raises(TypeError, match="FitCallback"):
        maml().set_callbacks("progress")


def test_save_leaves_them_out_and_says_so(tmp_path):
    monitor = framework.ScoringMonitor(scoring="r2")
    model = maml().set_callbacks(monitor).fit(**data())
    with pytest.warns(UserWarning, match="ScoringMonitor"):
        skmeta.save(model, tmp_path / "model.safetensors")
    again = skmeta.load(tmp_path / "model.safetensors")
    assert not hasattr(again, "_skl_callbacks")
    np.testing.assert_array_equal(again.predict(data()["X"]), model.predict(data()["X"]))


def test_save_leaves_those_of_a_generator_out_and_says_so(tmp_path):
    model = quick("GANSampler").set_callbacks(Notes()).fit(secret_images())
    with pytest.warns(UserWarning, match="Notes"):
        skmeta.save(model, tmp_path / "gan")
    again = skmeta.load(tmp_path / "gan")
    assert not hasattr(again, "_skl_callbacks")
    np.testing.assert_array_equal(again.sample(3, random_state=0), model.sample(3, random_state=0))


def test_a_training_that_goes_on_tells_of_what_is_left(tmp_path, monkeypatch):
    import skmeta.training._checkpoint as checkpoint

    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0)
    second, third = Notes(), Notes()
    whole = maml(max_epochs=4).fit(**data())
    stopped = maml(max_epochs=4, checkpoint=tmp_path).set_callbacks(Broken(after=2))
    with pytest.raises(RuntimeError, match="killed"):
        stopped.fit(**data())
    again = maml(max_epochs=4, checkpoint=tmp_path).set_callbacks(second).fit(**data())
    np.testing.assert_array_equal(again.predict(data()["X"]), whole.predict(data()["X"]))
    assert again.history_ == whole.history_
    maml(max_epochs=4, checkpoint=tmp_path).set_callbacks(third).fit(**data())
    epochs = [row[::3] for row in second.told if row[2] == "epoch"]
    assert epochs == [(what, i) for i in range(2) for what in ("begin", "end")]
    assert not [row for row in third.told if row[2] == "epoch"]  # it had ended


class Broken(Notes):
    """As if the process were killed after some epochs."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch" and context.task_id == self.after:
            raise RuntimeError("killed")

    def on_fit_task_end(self, estimator, context):
        return False


def test_an_older_scikit_learn_has_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    monkeypatch.delattr(sklearn, "callback", raising=False)
    spec = importlib.util.spec_from_file_location("older", _callbacks.__file__)
    older = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(older)
    assert not hasattr(older.CallbackSupportMixin, "set_callbacks")
    assert older.CALLBACK_FRAMES == ()
    assert older.with_callbacks(len) is len
