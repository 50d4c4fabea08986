"""Task ids: what is one, what is refused, and that only their position counts."""

import datetime
import decimal
import uuid

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skmeta.base._groups import check_ids, task_numbers
from tests.base.tasks import maml, proto, wards, waves

pd = pytest.importorskip("pandas")

PATTERN = np.array([2, 0, 1, 0, 2, 2])  # the tasks of six rows, numbered as their ids sort

GOOD = {
    "int": PATTERN,
    "list of int": PATTERN.tolist(),
    "tuple": tuple(PATTERN.tolist()),
    "numpy and python ints": [int(v) if i else np.int64(v) for i, v in enumerate(PATTERN)],
    "negative int": PATTERN - 2,
    "float": PATTERN / 2,
    "ints and floats": [v if v else 0.5 - 1 for v in PATTERN.tolist()],
    "unsigned": PATTERN.astype(np.uint8),
    "str": np.array(["a", "b", "c"])[PATTERN],
    "list of str": np.array(["a", "b", "c"])[PATTERN].tolist(),
    "object str": np.array(["a", "b", "c"], dtype=object)[PATTERN],
    "str that look like missing": np.array(["", "None", "nan"])[PATTERN],
    "bytes": np.array([b"a", b"b", b"c"])[PATTERN],
    "datetime64": np.array(["2020-01-01", "2020-01-02", "2021-01-01"], "datetime64[D]")[PATTERN],
    "timedelta64": PATTERN.astype("timedelta64[s]"),
    "date objects": [datetime.date(2020, 1, 1 + v) for v in PATTERN.tolist()],
    "uuid": [uuid.UUID(int=v) for v in PATTERN.tolist()],
    "decimal": [decimal.Decimal(v) for v in PATTERN.tolist()],
    "Series with a shuffled index": pd.Series(PATTERN, index=[3, 1, 5, 0, 4, 2]),
    "Index": pd.Index(PATTERN),
    "Categorical": pd.Categorical.from_codes(PATTERN, ["a", "b", "c"]),
    "Categorical of another order": pd.Series(PATTERN).astype(pd.CategoricalDtype([2, 0, 1])),
    "Categorical with an unused level": pd.Categorical.from_codes(PATTERN, ["a", "b", "c", "d"]),
    "string dtype": pd.Series(np.array(["a", "b", "c"])[PATTERN], dtype="string"),
    "str dtype": pd.Series(np.array(["a", "b", "c"])[PATTERN], dtype="str"),
    "Int64": pd.Series(PATTERN, dtype="Int64"),
    "Float64": pd.Series(PATTERN / 2, dtype="Float64"),
    "Timestamp": pd.Series(pd.to_datetime("2020-01-01") + pd.to_timedelta(PATTERN, unit="D")),
    "Timestamp with a zone": pd.Series(
        pd.to_datetime("2020-01-01", utc=True) + pd.to_timedelta(PATTERN, unit="D")
    ),
    "Period": pd.period_range("2020-01", periods=3, freq="M")[PATTERN],
    "Interval": pd.IntervalIndex.from_breaks([0, 1, 2, 3])[PATTERN],
}


@pytest.mark.parametrize("groups", GOOD.values(), ids=GOOD)
def test_ids_of_every_kind_are_numbered_in_their_order(groups):
    numbers, n_tasks = task_numbers(groups, 6)
    assert n_tasks == 3 and numbers.dtype == np.int64
    assert_array_equal(numbers, PATTERN)


def test_bool_ids():
    numbers, n_tasks = task_numbers([True, False, True], 3)
    assert n_tasks == 2
    assert_array_equal(numbers, [1, 0, 1])


def test_no_groups_is_one_task():
    numbers, n_tasks = task_numbers(None, 4)
    assert n_tasks == 1
    assert_array_equal(numbers, [0, 0, 0, 0])


NAN = float("nan")
MISSING = {
    "float": [1.0, NAN, 2.0],
    "float32": np.array([1, NAN, 2], dtype=np.float32),
    "list of str and NaN": ["a", NAN, "b"],
    "list of str and numpy NaN": ["a", np.float64(NAN), "b"],
    "list of int and None": [1, None, 2],
    "list of str and None": ["a", None, "b"],
    "object with None": np.array(["a", None, "b"], dtype=object),
    "object with pd.NA": np.array([1, pd.NA, 2], dtype=object),
    "list with pd.NA": ["a", pd.NA, "b"],
    "list with pd.NaT": [pd.Timestamp(0), pd.NaT, pd.Timestamp(1)],
    "datetime64": np.array(["2020", "NaT", "2021"], dtype="datetime64[D]"),
    "Series of str": pd.Series(["a", None, "b"]),
    "string dtype": pd.Series(["a", None, "b"], dtype="string"),
    "Int64": pd.Series([1, None, 2], dtype="Int64"),
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "Float64": pd.Series([1.5, None, 2], dtype="Float64"),
    "Categorical": pd.Categorical(["a", None, "b"]),
    "Timestamp": pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-02"])),
}


@pytest.mark.parametrize("groups", MISSING.values(), ids=MISSING)
def test_missing_ids_are_counted_and_refused(groups):
    with pytest.raises(ValueError, match=r"groups has 1 missing entries \(None or NaN\)"):
        task_numbers(groups, 3)


def test_all_ids_missing():
    with pytest.raises(ValueError, match="groups has 3 missing"):
        task_numbers([None] * 3, 3)


