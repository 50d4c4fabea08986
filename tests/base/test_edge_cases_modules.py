"""The edge-case table, third part: modules of the user's, divergence, and rows side by side."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from torch import nn

from skmeta import MAMLRegressor
from skmeta.datasets import make_sinusoids
from skmeta.exceptions import TrainingDivergedError
from tests.base.tasks import alphabets, finite, instance, maml, proto, wards, waves


class RowGRU(nn.Module):
    """Reads the columns of a row one after the other."""

    def __init__(self, n_inputs, n_outputs=4):
        super().__init__()
        self.gru = nn.GRU(1, 6, batch_first=True)
        self.head = nn.Linear(6, n_outputs)

    def forward(self, x):
        return self.head(self.gru(x.unsqueeze(-1))[1][0])


class Flat(nn.Module):
    """Gives one number a row, without an axis for it."""

    def __init__(self, n_inputs, n_outputs=1):
        super().__init__()
        self.head = nn.Linear(n_inputs, n_outputs)

    def forward(self, x):
        return self.head(x)[:, 0]


class Complex(nn.Module):
    """A linear layer with complex weights, and a real output."""

    def __init__(self, n_inputs, n_outputs=4):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_inputs, n_outputs, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(self.weight.dtype) @ self.weight).real


def batch_norm(n_inputs, n_outputs=4):
    return nn.Sequential(
        nn.Linear(n_inputs, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_outputs)
    )


def dropout(n_inputs, n_outputs=4):
    return nn.Sequential(
        nn.Linear(n_inputs, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, n_outputs)
    )


def layer_norm(n_inputs, n_outputs=4):
    return nn.Sequential(nn.Linear(n_inputs, 8), nn.LayerNorm(8), nn.Linear(8, n_outputs))


def fit(make, **changes):
    data = {maml: waves, proto: wards}[make]
    X, y, groups = data()
    return make(**changes).fit(X, y, groups=groups), X, y


def raw(model, X):
    return model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)


both = pytest.mark.parametrize("make", [maml, proto])


# ---- as a class, an instance, a callable


@both
@pytest.mark.parametrize("module", [RowGRU, batch_norm, dropout, layer_norm])
def test_module_as_class_or_callable_with_sizes(make, module):
    model, X, y = fit(make, module=module)
    new = model.adapt(X[:6], y[:6])
    assert finite(raw(new, X)) and raw(new, X).shape == raw(model, X).shape
    again = pickle.loads(pickle.dumps(new))
    assert_array_equal(raw(again, X), raw(new, X))


@both
def test_module_as_a_callable_without_sizes(make):
    def build():
        return nn.Linear(1 if make is maml else 3, 1 if make is maml else 4)

    model, X, y = fit(make, module=build)
    assert finite(raw(model.adapt(X[:6], y[:6]), X))


@both
def test_module_as_an_instance_is_copied_with_its_weights_and_never_trained(make):
    template = instance(batch_norm, 1, 1) if make is maml else instance(batch_norm, 3)
    before = {name: value.clone() for name, value in template.state_dict().items()}
    template.eval()
    model, X, y = fit(make, module=template, max_epochs=2)
    model.adapt(X[:6], y[:6]).predict(X)
    assert not template.training and model.module is template
    assert type(template[1]) is nn.BatchNorm1d
    for name, value in template.state_dict().items():
        assert torch.equal(value, before[name]), name
    trained = next(v for k, v in model.meta_params_.items() if k.endswith("0.weight"))
    assert 0 < np.abs(trained - before["0.weight"].numpy()).max() < 1  # a start, not a new draw


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_module_in_another_precision(make, dtype):
    template = instance(nn.Linear, *((1, 1) if make is maml else (3, 4))).to(dtype)
    model, X, _ = fit(make, module=template)
    assert finite(raw(model, X)) and template.weight.dtype == dtype


def test_module_with_one_flat_output():
    model, X, y = fit(maml, module=Flat)
    assert model.adapt(X[:4], y[:4]).predict(X).shape == (len(X),)


def test_module_may_be_the_identity_for_prototypes():
    model, X, y = fit(proto, module=nn.Identity())
    assert finite(model.adapt(X[:6], y[:6]).predict_proba(X))
    assert_array_equal(model.transform(X), X)


# ---- modules that cannot work: said before training, in plain words


@pytest.mark.parametrize(
    ("make", "module", "text"),
    [
        (maml, nn.Linear(1, 3), r"gives 3 values a row; y has 1 column"),
        (maml, nn.Linear(5, 1), r"rows of 1 columns.*must take a tensor \(n_rows, 1\)"),
        (proto, nn.Linear(5, 2), r"rows of 3 columns.*must take a tensor \(n_rows, 3\)"),
        (maml, nn.GRU, r"'tuple' object.*give a tensor"),
        (proto, nn.GRU(3, 3), r"'tuple' object.*give a tensor"),
        (proto, Flat, r"give a tensor \(n_rows, n_outputs\)"),
        (maml, nn.LazyLinear(1), "lazy layers"),
        (proto, nn.LazyLinear, "lazy layers"),
        (maml, Complex, "holds complex numbers"),
        (proto, Complex, "holds complex numbers"),
        (maml, nn.Identity(), "no parameter that requires a gradient"),
        (maml, lambda a, b, c: nn.Linear(a, b), r"neither with \(n_inputs, n_outputs\) nor"),
        (proto, lambda a, b: nn.Linear(a, b), r"neither with \(n_inputs\) nor"),
        (maml, lambda n_in, n_out: "net", r"returned str, not a torch.nn.Module"),
        (proto, batch_norm(3)[:1].append(nn.BatchNorm1d(8, track_running_stats=False)), "track_"),
        (proto, nn.BatchNorm1d(3, track_running_stats=False), "Set track_running_stats=True"),
    ],
)
def test_module_that_cannot_work(make, module, text):
    with pytest.raises(ValueError, match=text):
        fit(make, module=module)


@both
@pytest.mark.parametrize("sizes", [(0,), (-1,), (0.5,), ("a",), (8, 0)])
def test_layer_sizes_must_be_positive_integers(make, sizes):
    with pytest.raises(ValueError, match="hidden_layer_sizes must be positive integers"):
        fit(make, hidden_layer_sizes=sizes)


@both
@pytest.mark.parametrize("sizes", [(), [4], np.array([4, 4])])
def test_layer_sizes_as_any_sequence(make, sizes):
    model, X, _ = fit(make, hidden_layer_sizes=sizes)
    assert finite(raw(model, X))


@pytest.mark.parametrize(
    ("image_shape", "text"),
    [
        (None, r"needs image_shape=\(height, width\)"),
        ((4,), "needs image_shape"),
        ((1, 1, 2, 2), "needs image_shape"),
        ((3, 3), "has 9 pixels, but X has 4 columns"),
        ((3, 2, 2), "has 12 pixels, but X has 4 columns"),
    ],
)
def test_conv4_needs_the_shape_of_the_image(image_shape, text):
    X, y, groups = alphabets()
    with pytest.raises(ValueError, match=text):
        proto(module="conv4", image_shape=image_shape).fit(X, y, groups=groups)


@pytest.mark.parametrize("image_shape", [(2, 2), [1, 2, 2], (4, 1, 1)])
def test_conv4_fits_small_images(image_shape):
    X, y, groups = alphabets()
    model = proto(module="conv4", image_shape=image_shape).fit(X, y, groups=groups)
    assert finite(model.adapt(X[:20], y[:20]).predict_proba(X))


# ---- the statistics of the query are never used


@both
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("module", [None, RowGRU, batch_norm, dropout, layer_norm])
def test_predictions_do_not_depend_on_the_rows_beside(make, adapted, module):
    model, X, y = fit(make, module=module)
    if adapted:
        model = model.adapt(X[:6], y[:6])
    alone = np.concatenate([raw(model, row[None]) for row in X[:8]])
    together = raw(model, X)
    assert_allclose(together[:8], alone, rtol=1e-9, atol=1e-12)
    beside_giants = raw(model, np.concatenate([X[:8], X[:30] * 50]))
    assert_allclose(beside_giants[:8], alone, rtol=1e-9, atol=1e-12)
    assert_allclose(raw(model, X[::-1])[::-1], together, rtol=1e-9, atol=1e-12)
    assert np.ptp(together, axis=0).max() > 0  # rows do differ


@both
def test_dropout_is_off_in_predict_and_adapt(make):
    model, X, y = fit(make, module=dropout)
    assert_array_equal(raw(model, X), raw(model, X))
    first, second = (raw(model.adapt(X[:6], y[:6]), X) for _ in range(2))
    assert_array_equal(first, second)


# ---- training that diverges


@both
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_that_diverges_names_the_step_and_what_to_lower(make, optimizer):
    with pytest.raises(TrainingDivergedError, match=r"epoch 1, step \d+.* Lower lr"):
        fit(make, lr=1e20, optimizer=optimizer)


def test_inner_loop_that_diverges():
    with pytest.raises(TrainingDivergedError, match=r"step \d+.*inner_lr"):
        fit(maml, inner_lr=1e20)


@pytest.mark.parametrize("rates", [{"lr": 1e6, "inner_lr": 1e6}, {"lr": 1e3, "optimizer": "sgd"}])
def test_a_loss_that_ends_beyond_reason_is_told(rates):
    X, y, groups = make_sinusoids(12, 12, random_state=0)
    model = MAMLRegressor((16,), max_epochs=3, early_stopping=False, random_state=0, **rates)
    with pytest.warns(ConvergenceWarning, match="diverged: its loss is .* Lower lr, or inner_lr"):
        model.fit(X, y, groups=groups)


@both
@pytest.mark.filterwarnings("ignore:Training diverged")
@pytest.mark.parametrize("lr", [10.0, 1e3, 1e6, 1e10])
def test_a_high_rate_is_an_error_or_a_finite_answer(make, lr):
    text = ""
    try:
        model, X, y = fit(make, lr=lr)
    except TrainingDivergedError as error:
        text = str(error)
    if not text:
        assert finite(raw(model, X)) and finite(raw(model.adapt(X[:4], y[:4]), X))
    assert not text or "Lower lr" in text


@both
def test_a_rate_that_single_precision_cannot_hold(make):
    with pytest.raises(ValueError, match="'lr' parameter"):
        fit(make, lr=1e300, optimizer="sgd")


@both
def test_a_failed_fit_leaves_no_estimator_that_answers_nan(make):
    model = make(lr=1e20)
    X, y, groups = waves() if make is maml else wards()
    with pytest.raises(TrainingDivergedError):
        model.fit(X, y, groups=groups)
    assert not hasattr(model, "state_")
    assert finite(raw(model.set_params(lr=0.01).fit(X, y, groups=groups), X))


def test_a_failed_second_fit_leaves_no_mixture_of_two():
    X, y, groups = waves()
    model = maml().fit(X, y, groups=groups)
    with pytest.raises(TrainingDivergedError):
        model.set_params(lr=1e20).fit(X, 1000 * y, groups=groups)
    with pytest.raises(NotFittedError):  # the old net would answer in the new unit of y
        model.predict(X)


@both
def test_a_second_fit_on_malformed_rows_keeps_the_first(make):
    model, X, y = fit(make)
    before = raw(model, X)
    with pytest.raises(ValueError, match="entries for"):
        model.fit(X, y, groups=[1, 2])
    assert_array_equal(raw(model, X), before)
