"""How the pages are built: ``make docs``."""

import os
import sys
from pathlib import Path

import skmeta

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
from skmeta_pages import reads_absent_data

# Estimators that an example shows link to the pages of this very build, one folder up.
os.environ["SKMETA_DOCS_URL"] = ".."

project = "skmeta"
author = copyright = "The skmeta developers"
version = release = skmeta.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "skmeta_pages",
]
exclude_patterns = ["_build", "examples"]
templates_path = ["_templates"]

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Examples that read data run only where a folder holds it: a build never downloads.
examples = sorted((HERE / "examples").glob("*.py"))
skipped = [path.stem for path in examples if reads_absent_data(path)]
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": rf"/(?!(?:{'|'.join(skipped)})\.py$)\w+\.py$" if skipped else r"\.py$",
    "within_subsection_order": "skmeta_pages.quickstart_first",
    "doc_module": ("skmeta",),
    "backreferences_dir": "auto_examples/used",
    "reference_url": {"skmeta": None},
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "skmeta"
html_static_path = ["_static"]
html_css_files = ["skmeta.css"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
