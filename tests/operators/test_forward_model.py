"""What a ForwardModel takes and refuses, and the precision that its function is called in."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skmeta import operators as ops
from skmeta.operators._measurement import as_measurement

X = np.random.default_rng(0).random((4, 6))
WEIGHTS = np.random.default_rng(1).normal(size=(6, 3))
SINGLE, DOUBLE = torch.tensor(WEIGHTS, dtype=torch.float32), torch.tensor(WEIGHTS)


def module(dtype):
    net = nn.Linear(6, 3, bias=False).to(dtype)
    with torch.no_grad():
        net.weight.copy_(DOUBLE.T)
    return net


PRECISE = {
    "module": module(torch.float32),
    "double module": module(torch.float64),
    "function": lambda x: x @ SINGLE,
    "double function": lambda x: x @ DOUBLE,
    "holds a module": lambda x: PRECISE["module"](x),
}


@pytest.mark.parametrize("name", PRECISE)
def test_any_precision_will_do(name):
    model = ops.ForwardModel(PRECISE[name], 3, 6)
    for dtype in (torch.float64, torch.float32, torch.float64):
        x = torch.tensor(X, dtype=dtype, requires_grad=True)
        measured = model(x)
        assert measured.dtype == dtype
        assert_allclose(measured.detach(), X @ WEIGHTS, rtol=1e-5, atol=1e-6)
        (slope,) = torch.autograd.grad(measured.sum(), x)
        assert slope.dtype == dtype
        assert_allclose(slope, np.tile(WEIGHTS.sum(1), (4, 1)), rtol=1e-5, atol=1e-6)
    assert_allclose(model.vjp(X, np.ones((4, 3))), slope, rtol=1e-5)


def test_a_function_that_failed_in_one_precision_is_not_called_in_it_again():
    called = []

    def function(x):
        called.append(x.dtype)
        return x @ SINGLE

    model = ops.ForwardModel(function, 3, 6)
    model(X), model(X)
    assert called == [torch.float64, torch.float32, torch.float32]


def test_a_module_is_a_template():
    net = nn.Sequential(module(torch.float32), nn.BatchNorm1d(3), nn.Dropout(0.5))
    model = ops.ForwardModel(net, 3, 6)
    assert_allclose(model(X), X @ WEIGHTS, rtol=1e-4)  # neither batch statistics nor dropout
    model(torch.tensor(X, requires_grad=True)).sum().backward()
    assert net.training and net[0].weight.grad is None
    assert all(p.requires_grad for p in net.parameters())
    before = model(X)
    net[0].weight.data.zero_()
    assert_array_equal(model(X), before)
    assert_array_equal(pickle.loads(pickle.dumps(model))(X), before)


def nothing(x):
    return None


def as_array(x):
    return x.detach().numpy()


def pair(x):
    return x, x


def knows_no_key(x):
    return {}["image"]


def asserts(x):
    assert x.shape[1] == 3


EXP = ops.ForwardModel(torch.exp, 6, 6)
BAD = {
    "complex": (lambda: ops.Gamma(0.5)(X * 1j), "complex"),
    "complex tensor": (lambda: EXP(torch.tensor(X * 1j)), "real images"),
    "width": (lambda: EXP(X[:, :5]), r"6 pixels, got real numbers of shape \(4, 5\)"),
    "width of a matrix": (lambda: ops.Gamma(2.0, WEIGHTS.T)(X[:, :5]), "6 pixels"),
    "one image": (lambda: EXP(torch.tensor(X[0])), "one a row"),
    "text": (lambda: EXP([["a"] * 6]), "must hold numbers"),
    "vectors": (lambda: EXP.vjp(X, X[:, :3]), r"\(4, 6\) in all, got \(4, 3\)"),
    "number of vectors": (lambda: EXP.vjp(X, X[:1]), r"\(4, 6\) in all"),
    "none": (lambda: ops.ForwardModel(nothing, 6, 6)(X), "got NoneType"),
    "array": (lambda: ops.ForwardModel(as_array, 6, 6)(X), "got ndarray"),
    "tuple": (lambda: ops.ForwardModel(pair, 6, 6)(X), "got tuple"),
    "constant": (lambda: ops.ForwardModel(torch.ones_like, 6, 6).vjp(X, X), "no gradient"),
    "class": (lambda: ops.ForwardModel(nn.Tanh, 6, 6), "an instance"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, words = BAD[name]
    with pytest.raises(ValueError, match=words):
        make()


REFUSED = {
    "rounds": (torch.round, "no gradient"),
    "detached": (torch.detach, "no gradient"),
    "compares": (lambda x: x > 0.5, "no gradient"),
    "constant": (torch.ones_like, "no gradient"),
    "whole numbers": (lambda x: x.long(), "no gradient"),
    "steep": (torch.sqrt, "infinitely steep.* 0 in every pixel"),
    "modulus": (lambda x: (x**2 + x.flip(1) ** 2).sqrt(), "gradient NaN"),
    "infinite": (torch.log, "infinite measurements .* 0 in every pixel"),
    "nowhere": (lambda x: torch.log(x - 9), "images like those of fit"),
    "neighbours": (lambda x: x / x.max(), "see each other"),
    "random": (lambda x: x + torch.rand_like(x), "at random"),
    "key": (knows_no_key, "failed on 2 images of 6 pixels: KeyError"),
    "assertion": (asserts, "AssertionError"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_reconstructed_with_is_refused(name):
    function, words = REFUSED[name]
    with pytest.raises(ValueError, match=words), torch.random.fork_rng():
        as_measurement(ops.ForwardModel(function, 6, 6), 6, (0.0, 1.0))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + (x.round() - x).detach(),
        lambda x: 0 * x,  # of no use, and nobody else's business
        lambda x: x / (x.amax(1, keepdim=True) + 1),
        nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5)),
    ],
    ids=["straight-through", "flat", "rows by themselves", "eval mode"],
)
def test_what_keeps_its_word_is_taken(function):
    measurement = as_measurement(ops.ForwardModel(function, 6, 6), 6, (0.0, 1.0))
    assert np.isfinite(measurement.forward(X)).all()


def test_only_images_of_the_range_are_tried():
    model = ops.ForwardModel(torch.log, 6, 6)
    assert not as_measurement(model, 6, (0.5, 2.0)).linear
    assert not as_measurement(model, 6).linear
