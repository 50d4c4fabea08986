"""Small instances of every public estimator: the one place that knows sizes fit for tests."""

import skmeta

# Fifty steps: what adapts in closed form is useful at once.
HEAD = {"max_epochs": 1, "tasks_per_batch": 4}
SMALL = {
    "ALPaCARegressor": {**HEAD, "hidden_layer_sizes": (20, 10), "lr": 0.01},
    "AutoMetaClassifier": {"cv": 2, "n_repeats": 2, "n_support": (0, 3)},
    "AutoMetaRegressor": {"cv": 2, "n_repeats": 2, "n_support": (0, 3)},
    "HierarchicalGPClassifier": {"max_iter": 20},
    "HierarchicalGPRegressor": {"max_iter": 30},
    "HierarchicalLogisticRegression": {"method": "simulate", "n_support": (5,), "max_iter": 15},
    "HierarchicalRidge": {},
    "MAMLClassifier": {"max_epochs": 2, "hidden_layer_sizes": (16,), "lr": 0.01},
    "MAMLRegressor": {"max_epochs": 5, "hidden_layer_sizes": (20,), "lr": 0.01},
    "MetaSVC": {**HEAD, "hidden_layer_sizes": (16, 16), "n_shot": 3, "n_query": 3},
    "ProtoNetClassifier": {"max_epochs": 2, "hidden_layer_sizes": (16, 16)},
    "RidgeHeadClassifier": {**HEAD, "hidden_layer_sizes": (16, 16)},
    "RidgeHeadRegressor": {**HEAD, "hidden_layer_sizes": (20, 10), "lr": 0.01},
}


def estimator_names():
    """Every public estimator class: found by walking ``__all__``."""
    names = []
    for name in skmeta.__all__:
        item = getattr(skmeta, name)
        is_estimator = isinstance(item, type) and issubclass(item, skmeta.MetaEstimator)
        if is_estimator and item is not skmeta.MetaEstimator:
            names.append(name)
    return names


def small(name, **changes):
    """Return a fresh instance that fits in a second."""
    estimator = getattr(skmeta, name)(**{**SMALL[name], **changes})
    if "random_state" in estimator.get_params() and "random_state" not in changes:
        estimator.set_params(random_state=0)
    return estimator
