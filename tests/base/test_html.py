"""What a notebook shows: links to the pages of the documentation, tooltips, no ids and no rows."""

import builtins
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import BaseEstimator, is_classifier
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmeta
from skmeta.base import _html
from skmeta.base._adaptive import Adaptive
from skmeta.model_selection import TaskScorer
from tests.base.tasks import waves
from tests.generative.cases import secret_images
from tests.instances import estimator_names, small
from tests.test_contract import tasks_for

# A generator that is trained for an epoch draws little of what there is.
pytestmark = pytest.mark.filterwarnings("ignore::skmeta.exceptions.ModeCollapseWarning")
OF_TASKS = estimator_names()
NAMES = OF_TASKS + estimator_names(Adaptive)
ROOT = Path(__file__).parents[2]
shows_tooltips = pytest.mark.skipif(
    not hasattr(BaseEstimator, "_get_fitted_attr_html"),
    reason="scikit-learn shows fitted attributes and tooltips from 1.9 on",
)


def few_tasks(name):
    """What is shown does not depend on how many there are; a choice takes long to make."""
    if name not in OF_TASKS:
        X = secret_images()
        return X, None, np.array([f"SECRET-PUPIL-{i % 3}" for i in range(len(X))])
    X, y, groups = tasks_for(name)
    rows = np.isin(groups, np.unique(groups)[: 2 if "Auto" in name else 4])
    return X[rows], y[rows], np.array([f"SECRET-PUPIL-{g}" for g in groups[rows]])


def quick(name):
    model = small(name)
    options = {"max_epochs": 1, "early_stopping": False}
    return model.set_params(**{k: v for k, v in options.items() if k in model.get_params()})


def adapt_to_one_row(model, X, y):
    if y is not None:
        return model.adapt(X[:1], y[:1])
    if not hasattr(model, "predict"):
        return model.adapt(X[:1])
    return model.adapt(X[:1, ::2], X[:1])  # a pair of an operator that nobody has named


@pytest.fixture(scope="module")
def adapted():
    """Each estimator, fitted to tasks with secret ids and adapted to one row of its own."""
    cache = {}

    def get(name):
        if name not in cache:
            X, y, ids = few_tasks(name)
            X = X + np.random.default_rng(0).normal(scale=1e-3, size=X.shape)
            model = quick(name).fit(X, y, groups=ids)
            cache[name] = model, adapt_to_one_row(model, X, y), X, y
        return cache[name]

    return get


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.setenv("SKMETA_DOCS_URL", "https://docs.example/skmeta/")
    return "https://docs.example/skmeta/api/skmeta."


# ---------------------------------------------------------------- links


@pytest.mark.parametrize("name", NAMES)
def test_the_link_is_to_the_page_that_the_documentation_has(name, pages):
    link = f"{pages}{name}.html"
    assert small(name)._get_doc_link() == link
    assert f'href="{link}"' in small(name)._repr_html_()
    assert f'href="{link}"' in make_pipeline(StandardScaler(), small(name))._repr_html_()


def test_the_documentation_has_these_pages():
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/_ext/skmeta_pages.py")
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    # autosummary calls a page by the module and the name, in the folder of the table: api.
    flat = extension.api_page().split(".. currentmodule:: skmeta\n", 1)[1]
    flat = re.split(r"\.\. currentmodule:: skmeta\.", flat)[0]
    assert ":toctree: .\n" in flat
    assert set(NAMES) < set(re.findall(r"^   (\w+)$", flat, re.MULTILINE))


def test_without_an_address_the_link_is_to_what_was_built_here(monkeypatch, tmp_path):
    monkeypatch.delenv("SKMETA_DOCS_URL", raising=False)
    monkeypatch.setattr(_html, "_published", lambda: None)
    monkeypatch.setattr(_html, "__file__", str(tmp_path / "skmeta" / "base" / "_html.py"))
    model = skmeta.HierarchicalRidge()
    assert model._get_doc_link() == "#"
    (tmp_path / "docs" / "_build" / "api").mkdir(parents=True)
    built = tmp_path / "docs" / "_build" / "api" / "skmeta.HierarchicalRidge.html"
    assert model._get_doc_link() == built.as_uri()
    monkeypatch.setattr(_html, "_published", lambda: "https://published.example")
    assert model._get_doc_link() == "https://published.example/api/skmeta.HierarchicalRidge.html"


@pytest.mark.parametrize(
    ("urls", "found"),
    [
        (None, None),
        (["Source, https://a.example"], None),
        (["Source, https://a.example", "Documentation, https://b.example/"], "https://b.example"),
    ],
)
def test_the_address_that_the_project_names(monkeypatch, urls, found):
    class Metadata:
        def get_all(self, name):
            return urls if name == "Project-URL" else None

    monkeypatch.setattr(_html.metadata, "metadata", lambda name: Metadata())
    assert _html._published.__wrapped__() == found


