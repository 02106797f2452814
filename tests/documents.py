"""Holds what the programs print as JSON against the schema in the docs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

SCHEMA = Path(__file__).parents[1] / "docs" / "json.schema.json"


@cache
def _validator(name: str) -> Draft202012Validator:
    whole = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert name in whole["$defs"], f"there is no schema of {name}"
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": whole["$defs"]})


def check_document(command: str, document: Any) -> None:
    """Fails if a document of `cowherd COMMAND` is not as the schema says."""
    check(f"cowherd-{command}", document)


def check(name: str, value: Any) -> None:
    """Fails if a value is not as the definition of that name in the schema says."""
    found = best_match(_validator(name).iter_errors(value))
    assert found is None, f"{name}: {found.json_path}: {found.message}"
