"""Boosting with fewer, longer steps: it sees as much of small data, in a fifth of the time."""

import pytest

from skmeta.base import _feature
from skmeta.model_selection import _pooled


@pytest.fixture(autouse=True, scope="module")
def fewer_trees():
    options = _pooled._trees

    def longer_steps(candidate, n_stages):
        return {**options(candidate, n_stages), "learning_rate": 0.4}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_feature, "MOST_TREES", 30)
        patch.setattr(_feature, "RATE", 0.4)
        patch.setattr(_pooled, "ROUNDS_A_STAGE", 2)
        patch.setattr(_pooled, "_trees", longer_steps)
        yield
