"""Odd and hostile input: a clear ValueError or a finite answer; never NaN, never torch's words."""

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from tests.base.tasks import alphabets, finite, instance, maml, proto, wards, waves

MAKERS = {"maml": (maml, waves), "shared": (proto, wards), "local": (proto, alphabets)}
OURS = (
    "Adaptation overflowed",
    "The predictions overflowed",
    "loss became NaN or infinite",
    "Input X contains",
    "Input y contains",
)


class Case:
    """A fitted estimator with its data, and every door that rows come in by."""

    def __init__(self, name):
        self.make, data = MAKERS[name]
        self.X, self.y, self.groups = data()
        self.model = self.make().fit(self.X, self.y, groups=self.groups)
        self.regressor = not hasattr(self.model, "classes_")

    def answer(self, model, X):
        return model.predict(X) if self.regressor else model.predict_proba(X)

    def doors(self, change):
        """Calls that each take the changed rows in another place."""
        X, y, groups = self.X, self.y, self.groups
        n = 16
        return {
            "fit": lambda: self.answer(self.make().fit(change(X), y, groups=groups), X),
            "fit and adapt": lambda: self.answer(
                self.make().fit(change(X), y, groups=groups).adapt(X[:n], y[:n]), X
            ),
            "adapt": lambda: self.answer(self.model.adapt(change(X)[:n], y[:n]), X),
            "predict": lambda: self.answer(self.model, change(X)),
            "predict adapted": lambda: self.answer(self.model.adapt(X[:n], y[:n]), change(X)),
        }


@pytest.fixture(scope="module", params=MAKERS)
def case(request):
    return Case(request.param)


doors = pytest.mark.parametrize(
    "door", ["fit", "fit and adapt", "adapt", "predict", "predict adapted"]
)


def finite_or_clear(call):
    """A finite answer, or one of our errors; anything else fails. True where it answered."""
    try:
        values = call()
    except ValueError as error:
        text = str(error)
    else:
        assert finite(values)
        return True
    assert text.startswith(OURS) or any(part in text for part in OURS), text
    return False


def with_one(value, row=3):
    def change(X):
        X = np.array(X, dtype=np.float64)
        X[row, -1] = value
        return X

    return change


# ---- too few rows or columns


@doors
def test_no_row(case, door):
    with pytest.raises(
        ValueError, match=r"0 sample|inconsistent numbers of samples|at least one support row"
    ):
        case.doors(lambda X: X[:0])[door]()


@pytest.mark.parametrize("make", [maml, proto])
def test_fit_on_no_row_or_one(make):
    for n in (0, 1):
        with pytest.raises(ValueError, match=f"{n} sample"):
            make().fit(np.zeros((n, 2)), np.zeros(n), groups=np.zeros(n))


@doors
def test_no_column(case, door):
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        case.doors(lambda X: X[:, :0])[door]()


def test_one_column(case):
    X = case.X[:, :1]
    model = case.make().fit(X, case.y, groups=case.groups)
    assert finite(case.answer(model.adapt(X[:16], case.y[:16]), X))


# ---- columns that say nothing


@pytest.mark.parametrize("value", [0.0, 1.0, -1e30, 1e300, 1e-320])
def test_constant_columns(case, value):
    def wide(X):
        return np.column_stack([np.full(len(X), value), X, np.full(len(X), value)])

    model = case.make().fit(wide(case.X), case.y, groups=case.groups)
    assert_array_equal(model.x_scale_[[0, -1]], [1, 1])
    values = case.answer(model.adapt(wide(case.X[:16]), case.y[:16]), wide(case.X))
    assert finite(values) and np.ptp(values, axis=0).max() > 0


def test_all_columns_constant(case):
    X = np.full_like(case.X, 2.0)
    model = case.make().fit(X, case.y, groups=case.groups)
    values = case.answer(model.adapt(X[:16], case.y[:16]), X)
    assert finite(values)
    assert_allclose(values, values[[0]].repeat(len(X), 0))


# ---- huge, tiny and missing numbers


@doors
@pytest.mark.parametrize("value", [1e30, -1e30, 1e300, -1e300, 1.7e308, 1e-320])
def test_one_extreme_value_in_x(case, door, value):
    finite_or_clear(case.doors(with_one(value))[door])


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e30, 1e300])
def test_a_column_in_extreme_units_changes_nothing(case, factor):
    X = case.X * factor
    model = case.make().fit(X, case.y, groups=case.groups)
    values = case.answer(model.adapt(X[:16], case.y[:16]), X)
    expected = case.answer(case.model.adapt(case.X[:16], case.y[:16]), case.X)
    assert_allclose(values, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e30, 1e300])
