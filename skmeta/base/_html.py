"""What a notebook shows of an estimator: links to its page, tooltips, and no rows of a task."""

from __future__ import annotations

import inspect
import os
import re
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from sklearn.base import BaseEstimator

# Where the pages are, if not where the project says: an address within a hospital, say.
DOCS_URL = "SKMETA_DOCS_URL"


class Html(BaseEstimator):
    """What scikit-learn's HTML representation asks an estimator."""

    _doc_link_module: ClassVar[str] = "skmeta"
    _doc_link_template: ClassVar[str] = "{page}"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"page": page_of(type(self).__name__)}

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Show the attributes that the docstring explains.

        Of the state of a task, the shapes: a short array of it may be a row of the task.
        """
        try:
            shown = super()._get_fitted_attr_html(doc_link)
        except ImportError:  # tables need pandas; a notebook without it shows the rest
            return {}
        for name in set(shown) - documented(inspect.getdoc(type(self)) or ""):
            del shown[name]
        if "state_" in shown:
            shapes = {key: tuple(value.shape) for key, value in self.state_.items()}
            shown["state_"] = {"type_name": "dict", "value": shapes}
        return shown


@cache
def documented(text: str) -> set[str]:
    """Names in the "Attributes" of a docstring."""
    _, _, after = text.partition("Attributes\n----------\n")
    section = re.split(r"\n\S.*\n-{3,}\n", after)[0]
    return set(re.findall(r"^(\w+) : ", section, re.MULTILINE))


def page_of(name: str) -> str:
    """Address of the page of a public name."""
    root = docs_root()
    # Without pages a link leads nowhere; it is what the tooltips hang on.
    return "#" if root is None else f"{root}/api/skmeta.{name}.html"


def docs_root() -> str | None:
    """Address of the documentation: the user's, the project's, or what `make docs` has built."""
    if named := os.environ.get(DOCS_URL):
        return named.rstrip("/")
    return _published() or _built()


@cache
def _published() -> str | None:
    try:
        urls = metadata.metadata("skmeta").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return None
    named = dict(re.split(r",\s*", url, maxsplit=1) for url in urls)
    return named["Documentation"].rstrip("/") if "Documentation" in named else None


def _built() -> str | None:
    pages = Path(__file__).parents[2] / "docs" / "_build"
    return pages.as_uri() if (pages / "api").is_dir() else None
