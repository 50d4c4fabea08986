"""Task generators and loaders of multi-task data: (X, y, groups), one task id a row."""

from skmeta.datasets._airfoil import fetch_airfoil
from skmeta.datasets._digits import make_digit_questions
from skmeta.datasets._heart_disease import fetch_heart_disease
from skmeta.datasets._landmine import fetch_landmine
from skmeta.datasets._mnist import fetch_mnist
from skmeta.datasets._omniglot import fetch_omniglot
from skmeta.datasets._parkinsons import fetch_parkinsons
from skmeta.datasets._pendulums import make_pendulums
from skmeta.datasets._rdatasets import fetch_rdataset
from skmeta.datasets._school_exam import fetch_school_exam
from skmeta.datasets._sinusoids import make_sinusoids
from skmeta.datasets._student_performance import fetch_student_performance

__all__ = [
    "fetch_airfoil",
    "fetch_heart_disease",
    "fetch_landmine",
    "fetch_mnist",
    "fetch_omniglot",
    "fetch_parkinsons",
    "fetch_rdataset",
    "fetch_school_exam",
    "fetch_student_performance",
    "make_digit_questions",
    "make_pendulums",
    "make_sinusoids",
]