def test_y_in_extreme_units(factor):
    X, y, groups = waves()
    model = maml().fit(X, y * factor, groups=groups)
    expected = maml().fit(X, y, groups=groups).adapt(X[:5], y[:5]).predict(X)
    values = model.adapt(X[:5], y[:5] * factor).predict(X) / factor
    assert_allclose(values, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("value", [1e30, -1e300, 1.7e308, 1e-320])
def test_one_extreme_value_in_y(value):
    X, y, groups = waves()
    bad = y.copy()
    bad[3] = value
    model = maml().fit(X, y, groups=groups)
    finite_or_clear(lambda: maml().fit(X, bad, groups=groups).adapt(X[:5], y[:5]).predict(X))
    finite_or_clear(lambda: maml().fit(X, bad, groups=groups).predict(X))
    finite_or_clear(lambda: model.adapt(X[:5], bad[:5]).predict(X))


HUGE = {"opposite": [1e308, -1e308], "alike": [1.7e308, 1.7e308]}


@doors
@pytest.mark.parametrize("values", HUGE.values(), ids=HUGE)
def test_the_largest_numbers_in_x(case, door, values):
    def change(X):
        X = np.array(X, dtype=np.float64)
        X[[3, 4], -1] = values
        return X

    finite_or_clear(case.doors(change)[door])


@pytest.mark.parametrize("values", HUGE.values(), ids=HUGE)
def test_the_largest_numbers_in_y_and_in_transform(values):
    X, y, groups = waves()
    y[[3, 4]] = values
    finite_or_clear(lambda: maml().fit(X, y, groups=groups).adapt(X[:5], y[:5]).predict(X))
    X, y, groups = wards()
    model = proto().fit(X, y, groups=groups)
    X[[3, 4], -1] = values
    finite_or_clear(lambda: model.transform(X))


def test_predictions_past_the_largest_number_are_an_error():
    X, y, groups = waves()
    top = np.finfo(np.float64).max / 4
    model = maml(max_epochs=3, activation="relu").fit(X, y / np.abs(y).max() * top, groups=groups)
    with pytest.raises(ValueError, match="overflowed"):
        model.predict(X * 1e5)


@pytest.mark.parametrize("module", ["linear", None])
@pytest.mark.parametrize("value", [1e30, 1e300])
def test_extreme_values_and_a_module_that_takes_x_as_it_is(case, module, value):
    if module:
        module = instance(nn.Linear, case.X.shape[1], 1 if case.regressor else 4)
    X = with_one(value)(case.X)
    finite_or_clear(
        lambda: case.answer(case.make(module=module).fit(X, case.y, groups=case.groups), case.X)
    )


@doors
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_x(case, door, value):
    with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
        case.doors(with_one(value))[door]()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_y_of_a_regressor(value):
    X, y, groups = waves()
    bad = np.where(np.arange(len(y)) == 3, value, y)
    model = maml().fit(X, y, groups=groups)
    for call in (lambda: maml().fit(X, bad, groups=groups), lambda: model.adapt(X[:5], bad[:5])):
        with pytest.raises(ValueError, match=r"[Ii]nput y contains (NaN|infinity)"):
            call()


@pytest.mark.parametrize("kind", ["float", "object", "string", "category", "Int64"])
def test_missing_labels(kind):
    pd = pytest.importorskip("pandas")
    X, _, groups = wards()
    codes = np.where(X[:, 0] > 0, 1.0, 0.0)
    whole = pd.Series(codes).astype("Int64" if kind == "Int64" else "int64")
    if kind in ("object", "string", "category"):
        whole = pd.Series(np.where(codes == 1, "b", "a")).astype(kind)
    bad = whole.astype("float64") if kind == "float" else whole.copy()
    bad[3] = np.nan if kind == "float" else None
    model = proto().fit(X, whole, groups=groups)
    for call in (lambda: proto().fit(X, bad, groups=groups), lambda: model.adapt(X[:5], bad[:5])):
        with pytest.raises(ValueError, match="y contains NaN"):
            call()


# ---- other kinds of arrays


@doors
def test_sparse_x(case, door):
    with pytest.raises(TypeError, match="dense data is required"):
        case.doors(scipy.sparse.csr_array)[door]()


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.coo_matrix])
def test_sparse_y(case, kind):
    y = kind(np.eye(len(case.X), 2))
    with pytest.raises(ValueError, match="y is sparse"):
        case.make().fit(case.X, y, groups=case.groups)
    with pytest.raises(ValueError, match="y is sparse"):
        case.model.adapt(case.X, y)


@doors
def test_complex_x(case, door):
    with pytest.raises(ValueError, match="Complex data not supported"):
        case.doors(lambda X: X + 1j)[door]()


def test_complex_y(case):
    with pytest.raises(ValueError, match="Complex data not supported"):
        case.make().fit(case.X, np.arange(len(case.X)) + 1j, groups=case.groups)


@doors
def test_columns_of_words(case, door):
    with pytest.raises(ValueError, match="could not convert string to float"):
        case.doors(lambda X: np.full(X.shape, "word", dtype=object))[door]()


@doors
def test_object_columns_of_numbers(case, door):
    expected = case.doors(lambda X: X)[door]()
    assert_array_equal(case.doors(lambda X: X.astype(object))[door](), expected)


def test_words_as_y_of_a_regressor():
    X, y, groups = waves()
    with pytest.raises(ValueError, match="could not convert string to float"):
        maml().fit(X, np.where(y > 0, "high", "low"), groups=groups)


