"""Makes JSON Schema (https://json-schema.org/draft/2020-12) of the documents' classes."""

from __future__ import annotations

import enum
import inspect
import re
import sys
import types
import typing
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, is_typeddict

from cowherd.cli.documents import shared
from cowherd.cli.documents.commands import DOCUMENTS, OF_EACH
from cowherd.cli.documents.progress import NoteLine, ProgressLine
from cowherd.cli.guard.output import SCHEMA

_MEANING = re.compile(r"^    (\w+): .*?  #: (.*)$", re.MULTILINE)
_BASE = re.compile(r"^class \w+\((\w+)", re.MULTILINE)
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_OPEN = (shared.Error,)
"""Classes whose objects have further keys."""


def fields_of(kind: type) -> dict[str, Any]:
    """Returns the keys of a class's objects, with their types."""
    return typing.get_type_hints(kind, include_extras=True)


def meanings_of(kind: type) -> dict[str, str]:
    """Returns what is said of each key of a class, those of the class that it goes on from included."""
    source = inspect.getsource(kind)
    named = _BASE.findall(source)
    bases = [getattr(sys.modules[kind.__module__], name) for name in named]  # Python forgets which a `TypedDict` goes on from
    inherited = [meanings_of(base) for base in bases if is_typeddict(base)]
    return {name: text for found in (*inherited, dict(_MEANING.findall(source))) for name, text in found.items()}


def optional(kind: type) -> frozenset[str]:
    """Returns the keys that an object may lack."""
    hints = fields_of(kind).items()
    return frozenset(name for name, hint in hints if get_origin(hint) is NotRequired or not getattr(kind, "__total__", True))


def classes_in(kinds: typing.Iterable[type]) -> list[type]:
    """Returns classes and all that their keys lead to, each once, in the order in which a reader meets them."""
    found: dict[type, None] = {}
    for kind in kinds:
        if kind not in found:
            found[kind] = None
            found.update(dict.fromkeys(classes_in(one for hint in fields_of(kind).values() for one in _classes_of(hint))))
    return list(found)


def _classes_of(hint: Any) -> typing.Iterator[type]:
    if is_typeddict(hint):
        yield hint
    for one in get_args(hint) if get_origin(hint) is not Literal else ():
        yield from _classes_of(one)


def schema() -> dict[str, Any]:
    """Returns the schema of all documents. That of a command is `#/$defs/cowherd-NAME`, that of a line on standard error
    `#/$defs/line`."""
    kinds = classes_in([*(kind for those in DOCUMENTS.values() for kind in those), shared.Failure, ProgressLine, NoteLine])
    commands = {f"cowherd-{command}": _of_command(command) for command in DOCUMENTS}
    lines = {"line": {"anyOf": [_reference(ProgressLine), _reference(NoteLine)]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What cowherd prints with --json",
        "$defs": {**commands, **lines, **{kind.__name__: _of_class(kind) for kind in kinds}},
    }


def _of_command(command: str) -> dict[str, Any]:
    one_of = [_document(kind) for kind in (*DOCUMENTS[command], shared.Failure)]
    if command in OF_EACH:
        each = {"anyOf": [_reference(kind) for kind in (*DOCUMENTS[command], shared.Failure)]}
        one_of.append(_object({"images": {"type": "array", "items": each}}, ["images"]))
    return {"anyOf": one_of}


def _document(kind: type) -> dict[str, Any]:
    found = _of_class(kind)
    return _object(found["properties"], found["required"])


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """Returns the schema of a whole document, which has a number, and may have what any command adds."""
    added = {name: _of_type(hint) for extra in (shared.Looked, shared.Losses) for name, hint in fields_of(extra).items()}
    return {
        "type": "object",
        "properties": {"schema": {"const": SCHEMA}, **properties, **added},
        "required": ["schema", *required],
        "additionalProperties": False,
    }


def _of_class(kind: type) -> dict[str, Any]:
    properties = {name: _of_type(hint) for name, hint in fields_of(kind).items()}
    may_lack = optional(kind)
    return {
        "description": " ".join((inspect.getdoc(kind) or "").split()),
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in may_lack],
        "additionalProperties": kind in _OPEN,
    }


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _of_type(hint: Any) -> dict[str, Any]:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return {**_of_type(inner[0]), "description": inner[1]}
    if origin is NotRequired:
        return _of_type(inner[0])
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of_type(one) for one in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is list:
        return {"type": "array", "items": _of_type(inner[0])}
    if origin is tuple:
        return {"type": "array", "prefixItems": [_of_type(one) for one in inner], "minItems": len(inner), "maxItems": len(inner)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_type(inner[1])}
    if is_typeddict(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if hint is Any:
        return {}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    return {"type": _PLAIN[hint]}
