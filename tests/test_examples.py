"""What the README shows runs, and what it claims holds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skmeta import MAMLRegressor
from skmeta.datasets import make_sinusoids
from skmeta.model_selection import predict_tasks

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_quickstart_runs_and_meta_learning_pays_off(tmp_path):
    script = ROOT / "docs" / "examples" / "quickstart.py"
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000

    def row(name):
        line = re.search(rf"^{name}\s.*±.*$", result.stdout, re.MULTILINE).group()
        return [float(v) for v in re.findall(r"(\d\.\d+) ±", line)]

    learned = row("ProtoNetClassifier")
    for other in ("LogisticRegression", "1-NN", "SVC"):
        assert all(a > b for a, b in zip(learned, row(other), strict=True))
    learned = row("MAMLRegressor")
    for other in ("pooled boosting", "Gaussian process a task"):
        assert all(a < b for a, b in zip(learned, row(other), strict=True))


@pytest.mark.slow
def test_sinusoids_from_five_shots():
    """With learned rates, far below the published .67 after one step and .35 after ten."""
    X, y, groups = make_sinusoids(2000, 40, random_state=0)
    X_new, y_new, new = make_sinusoids(300, 105, random_state=1)
    support = np.arange(len(y_new)) % 105 < 5
    for n_steps, bar in ((1, 0.67), (5, 0.35)):
        model = MAMLRegressor(
            n_inner_steps=n_steps, lr=0.002, max_epochs=60, early_stopping=False, random_state=0
        ).fit(X, y, groups=groups)
        predicted = predict_tasks(
            model, X_new[support], y_new[support], new[support], X_new[~support], new[~support]
        )
        assert np.mean((predicted - y_new[~support]) ** 2) < bar
