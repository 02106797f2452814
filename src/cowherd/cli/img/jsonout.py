"""JSON as QEMU prints it (qobject/json-writer.c, pretty): four spaces, ASCII only, empty lists on two lines."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    Json: TypeAlias = "str | int | bool | dict[str, Json] | Sequence[Json]"

_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def dumps(value: Json) -> str:
    """Returns `value` as QEMU's tools print it, keys in the order of the dictionary."""
    return "".join(_pieces(value, "\n"))


def _pieces(value: Json, newline: str) -> Iterator[str]:
    if isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, int):
        yield str(value)
    elif isinstance(value, str):
        yield quoted(value)
    elif isinstance(value, dict):
        yield from _block("{", "}", newline, [(quoted(key) + ": ", item) for key, item in value.items()])
    else:
        yield from _block("[", "]", newline, [("", item) for item in value])


def _block(opening: str, closing: str, newline: str, items: Sequence[tuple[str, Json]]) -> Iterator[str]:
    inner = newline + "    "
    yield opening
    for index, (label, item) in enumerate(items):
        yield ("," if index else "") + inner + label
        yield from _pieces(item, inner)
    yield newline + closing


def quoted(text: str) -> str:
    """Returns `text` as a JSON string; bytes that were not valid UTF-8 become the replacement character."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return character
    if 0xD800 <= code < 0xE000:
        return "\\uFFFD"
    if code > 0xFFFF:
        high, low = divmod(code - 0x10000, 0x400)
        return f"\\u{0xD800 + high:04X}\\u{0xDC00 + low:04X}"
    return f"\\u{code:04X}"
