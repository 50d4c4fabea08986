"""What is peculiar to ``MetaSVC`` among the heads."""

import numpy as np
import pytest

from skmeta.core.heads import svm_large
from skmeta.model_selection import predict_tasks
from tests.base.tasks import alphabets
from tests.instances import small


def test_a_small_machine_beside_large_ones_is_solved_as_alone(monkeypatch):
    monkeypatch.setattr(svm_large, "DEAR", 3 * 30**3)
    X, y, groups = alphabets(n_tasks=6, n_classes=3, n_rows=8)
    model = small("MetaSVC", early_stopping=False).fit(X, y, groups=groups)
    X, y, groups = alphabets(n_tasks=4, n_classes=3, n_rows=20, seed=1)
    few = (groups > 1) | (np.arange(len(y)) % 20 < 6 + groups)  # tasks of 18, 21, 60 and 60 rows
    X, y, groups = X[few], y[few], groups[few]
    together = predict_tasks(model, X, y, groups, X, groups, method="decision_function")
    labels = np.unique(y)
    for task in (0, 1):
        own = groups == task
        alone = model.adapt(X[own], y[own])
        columns = np.searchsorted(labels, alone.classes_)
        np.testing.assert_allclose(
            together[own][:, columns], alone.decision_function(X[own]), atol=1e-8
        )


def test_support_vectors_are_there_after_adapt():
    X, y, groups = alphabets()
    model = small("MetaSVC", early_stopping=False).fit(X, y, groups=groups)
    with pytest.raises(AttributeError, match="after adapt"):
        _ = model.support_