def test_measurements_as_y_of_a_classifier():
    X, _, groups = wards()
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        proto().fit(X, X[:, 0], groups=groups)


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize("whole", [["sick", "well"], [0, 1], [True, False]])
def test_a_label_that_is_none(whole, as_list):
    X, y, groups = wards()
    y = np.array(whole, dtype=object)[(y == "well").astype(int)]
    model = proto().fit(X, np.array(y.tolist()), groups=groups)
    bad = y.copy()
    bad[[3, 4]] = None
    bad = bad.tolist() if as_list else bad
    for call in (lambda: proto().fit(X, bad, groups=groups), lambda: model.adapt(X[:9], bad[:9])):
        with pytest.raises(ValueError, match=r"y has 2 missing labels \(None\)"):
            call()
    with pytest.raises(ValueError, match="y has 9 missing labels"):
        model.adapt(X[:9], [None] * 9)


@pytest.mark.parametrize("other", [1, 1.5, True])
def test_labels_of_mixed_types(other):
    X, y, groups = wards()
    model = proto().fit(X, y, groups=groups)
    for first in ("sick", "well"):
        mixed = np.where(y == first, y.astype(object), other)
        with pytest.raises(ValueError, match="y mixes strings and other labels"):
            proto().fit(X, mixed, groups=groups)
        with pytest.raises(ValueError, match="y mixes strings and other labels"):
            model.adapt(X, mixed)


@pytest.mark.parametrize("shape", ["1-d", "3-d", "scalar"])
@doors
def test_x_of_the_wrong_shape(case, door, shape):
    change = {"1-d": lambda X: X[:, 0], "3-d": lambda X: X[:, :, None], "scalar": lambda X: 3.0}
    if shape == "scalar" and door == "adapt":
        change["scalar"] = lambda X: np.zeros((16, 1, 1))  # a scalar has no first rows
    with pytest.raises(ValueError, match=r"Expected 2D|dim 3|Expected .* <= 2"):
        case.doors(change[shape])[door]()


def test_read_only_and_strided_arrays(case):
    X = np.asfortranarray(np.repeat(case.X, 2, axis=0))[::2]
    X.flags.writeable = False
    y = np.repeat(case.y, 2)[::2]
    y.flags.writeable = False
    model = case.make().fit(X, y, groups=case.groups)
    new, plain = model.adapt(X[:16], y[:16]), case.model.adapt(case.X[:16], case.y[:16])
    assert_allclose(case.answer(model, X), case.answer(case.model, case.X), rtol=1e-9)
    assert_allclose(case.answer(new, X), case.answer(plain, case.X), rtol=1e-9)


# ---- other columns than in fit


@pytest.mark.parametrize("door", ["adapt", "predict", "predict adapted"])
def test_wrong_number_of_columns(case, door):
    with pytest.raises(ValueError, match=r"X has \d features, but .* is expecting \d"):
        case.doors(lambda X: np.column_stack([X, X]))[door]()


@pytest.mark.parametrize("door", ["adapt", "predict", "predict adapted"])
def test_wrong_names_of_columns(door):
    pd = pytest.importorskip("pandas")
    for name in MAKERS:
        case = Case(name)
        names = [f"c{i}" for i in range(case.X.shape[1])]
        case.X = pd.DataFrame(case.X, columns=names)
        case.model = case.make().fit(case.X, case.y, groups=case.groups)
        assert_array_equal(case.model.feature_names_in_, names)
        with pytest.raises(ValueError, match="feature names should match"):
            case.doors(lambda X: X.rename(columns={"c0": "other"}))[door]()
        if len(names) > 1:
            with pytest.raises(ValueError, match="same order"):
                case.doors(lambda X: X.iloc[:, ::-1])[door]()


DATES = np.datetime64("2024-03-01") + np.arange(48)


@pytest.mark.parametrize(
    "odd",
    [["x"] * 47 + [None], DATES, DATES - DATES[0], [["a", "list"]] * 48],
    ids=["words", "dates", "durations", "lists"],
)
def test_columns_that_are_not_numbers_are_named(odd):
    pd = pytest.importorskip("pandas")
    X, y, groups = waves()
    X = pd.DataFrame({"fine": X[:48, 0], "whole": pd.array([1, 2] * 24, "Int64")})
    model = maml().fit(X, y[:48], groups=groups[:48])
    bad = X.assign(odd=list(odd))
    with pytest.raises(ValueError, match=r"not numbers: \['odd'\]\. Encode"):
        maml().fit(bad, y[:48], groups=groups[:48])
    swapped = bad[["odd", "whole"]].set_axis(["fine", "whole"], axis=1)
    with pytest.raises(ValueError, match=r"not numbers: \['fine'\]\. Encode"):
        model.predict(swapped)


def test_a_missing_value_is_no_word():
    pd = pytest.importorskip("pandas")
    X, y, groups = waves()
    X = pd.DataFrame({"a": X[:, 0], "b": pd.array([1, None] * (len(X) // 2), "Int64")})
    with pytest.raises(ValueError, match="Input X contains NaN"):
        maml().fit(X, y, groups=groups)