def test_an_estimator_of_somebody_else_has_no_page_of_ours(pages):
    class Mine(skmeta.HierarchicalRidge):
        pass

    assert Mine()._get_doc_link() == ""
    assert "docs.example" not in Mine()._repr_html_()


# ---------------------------------------------------------------- tooltips


@shows_tooltips
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_tooltip(name, pages):
    from sklearn.utils._repr_html.common import get_docstring

    shown = small(name)._repr_html_()
    for parameter in small(name).get_params(deep=False):
        text = get_docstring(getattr(skmeta, name), "Parameters", parameter)
        kind, _, words = text.partition("<br><br>")
        assert kind.startswith(f"{parameter}: ") and len(words.split()) > 2, parameter
        assert text in shown
        assert f"{pages}{name}.html#:~:text={parameter},-" in shown


@shows_tooltips
@pytest.mark.parametrize("name", NAMES)
def test_every_fitted_attribute_that_is_shown_has_a_tooltip(name, pages, adapted):
    model, one_row, _, _ = adapted(name)
    for estimator in (model, one_row):
        table = estimator._repr_html_().split("<summary>Fitted attributes</summary>")[1]
        table = table.split("</table>")[0]
        rows = re.findall(r'<td class="param">(.*?)</td>', table, re.DOTALL)
        names = [re.search(r"^\s*(\w+_)\s*$", row, re.MULTILINE)[1] for row in rows]
        of_tasks = {"n_tasks_", "history_", "state_"} if name in OF_TASKS else set()
        assert {"adapted_"} | of_tasks < set(names)
        assert all("param-doc-description" in row for row in rows)


@shows_tooltips
def test_without_pandas_there_is_something_to_see(monkeypatch, adapted):
    real = builtins.__import__

    def without_pandas(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError("No module named 'pandas'")
        return real(name, *args, **kwargs)

    model = adapted("HierarchicalGPRegressor")[0]
    assert "kernel_summary_" in model._repr_html_()
    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(ImportError, match="pandas"):
        model.kernel_summary_  # noqa: B018
    shown = model._repr_html_()
    assert "max_iter" in shown and "Fitted attributes" not in shown


# ---------------------------------------------------------------- no ids, no rows


def numbers_in(value):
    """All numbers of what a table shows, however deep: reprs are cut, and the cut may change."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return np.concatenate([numbers_in(item) for item in value] or [np.zeros(0)])
    numbers = isinstance(value, np.ndarray | torch.Tensor | float | int)
    return np.asarray(value, dtype=float).ravel() if numbers else np.zeros(0)


@shows_tooltips
@pytest.mark.parametrize("name", NAMES)
def test_no_row_of_a_task_in_what_is_shown(name, adapted):
    model, one_row, X, y = adapted(name)
    values = [X[0]]
    if hasattr(model, "x_mean_"):  # as the learner has it
        values.append(model._scaled(X[:1])[0])
    if y is not None and not is_classifier(model):
        values += [y[:1], (y[:1] - model.y_mean_) / model.y_scale_]
    secrets = np.concatenate(values)
    secrets = secrets[np.abs(secrets) > 1e-6]
    table = one_row._get_fitted_attr_html()
    found = numbers_in([row["value"] for row in table.values()])
    assert not np.isclose(found[:, None], secrets, rtol=1e-9, atol=0).any()
    assert "tensor(" not in one_row._repr_html_()  # a short one, of labels say, is shown whole


@pytest.mark.parametrize("name", NAMES)
def test_no_id_in_what_is_shown(name, adapted):
    model, one_row, _, _ = adapted(name)
    for estimator in (model, one_row):
        assert "SECRET" not in estimator._repr_html_() + repr(estimator)


@pytest.mark.parametrize("name", ["MAMLRegressor", "HierarchicalRidge", "ProtoNetClassifier"])
def test_no_id_in_a_pipeline_and_a_search(name):
    X, y, ids = few_tasks(name)
    scorer = TaskScorer(n_support=3, n_repeats=1)
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(StandardScaler(), quick(name))
        search = GridSearchCV(pipe, {}, cv=GroupKFold(2), scoring=scorer, error_score="raise")
        search.fit(X, y, groups=ids)
        pipe.fit(X, y, groups=ids)
        new = skmeta.adapt(search, X[:4], y[:4])
        for estimator in (search, pipe, new):
            shown = estimator._repr_html_()
            assert name in shown and "Fitted" in shown
            assert "SECRET" not in shown


@shows_tooltips
def test_a_frame_with_the_column_of_ids_taken_out_shows_the_columns_alone():
    pd = pytest.importorskip("pandas")
    X, y, groups = waves()
    df = pd.DataFrame({"pupil": [f"SECRET-{g}" for g in groups], "hours": X[:, 0]})
    rows, ids = skmeta.split_task_column(df, "pupil")
    shown = skmeta.HierarchicalRidge().fit(rows, y, groups=ids)._repr_html_()
    assert "SECRET" not in shown and "hours" in shown
