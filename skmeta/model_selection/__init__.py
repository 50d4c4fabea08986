"""Choosing and scoring meta-estimators on held-out tasks."""

from skmeta.model_selection._compare import compare_tasks
from skmeta.model_selection._predict import predict_tasks
from skmeta.model_selection._scorer import TaskScorer
from skmeta.model_selection._validate import cross_validate_tasks
from skmeta.model_selection._verdict import TaskComparison

__all__ = [
    "TaskComparison",
    "TaskScorer",
    "compare_tasks",
    "cross_validate_tasks",
    "predict_tasks",
]
