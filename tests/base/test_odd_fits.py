"""Fits that fail half way, targets of objects, and nets that say themselves how large they are."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from torch import nn

from skmeta import AutoMetaRegressor, HierarchicalRidge
from skmeta.base import MetaRegressor
from skmeta.base._module import build_module
from tests.base.tasks import waves
from tests.instances import small

REGRESSORS = ["MAMLRegressor", "HierarchicalRidge", "HierarchicalGPRegressor"]


@pytest.mark.parametrize("name", REGRESSORS)
def test_none_in_an_array_of_objects_is_a_missing_target(name):
    X, y, groups = waves()
    odd = y.astype(object)
    odd[3] = None
    with pytest.raises(ValueError, match="Input y contains NaN"):
        small(name).fit(X, odd, groups=groups)
    model = small(name).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        model.adapt(X[:5], odd[:5])


@pytest.mark.parametrize("make", [HierarchicalRidge, AutoMetaRegressor])
def test_a_fit_that_fails_leaves_no_half_of_two(make, monkeypatch):
    X, y, groups = waves()
    wide = np.column_stack([X, X])
    model = make() if make is HierarchicalRidge else small("AutoMetaRegressor")
    before = model.fit(X, y, groups=groups).predict(X)
    with pytest.raises(ValueError, match="groups has"):
        model.fit(wide, y, groups=groups[:-1])
    np.testing.assert_array_equal(model.predict(X), before)

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(MetaRegressor, "_fit_targets", fail)
    with pytest.raises(MemoryError):
        model.fit(wide, y, groups=groups)
    with pytest.raises(NotFittedError):
        model.predict(wide)


class Sized(nn.Module):
    def __init__(self, width=32, depth=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, width), nn.Linear(width, depth))


@pytest.mark.parametrize(
    ("module", "shapes"),
    [
        (Sized, [(32, 1), (3, 32)]),  # its defaults are no numbers of inputs and outputs
        (lambda: nn.Linear(5, 2), [(2, 5)]),
        (lambda n_inputs, n_outputs=9: nn.Linear(n_inputs, n_outputs), [(4, 7)]),
        (lambda n_inputs, width=3: nn.Linear(n_inputs, width), [(4, 7)]),
        (lambda *sizes: nn.Linear(*sizes), [(4, 7)]),
        (nn.Linear, [(4, 7)]),
    ],
)
def test_a_callable_is_told_the_sizes_where_it_needs_them(module, shapes):
    weights = [p for p in build_module(module, 7, 4).parameters() if p.ndim == 2]
    assert [tuple(weight.shape) for weight in weights] == shapes
