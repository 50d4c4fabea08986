"""Sphinx extension: API pages found from what skmeta exports, and examples whose data is absent."""

import importlib
import importlib.util
import inspect
import os
import re
from pathlib import Path

from sklearn.base import BaseEstimator, is_classifier, is_regressor

# Modules with public names, in the order of the page; one that is not there is left out.
MODULES = {
    "skmeta": "",
    "skmeta.model_selection": "Scoring and choosing on held-out tasks",
    "skmeta.inspection": "Plots",
    "skmeta.generative": "How good samples are",
    "skmeta.operators": "What measures images",
    "skmeta.datasets": "Data sets",
    "skmeta.exceptions": "Warnings and errors",
}
KINDS = ("Regressors", "Classifiers", "Other estimators", "Functions")

HEAD = """\
API
===

Everything public, by module. Click on a name for its parameters, attributes and methods.
"""

ABSENT = """
.. admonition:: Data absent

   This page was built without the real data that the example reads, so the example was not run:
   there is code below, and no output and no figure. Build it again with ``SKMETA_DATA_HOME`` naming
   a folder that holds the data, or run the script by itself: it downloads what it needs.

"""


def public_names(module):
    """Names that a module exports; without ``__all__`` the classes that it defines."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            k for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        ]
    return sorted(name for name in names if not name.startswith("_"))


def kind(thing):
    """Heading under which a name of the flat module stands."""
    if not inspect.isclass(thing):
        return "Functions"
    if not issubclass(thing, BaseEstimator) or inspect.isabstract(thing):
        return "Other estimators"
    # Parameters are all optional in scikit-learn, and tags are those of an instance.
    estimator = thing()
    if is_regressor(estimator):
        return "Regressors"
    return "Classifiers" if is_classifier(estimator) else "Other estimators"


def api_page():
    """Text of the API page: a table a module, or a kind of thing for the flat one."""
    parts = [HEAD]
    for name, title in MODULES.items():
        if importlib.util.find_spec(name) is None:
            continue
        module = importlib.import_module(name)
        names = public_names(module)
        if title:
            sections = {title: names}
        else:
            sections = {heading: [] for heading in KINDS}
            for one in names:
                sections[kind(getattr(module, one))].append(one)
        for heading, members in sections.items():
            if members:
                parts.append(f"{heading}\n{'-' * len(heading)}\n")
                parts.append(f".. currentmodule:: {name}\n")
                parts.append(".. autosummary::\n   :toctree: .\n   :nosignatures:\n")
                parts.append("".join(f"   {member}\n" for member in members))
    return "\n".join(parts)


def quickstart_first(name):
    """Sort key of the examples."""
    return name != "quickstart.py", name


def reads_absent_data(script):
    """Whether an example reads real data that no folder holds: a build never downloads."""
    home = os.environ.get("SKMETA_DATA_HOME")
    reads = re.search(r"\bfetch_\w+\(", Path(script).read_text("utf-8")) is not None
    return reads and not (home and Path(home).is_dir())


def say_that_data_is_absent(app, docname, source):
    """Put a note under the title of an example that was not run."""
    script = Path(app.srcdir, "examples", f"{Path(docname).name}.py")
    if docname.startswith("auto_examples/") and script.is_file() and reads_absent_data(script):
        title = re.search(r"^(.+)\n=+\n", source[0], re.MULTILINE)
        source[0] = source[0][: title.end()] + ABSENT + source[0][title.end() :]


def is_foreign(app, what, name, member, skip, options):
    """Leave out what other libraries define, and attributes, which the class's text describes."""
    owner = getattr(member, "fget", member)
    ours = (getattr(owner, "__module__", None) or "").startswith("skmeta")
    return True if name.endswith("_") or not ours else None


def escape_docstring(app, what, name, thing, options, lines):
    """Keep two habits of our docstrings from being read as markup.

    Names of fitted attributes end in an underscore, which makes a link; an initial at the start of
    a line makes an enumerated list.
    """
    for i, line in enumerate(lines):
        if line == ".. rubric:: Examples":
            return
        parts = re.split(r"(``.*?``|:\w+:`.*?`)", line)  # the odd ones are literal
        parts[::2] = [re.sub(r"(?<=\w)_(?!\w)", r"\_", part) for part in parts[::2]]
        lines[i] = re.sub(r"^(\s*)(?=[A-Z]\. )", r"\1\\", "".join(parts))


def join_signatures(app, domain, objtype, content):
    """Without types the signatures of a single-dispatch function are all alike: show one."""
    shown = set()
    for line in list(content.parent.children):
        if line.tagname == "desc_signature":
            if line.astext() in shown:
                content.parent.remove(line)
            shown.add(line.astext())


def write_api_page(app, config):
    """Write the page before Sphinx looks for the pages that there are."""
    folder = Path(app.srcdir, "api")
    folder.mkdir(exist_ok=True)
    (folder / "index.rst").write_text(api_page(), "utf-8")


def setup(app):
    """Register the hooks."""
    app.connect("config-inited", write_api_page)
    app.connect("source-read", say_that_data_is_absent)
    app.connect("autodoc-skip-member", is_foreign)
    app.connect("autodoc-process-docstring", escape_docstring, priority=900)  # after numpydoc
    app.connect("object-description-transform", join_signatures)
    return {"parallel_read_safe": True}
