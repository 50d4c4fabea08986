"""Yes/no questions about handwritten digits: many related classification tasks, no download."""

from __future__ import annotations

from itertools import combinations
from numbers import Integral, Real

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from skmeta.datasets._checks import check_count

N_QUESTIONS = 126  # ways to split ten digits 5 against 5, sides unordered
SUBSETS = ("train", "test")


def make_digit_questions(
    subset: str = "train",
    *,
    n_rows: int = 60,
    test_size: float = 0.33,
    n_test_questions: int = 30,
    random_state: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make yes/no questions about scikit-learn's 8 x 8 handwritten digits.

    A task is a question such as "is it one of 1, 3, 4, 7, 9?": a split of the ten digits, 5
    against 5. There are exactly 126 unordered splits. ``n_test_questions`` of them are kept for
    ``subset="test"``, and so is a share of the images, stratified by digit: a test task is a
    question never seen in training, asked about images never seen in training. Which side of a
    split is "yes" is random per question, so that no fixed rule answers a new one without
    labelled rows.

    The two subsets complete each other when both calls get the same ``test_size``,
    ``n_test_questions`` and ``random_state``.

    Parameters
    ----------
    subset : {"train", "test"}, default="train"
        Which questions and images to use.
    n_rows : int, default=60
        Images in each task, drawn at random without replacement from the subset's images (1203
        for training and 594 for testing with the default ``test_size``). With few rows a task may
        by chance hold one class only.
    test_size : float, default=0.33
        Share of the images kept for the test subset, between 0 and 1.
    n_test_questions : int, default=30
        Number of questions kept for the test subset, from 1 to 125; the other ones are for
        training.
    random_state : int, default=0
        Seed of all draws. Only an int: with None or a RandomState instance a second call would
        split otherwise, and test questions and images would leak into training.

    Returns
    -------
    X : ndarray of shape (n_questions * n_rows, 64)
        Grey values from 0 to 1, one flattened 8 x 8 image a row, question after question.
    y : ndarray of shape (n_questions * n_rows,)
        1 for yes, 0 for no.
    groups : ndarray of shape (n_questions * n_rows,)
        Question ids, integers from 0 to 125; no id stands in both subsets.

    Raises
    ------
    ValueError
        If an argument makes no sense or the subset has fewer than ``n_rows`` images.

    References
    ----------
    .. [1] E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI Machine
       Learning Repository. https://doi.org/10.24432/C50P49

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta.datasets import make_digit_questions
    >>> X, y, groups = make_digit_questions("train", n_rows=20)
    >>> X.shape, len(np.unique(groups))
    ((1920, 64), 96)
    >>> X_test, y_test, groups_test = make_digit_questions("test", n_rows=20)
    >>> len(np.unique(groups_test)), np.intersect1d(groups, groups_test).size
    (30, 0)
    """
    if not isinstance(subset, str) or subset not in SUBSETS:
        raise ValueError(f'subset must be "train" or "test", got {subset!r}.')
    n_rows = check_count(n_rows, "n_rows")
    n_test_questions = check_count(n_test_questions, "n_test_questions")
    if n_test_questions >= N_QUESTIONS:
        raise ValueError(
            f"n_test_questions must be at most {N_QUESTIONS - 1}, got {n_test_questions}: there "
            f"are {N_QUESTIONS} questions and training needs at least one."
        )
    if isinstance(test_size, bool) or not isinstance(test_size, Real) or not 0 < test_size < 1:
        raise ValueError(f"test_size must be a number between 0 and 1, got {test_size!r}.")
    if isinstance(random_state, bool) or not isinstance(random_state, Integral):
        raise ValueError(
            f"random_state must be an int, got {random_state!r}: the train and the test call must "
            "share it, or test questions and images leak into training."
        )
    rng = check_random_state(random_state)

    # Everything up to the seeds is drawn alike for both subsets; it settles who gets what.
    question_order = rng.permutation(N_QUESTIONS)
    swap_sides = rng.randint(2, size=N_QUESTIONS).astype(bool)
    image_seed, *row_seeds = rng.randint(np.iinfo(np.int32).max, size=3)

    test = subset == "test"
    questions = np.sort(
        question_order[:n_test_questions] if test else question_order[n_test_questions:]
    )
    pixels, digits = load_digits(return_X_y=True)
    images = _choose_images(digits, test, float(test_size), image_seed)
    if n_rows > len(images):
        raise ValueError(
            f"n_rows={n_rows} is more than the {len(images)} images of the {subset} subset; "
            "lower n_rows or change test_size."
        )

    # The first n_rows of a random order, one order a question.
    row_rng = check_random_state(row_seeds[SUBSETS.index(subset)])
    order = np.argsort(row_rng.random_sample((len(questions), len(images))), axis=1)[:, :n_rows]
    rows = images[order]
    answers = _answers()[questions] ^ swap_sides[questions, None]
    y = np.take_along_axis(answers, digits[rows], axis=1).astype(np.int64)
    return pixels[rows.ravel()] / 16.0, y.ravel(), np.repeat(questions, n_rows)


def _answers():
    """Whether a digit stands on the side of 0, shape (126, 10): one row a split."""
    answers = np.zeros((N_QUESTIONS, 10), dtype=bool)
    # 0 always stands on the first side: every unordered split is met once.
    for row, partners in zip(answers, combinations(range(1, 10), 4), strict=True):
        row[[0, *partners]] = True
    return answers


def _choose_images(digits, test, test_size, seed):
    """Row numbers of the images of one subset."""
    try:
        train, kept = train_test_split(
            np.arange(len(digits)), test_size=test_size, stratify=digits, random_state=seed
        )
    except ValueError:
        raise ValueError(
            f"test_size={test_size} leaves too few images for a split that keeps all ten digits "
            "on both sides; choose a value nearer to 0.5."
        ) from None
    return kept if test else train
