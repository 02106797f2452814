"""The source tree: layers as documented, and modules small enough to read."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "cowherd"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_MODULE_LINES = 600


def module_id(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def documented_layers() -> list[set[str]]:
    """The first column of the table under "Layers" in docs/architecture.md, highest first."""
    section = (ROOT / "docs" / "architecture.md").read_text().split("\n## Layers\n")[1].split("\n## ")[0]
    first_columns = re.findall(r"^\| ([^|]*`[^|]*) \|", section, re.MULTILINE)
    return [set(re.findall(r"`(\w+)`", column)) for column in first_columns]


def enforced_layers() -> list[set[str]]:
    """The layers of the import-linter contract in pyproject.toml, highest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one["type"] == "layers" and one["containers"] == ["cowherd"]]
    return [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]


def test_the_documented_layers_are_the_enforced_ones():
    assert documented_layers() == enforced_layers()


def test_every_top_level_module_is_in_a_layer():
    placed = set().union(*enforced_layers())
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__"} == placed


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_a_module_is_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_no_layer_imports_the_public_face(path):
    """`import cowherd` resolves to the api layer at run time, so a lower layer that used it would climb unseen."""
    names = set().union(*enforced_layers())
    climbing = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            climbing += [alias.name for alias in node.names if alias.name == "cowherd"]
        elif isinstance(node, ast.ImportFrom) and node.module == "cowherd":
            climbing += [alias.name for alias in node.names if alias.name not in names]
    allowed = path.is_relative_to(PACKAGE / "cli")
    assert allowed or climbing == []
