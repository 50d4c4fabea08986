"""skmeta.save and skmeta.load: what comes back, what is refused, and what a file cannot do."""

import os
import pickle
import resource
import stat

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skmeta
from skmeta.base import _loading, _saving
from skmeta.base._container import from_bytes
from skmeta.datasets import make_digit_questions, make_sinusoids
from skmeta.model_selection._pooled import BoostingLabels, Logistic
from tests.base.tasks import alphabets, instance, maml, proto, wards, waves
from tests.instances import estimator_names, small

NAMES = estimator_names()


def tasks_for(name):
    if is_classifier(small(name)):
        X, y, groups = make_digit_questions("train", n_rows=20, random_state=0)
        keep = np.isin(groups, np.unique(groups)[:6])
        X = X[:, 4::8] if "Auto" in name else X  # a choice takes long to make
        X, y, groups = X[keep], y[keep], groups[keep]
    else:
        X, y, groups = make_sinusoids(12, 12, random_state=0)
    # Every number of a row is its own: it would be known again in a file.
    X = X + np.random.default_rng(0).normal(scale=1e-3, size=X.shape)
    return X, y, np.array([f"SECRET-PUPIL-{g:03d}" for g in groups])


@pytest.fixture(scope="module")
def fitted():
    cache = {}

    def get(name):
        if name not in cache:
            X, y, groups = tasks_for(name)
            cache[name] = small(name).fit(X, y, groups=groups)
        return cache[name]

    return get


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def around(path):
    """Save and load."""

    def there_and_back(estimator, **given):
        skmeta.save(estimator, path)
        return skmeta.load(path, **given)

    return there_and_back


def assert_same(one, other, where="it"):
    """Same types and the same bits, all the way down."""
    assert type(one) is type(other), where
    if isinstance(one, torch.nn.Module):
        one, other = one.state_dict(), other.state_dict()
    if isinstance(one, skmeta.MetaEstimator):
        one, other = vars(one), vars(other)
    if isinstance(one, HistGradientBoostingRegressor | HistGradientBoostingClassifier):
        one, other = one.get_params(), other.get_params()
    if isinstance(one, BaseEstimator | Logistic | BoostingLabels):  # a pooled model and its parts
        one, other = vars(one), vars(other)
    if isinstance(one, dict):
        assert set(one) == set(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}/{i}")
    elif isinstance(one, np.ndarray | torch.Tensor):
        assert one.dtype == other.dtype and one.shape == other.shape, where
        assert_array_equal(one, other, err_msg=where)
    elif isinstance(one, float) and one != one:
        assert other != other, where
    else:
        assert one == other, where


def assert_answers(one, other, X):
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        assert hasattr(one, method) == hasattr(other, method)
        if hasattr(one, method):
            assert_array_equal(getattr(one, method)(X), getattr(other, method)(X))
    if "return_std" in str(getattr(one, "__metadata_request__predict", "")):
        assert_array_equal(one.predict(X, return_std=True), other.predict(X, return_std=True))


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_is_what_was_saved(name, fitted, around, path):
    X, y, _ = tasks_for(name)
    model = fitted(name)
    for estimator in (model, model.adapt(X[:6], y[:6])):
        again = around(estimator)
        assert_same(estimator, again)
        assert_answers(estimator, again, X)
        assert_answers(estimator.adapt(X[3:8], y[3:8]), again.adapt(X[3:8], y[3:8]), X)
        if hasattr(estimator, "update"):
            assert_answers(estimator.update(X[8:10], y[8:10]), again.update(X[8:10], y[8:10]), X)
        before = path.read_bytes()
        skmeta.save(again, path)
        assert path.read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_an_unfitted_estimator_comes_back_and_fits_as_before(name, around):
    again = around(small(name))
    assert_same(small(name), again)
    assert not again.__sklearn_is_fitted__()
    assert_same(clone(small(name)), clone(again))


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["sick", "well"]),
        np.array(["sick", "well"], dtype=object),
        np.array([3, 7], dtype=np.int32),
        np.array([3, 7], dtype=np.uint8),
        np.array([3, 7], dtype=">i4"),
        np.array([False, True]),
        np.array([1.0, 2.0]),
        np.array([1.0, 2.0], dtype=np.float32),
    ],
    ids=lambda labels: labels.dtype.str,
)
def test_labels_of_every_type(labels, around):
    X, y, groups = wards()
    y = labels[(y == "well").astype(int)]
    model = proto().fit(X, y, groups=groups)
    again = around(model)
    assert again.classes_.dtype == model.classes_.dtype
    assert again.predict(X).dtype == model.predict(X).dtype
    assert_same(model, again)


