"""Meta-learning as scikit-learn estimators."""

from skmeta._version import __version__
from skmeta.base import MetaEstimator, adapt, split_task_column
from skmeta.metric._protonet import ProtoNetClassifier
from skmeta.optimization._maml import MAMLRegressor

__all__ = [
    "MAMLRegressor",
    "MetaEstimator",
    "ProtoNetClassifier",
    "__version__",
    "adapt",
    "split_task_column",
]
