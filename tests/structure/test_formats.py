"""Which formats there are is known to `cowherd.formats` alone: others ask what a format can do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "cowherd"
NAMES = {"qcow2", "raw"}
LAYERS = {"Qcow2", "Raw"}
ELSEWHERE = ("formats", "live/machine")  # the latter reads QEMU's and libvirt's own descriptions, in their words
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.relative_to(PACKAGE).as_posix().startswith(ELSEWHERE)]


def tells_formats_apart(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return any(isinstance(part, ast.Constant) and part.value in NAMES for part in ast.walk(node))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
        return any(isinstance(part, ast.Name) and part.id in LAYERS for part in ast.walk(node.args[1]))
    return False


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_compares_names_of_formats(path):
    found = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if tells_formats_apart(node)]
    assert found == []


@pytest.mark.parametrize(
    "text", ['x.format == "qcow2"', 'x not in ("raw", "qcow2")', "isinstance(x, Qcow2)", "isinstance(x, A | Raw)"]
)
def test_such_comparisons_are_seen(text):
    assert any(tells_formats_apart(node) for node in ast.walk(ast.parse(text)))
