"""Reads records, which are JSON, as untrusted input: every field is checked before anything acts on it.

Anybody who may write in a directory can put a record there. Every function here raises ValueError for a value that makes no
sense.
"""

from __future__ import annotations

import os

from cowherd.jsontext import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

LONGEST_NAME = 255
LONGEST_PATH = 4096
LARGEST = (1 << 63) - 1


def load_record(text: bytes | str) -> dict[str, Any]:
    """Returns the object in a JSON text. Raises ValueError if it holds no object, a key twice, or NaN or an infinity."""
    try:
        value = _READER.read(text if isinstance(text, str) else text.decode())
    except (RecursionError, MemoryError) as error:
        raise ValueError("it is nested too deeply, or too large") from error
    return dictionary(value)


def _dict_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_READER = Reader(_dict_of_unique_keys, _refuse_constant)


def field(record: dict[str, Any], name: str) -> Any:
    """Returns the value of a record's field. Raises ValueError if there is no such field."""
    if name not in record:
        raise ValueError(f"there is no '{name}'")
    return record[name]


def dictionary(value: object) -> dict[str, Any]:
    """Returns `value` if it is an object."""
    if not isinstance(value, dict):
        raise ValueError(f"{_quoted(value)} is not an object")
    return value


def row(value: object, longest: int) -> list[Any]:
    """Returns `value` if it is a list of at most `longest` items."""
    if not isinstance(value, list):
        raise ValueError(f"{_quoted(value)} is not a list")
    if len(value) > longest:
        raise ValueError(f"a list of {len(value)} things where at most {longest} are due")
    return value


def whole(value: object, limit: int = LARGEST) -> int:
    """Returns `value` if it is a whole number from 0 to `limit`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise ValueError(f"{_quoted(value)} is not a number from 0 to {limit}")
    return value


def yes_or_no(value: object) -> bool:
    """Returns `value` if it is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{_quoted(value)} is neither true nor false")
    return value


def text(value: object, longest: int = LONGEST_PATH) -> str:
    """Returns `value` if it is text of at most `longest` characters."""
    if not isinstance(value, str):
        raise ValueError(f"{_quoted(value)} is not text")
    if len(value) > longest:
        raise ValueError(f"text of {len(value)} characters where at most {longest} are due")
    return value


def word(value: object, longest: int = 200) -> str:
    """Returns `value` if it is text that can be printed as it is: on one line, without terminal escapes."""
    found = text(value, longest)
    if not found.isprintable():
        raise ValueError(f"{_quoted(value)} can't be printed")
    return found


def digest(value: object, length: int) -> bytes:
    """Returns the `length` bytes that `value` gives in hexadecimal digits."""
    found = bytes.fromhex(text(value, 2 * length))
    if len(found) != length or len(value) != 2 * length:  # type: ignore[arg-type]
        raise ValueError(f"a digest of {len(found)} bytes where {length} are due")
    return found


def path_name(value: object) -> str:
    """Returns `value` if the host can have a file of that name: no zero byte, no character that the host can't encode."""
    found = text(value)
    if not found or "\0" in found or len(os.fsencode(found)) > LONGEST_PATH:
        raise ValueError(f"{_quoted(value)} can't be a file's name")
    return found


def plain_name(value: object) -> str:
    """Returns `value` if it names a file directly in a directory: no slash, neither "." nor ".."."""
    found = path_name(value)
    if "/" in found or found in (".", "..") or len(os.fsencode(found)) > LONGEST_NAME:
        raise ValueError(f"{_quoted(value)} is not a plain file name")
    return found


def _quoted(value: object) -> str:
    """Returns a value as a message may show it: shortened, and in ASCII, so that it can't pass for something else."""
    try:
        shown = ascii(value)
    except (ValueError, RecursionError):  # a number with more digits than Python prints, or a list nested too deeply
        shown = type(value).__name__
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
