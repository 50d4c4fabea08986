"""MAMLClassifier without hidden layers is linear in its columns."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.base.tasks import alphabets, wards
from tests.instances import small


@pytest.mark.parametrize("data", [wards, alphabets])
@pytest.mark.parametrize("algorithm", ["maml", "anil", "maml++"])
def test_without_hidden_layers_scores_are_linear(data, algorithm):
    X, y, groups = data()
    model = small("MAMLClassifier", hidden_layer_sizes=(), algorithm=algorithm, max_epochs=1)
    one = groups == 0
    adapted = model.fit(X, y, groups=groups).adapt(X[one], y[one])
    # Near the mean, where columns are not drawn in.
    step = 0.2 * model.x_scale_
    ends = np.stack([model.x_mean_ - step, model.x_mean_ + 3 * step])
    scores = adapted.decision_function(np.vstack([ends, model.x_mean_ + step]))
    assert_allclose(scores[2], (scores[0] + scores[1]) / 2, atol=1e-9)
    assert np.abs(scores[0] - scores[1]).max() > 1e-3


def test_reptile_has_nothing_to_learn_of_a_linear_model_of_own_classes():
    X, y, groups = alphabets()
    model = small("MAMLClassifier", hidden_layer_sizes=(), algorithm="reptile")
    with pytest.raises(ValueError, match="has nothing to learn"):
        model.fit(X, y, groups=groups)
    X, y, groups = wards()
    model = small("MAMLClassifier", hidden_layer_sizes=(), algorithm="reptile")
    assert model.fit(X, y, groups=groups).history_[-1]["train_loss"] < 0.7  # of a coin
