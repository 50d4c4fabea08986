"""The methods of heart.py and schools.py: baselines, defaults of skmeta, and searches over tasks.

Nothing here is run by itself.
"""

from functools import partial

from _runs import make_estimator

# In the words of `_class_baselines.py`; "per-task logistic" is the model of a task's own rows.
BASELINES = (
    "base rate",
    "pooled logistic",
    "per-task logistic",
    "pooled logistic + shrunken offset",
    "pooled logistic + recalibration",
)
RIVAL = "pooled logistic + recalibration"
N_SUPPORT, N_REPEATS = 10, 5  # what a search plays on the training tasks that it leaves out


def searched(name, grid, seed, **options):
    """An estimator with `options`; others are chosen by log loss on training tasks left out."""
    from sklearn.model_selection import GridSearchCV, GroupKFold

    from skmeta.model_selection import TaskScorer

    return GridSearchCV(
        make_estimator(name, seed).set_params(**options),
        grid(),
        cv=GroupKFold(3),
        scoring=TaskScorer("neg_log_loss", n_support=N_SUPPORT, n_repeats=N_REPEATS),
        error_score="raise",
    )


def maml_grid():
    """Short or longer training, of the default net or a linear model, with or without decay."""
    from torch import nn

    options = {"module": [None, nn.Identity()], "optimizer": ["adam", decaying(1.0)]}
    return {"max_epochs": [1, 4], **options}


def protonet_grid():
    """As `maml_grid`, with a distance whose scale is bounded instead of a linear model."""
    options = {"distance": ["euclidean", "cosine"], "optimizer": ["adam", decaying(10.0)]}
    return {"max_epochs": [1, 4], **options}


def decaying(rate):
    """AdamW with a weight decay of its own, as `optimizer=` takes it."""
    from torch.optim import AdamW

    return partial(AdamW, weight_decay=rate)


OWN = {
    "MAML": partial(make_estimator, "MAMLClassifier"),
    "MAML, searched": partial(searched, "MAMLClassifier", maml_grid),
    "ProtoNet": partial(make_estimator, "ProtoNetClassifier"),
    "ProtoNet, searched": partial(searched, "ProtoNetClassifier", protonet_grid),
    "MetaSVC": partial(make_estimator, "MetaSVC"),
    "HierarchicalLogistic": partial(make_estimator, "HierarchicalLogisticRegression"),
    "Auto": partial(make_estimator, "AutoMetaClassifier"),
}
