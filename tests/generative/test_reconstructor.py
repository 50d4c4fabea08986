"""The contract of all reconstructors: operators, adapt, pipelines, pickles."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmeta
from skmeta import GaussianPriorReconstructor, MixturePriorReconstructor
from skmeta import operators as ops
from tests.generative.cases import dense_covariance, digits, naive_posterior, secret_images
from tests.instances import reconstructor_names, small

# GANs are trained for minutes; what they share is tested here on all, what is exact on these.
EXACT = ["GaussianPriorReconstructor", "MixturePriorReconstructor"]
NAMES = reconstructor_names()
A = ops.GaussianMeasurements(5, 12, random_state=0)


@pytest.fixture(scope="module")
def fitted():
    cache = {}

    def get(name):
        if name not in cache:
            cache[name] = small(name).fit(secret_images())
        return cache[name]

    return get


def measure(operator, X, noise_std=0.0):
    Y = (operator @ X.T).T
    return Y + noise_std * np.random.default_rng(9).normal(size=Y.shape)


@pytest.mark.parametrize("name", NAMES)
def test_adapt_makes_a_sibling_and_leaves_the_estimator_alone(name, fitted):
    model, X = fitted(name), secret_images(seed=1)
    before, answer = pickle.dumps(model), model.predict(X)
    new = model.adapt(operator=A, noise_std=0.2)
    Y = measure(A, X, 0.2)
    assert new.predict(Y).shape == X.shape
    assert pickle.dumps(model) == before
    assert_array_equal(model.predict(X), answer)
    assert type(new) is type(model) and new is not model
    assert new.n_features_in_ == 5 and model.n_features_in_ == 12
    assert new.adapted_ and not model.adapted_
    assert new.operator is A and new.noise_std == 0.2 and model.operator is None
    again = new.adapt(operator=ops.Inpainting(np.arange(12) % 2)).adapt(operator=A)
    assert_array_equal(again.predict(Y), new.predict(Y))
    assert_array_equal(new.transform(Y), new.predict(Y))
    assert list(new.get_feature_names_out()) == list(model.get_feature_names_out())
    assert len(new.get_feature_names_out()) == 12


@pytest.mark.parametrize("name", NAMES)
def test_fit_with_an_operator_is_fit_and_adapt(name, fitted):
    Y = measure(A, secret_images(seed=1))
    direct = small(name, operator=A, noise_std=0.3).fit(secret_images())
    adapted = small(name, noise_std=0.3).fit(secret_images()).adapt(operator=A)
    if name in EXACT:
        assert_array_equal(direct.predict(Y), adapted.predict(Y))
    assert direct.predict(Y).shape == (60, 12)
    assert direct.n_features_in_ == 5 and not direct.adapted_


@pytest.mark.parametrize("name", EXACT)
def test_every_kind_of_operator_gives_the_same(name, fitted):
    Y = measure(A, secret_images(seed=1))
    expected = fitted(name).adapt(operator=A).predict(Y)
    for operator in (A.matrix, A.matrix.tolist(), sparse.csr_array(A.matrix), aslinearoperator(A)):
        assert_allclose(fitted(name).adapt(operator=operator).predict(Y), expected)


def draws(rng):
    return ops.GaussianMeasurements(4, 12, random_state=rng)


@pytest.mark.parametrize("name", EXACT)
def test_a_callable_draws_the_operator(name):
    first, second = (small(name, operator=draws).fit(secret_images()) for _ in range(2))
    assert first.n_features_in_ == 4 and first.operator is draws
    Y = np.random.default_rng(0).normal(size=(3, 4))
    assert_array_equal(first.predict(Y), second.predict(Y))


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("clip", [False, True])
def test_predictions_are_posterior_means(name, clip):
    X = secret_images()
    model = small(name, clip=clip, n_projection_steps=0).fit(X)
    noise = np.linspace(0.1, 0.5, 5)
    new = model.adapt(operator=A, noise_std=noise)
    Y = 3 * measure(A, secret_images(seed=1)[:8], noise)
    images, std = new.predict(Y, return_std=True)
    prior = model._posterior.prior
    mean, expected_std = naive_posterior(prior, A.matrix, noise, Y)
    assert (mean < X.min()).any() or (mean > X.max()).any()
    assert_allclose(images, mean.clip(X.min(), X.max()) if clip else mean, rtol=1e-6)
    assert_allclose(std, expected_std, rtol=1e-6)
    assert len(prior.weights) == (1 if name == "GaussianPriorReconstructor" else 3)


@pytest.mark.parametrize("name", NAMES)
def test_score_measures_clean_images(name, fitted):
    X = secret_images(seed=1)
    for model in (fitted(name), fitted(name).adapt(operator=A, noise_std=0.2)):
        assert model.score(X) == model.score(X)
        operator = np.eye(12) if model.operator is None else A
        noise = model.noise_std * np.random.default_rng(0).normal(size=measure(operator, X).shape)
        error = np.mean((model.predict(measure(operator, X) + noise) - X) ** 2)
        assert_allclose(model.score(X), -error)


# ---------------------------------------------------------------- scikit-learn around it


def test_grid_search_and_cross_validation():
    X = digits()[:400]
    grid = {"n_components": [1, 4], "operator": [ops.Downsampling((8, 8), 2)]}
    search = GridSearchCV(
        MixturePriorReconstructor(random_state=0), grid, cv=3, error_score="raise"
    ).fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert search.best_params_["n_components"] == 4 and scores[1] > scores[0]
    new = skmeta.adapt(search, operator=A_digits())
    assert new.predict(np.zeros((2, 16))).shape == (2, 64)
    groups = np.arange(400) % 7
    with sklearn.config_context(enable_metadata_routing=True):
        GridSearchCV(
            GaussianPriorReconstructor(),
            {"noise_std": [0.1]},
            cv=GroupKFold(2),
            error_score="raise",
        ).fit(X, groups=groups)
    assert (cross_val_score(GaussianPriorReconstructor(), X, error_score="raise") < 0).all()


def A_digits():  # noqa: N802
    return ops.GaussianMeasurements(16, 64, random_state=0)


def test_frozen_in_a_pipeline_before_a_classifier():
    from sklearn.datasets import load_digits

    X, y = digits(), load_digits().target
    model = MixturePriorReconstructor(random_state=0).fit(X[:900])
    operator = A_digits()
    Y = measure(operator, X, 0.05)
    pipe = make_pipeline(
        FrozenEstimator(model.adapt(operator=operator, noise_std=0.05)),
        LogisticRegression(max_iter=300),
    ).fit(Y[900:1400], y[900:1400])
    assert pipe.score(Y[1400:], y[1400:]) > 0.7
    # Inside a pipeline that ends with it, adapt finds it.
    whole = make_pipeline(StandardScaler(with_std=False), GaussianPriorReconstructor()).fit(X)
    assert skmeta.adapt(whole, noise_std=0.3)[-1].noise_std == 0.3
    frozen = skmeta.adapt(FrozenEstimator(model), operator=operator)
    assert frozen.predict(Y[:2]).shape == (2, 64)
    with pytest.raises(ValueError, match="FrozenEstimator"):
        make_pipeline(GaussianPriorReconstructor(operator=operator), LogisticRegression()).fit(X, y)


def test_data_frames_and_routing():
    X = pd.DataFrame(secret_images(), columns=[f"p{i}" for i in range(12)])
    model = GaussianPriorReconstructor().fit(X)
    assert list(model.feature_names_in_) == list(X.columns)
    model.predict(X), model.score(X)
    new = model.adapt(operator=A)
    assert not hasattr(new, "feature_names_in_")
    Y = measure(A, X.to_numpy())
    named = pd.DataFrame(Y, columns=[f"m{i}" for i in range(5)])
    assert_array_equal(new.predict(named), new.predict(Y))
    new.score(X)
    new.set_output(transform="pandas")
    assert new.transform(named).shape == (60, 12)
    with sklearn.config_context(enable_metadata_routing=True):
        images, std = (
            make_pipeline(StandardScaler(), GaussianPriorReconstructor())
            .fit(X)
            .predict(X, return_std=True)
        )
    assert images.shape == std.shape == (60, 12)


# ---------------------------------------------------------------- state


@pytest.mark.parametrize("name", NAMES)
def test_no_row_in_pickle_or_repr(name, fitted):
    X = secret_images()
    model = fitted(name)
    calibrated = model.adapt(measure(A, X[:7]), X[:7])
    for estimator in (model, model.adapt(operator=A), calibrated):
        data = pickle.dumps(estimator)
        text = repr(estimator) + estimator._repr_html_()
        assert "tensor(" not in text
        # A run of three numbers of a row is the row's.
        runs = [row[i : i + 3] for row in X for i in range(10)]
        assert not [r for r in runs if r.tobytes() in data]
        assert not [r for r in runs if r.astype(np.float32).tobytes() in data]


@pytest.mark.parametrize("name", EXACT)
def test_a_lonely_image_is_no_component(name):
    X = np.vstack([secret_images(), secret_images(seed=5)[:1] + 500])
    changes = {"n_components": 9} if name == "MixturePriorReconstructor" else {}
    model = small(name, **changes).fit(X)
    assert model.prior_["means"].max() < 400


@pytest.mark.parametrize("name", NAMES)
def test_pickle_is_bit_identical_and_holds_only_numpy(name, fitted):
    Y = measure(A, secret_images(seed=1))
    new = fitted(name).adapt(operator=A)
    data = pickle.dumps(new)
    assert b"torch" not in data
    again = pickle.loads(data)
    for one, other in ((new, again), (new.adapt(noise_std=1), again.adapt(noise_std=1))):
        for a, b in zip(one.predict(Y, True), other.predict(Y, True), strict=True):
            assert_array_equal(a, b)
    assert not {"_measurement", "_posterior"} & set(new.__getstate__())
    state = new.__getstate__()
    state["_skmeta_version"] = "0.0.0"
    with pytest.warns(UserWarning, match=r"0\.0\.0"):
        object.__new__(type(new)).__setstate__(state)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_set_later_wait_for_the_next_fit(name, fitted):
    model = pickle.loads(pickle.dumps(fitted(name)))
    Y = measure(A, secret_images(seed=1))
    before = model.adapt(operator=A).predict(Y)
    model.set_params(operator=np.eye(3), noise_std=5.0, clip=False)
    assert_array_equal(model.adapt(operator=A).predict(Y), before)
    assert_array_equal(pickle.loads(pickle.dumps(model)).adapt(operator=A).predict(Y), before)
    fresh = clone(fitted(name).adapt(operator=A))
    with pytest.raises(NotFittedError):
        fresh.predict(Y)
    assert fresh.operator.shape == (5, 12)


@pytest.mark.parametrize("name", NAMES)
def test_no_global_state(name):
    torch_before, np_before = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first, second = (small(name).fit(secret_images()) for _ in range(2))
    assert pickle.dumps(first) == pickle.dumps(second)
    assert torch.equal(torch_before, torch.random.get_rng_state())
    assert np_before[2] == np.random.get_state()[2]  # noqa: NPY002


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", NAMES)
def test_bad_input(name, fitted):
    model, X = fitted(name), secret_images()
    new = model.adapt(operator=A)
    Y = measure(A, X)
    nan = np.where(np.arange(5) == 2, np.nan, Y)
    pairs = {
        "not both": lambda: model.adapt(Y, X, operator=A),
        "needs pairs: X": lambda: model.adapt(Y),
        "needs operator=": lambda: model.adapt(),
        "0 sample": lambda: model.adapt(Y[:0], X[:0]),
        "3 rows of measurements": lambda: model.adapt(Y[:3], X[:2]),
        "7 pixels": lambda: model.adapt(Y[:3], X[:3, :7]),
        "X contains NaN": lambda: model.adapt(nan, X),
        "y contains NaN": lambda: model.adapt(Y[:1], np.full((1, 12), np.nan)),
        "takes images of 9 pixels": lambda: model.adapt(operator=np.ones((3, 9))),
        "transposed": lambda: model.adapt(operator=A.matrix.T),
        "Stack real and imaginary": lambda: model.adapt(operator=1j * A.matrix),
        "2-d": lambda: model.adapt(operator=np.ones(12)),
        "got str": lambda: model.adapt(operator="blur"),
        "0 or more": lambda: model.adapt(noise_std=-1),
        r"shape \(3,\)": lambda: model.adapt(operator=A, noise_std=np.ones(3)),
        "one a measurement": lambda: model.adapt(noise_std="loud"),
        "4 features": lambda: new.predict(Y[:, :4]),
        "score takes images": lambda: new.predict(X),
        "contains NaN": lambda: new.predict(nan),
        "Complex data": lambda: new.predict(Y * 1j),
        "5 pixels": lambda: new.score(Y),
    }
    for words, call in pairs.items():
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="colour"):
        model.adapt(operator=A, colour="red")
    with pytest.raises(NotFittedError):
        small(name).adapt(operator=A)


@pytest.mark.parametrize("name", EXACT)
def test_what_has_no_closed_form_is_refused(name, fitted):
    with pytest.raises(ValueError, match="GANReconstructor"):
        fitted(name).adapt(operator=ops.PhaseRetrieval(A))
    with pytest.raises(ValueError, match="GANReconstructor"):
        small(name, operator=ops.Saturation(A, 1)).fit(secret_images())
    with pytest.raises(ValueError, match="too many"):
        small(name).fit(np.zeros((2, 10_000)))
    with pytest.raises(ValueError, match="1e\\+60"):
        small(name).fit(1e200 * secret_images())
    with pytest.raises(ValueError, match="1e\\+60"):
        small(name, clip=False).fit(secret_images()).predict(np.full((1, 12), 1e308))


@pytest.mark.parametrize("name", EXACT)
def test_images_that_are_all_the_same(name):
    model = small(name).fit(np.ones((10, 6)))
    images, std = model.predict(np.zeros((2, 6)), return_std=True)
    assert_allclose(images, 1)
    assert_allclose(std, 0, atol=1e-6)


def test_the_covariance_is_that_of_the_images():
    X = digits()
    model = GaussianPriorReconstructor().fit(X)
    assert_allclose(model.prior_["means"][0], X.mean(axis=0))
    S = dense_covariance(model._posterior.prior, 0)
    assert_allclose(S, np.cov(X.T, bias=True), atol=2e-3)
