"""Figures are drawn without a screen, and closed."""

import matplotlib
import pytest

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


@pytest.fixture
def ax():
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


@pytest.fixture
def svg(tmp_path):
    """All that a figure says, as text."""

    def draw(display):
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            display.figure_.savefig(tmp_path / "figure.svg")
        return (tmp_path / "figure.svg").read_text()

    return draw
