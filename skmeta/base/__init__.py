"""The scikit-learn side: everything that is the same for every method, written once."""

from skmeta.base._adapt import adapt
from skmeta.base._classifier import MetaClassifier
from skmeta.base._estimator import MetaEstimator
from skmeta.base._frames import split_task_column
from skmeta.base._loading import load
from skmeta.base._marginal import MarginalEstimator, SpreadRegressor
from skmeta.base._regressor import MetaRegressor
from skmeta.base._saving import save

__all__ = [
    "MarginalEstimator",
    "MetaClassifier",
    "MetaEstimator",
    "MetaRegressor",
    "SpreadRegressor",
    "adapt",
    "load",
    "save",
    "split_task_column",
]
