"""The digest that a checkpoint goes by: what could change a fit changes it, and nothing else."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from skmeta import MAMLRegressor, RidgeHeadClassifier
from skmeta.base._fingerprint import fingerprint_of
from tests.base.tasks import instance, wards
from tests.instances import small


def digest(data=0.0, **parameters):
    model = MAMLRegressor(**parameters)
    return fingerprint_of(model, None, torch.device("cpu"), np.array([data]))


def power(exponent):
    return lambda outputs, targets: (outputs - targets).abs() ** exponent


def net(drop):
    def make(n_inputs, n_outputs):
        return nn.Sequential(nn.Linear(n_inputs, 4), nn.Dropout(drop), nn.Linear(4, n_outputs))

    return make


def with_default(drop):
    def make(n_inputs, n_outputs, drop=drop):
        return nn.Sequential(nn.Linear(n_inputs, n_outputs), nn.Dropout(drop))

    return make


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.linear, self.scale = nn.Linear(1, 1), scale

    def forward(self, x):
        return self.scale * self.linear(x)


class Power:
    """A loss as an object that is called, or as its method."""

    def __init__(self, exponent):
        self.exponent = exponent

    def __call__(self, outputs, targets):
        return (outputs - targets).abs() ** self.exponent

    def loss(self, outputs, targets):
        return self(outputs, targets)


class Holder:
    def __init__(self, value):
        self.value = value


def held(value):
    holder = Holder(value)
    return lambda outputs, targets: (outputs - targets).abs() ** holder.value


PAIRS = {
    "object that is called": lambda v: {"loss": Power(v)},
    "method": lambda v: {"loss": Power(v).loss},
    "object in a closure": lambda v: {"loss": held(v)},
    "number": lambda v: {"inner_lr": v},
    "partial": lambda v: {"optimizer": functools.partial(torch.optim.SGD, momentum=v)},
    "partial of a partial": lambda v: {
        "optimizer": functools.partial(functools.partial(torch.optim.SGD, nesterov=False), v)
    },
    "setting of a loss": lambda v: {"loss": nn.HuberLoss(reduction="none", delta=v)},
    "closure": lambda v: {"loss": power(v)},
    "closure of a module": lambda v: {"module": net(v)},
    "default of a function": lambda v: {"module": with_default(v)},
    "setting of a module": lambda v: {"module": instance(Scaled, v)},
    "data": lambda v: {"data": v},
}


@pytest.mark.parametrize("kind", PAIRS)
def test_what_differs_differs_and_what_is_equal_is_equal(kind):
    make = PAIRS[kind]
    assert digest(**make(0.25)) == digest(**make(0.25))
    assert digest(**make(0.25)) != digest(**make(0.5))


def test_a_constant_in_the_code():
    first, second, again = (
        lambda o, t: (o - t) ** 2,
        lambda o, t: (o - t) ** 4,
        lambda o, t: (o - t) ** 2,
    )
    assert digest(loss=first) == digest(loss=again)
    assert digest(loss=first) != digest(loss=second)


def test_functions_that_call_themselves_and_each_other():
    def make(least):
        def halve(x):
            return x if x < least else third(x / 2)

        def third(x):
            return halve(third(x)) if x > 9 else x / 3

        return halve

    assert digest(loss=make(1)) == digest(loss=make(1))
    assert digest(loss=make(1)) != digest(loss=make(2))


def test_labels_of_another_meaning_are_another_training(tmp_path):
    X, y, _ = wards()
    y = np.where(X[:, 2] > 0.5, "gone", y)  # three classes
    one_task = np.zeros(len(y), dtype=int)
    alone = small("RidgeHeadClassifier", early_stopping=False)
    whole = alone.fit(X, y, groups=None).predict_proba(X[:9])
    kept = small("RidgeHeadClassifier", early_stopping=False, checkpoint=tmp_path)
    assert isinstance(kept, RidgeHeadClassifier)
    with pytest.warns(match="one task"):
        kept.fit(X, y, groups=one_task)
    np.testing.assert_array_equal(kept.fit(X, y).predict_proba(X[:9]), whole)
    assert len(list(tmp_path.iterdir())) == 2
