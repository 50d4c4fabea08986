"""Warnings and errors that a user may meet, in one place."""


class SingleTaskWarning(UserWarning):
    """``fit`` was given one task where several were expected: nothing is meta-learned.

    Most often ``groups`` did not arrive: scikit-learn passes it on to an estimator inside a search
    or a cross-validation only when metadata routing is switched on.
    """


class SkippedTaskWarning(UserWarning):
    """Some tasks could not be scored and were left out of the mean; the text counts them."""


class TrainingDivergedError(ValueError):
    """The loss became NaN or infinite during ``fit``; the text names the step and the cure."""


class ModeCollapseWarning(UserWarning):
    """A generator leaves out whole kinds of the rows that it was trained on."""