def test_classes_of_a_task_and_the_names_of_columns(around):
    pd = pytest.importorskip("pandas")
    X, y, groups = alphabets()
    frame = pd.DataFrame(X, columns=["é", "b c", "", "\ud800"])
    model = proto().fit(frame, y, groups=groups)
    for estimator in (model, model.adapt(frame[:12], y[:12])):
        again = around(estimator)
        assert_same(estimator, again)
        assert again.feature_names_in_.dtype == object
        assert_array_equal(again.predict(frame), estimator.predict(frame))


@pytest.mark.parametrize(
    "sizes",
    [(8, 8), [8], [np.int32(8), np.int64(9)], np.array([8, 9]), (np.uint8(8), (8)), (8,) * 3],
    ids=repr,
)
def test_parameters_keep_their_types(sizes, around):
    model = maml(
        hidden_layer_sizes=sizes,
        lr=np.float32(0.01),
        inner_lr=np.float64(0.1),
        n_adapt_steps=None,
        learn_inner_lr=False,
        early_stopping=np.bool_(False),
        n_query=np.int16(5),
        random_state=np.int64(3),
        device=torch.device("cpu").type,
    )
    assert_same(model, around(model))
    assert_same(model.fit(*waves()[:2], groups=waves()[2]), around(model))


def test_any_plain_value_survives_as_a_parameter(around):
    value = {
        "odd": (np.nan, np.inf, -np.inf, -0.0, 5e-324, 10**30),
        3: [None, True, {}, (), [], "\x00\ud800é"],
        ("a", 1): {"tuple": 1, "array": ["x"]},
        "numpy": [np.float16(0.1), np.float64("nan"), np.str_("é"), np.datetime64("2020-01-01")],
        "arrays": [np.zeros((0, 3)), np.array(2.5), np.arange(6).reshape(2, 3).T, np.array([1j])],
        "strings": [np.array([["a", ""]], dtype=object), np.array("x"), np.array([], dtype="U3")],
    }
    again = around(maml(hidden_layer_sizes=value))
    assert_same(again.hidden_layer_sizes, value)
    assert np.signbit(again.hidden_layer_sizes["odd"][3])
    assert again.hidden_layer_sizes["arrays"][0].flags.writeable


def test_a_view_is_saved_without_what_it_is_a_view_of(path):
    sizes = np.arange(100_000)[:2]
    skmeta.save(maml(hidden_layer_sizes=sizes), path)
    assert path.stat().st_size < 5000


def test_set_params_after_fit_is_kept_apart(around):
    X, y, groups = waves()
    model = maml().fit(X, y, groups=groups).set_params(hidden_layer_sizes=(3,), lr="nonsense")
    again = around(model)
    assert again.lr == "nonsense" and again.hidden_layer_sizes == (3,)
    assert_array_equal(again.adapt(X[:4], y[:4]).predict(X), model.adapt(X[:4], y[:4]).predict(X))


def test_metadata_requests_and_output_settings_are_kept(around):
    with config_context(enable_metadata_routing=True):
        model = (
            small("ALPaCARegressor").set_fit_request(groups="ward").set_output(transform="pandas")
        )
        again = around(model)
        requests = again.get_metadata_routing().fit.requests
    assert requests == {"groups": "ward"}
    assert again._sklearn_output_config == {"transform": "pandas"}


def test_fitted_on_a_device_that_is_not_here(around):
    X, y, groups = waves()
    model = maml().fit(X, y, groups=groups)
    model.frozen_params_ = {**model.frozen_params_, "device": "no-such-device:3"}
    again = around(model)
    assert_array_equal(again.predict(X), model.predict(X))
    assert next(again.learner_.parameters()).device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fitted_on_a_gpu(path, monkeypatch):
    X, y, groups = waves()
    model = maml(device="cuda").fit(X, y, groups=groups).adapt(X[:5], y[:5])
    skmeta.save(model, path)
    assert_array_equal(skmeta.load(path).predict(X), model.predict(X))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model.frozen_params_ = {**model.frozen_params_, "device": "auto"}
    skmeta.save(model, path)
    assert np.allclose(skmeta.load(path).predict(X), model.predict(X), atol=1e-4)


# ---------------------------------------------------------------- what has to be handed back


