"""Which activation the default net has, in every estimator that has such a net."""

import numpy as np
import pytest
import sklearn
import torch
from sklearn.model_selection import GridSearchCV, GroupKFold
from torch import nn

import skmeta
from skmeta.model_selection import TaskScorer
from tests.instances import small

LAYERS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
REGRESSORS = ["ALPaCARegressor", "MAMLRegressor", "RidgeHeadRegressor"]
CLASSIFIERS = ["MAMLClassifier", "MetaSVC", "ProtoNetClassifier", "RidgeHeadClassifier"]


def tasks(name):
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(48, 3)), np.repeat(np.arange(6), 8)
    y = X[:, 0] + groups if name in REGRESSORS else np.tile([0, 1], 24)
    return X, y, groups


def fitted(name, **options):
    X, y, groups = tasks(name)
    return small(name, max_epochs=1, early_stopping=False, **options).fit(X, y, groups=groups)


def kinds_of(model):
    return {type(m) for m in model.learner_.module.modules() if type(m) in LAYERS.values()}


@pytest.mark.parametrize("name", REGRESSORS + CLASSIFIERS)
@pytest.mark.parametrize("activation", LAYERS)
def test_the_net_has_the_activation(name, activation, tmp_path):
    model = fitted(name, activation=activation)
    assert kinds_of(model) == {LAYERS[activation]}
    skmeta.save(model, tmp_path / "model.skmeta")
    again = skmeta.load(tmp_path / "model.skmeta")
    assert kinds_of(again) == {LAYERS[activation]}
    X = tasks(name)[0]
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize("name", REGRESSORS + CLASSIFIERS)
def test_defaults(name):
    expected = "tanh" if name in ("ALPaCARegressor", "MAMLRegressor") else "relu"
    assert getattr(skmeta, name)().activation == expected


@pytest.mark.parametrize("activation", LAYERS)
def test_embedding_by_hand(activation):
    model = fitted("ALPaCARegressor", activation=activation)
    X = tasks("ALPaCARegressor")[0]
    first, _, second = model.learner_.module
    scaled = torch.as_tensor((X - model.x_mean_) / model.x_scale_)
    assert scaled.abs().max() < 3  # beyond, the net sees logarithms
    functions = {
        "relu": torch.relu,
        "leaky_relu": lambda h: torch.maximum(h, 0.2 * h),
        "tanh": lambda h: (h.exp() - (-h).exp()) / (h.exp() + (-h).exp()),
        "silu": lambda h: h / (1 + (-h).exp()),
        "gelu": lambda h: h * (1 + torch.erf(h / 2**0.5)) / 2,
    }
    with torch.no_grad():
        hidden = functions[activation](scaled @ first.weight.T + first.bias)
        expected = hidden @ second.weight.T + second.bias
    np.testing.assert_allclose(model.transform(X), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", ["silu", "gelu", "leaky_relu"])
def test_adaptation_where_derivatives_are_not_written_out(activation):
    """Gradients of these come from autograd: they lower the loss all the same."""
    model = fitted("MAMLRegressor", activation=activation, n_adapt_steps=20)
    X, y, _ = tasks("MAMLRegressor")
    own = slice(40, 48)
    before = np.mean((model.predict(X[own]) - y[own]) ** 2)
    after = np.mean((model.adapt(X[own], y[own]).predict(X[own]) - y[own]) ** 2)
    assert after < before / 2


def test_searched():
    X, y, groups = tasks("MAMLRegressor")
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            small("MAMLRegressor", max_epochs=1),
            {"activation": ["tanh", "relu"]},
            cv=GroupKFold(2),
            scoring=TaskScorer("neg_mean_squared_error", n_support=3),
        )
        search.fit(X, y, groups=groups)
    assert search.best_params_["activation"] in ("tanh", "relu")
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] != scores[1]


@pytest.mark.parametrize("name", REGRESSORS + CLASSIFIERS)
@pytest.mark.parametrize("activation", ["sigmoid", None, 3])
def test_refused(name, activation):
    with pytest.raises(ValueError, match="'activation' parameter"):
        fitted(name, activation=activation)
