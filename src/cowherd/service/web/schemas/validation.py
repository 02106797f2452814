"""Holds documents to JSON schemas: those keywords that the schemas of the Image API use."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Schema = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}
_MOST_SHOWN = 60


def problems(value: Any, schema: Schema, where: str = "", definitions: Schema | None = None) -> Iterator[str]:
    """Gives what is wrong with a value, as sentences that name the place. A valid value has no problem."""
    definitions = definitions or schema.get("definitions", {})
    if "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix("#/definitions/")]
    for part in schema.get("allOf", ()):
        yield from problems(value, part, where, definitions)
    allowed = schema.get("type")
    if allowed is not None and not _is_one_of(value, [allowed] if isinstance(allowed, str) else allowed):
        yield f"{_called(where, value)} is not of type {allowed if isinstance(allowed, str) else ' or '.join(allowed)}"
        return
    if "enum" in schema and not any(value == one and type(value) is type(one) for one in schema["enum"]):
        yield f"{_called(where, value)} is not one of {', '.join(str(one) for one in schema['enum'])}"
    if isinstance(value, str):
        yield from _of_text(value, schema, where)
    elif isinstance(value, list):
        yield from _of_list(value, schema, where, definitions)
    elif isinstance(value, dict):
        yield from _of_object(value, schema, where, definitions)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _of_number(value, schema, where)


def _is_one_of(value: Any, names: list[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES[name]) for name in names)


def _called(where: str, value: Any) -> str:
    shown = ascii(value)
    shown = shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "..."
    return f"{where}: {shown}" if where else shown


def _of_text(value: str, schema: Schema, where: str) -> Iterator[str]:
    if len(value) > schema.get("maxLength", len(value)):
        yield f"{_called(where, value)} is longer than {schema['maxLength']} characters"
    if len(value) < schema.get("minLength", 0):
        yield f"{_called(where, value)} is shorter than {schema['minLength']} characters"
    if "pattern" in schema and not _compiled(schema["pattern"]).search(value):
        yield f"{_called(where, value)} does not match {schema['pattern']}"
    if "\0" in value:
        yield f"{_called(where, value)} contains the character NUL"


def _of_number(value: float, schema: Schema, where: str) -> Iterator[str]:
    if value < schema.get("minimum", value):
        yield f"{_called(where, value)} is less than {schema['minimum']}"
    if value > schema.get("maximum", value):
        yield f"{_called(where, value)} is more than {schema['maximum']}"


def _of_list(value: list[Any], schema: Schema, where: str, definitions: Schema) -> Iterator[str]:
    if schema.get("uniqueItems") and any(one in value[:index] for index, one in enumerate(value)):
        yield f"{_called(where, value)} has an item twice"
    if "items" in schema:
        for index, item in enumerate(value):
            yield from problems(item, schema["items"], f"{where}[{index}]", definitions)


def _of_object(value: dict[str, Any], schema: Schema, where: str, definitions: Schema) -> Iterator[str]:
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where or 'the document'}: {name!r} is a required property"
    for name, item in value.items():
        within = f"{where}.{name}" if where else name
        if "\0" in name:
            yield f"{name!a} contains the character NUL"
        if name in known:
            yield from problems(item, known[name], within, definitions)
        elif others is False:
            yield f"{_called(where, name)} is no property of this document"
        elif isinstance(others, dict):
            yield from problems(item, others, within, definitions)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # In a JSON schema `$` is the end of the text; Python's also matches before a line feed there.
    return re.compile(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern)