@pytest.mark.parametrize(
    "groups",
    [
        [1.0, np.inf, 2.0],
        [1, float("-inf"), 2],
        np.array([1, np.inf, 2], dtype=np.float32),
        np.array([1, np.inf, 2], dtype=object),
        pd.Series([1.5, -np.inf, 2]),
        pd.Series([1.5, np.inf, 2], dtype="Float64"),
    ],
    ids=["list", "list of int and float", "float32", "object", "Series", "Float64"],
)
def test_infinite_ids_are_counted_and_refused(groups):
    with pytest.raises(ValueError, match=r"groups has 1 infinite entries \(inf or -inf\)"):
        task_numbers(groups, 3)


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ([1, "1", 2], "mixes number and str"),
        (["a", 1.5, "b"], "mixes number and str"),
        ((1, "1", 2), "mixes number and str"),
        ([True, 1, 0], "mixes bool and number"),
        (np.array([1, "1", 2], dtype=object), "mixes number and str"),
        (pd.Series([1, "a", 2], dtype=object), "mixes number and str"),
        ([datetime.date(2020, 1, 1), "2020-01-01", "b"], "mixes date and str"),
        ([b"a", "a", "b"], "mixes bytes and str"),
    ],
)
def test_ids_of_mixed_types(groups, text):
    with pytest.raises(ValueError, match=f"groups {text}: 1 and '1' would be two tasks"):
        task_numbers(groups, 3)


class Pupil:
    """An object without an order."""


@pytest.mark.parametrize(
    ("groups", "kind"),
    [
        ([Pupil(), Pupil(), Pupil()], "Pupil"),
        # Sets have "<" and no order: sorting would scatter equal ones.
        ([frozenset("a"), frozenset("b"), frozenset("a")], "frozenset"),
        ([decimal.Decimal(1), decimal.Decimal("nan"), decimal.Decimal(2)], "Decimal"),
        ([{"a": 1}, {"a": 2}, {"a": 1}], "dict"),
    ],
)
def test_ids_that_cannot_be_sorted(groups, kind):
    with pytest.raises(ValueError, match=f"{kind} objects, which cannot be sorted"):
        task_numbers(groups, 3)


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        (np.zeros((3, 1)), r"one-dimensional.*\(3, 1\)"),
        (np.zeros((3, 2), dtype=int), r"one-dimensional.*\(3, 2\).*Combine"),
        (pd.DataFrame({"school": [1, 1, 2]}), "one-dimensional"),
        ([("a", 1), ("a", 2), ("b", 1)], "one-dimensional"),
        ([[1], [2], [3]], "one-dimensional"),
        ([1, 2], r"groups has 2 entries for 3 rows"),
        ([], r"groups has 0 entries for 3 rows"),
        (np.arange(4), r"groups has 4 entries for 3 rows"),
        ("abc", "single value 'abc'"),
        (7, "single value 7"),
        (NAN, "single value nan"),
        ({"a": 1}, "single value"),
        (iter([1, 2, 3]), "single value"),
        (np.array([1j, 2, 3]), "complex"),
    ],
)
def test_groups_of_the_wrong_shape_or_kind(groups, text):
    with pytest.raises(ValueError, match=text):
        task_numbers(groups, 3)


def test_errors_call_the_array_by_its_name():
    with pytest.raises(ValueError, match="groups_support has 1 entries"):
        check_ids([1], 3, "groups_support")


# ---- the estimators


@pytest.mark.parametrize(("make", "data"), [(maml, waves), (proto, wards)])
@pytest.mark.parametrize(
    "groups",
    [
        lambda g: pd.Series(g, index=np.random.default_rng(0).permutation(len(g))),
        lambda g: pd.Categorical([f"id {v}" for v in g]),
        lambda g: pd.Series([f"id {v}" for v in g], dtype="string"),
        lambda g: np.datetime64("2020-01-01") + g.astype("timedelta64[D]"),
        lambda g: g.tolist(),
    ],
    ids=["Series", "Categorical", "string", "datetime64", "list"],
)
def test_estimators_see_the_same_tasks_whatever_the_ids(make, data, groups):
    X, y, g = data()
    shuffled = pd.Series(y, index=np.random.default_rng(1).permutation(len(y)))
    expected = make().fit(X, y, groups=g)
    model = make().fit(X, shuffled, groups=groups(g))
    assert model.n_tasks_ == expected.n_tasks_ == 8
    assert_array_equal(model.predict(X), expected.predict(X))


@pytest.mark.parametrize(("make", "data"), [(maml, waves), (proto, wards)])
@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (lambda g: np.where(g == 0, np.nan, g), "missing"),
        (lambda g: np.where(g == 0, np.inf, g), "infinite"),
        (lambda g: [None if v == 0 else v for v in g.tolist()], "missing"),
        (lambda g: [str(v) if v == 0 else v for v in g.tolist()], "mixes"),
        (lambda g: g[:, None], "one-dimensional"),
        (lambda g: g[:-1], "entries for"),
        (lambda g: 3, "single value"),
    ],
    ids=["NaN", "infinity", "None", "mixed", "2-d", "short", "scalar"],
)
def test_estimators_refuse_bad_groups(make, data, bad, text):
    X, y, g = data()
    with pytest.raises(ValueError, match=text):
        make().fit(X, y, groups=bad(g))
