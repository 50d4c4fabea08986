"""Fitted models and held-out tasks for curves."""

from tests.instances import small
from tests.model_selection.compare_cases import tasks


def mixed_model():
    X, y, groups = tasks(0, (20,) * 6)
    return small("HierarchicalRidge").fit(X[:, 1:], y, groups=groups)


def held_out():
    X, y, groups = tasks(1)
    return X[:, 1:], y, groups
