"""matplotlib is loaded by plots alone, and its absence is told in words."""

import subprocess
import sys

import pytest

from skmeta.inspection import TrainingCurveDisplay


def test_importing_does_not_import_matplotlib():
    code = (
        "import sys, skmeta, skmeta.inspection as i;"
        "print('matplotlib' in sys.modules, len(i.__all__))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "4"]


def test_says_what_is_missing(monkeypatch):
    display = TrainingCurveDisplay(epochs=[1], train_loss=[1.0])
    monkeypatch.setattr("skmeta.inspection._axes.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="TrainingCurveDisplay needs matplotlib"):
        display.plot()
