"""scikit-learn's whole battery, and skmeta's contract, for every public estimator."""

import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.utils.estimator_checks import (
    check_estimator,
    check_param_validation,
    estimator_checks_generator,
)

import skmeta
from skmeta.base._adaptive import Adaptive
from skmeta.datasets import make_digit_questions, make_sinusoids
from skmeta.exceptions import SingleTaskWarning
from tests.instances import SMALL, estimator_names, shrink_net, small

pytestmark = pytest.mark.filterwarnings(
    "ignore::skmeta.exceptions.SingleTaskWarning",
    "ignore::skmeta.exceptions.ModeCollapseWarning",
)
NAMES = estimator_names()
# Those that learn from tasks, and those that learn from images or rows alone.
ALL = NAMES + estimator_names(Adaptive)
# Trained episodically, with the options of gradient descent; the others are fitted in closed form.
EPISODIC = [name for name in NAMES if "max_epochs" in small(name).get_params()]
SEEDED = [name for name in NAMES if "random_state" in small(name).get_params()]


def tasks_for(name):
    if is_classifier(small(name)):
        X, y, groups = make_digit_questions("train", n_rows=20, random_state=0)
        keep = np.isin(groups, np.unique(groups)[:12])
        return X[keep, 24:40], y[keep], groups[keep]  # two lines of pixels in the middle
    return make_sinusoids(12, 12, random_state=0)


@pytest.fixture(scope="module", autouse=True)
def small_net():
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink_net(monkeypatch)
        yield


@pytest.fixture(scope="module")
def fitted(small_net):
    cache = {}

    def get(name):
        if name not in cache:
            cache[name] = small(name).fit(*tasks_for(name)[:2], groups=tasks_for(name)[2])
        return cache[name]

    return get


def test_every_estimator_has_a_small_instance():
    assert set(ALL) == set(SMALL)


