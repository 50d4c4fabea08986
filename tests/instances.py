"""Small instances of every public estimator: the one place that knows sizes fit for tests."""

from functools import partial

import skmeta
from skmeta.generative._reconstructor import ImageReconstructor

# Fifty steps: what adapts in closed form is useful at once.
HEAD = {"max_epochs": 1, "tasks_per_batch": 4}
MAML = {"max_epochs": 1, "n_inner_steps": 2, "lr": 0.01}
SMALL = {
    "ALPaCARegressor": {**HEAD, "hidden_layer_sizes": (20, 10), "lr": 0.01},
    "AutoMetaClassifier": {"cv": 2, "n_repeats": 2, "n_support": (0, 3)},
    "AutoMetaRegressor": {"cv": 2, "n_repeats": 2, "n_support": (0, 3)},
    "GANReconstructor": {
        "max_epochs": 1,
        "hidden_layer_sizes": (8,),
        "latent_size": 2,
        "n_latent_steps": 2,
        "batch_size": 8,
    },
    "GANSampler": {"max_epochs": 2, "hidden_layer_sizes": (16,), "latent_size": 4},
    "GaussianPriorReconstructor": {},
    "HierarchicalGPClassifier": {"max_iter": 20},
    "HierarchicalGPRegressor": {"max_iter": 30},
    "HierarchicalLogisticRegression": {"method": "simulate", "n_support": (5,), "max_iter": 15},
    "HierarchicalRidge": {},
    "MAMLClassifier": {**MAML, "hidden_layer_sizes": (16,)},
    "MAMLRegressor": {**MAML, "hidden_layer_sizes": (20,)},
    "MetaSVC": {**HEAD, "hidden_layer_sizes": (16, 16), "n_shot": 1, "n_query": 2},
    "MixturePriorReconstructor": {"n_components": 3, "n_factors": 5},
    "ProtoNetClassifier": {"max_epochs": 1, "hidden_layer_sizes": (16, 16)},
    "RidgeHeadClassifier": {**HEAD, "hidden_layer_sizes": (16, 16)},
    "UnrolledReconstructor": {**HEAD, "hidden_layer_sizes": (16,), "lr": 0.01},
    "RidgeHeadRegressor": {**HEAD, "hidden_layer_sizes": (20, 10), "lr": 0.01},
}


def estimator_names(base=skmeta.MetaEstimator):
    """Every public estimator class that learns from tasks: found by walking ``__all__``."""
    names = []
    for name in skmeta.__all__:
        item = getattr(skmeta, name)
        if isinstance(item, type) and issubclass(item, base) and item is not base:
            names.append(name)
    return names


def reconstructor_names():
    """Every public class that reconstructs images."""
    return estimator_names(ImageReconstructor)


def small(name, **changes):
    """Return a fresh instance that fits in a second."""
    estimator = getattr(skmeta, name)(**{**SMALL[name], **changes})
    if "random_state" in estimator.get_params() and "random_state" not in changes:
        estimator.set_params(random_state=0)
    return estimator


def shrink_net(monkeypatch):
    """Make small the net that an automatic choice may try: it takes longer than all the rest."""
    net = partial(small, "ALPaCARegressor")
    monkeypatch.setattr(skmeta.auto._regressor, "ALPaCARegressor", net)
