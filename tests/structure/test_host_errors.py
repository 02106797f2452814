"""An error about a file of the host is an OSError: code that means the kernel's own errors must not take it for one."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "cowherd"
ABOUT_FILES = {"HostFileError", "FlushFailed", "RemoteFileError"}
PASSED_ON = {"CowherdError", *ABOUT_FILES}
ALSO_NAMES_OF_OTHERS = {
    *("__init__", "add", "append", "below", "close", "flush", "names", "open", "read", "readinto", "report", "run", "size"),
    *("unlink", "write"),
}
"""Methods of files, directories and classes that share their name with one of cowherd's."""
MEANT = {
    ("herd/lineage/links.py", "probed_format"): "a base that can't be opened is a lead to nowhere, whoever says so",
    ("herd/lineage/listing.py", "is_shadow"): "a name that can't be looked at is unreadable, whoever says so",
}


@functools.cache
def trees() -> dict[str, ast.Module]:
    files = sorted(SOURCE.rglob("*.py"))
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def functions_that_raise() -> set[str]:
    """Functions whose docstring says that they raise HostFileError, or an error of that kind."""
    functions = [node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = {node.name for node in functions if words(ast.get_docstring(node) or "") & ABOUT_FILES}
    return found - ALSO_NAMES_OF_OTHERS


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def calls(body: list[ast.stmt]) -> set[str]:
    """The names of what is called in some statements."""
    found = [node.func for statement in body for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return {called.attr if isinstance(called, ast.Attribute) else ast.unparse(called) for called in found}


def swallowing(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """The blocks whose OSErrors are caught, without HostFileError being let through or meant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            contexts = [words(ast.unparse(item.context_expr)) for item in node.items]
            if any({"suppress", "OSError"} <= context and not context & PASSED_ON for context in contexts):
                yield node.body
        if isinstance(node, ast.Try):
            caught = [words(ast.unparse(handler.type)) for handler in node.handlers if handler.type]
            first = next((number for number, names in enumerate(caught) if "OSError" in names), None)
            if first is not None and not set().union(*caught[: first + 1]) & PASSED_ON:
                yield node.body


def test_no_block_that_catches_oserrors_calls_what_raises_an_error_about_a_file():
    raising = functions_that_raise()
    assert {"sync_directory", "is_there", "check_type"} <= raising
    found = {(path, name) for path, tree in trees().items() for body in swallowing(tree) for name in calls(body) & raising}
    assert found - set(MEANT) == set()
    assert set(MEANT) - found == set()