@pytest.mark.parametrize("name", ALL)
def test_check_estimator(name):
    results = check_estimator(small(name), on_skip=None, on_fail=None)
    bad = [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")]
    assert not bad, bad
    assert len(results) > 40


@pytest.mark.parametrize("name", ALL)
def test_no_tag_switches_a_check_off(name):
    tags = small(name).__sklearn_tags__()
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    for part in (tags.regressor_tags, tags.classifier_tags):
        assert part is None or not part.poor_score
    assert len(list(estimator_checks_generator(small(name)))) > 40


@pytest.mark.parametrize("name", ALL)
def test_param_validation(name):
    check_param_validation(name, small(name))


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_has_a_constraint(name):
    cls = getattr(skmeta, name)
    assert set(cls._parameter_constraints) == set(cls().get_params(deep=False))


@pytest.mark.parametrize("name", ALL)
def test_docstring_names_every_parameter(name):
    text = inspect.getdoc(getattr(skmeta, name))
    for part in ("Parameters\n", "Attributes\n", "References\n", "Examples\n"):
        assert part in text
    for parameter in getattr(skmeta, name)().get_params(deep=False):
        assert parameter in text.split("Attributes\n")[0], parameter


@pytest.mark.parametrize("name", NAMES)
def test_adapt_leaves_the_estimator_alone_and_shares_parameters(name, fitted):
    model, (X, y, _) = fitted(name), tasks_for(name)
    before = pickle.dumps(model)
    new = model.adapt(X[:6], y[:6])
    new.predict(X)
    assert pickle.dumps(model) == before
    assert type(new) is type(model) and new is not model
    if hasattr(model, "learner_"):  # a blend has those of its members
        assert new.learner_ is model.learner_
    assert new.adapted_ and not model.adapted_
    for key, value in model.meta_params_.items():
        assert np.shares_memory(new.meta_params_[key], value)


@pytest.mark.parametrize("name", NAMES)
def test_adapt_is_not_cumulative(name, fitted):
    model, (X, y, _) = fitted(name), tasks_for(name)
    once = model.adapt(X[:8], y[:8])
    twice = model.adapt(X[12:20], y[12:20]).adapt(X[:8], y[:8])
    np.testing.assert_array_equal(once.predict(X), twice.predict(X))


@pytest.mark.parametrize("name", NAMES)
def test_adapt_takes_one_row_and_refuses_none(name, fitted):
    model, (X, y, _) = fitted(name), tasks_for(name)
    assert np.isfinite(np.asarray(model.adapt(X[:1], y[:1]).predict(X), dtype=float)).all()
    with pytest.raises(ValueError, match="at least one support row"):
        model.adapt(X[:0], y[:0])
    with pytest.raises(ValueError, match="X and y"):
        model.adapt(X[:2])
    with pytest.raises(TypeError, match="colour"):
        model.adapt(X[:2], y[:2], colour="red")


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_model_and_no_global_state(name):
    X, y, groups = tasks_for(name)
    torch_before = torch.random.get_rng_state()
    np_before = np.random.get_state()  # noqa: NPY002
    first, second = (small(name).fit(X, y, groups=groups) for _ in range(2))
    assert pickle.dumps(first) == pickle.dumps(second)
    np_after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(np_before[1], np_after[1])
    assert np_before[2] == np_after[2]  # the numbers change only every 624 draws
    first.adapt(X[:4], y[:4]).predict(X)
    assert torch.equal(torch_before, torch.random.get_rng_state())
    if name not in SEEDED:
        return
    other = small(name, random_state=1).fit(X, y, groups=groups)
    # Another member may be chosen, of another shape: then it differs, too.
    pairs = [dict(model.meta_params_) for model in (first, other)]
    same = pairs[0].keys() == pairs[1].keys() and all(
        np.array_equal(value, pairs[1][key]) for key, value in pairs[0].items()
    )
    assert not same


@pytest.mark.parametrize("name", NAMES)
def test_set_params_after_fit_has_no_effect_before_the_next_fit(name, fitted):
    X, y, _ = tasks_for(name)
    model = pickle.loads(pickle.dumps(fitted(name)))
    before = model.adapt(X[:6], y[:6]).predict(X)
    for key, value in model.get_params(deep=False).items():
        if isinstance(value, int | float) and not isinstance(value, bool) and value:
            model.set_params(**{key: value * 2})
    if name in EPISODIC:
        model.set_params(hidden_layer_sizes=(3,))
    np.testing.assert_array_equal(before, model.adapt(X[:6], y[:6]).predict(X))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(before, again.adapt(X[:6], y[:6]).predict(X))
    assert again.get_params() == model.get_params()


@pytest.mark.parametrize("name", NAMES)
def test_clone_of_an_adapted_estimator_is_unfitted(name, fitted):
    X, y, _ = tasks_for(name)
    new = clone(fitted(name).adapt(X[:6], y[:6]))
    assert not hasattr(new, "state_")


@pytest.mark.parametrize("name", NAMES)
def test_pickle_is_bit_identical_and_holds_only_numpy(name, fitted):
    X, y, _ = tasks_for(name)
    model = fitted(name).adapt(X[:6], y[:6])
    data = pickle.dumps(model)
    assert b"torch" not in data.replace(b"torch_", b"")
    again = pickle.loads(data)
    np.testing.assert_array_equal(model.predict(X), again.predict(X))
    np.testing.assert_array_equal(
        model.adapt(X[:4], y[:4]).predict(X), again.adapt(X[:4], y[:4]).predict(X)
    )


@pytest.mark.parametrize("name", NAMES)
def test_no_task_id_and_no_row_in_pickle_or_repr(name):
    X, y, groups = tasks_for(name)
    rng = np.random.default_rng(0)
    X = X + rng.normal(scale=1e-3, size=X.shape)  # every number of a row is its own
    ids = np.array([f"SECRET-PUPIL-{g}" for g in groups])
    model = small(name).fit(X, y, groups=ids)
    adapted = model.adapt(X[:6], y[:6])
    secrets = [X[:, 0][i].tobytes() for i in range(len(X))]
    if not is_classifier(model):
        secrets += [value.tobytes() for value in y]
    # A float32 copy would escape the search.
    secrets += [value.tobytes() for value in X[:, 0].astype(np.float32)]
    for estimator in (model, adapted):
        data = pickle.dumps(estimator)
        text = repr(estimator) + estimator._repr_html_()
        assert b"SECRET" not in data and "SECRET" not in text
        found = {s for s in secrets if s in data}
        if name == "AutoMetaClassifier" and estimator is adapted:
            # A pooled model that is shifted keeps the rows of its task, for ``update``.
            found -= {value.tobytes() for value in X[:6, 0]}
        assert not found


@pytest.mark.parametrize("name", NAMES)
def test_fitted_attributes_end_in_an_underscore(name, fitted):
    model = fitted(name)
    public = [key for key in vars(model) if not key.startswith("_")]
    parameters = model.get_params(deep=False)
    assert all(key.endswith("_") or key in parameters for key in public)
    for attribute in (
        "n_tasks_",
        "n_iter_",
        "history_",
        "n_features_in_",
        "meta_params_",
        "state_",
        "adapted_",
    ):
        assert hasattr(model, attribute)
    assert model.n_tasks_ == 12
    assert model.n_iter_ == len(model.history_) > 0
    if name in EPISODIC:
        assert model.n_iter_ == model.max_epochs


@pytest.mark.parametrize("name", NAMES)
def test_one_task_warns_and_is_an_ordinary_fitted_model(name):
    X, y, groups = tasks_for(name)
    one = groups == groups[0]
    if not is_classifier(small(name)):
        y = 2 * X[:, 0] + 0.1 * y  # within the reach of a line
    longer = {"max_epochs": 5} if name in EPISODIC else {}
    texts = {"enable_metadata_routing": None, "same id in groups": groups[one]}
    for text, ids in texts.items():
        with pytest.warns(SingleTaskWarning, match=text):
            model = small(name, **longer).fit(X[one], y[one], groups=ids)
        assert model.adapted_ and model.n_tasks_ == 1
        assert model.score(X[one], y[one]) > 0.8


@pytest.mark.parametrize("name", EPISODIC)
def test_a_used_callback_takes_no_optimiser_into_the_pickle(name):
    from skorch.callbacks import LRScheduler

    X, y, groups = tasks_for(name)
    model = small(name, callbacks=[LRScheduler("ExponentialLR", gamma=0.9)])
    model.fit(X, y, groups=groups)
    data = pickle.dumps(model)
    assert b"torch" not in data and b"lr_scheduler" not in data
    assert pickle.loads(data).callbacks is None
    assert model.callbacks is not None


@pytest.mark.parametrize("name", EPISODIC)
def test_a_warm_start_that_fails_leaves_the_last_fit(name):
    X, y, groups = tasks_for(name)
    model = small(name, warm_start=True).fit(X, y, groups=groups)
    before = model.predict(X)
    model.set_params(hidden_layer_sizes=(7, 7))
    with pytest.raises(ValueError, match="warm_start"):
        model.fit(X + 5, y[::-1], groups=groups)
    np.testing.assert_array_equal(model.predict(X), before)
