"""Task generators and loaders of multi-task data: (X, y, groups), one task id a row."""

from skmeta.datasets._digits import make_digit_questions
from skmeta.datasets._heart_disease import fetch_heart_disease
from skmeta.datasets._parkinsons import fetch_parkinsons
from skmeta.datasets._pendulums import make_pendulums
from skmeta.datasets._rdatasets import fetch_rdataset
from skmeta.datasets._sinusoids import make_sinusoids

__all__ = [
    "fetch_heart_disease",
    "fetch_parkinsons",
    "fetch_rdataset",
    "make_digit_questions",
    "make_pendulums",
    "make_sinusoids",
]
