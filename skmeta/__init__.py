"""Meta-learning as scikit-learn estimators."""

from skmeta._version import __version__
from skmeta.auto._classifier import AutoMetaClassifier
from skmeta.auto._regressor import AutoMetaRegressor
from skmeta.base import MetaEstimator, adapt, load, save, split_task_column
from skmeta.closed_form._alpaca import ALPaCARegressor
from skmeta.closed_form._hierarchical_gp import (
    HierarchicalGPClassifier,
    HierarchicalGPRegressor,
)
from skmeta.closed_form._hierarchical_logistic import HierarchicalLogisticRegression
from skmeta.closed_form._hierarchical_ridge import HierarchicalRidge
from skmeta.closed_form._metasvc import MetaSVC
from skmeta.closed_form._ridge_head import RidgeHeadClassifier, RidgeHeadRegressor
from skmeta.generative._gan import GANSampler
from skmeta.generative._gan_reconstructor import GANReconstructor
from skmeta.generative._gaussian import GaussianPriorReconstructor
from skmeta.generative._mixture import MixturePriorReconstructor
from skmeta.generative._unrolled import UnrolledReconstructor
from skmeta.metric._protonet import ProtoNetClassifier
from skmeta.optimization._maml import MAMLRegressor
from skmeta.optimization._maml_classifier import MAMLClassifier

__all__ = [
    "ALPaCARegressor",
    "AutoMetaClassifier",
    "AutoMetaRegressor",
    "GANReconstructor",
    "GANSampler",
    "GaussianPriorReconstructor",
    "HierarchicalGPClassifier",
    "HierarchicalGPRegressor",
    "HierarchicalLogisticRegression",
    "HierarchicalRidge",
    "MAMLClassifier",
    "MAMLRegressor",
    "MetaEstimator",
    "MetaSVC",
    "MixturePriorReconstructor",
    "ProtoNetClassifier",
    "RidgeHeadClassifier",
    "RidgeHeadRegressor",
    "UnrolledReconstructor",
    "__version__",
    "adapt",
    "load",
    "save",
    "split_task_column",
]
