import numpy as np
import pytest
from sklearn.datasets import load_digits

from skmeta.datasets import make_digit_questions


def digit_of(X):
    """The digit on each row, found by its pixels (all images of load_digits differ)."""
    pixels, digits = load_digits(return_X_y=True)
    known = {row.tobytes(): digit for row, digit in zip(pixels, digits, strict=True)}
    assert len(known) == len(digits)
    return np.array([known[row.tobytes()] for row in X * 16])


def questions_of(X, y, groups):
    """Task id -> the unordered split it asks about, as the side that holds 0."""
    digits = digit_of(X)
    found = {}
    for task in np.unique(groups):
        rows = groups == task
        yes, no = set(digits[rows & (y == 1)].tolist()), set(digits[rows & (y == 0)].tolist())
        assert len(yes) == len(no) == 5 and not yes & no
        found[task] = frozenset(yes if 0 in yes else no)
    return found


@pytest.fixture(scope="module")
def both():
    # 300 rows: every digit is in every task, so that the question can be read off.
    return make_digit_questions("train", n_rows=300), make_digit_questions("test", n_rows=300)


def test_all_126_questions_once(both):
    train, test = (questions_of(*subset) for subset in both)
    assert (len(train), len(test)) == (96, 30)
    assert not set(train) & set(test), "task ids in both"
    assert not set(train.values()) & set(test.values()), "questions in both"
    assert len(set(train.values()) | set(test.values())) == 126
    assert set(train) | set(test) == set(range(126))


def test_images_are_disjoint_and_stratified(both):
    images = [{row.tobytes() for row in X} for X, _, _ in both]
    assert not images[0] & images[1]
    # 300 rows a task, many tasks: all images of a subset are met.
    assert [len(part) for part in images] == [1203, 594]
    rare = [np.unique(X, axis=0) for X, _, _ in both]
    for part in rare:
        shares = np.bincount(digit_of(part), minlength=10) / len(part)
        np.testing.assert_allclose(shares, 0.1, atol=0.01)


def test_no_image_twice_in_a_task(both):
    for X, _, groups in both:
        for task in np.unique(groups):
            assert len(np.unique(X[groups == task], axis=0)) == 300


def test_yes_is_a_random_side(both):
    X, y, groups = both[0]
    zero = digit_of(X) == 0
    answers = np.array([y[(groups == task) & zero][0] for task in np.unique(groups)])
    assert 0.3 < answers.mean() < 0.7
    assert 0.45 < y.mean() < 0.55


def test_shapes_and_values(both):
    X, y, groups = make_digit_questions()
    assert X.shape == (96 * 60, 64) and X.dtype == np.float64
    assert X.min() == 0.0 and X.max() == 1.0
    assert set(np.unique(y)) == {0, 1} and y.dtype.kind == "i"
    np.testing.assert_array_equal(np.unique(groups, return_counts=True)[1], 60)


def test_sizes_can_be_chosen():
    train = make_digit_questions("train", n_rows=5, n_test_questions=100, test_size=0.8)
    test = make_digit_questions("test", n_rows=5, n_test_questions=100, test_size=0.8)
    assert len(np.unique(train[2])) == 26 and len(np.unique(test[2])) == 100
    assert not {row.tobytes() for row in train[0]} & {row.tobytes() for row in test[0]}


def test_deterministic():
    first, second, other = (make_digit_questions(n_rows=9, random_state=s) for s in (0, 0, 1))
    for a, b, c in zip(first, second, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subset": "valid"}, 'subset must be "train" or "test", got \'valid\''),
        ({"subset": ["train"]}, 'subset must be "train" or "test"'),
        ({"n_rows": 0}, "n_rows must be a whole number of at least 1"),
        ({"n_rows": 1500}, "n_rows=1500 is more than the 1203 images of the train subset"),
        ({"n_test_questions": 126}, "n_test_questions must be at most 125"),
        ({"n_test_questions": 0}, "n_test_questions must be a whole number of at least 1"),
        ({"test_size": 0}, "test_size must be a number between 0 and 1"),
        ({"test_size": 1.5}, "test_size must be a number between 0 and 1"),
        ({"test_size": 0.001}, "test_size=0.001 leaves too few images"),
        ({"random_state": None}, "random_state must be an int, got None"),
        ({"random_state": np.random.RandomState(0)}, "random_state must be an int"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_digit_questions(**arguments)