def test_a_module_is_handed_back(path):
    X, y, groups = waves()
    net = instance(nn.Sequential, nn.Linear(1, 6), nn.BatchNorm1d(6), nn.Linear(6, 1))
    model = maml(module=net).fit(X, y, groups=groups).adapt(X[:5], y[:5])
    skmeta.save(model, path)
    again = skmeta.load(path, module=net)
    assert again.module is net and again.frozen_params_["module"] is net
    assert_array_equal(again.predict(X), model.predict(X))
    assert_array_equal(
        again.adapt(X[5:9], y[5:9]).predict(X), model.adapt(X[5:9], y[5:9]).predict(X)
    )
    with pytest.raises(ValueError, match=r"module, a Sequential.*load\(path, module="):
        skmeta.load(path)
    with pytest.raises(ValueError, match="the module that was handed over is another one"):
        skmeta.load(path, module=nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        skmeta.load(path, module="a picture of a net")


def line(n_inputs, n_outputs):
    return nn.Linear(n_inputs, n_outputs)


def sgd(parameters, lr):
    return torch.optim.SGD(parameters, lr=lr)


def test_callables_and_generators_are_handed_back(path):
    X, y, groups = waves()
    rng = np.random.RandomState(0)
    model = maml(module=line, optimizer=sgd, random_state=rng).fit(X, y, groups=groups)
    skmeta.save(model, path)
    again = skmeta.load(path, module=line, optimizer=sgd, random_state=None)
    assert_array_equal(again.predict(X), model.predict(X))
    assert again.optimizer is sgd and again.random_state is None
    with pytest.raises(ValueError, match="random_state, a RandomState"):
        skmeta.load(path, module=line, optimizer=sgd)
    skmeta.save(maml(optimizer=sgd), path)
    assert skmeta.load(path, optimizer=sgd).optimizer is sgd


def test_nothing_is_handed_back_that_the_file_has(path):
    skmeta.save(maml(), path)
    for given in ({"module": line}, {"operator": line}, {"colour": 1}):
        with pytest.raises(ValueError, match=f"{next(iter(given))}.*cannot be handed over"):
            skmeta.load(path, **given)


def test_a_module_that_was_changed_after_fit_is_refused(path):
    X, y, groups = waves()
    model = maml(module=line).fit(X, y, groups=groups).set_params(module=nn.Linear)
    with pytest.raises(ValueError, match="'module' is not the one that it was fitted with"):
        skmeta.save(model, path)
    assert not path.exists()


def test_callbacks_are_dropped_and_listed(path):
    from skorch.callbacks import GradientNormClipping, LRScheduler

    X, y, groups = waves()
    model = maml(
        callbacks=[("clip", GradientNormClipping(1.0)), LRScheduler("StepLR", step_size=3)]
    )
    for estimator in (model, clone(model).fit(X, y, groups=groups)):
        with pytest.warns(UserWarning, match="not saved: GradientNormClipping, LRScheduler"):
            skmeta.save(estimator, path)
        assert skmeta.load(path).callbacks is None
        assert len(estimator.callbacks) == 2


# ---------------------------------------------------------------- what cannot be saved


class Mine(skmeta.HierarchicalRidge):
    pass


@pytest.mark.parametrize(
    "other",
    [make_pipeline(StandardScaler(), maml()), LinearRegression(), Mine(), skmeta.MAMLRegressor, 3],
    ids=lambda other: type(other).__name__,
)
def test_only_estimators_of_our_own(other, path):
    with pytest.raises(TypeError, match=r"skmeta's own estimators.*pickle.*skops"):
        skmeta.save(other, path)
    assert not path.exists()


def test_fitted_models_of_others_are_refused(path):
    X, y, groups = waves()
    forest = skmeta.HierarchicalRidge(feature_regressor=RandomForestRegressor(2, random_state=0))
    skmeta.save(forest, path)
    assert skmeta.load(path, feature_regressor=LinearRegression()).feature_regressor is not None
    with pytest.raises(ValueError, match="feature_regressors_/0 is a RandomForestRegressor"):
        skmeta.save(forest.fit(X, y, groups=groups), path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("note", 1, "attribute 'note'"),
        ("predict", 1, "attribute 'predict'"),
        ("meta_params_", 1, "attribute 'meta_params_'"),
        ("secret_", {1, 2}, "secret_ is a set"),
        ("odd_", np.array([1, "a", None], dtype=object), "odd_ is an array of Python objects"),
        ("odd_", np.zeros(2, dtype="i4,f8"), "numpy type"),
        ("history_", [{"x": torch.zeros(1)}], "history_/0/x is a Tensor"),
        ("_query_tasks", np.zeros(3, dtype=int), "batch of tasks"),
    ],
)
def test_what_is_no_part_of_a_fit_is_refused(name, value, words, path):
    model = maml()
    model.__dict__[name] = value
    with pytest.raises(ValueError, match=words):
        skmeta.save(model, path)


