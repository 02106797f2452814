"""What is told of the routes: docs/image-api.md, the OpenAPI description, and the data beside the handlers that make both."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from cowherd.service.policy.rules import RULES
from cowherd.service.web.openapi import description, operations, summary
from cowherd.service.web.routes import ROUTES
from cowherd.service.web.routing import Resource
from cowherd.service.web.schemas.named import DOCUMENTS

ROOT = Path(__file__).parents[3]
PAGE, SCRIPT = ROOT / "docs" / "image-api.md", ROOT / "scripts" / "write-image-api"
WEB = ROOT / "src" / "cowherd" / "service" / "web"
TOLD = list(operations(ROUTES))
_ASKED_FOR_OTHERS = {"access.py", "images/relocating.py", "images/editing.py"}
"""They ask the rules for handlers of other modules."""


def test_the_page_is_what_the_script_writes():
    written = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True, timeout=120).stdout
    assert PAGE.read_text(encoding="utf-8") == written, "scripts/write-image-api > docs/image-api.md writes it anew"


def test_of_every_handler_something_is_told():
    handlers = [(route.path, method) for route in ROUTES if isinstance(route.app, Resource) for method in route.app.handlers]
    assert [(path, method) for path, method, _, _ in TOLD] == handlers
    assert [path for path, _, handler, _ in TOLD if not summary(handler).endswith(".")] == []


def test_every_document_is_one_that_some_handler_takes_or_gives():
    used = {name for *_, told in TOLD for body in (told.takes, told.gives) for name in (body or {}).values() if name}
    assert used | {"error"} == set(DOCUMENTS)


def asked(path: Path) -> set[str]:
    """The rules that a module names outside of what it tells."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list = []
    found = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in found if isinstance(value, str) and value in RULES}


@pytest.mark.parametrize("path", sorted(WEB.rglob("*.py")), ids=lambda path: path.relative_to(WEB).as_posix())
def test_the_rules_that_a_module_asks_are_told_of_its_handlers(path):
    if path.relative_to(WEB).as_posix() in _ASKED_FOR_OTHERS:
        told = {action for *_, one in TOLD for action in one.may}
    else:
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        told = {action for *_, handler, one in TOLD if handler.__module__ in (name, common(name)) for action in one.may}
    assert asked(path) <= told


def common(module: str) -> str:
    """Where handlers may be made that a module has in its routes."""
    return import_module(module).__package__ + ".common"


def test_the_description_refers_only_to_what_is_in_it_and_names_each_operation_once():
    told = description(ROUTES)
    text = json.dumps(told)
    names = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= told["components"]["schemas"].keys()
    assert "#/definitions/" not in text
    ids = [one["operationId"] for path in told["paths"].values() for one in path.values()]
    assert len(set(ids)) == len(ids) == len(TOLD)


def test_a_service_describes_itself(client):
    assert client.get("/cowherd/v1/openapi.json").json == description(ROUTES)
