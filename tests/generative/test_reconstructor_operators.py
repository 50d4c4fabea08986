"""Operators that a reconstructor is given in fit and adapt: functions, modules, draws."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from skmeta import GANReconstructor, GaussianPriorReconstructor
from skmeta import operators as ops
from skmeta.generative import _draws
from skmeta.generative._draws import OperatorDraws
from tests.generative.cases import secret_images
from tests.instances import reconstructor_names, small

NAMES = reconstructor_names()
X, OTHERS = secret_images(), secret_images(seed=1)[:5]
MATRIX = torch.tensor(np.random.default_rng(0).normal(size=(12, 5)) / 4, dtype=torch.float32)


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(12, 5)


FUNCTIONS = {
    "module": net(),
    "double module": net().double(),
    "function": lambda x: torch.tanh(x @ MATRIX),
    "double function": lambda x: torch.tanh(x @ MATRIX.double()),
}


@pytest.fixture(scope="module")
def gan():
    return small("GANReconstructor").fit(X)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_any_precision_in_fit_and_adapt(name, gan):
    F = ops.ForwardModel(FUNCTIONS[name], 5, 12)
    Y = F(OTHERS)
    for model in (gan.adapt(operator=F), small("GANReconstructor", operator=F).fit(X)):
        images, std = model.predict(Y, return_std=True)
        assert images.shape == std.shape == (5, 12) and np.isfinite(std).all()


@pytest.mark.parametrize("function", [torch.round, torch.log, lambda x: x / x.max()])
def test_a_function_that_does_not_keep_its_word_is_named_before_training(function, gan):
    F = ops.ForwardModel(function, 12, 12)
    with pytest.raises(ValueError, match="The ForwardModel"):
        gan.adapt(operator=F)
    with pytest.raises(ValueError, match="The ForwardModel"):
        small("GANReconstructor", operator=F).fit(X)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("operator", "words"),
    [
        (nn.Linear(12, 3), "wrap it in skmeta.operators.ForwardModel"),
        (torch.tanh, "If it measures images, wrap it"),
        (ops.GaussianMeasurements, "give an instance"),
        (lambda rng: None, "returned None"),
    ],
    ids=["module", "function", "class", "nothing"],
)
def test_callables_that_draw_no_operator(name, operator, words):
    with pytest.raises(ValueError, match=words):
        small(name, operator=operator).fit(X)


@pytest.mark.parametrize("operator", [nn.Linear(12, 3), torch.tanh, ops.GaussianMeasurements])
def test_adapt_takes_one_operator(operator, gan):
    with pytest.raises(ValueError, match="adapt takes one operator"):
        gan.adapt(operator=operator)


def draws(rng):
    return ops.GaussianMeasurements(int(rng.integers(3, 9)), 12, random_state=rng)


def test_noise_of_one_size_and_operators_of_many():
    first = draws(np.random.default_rng(0)).shape[0]
    model = GANReconstructor(operator=draws, noise_std=np.full(first, 0.1), max_epochs=1)
    with pytest.raises(ValueError, match=r"noise_std is of shape .* need one number"):
        model.fit(X)


def test_one_operator_is_taken_once(monkeypatch):
    calls, taken = [], _draws.as_measurement

    def counted(operator, n_pixels):
        calls.append(operator)
        return taken(operator, n_pixels)

    monkeypatch.setattr(_draws, "as_measurement", counted)
    A = ops.GaussianMeasurements(5, 12, random_state=0)
    draw, rng = OperatorDraws(A, 0.1, 12), np.random.default_rng(0)
    for _ in range(30):
        draw(rng)
    assert sum(operator is A for operator in calls) == 1 and len(calls) > 5


def test_measurements_in_fit_of_a_pipeline():
    A = ops.GaussianMeasurements(5, 12, random_state=0)
    pipe = make_pipeline(GaussianPriorReconstructor(operator=A), LogisticRegression())
    with pytest.raises(ValueError, match="FrozenEstimator"):
        pipe.fit(X @ A.matrix.T, np.arange(60) % 3)