def test_a_parameter_that_holds_itself_is_refused(path):
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested too deeply"):
        skmeta.save(maml(hidden_layer_sizes=loop), path)


# ---------------------------------------------------------------- the file


def test_a_full_disk_leaves_the_old_file_and_no_other(path, tmp_path):
    X, y, groups = waves()
    skmeta.save(maml(), path)
    before = path.read_bytes()
    model = maml(hidden_layer_sizes=(40, 40)).fit(X, y, groups=groups)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))  # as a disk that is full
    try:
        with pytest.raises(OSError, match=r"Nothing was saved.*model\.safetensors"):
            skmeta.save(model, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("function", ["open", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_whatever_fails_leaves_the_old_file_and_no_other(
    function, error, path, tmp_path, monkeypatch
):
    from skmeta.base import _container

    skmeta.save(maml(lr=0.5), path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        if function == "open":
            patch.setattr(_container, "open", fail, raising=False)
        else:
            patch.setattr(os, function, fail)
        with pytest.raises(type(error)):
            skmeta.save(maml(), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_folders_that_cannot_be_written_to(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Nothing was saved"):
        skmeta.save(maml(), tmp_path / "none" / "x")
    with pytest.raises(IsADirectoryError, match=r"Nothing was saved"):
        skmeta.save(maml(), tmp_path)
    with pytest.raises(FileNotFoundError):
        skmeta.load(path)
    assert os.listdir(tmp_path) == []


def test_a_link_stays_a_link_and_the_mode_is_that_of_any_file(path, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(path)
    skmeta.save(maml(), str(link))
    (tmp_path / "other").write_bytes(b"")
    assert link.is_symlink() and skmeta.load(link).lr == maml().lr
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_other_versions(path, monkeypatch):
    X, y, groups = waves()
    monkeypatch.setattr(_saving, "__version__", "9.9.9")
    model = maml().fit(X, y, groups=groups)
    skmeta.save(model, path)
    with pytest.warns(UserWarning, match="saved by skmeta 9.9.9") as caught:
        assert_array_equal(skmeta.load(path).predict(X), model.predict(X))
    assert len(caught) == 1
    for number in (0, 2):
        monkeypatch.setattr(_saving, "FORMAT", number)
        skmeta.save(model, path)
        with pytest.raises(ValueError, match=rf"{path.name}.*format {number}.*9\.9\.9"):
            skmeta.load(path)
    assert _loading.FORMAT == 1


@pytest.mark.parametrize("name", NAMES)
def test_no_task_id_and_no_row_in_the_file(name, fitted, path):
    X, y, _ = tasks_for(name)
    model = fitted(name)
    secrets = X[:, 0].tolist() + ([] if is_classifier(model) else y.tolist())
    # Reconstructors clip to the smallest and the largest pixel that there was.
    ends = list(getattr(model, "image_range_", []))
    own = X[:6, 0].tolist() if name == "AutoMetaClassifier" else ends  # its docstring says so
    for estimator, held in ((model, ends), (model.adapt(X[:6], y[:6]), own)):
        skmeta.save(estimator, path)
        data = path.read_bytes()
        assert b"SECRET" not in data
        for value in set(secrets) - set(held):
            for form in (np.float64(value).tobytes(), np.float32(value).tobytes()):
                assert form not in data and form.hex().encode() not in data
            assert repr(value).encode() not in data


def test_the_file_is_ordinary_safetensors(path, fitted):
    from safetensors import safe_open

    skmeta.save(fitted("MAMLRegressor"), path)
    with safe_open(path, framework="np") as file:
        assert set(file.metadata()) == {"skmeta"}
        assert "learner_/arrays/module.0.weight" in file.keys()  # noqa: SIM118 (no dictionary)
    content, _ = from_bytes(path.read_bytes())
    assert content["objects"][-1]["class"] == "MAMLRegressor"


def test_an_odd_layout_in_memory_is_not_what_comes_back_differently():
    """Sums of a matrix that lay column by column have another last bit."""
    X, y, groups = alphabets()
    model = skmeta.ProtoNetClassifier(
        distance="mahalanobis", max_epochs=1, hidden_layer_sizes=(8,), random_state=0
    )
    adapted = model.fit(X, y, groups=groups).adapt(X[:8], y[:8])
    assert all(v.is_contiguous() for v in adapted.state_.values())
    again = pickle.loads(pickle.dumps(adapted))
    assert_array_equal(again.predict_proba(X), adapted.predict_proba(X))
