"""Nonlinear models, and every kind of operator through one door."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from skmeta import operators as ops
from skmeta.operators import _linear
from skmeta.operators._measurement import as_measurement
from tests.operators.cases import LINEAR, SIZE

A = ops.GaussianMeasurements(5, 8, random_state=0)
MODELS = {
    "PhaseRetrieval": (ops.PhaseRetrieval(A), lambda z: np.abs(z)),
    "Saturation": (ops.Saturation(A, 0.4), lambda z: np.clip(z, -0.4, 0.4)),
    "Quantisation": (ops.Quantisation(A, 0.25), lambda z: np.round(z / 0.25) * 0.25),
    "Gamma": (ops.Gamma(2.2, A), lambda z: np.where(z > 0, np.abs(z) ** 2.2, 0)),
    "Gamma, alone": (ops.Gamma(1.5), None),
    "ForwardModel": (ops.ForwardModel(torch.tanh, 8, 8), None),
}


def images(n_features=8, n=4, seed=0):
    return np.random.default_rng(seed).random((n, n_features))


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    model, response = MODELS[name]
    X = images()
    Y = model(X)
    if response is not None:
        assert_allclose(Y, response(X @ A.matrix.T), atol=1e-12)
    assert_array_equal(Y, model(torch.tensor(X)).numpy())
    assert_array_equal(pickle.loads(pickle.dumps(model))(X), Y)
    measurement = as_measurement(model, 8)
    assert not measurement.linear and not measurement.identity
    assert (measurement.n_measurements, measurement.n_features) == (Y.shape[1], 8)
    assert_array_equal(measurement.forward(X), Y)
    with pytest.raises(ValueError, match="not linear"):
        measurement.dense()
    with pytest.raises(ValueError, match="not linear"):
        measurement.adjoint(torch.tensor(Y))


@pytest.mark.parametrize("name", MODELS)
def test_vjp_is_the_transposed_derivative(name):
    model, _ = MODELS[name]
    X, step = images(), 1e-6
    v = np.random.default_rng(1).normal(size=model(X).shape)
    product = model.vjp(X, v)
    if name == "Quantisation":  # its gradient is that without rounding
        assert_allclose(product, v @ A.matrix)
        return
    for j in range(8):
        shift = step * np.eye(8)[j]
        slope = ((model(X + shift) - model(X - shift)) * v).sum(axis=1) / (2 * step)
        assert_allclose(product[:, j], slope, rtol=1e-5, atol=1e-8)


def test_gamma_is_never_infinitely_steep():
    model = ops.Gamma(0.5)
    X = np.array([[-1.0, 0.0, 1e-3, 4e-4, 0.25]])
    slope = model.vjp(X, np.ones_like(X))
    assert np.isfinite(slope).all() and slope.max() < 40
    assert_allclose(model(X), [[0, 0, 1e-3**0.5, 4e-4 * 1e-3**-0.5, 0.5]])


def forms():
    """The same matrix in every form that is accepted."""
    matrix = np.where(np.random.default_rng(0).random((5, 8)) < 0.5, 0, A.matrix)
    return {
        "array": matrix,
        "list": matrix.tolist(),
        "csr": sparse.csr_array(matrix),
        "coo matrix": sparse.coo_matrix(matrix),
        "aslinearoperator": aslinearoperator(matrix),
        "products": LinearOperator((5, 8), lambda x: matrix @ x, lambda y: matrix.T @ y),
        "scaled": 2 * aslinearoperator(matrix / 2),
    }


@pytest.mark.parametrize("form", forms())
@pytest.mark.parametrize("large", [False, True])
def test_every_form_is_the_same_map(form, large, monkeypatch):
    if large:
        monkeypatch.setattr(_linear, "DENSE_ENTRIES", 0)
        monkeypatch.setattr(_linear, "BATCH_ENTRIES", 20)
    matrix = forms()["array"]
    measurement = as_measurement(forms()[form], 8)
    X = torch.tensor(images(), requires_grad=True)
    Y = torch.tensor(images(5, seed=1), requires_grad=True)
    assert_allclose(measurement.apply(X).detach(), images() @ matrix.T)
    assert_allclose(measurement.adjoint(Y).detach(), images(5, seed=1) @ matrix)
    assert_allclose(measurement.forward(images()), images() @ matrix.T)
    assert_allclose(measurement.backward(images(5)), images(5) @ matrix)
    assert_allclose(measurement.dense(), matrix)
    assert torch.autograd.gradcheck(measurement.apply, X)
    assert torch.autograd.gradcheck(measurement.adjoint, Y)
    assert torch.autograd.gradgradcheck(lambda x: measurement.apply(x).square(), X)
    single = measurement.apply(torch.tensor(images(), dtype=torch.float32))
    assert single.dtype == torch.float32
    assert_allclose(single, images() @ matrix.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LINEAR)
def test_ready_made_operators(name, monkeypatch):
    operator = LINEAR[name]
    n = operator.shape[1]
    dense = as_measurement(operator, n)
    monkeypatch.setattr(_linear, "DENSE_ENTRIES", 0)
    products = as_measurement(operator, n)
    X = torch.tensor(images(n), requires_grad=True)
    assert_allclose(products.apply(X).detach(), dense.apply(X).detach(), atol=1e-12)
    assert_allclose(products.dense(), dense.dense(), atol=1e-12)
    assert torch.autograd.gradcheck(products.apply, X)


def test_products_need_their_transpose(monkeypatch):
    monkeypatch.setattr(_linear, "DENSE_ENTRIES", 0)
    operator = LinearOperator((3, SIZE), lambda x: x[:3], dtype=float)
    with pytest.raises(ValueError, match="rmatvec is its transpose"):
        as_measurement(operator, SIZE).backward(np.ones((2, 3)))


def test_a_tensor_is_a_matrix():
    tensor = torch.tensor(A.matrix, requires_grad=True)
    assert_array_equal(as_measurement(tensor, 8).dense(), A.matrix)


@pytest.mark.parametrize("name", ["GaussianMeasurements", "Radon"])
def test_a_matrix_that_is_held_is_not_read_off(name, monkeypatch):
    operator = LINEAR[name]
    expected = operator @ np.eye(operator.shape[1])
    monkeypatch.setattr(type(operator), "_forward", None)
    dense = as_measurement(operator, operator.shape[1]).dense()
    assert_allclose(dense, expected, atol=1e-12)
    assert not np.shares_memory(dense, getattr(operator.matrix, "data", operator.matrix))


def test_identity():
    measurement = as_measurement(None, 6)
    assert measurement.identity and measurement.linear and measurement.n_measurements == 6
    X = torch.tensor(images(6))
    assert measurement.apply(X) is X and measurement.adjoint(X) is X
    assert_array_equal(measurement.dense(), np.eye(6))
    assert_array_equal(measurement.forward(images(6)), images(6))


def test_a_matrix_is_copied(monkeypatch):
    matrix, rows = np.eye(3), sparse.csr_array(np.eye(3))
    monkeypatch.setattr(_linear, "DENSE_ENTRIES", 0)
    measurements = as_measurement(matrix, 3), as_measurement(rows, 3)
    matrix[0], rows.data[:] = 7, 7
    for measurement in measurements:
        assert_array_equal(measurement.dense(), np.eye(3))


def test_measurement_can_be_pickled():
    for operator in (A, sparse.eye_array(8), None, MODELS["PhaseRetrieval"][0]):
        measurement = as_measurement(operator, 8)
        X = torch.tensor(images())
        expected = measurement.apply(X)
        assert_array_equal(pickle.loads(pickle.dumps(measurement)).apply(X), expected)


def minus_one(x):
    return x[:, :-1]


def not_rows(x):
    return x.sum()


def as_complex(x):
    return torch.complex(x, x)


def as_list(x):
    return x.tolist()


def fails(x):
    return x @ torch.ones(3, dtype=x.dtype)


def log(x):
    return torch.log(x - 1)


BAD = [
    (np.ones(SIZE), "2-d"),
    (np.ones((2, 2, SIZE)), "2-d"),
    (np.ones((0, SIZE)), "not empty"),
    (np.ones((SIZE, 3)), "transposed"),
    (np.ones((3, SIZE + 1)), f"have {SIZE}"),
    (np.ones((3, SIZE)) * 1j, "SubsampledFourier"),
    (sparse.csr_array(np.ones((3, SIZE)) * 1j), "Stack real and imaginary"),
    (aslinearoperator(np.ones((3, SIZE)) * 1j), "Stack real and imaginary"),
    (np.full((3, SIZE), np.nan), "NaN"),
    (sparse.csr_array(np.full((3, SIZE), np.inf)), "infinite"),
    (aslinearoperator(np.full((3, SIZE), np.inf)), "infinite|NaN"),
    ("radon", "ForwardModel, got str"),
    (np.ones((3, SIZE)).astype(object), "objects in place of numbers"),
    ([[1.0] * SIZE, [1.0]], "equally long"),
    (LinearOperator((3, SIZE), lambda x: x[:2], dtype=float), "must make 3"),
    (LinearOperator((3, SIZE), lambda x: x[:3], matmat=lambda x: x, dtype=float), "products are"),
    (torch.tanh, "ForwardModel, got"),
    (ops.ForwardModel(minus_one, SIZE, SIZE), "must give a tensor"),
    (ops.ForwardModel(not_rows, SIZE, SIZE), "must give a tensor"),
    (ops.ForwardModel(as_list, SIZE, SIZE), "got list"),
    (ops.ForwardModel(fails, 1, SIZE), "failed on 2 images"),
    (ops.ForwardModel(as_complex, SIZE, SIZE), r"z\.imag"),
    (ops.ForwardModel(torch.tanh, 3, 3), "images of 3 pixels"),
    (MODELS["Saturation"][0], "images of 8 pixels"),
]


@pytest.mark.parametrize(("operator", "words"), BAD, ids=range(len(BAD)))
def test_bad_operators(operator, words):
    with pytest.raises(ValueError, match=words), np.errstate(invalid="ignore"):
        as_measurement(operator, SIZE)


def test_bad_models():
    for make in (
        lambda: ops.ForwardModel(3, 2, 2),
        lambda: ops.ForwardModel(torch.tanh, 0, 2),
        lambda: ops.Saturation(A, 0),
        lambda: ops.Quantisation(A, "fine"),
        lambda: ops.Gamma(np.inf),
        lambda: ops.PhaseRetrieval(np.ones(3)),
        lambda: ops.PhaseRetrieval(np.ones((2, 2)) * 1j),
        lambda: MODELS["Saturation"][0](np.ones(8)),
    ):
        with pytest.raises(ValueError):
            make()
    with pytest.raises(ValueError, match="infinite"):
        as_measurement(ops.ForwardModel(log, 4, 4), 4).forward(np.ones((2, 4)))
