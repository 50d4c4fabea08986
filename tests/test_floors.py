"""Imports go down: a unit imports only lower floors, and families never import one another."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "skmeta"
FLOORS = {
    "_version": 0,
    "_optional": 0,
    "exceptions": 0,
    "core": 1,
    "operators": 1,
    "nets": 1,
    "datasets": 1,
    "training": 2,
    "base": 3,
    "optimization": 4,
    "metric": 4,
    "closed_form": 4,
    "model_based": 4,
    "generative": 4,
    "education": 4,
    "physics": 4,
    "medicine": 4,
    "selection": 4,
    "model_selection": 5,
    "inspection": 6,
    "auto": 6,
}
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def unit_of(path):
    part = path.relative_to(ROOT).parts[0]
    return part.removesuffix(".py")


def imported(path):
    """All modules that a file imports, inside functions too, as dotted names."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(node.module)
            if node.module == "skmeta":
                found += [f"skmeta.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    unit = unit_of(path)
    assert unit in FLOORS, f"{unit} has no floor"
    for name in imported(path):
        if not name.startswith("skmeta."):
            continue
        other = name.split(".")[1]
        if other != unit:
            assert FLOORS[other] < FLOORS[unit], f"{unit} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_libraries_stay_where_they_belong(path):
    unit, names = unit_of(path), {name.split(".")[0] for name in imported(path)}
    assert "skorch" not in names or unit == "training"
    assert "sklearn" not in names or unit not in ("core", "nets", "operators", "exceptions")
    assert "torch" not in names or unit != "datasets"


def test_heavy_imports_wait():
    import subprocess
    import sys

    code = (
        "import sys, skmeta, skmeta.model_selection, skmeta.datasets;"
        "print([m for m in ('skorch', 'matplotlib', 'pooch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
