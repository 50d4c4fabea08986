"""Meta-learning as scikit-learn estimators."""

from skmeta._version import __version__
from skmeta.auto._classifier import AutoMetaClassifier
from skmeta.auto._regressor import AutoMetaRegressor
from skmeta.base import MetaEstimator, adapt, split_task_column
from skmeta.closed_form._hierarchical_gp import (
    HierarchicalGPClassifier,
    HierarchicalGPRegressor,
)
from skmeta.closed_form._hierarchical_logistic import HierarchicalLogisticRegression
from skmeta.closed_form._hierarchical_ridge import HierarchicalRidge
from skmeta.metric._protonet import ProtoNetClassifier
from skmeta.optimization._maml import MAMLRegressor

__all__ = [
    "AutoMetaClassifier",
    "AutoMetaRegressor",
    "HierarchicalGPClassifier",
    "HierarchicalGPRegressor",
    "HierarchicalLogisticRegression",
    "HierarchicalRidge",
    "MAMLRegressor",
    "MetaEstimator",
    "ProtoNetClassifier",
    "__version__",
    "adapt",
    "split_task_column",
]
