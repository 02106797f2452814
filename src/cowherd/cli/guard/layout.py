"""Lays out JSON documents: readable, and quickly made in little memory, even for a herd of very many images."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING

from cowherd.cli.guard.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_ROWS_AT_ONCE = 1000
_SEPARATORS = ",\n      ", ": "
_NESTED = "[{"  # at the start of a list of objects in an object, or in a name, which costs no more than time


def laid_out(document: Mapping[str, Any]) -> Iterator[str]:
    """Yields the text of a document as JSON, as json.dumps(indent=2) would, except that in the objects of `Rows` the brackets of
    lists have no lines of their own, if the object holds no other objects."""
    separator = "{\n  "
    for name, value in document.items():
        yield f"{separator}{json.dumps(name)}: "
        separator = ",\n  "
        if isinstance(value, Rows):
            yield from _list(value)
        else:
            yield json.dumps(value, indent=2).replace("\n", "\n  ")
    yield "\n}" if document else "{}"


def _list(rows: Rows) -> Iterator[str]:
    objects = iter(rows)
    separator = "[\n    "
    while group := list(islice(objects, _ROWS_AT_ONCE)):
        text = json.dumps(group, separators=_SEPARATORS)[2:-2]  # in JSON's strings there is no newline
        if _NESTED in text:
            yield separator + ",\n    ".join(map(_laid_out_one, group))
        else:
            yield separator + "{\n      " + text.replace("},\n      {", "\n    },\n    {\n      ") + "\n    }"
        separator = ",\n    "
    yield "[]" if separator.startswith("[") else "\n  ]"


def _laid_out_one(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, separators=_SEPARATORS)
    if _NESTED in text:
        return json.dumps(row, indent=2).replace("\n", "\n    ")
    return "{\n      " + text[1:-1] + "\n    }"
