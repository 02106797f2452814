"""Reads and writes JSON with the parts of Python's own `json` that are in C.

`json` loads regular expressions for the parts that are not, which takes as long as all else that a command reads records with.
Values, errors and their words are those of `json`.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_WHITE = " \t\n\r"
_CONSTANTS = {"-Infinity": -float("inf"), "Infinity": float("inf"), "NaN": float("nan")}


class Reader:
    """Reads JSON. `object_pairs_hook` makes an object of its pairs, `parse_constant` a number of a name that JSON lacks."""

    # What the scanner asks for besides the two that are given: array_hook is new in Python 3.15.
    strict, object_hook, array_hook, parse_float, parse_int = True, None, None, float, int

    def __init__(
        self,
        object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
        parse_constant: Callable[[str], Any] = _CONSTANTS.__getitem__,
    ):
        self.object_pairs_hook, self.parse_constant = object_pairs_hook, parse_constant
        self._scan: Callable[[str, int], tuple[Any, int]] = make_scanner(self)  # type: ignore[arg-type]  # it takes all that has these attributes

    def read(self, text: str) -> Any:
        """Returns the value that a text holds. Raises ValueError if it is no JSON, RecursionError if it is nested too deeply."""
        try:
            value, end = self._scan(text, len(text) - len(text.lstrip(_WHITE)))
        except StopIteration as stop:
            raise _error("Expecting value", text, stop.value) from None
        behind = text[end:].lstrip(_WHITE)
        if behind:
            raise _error("Extra data", text, len(text) - len(behind))
        return value


_reader = Reader()


def read_json(text: str | bytes) -> Any:
    """Returns the value in a text, in UTF-8 if it is bytes. Raises ValueError or RecursionError as `Reader.read`."""
    return _reader.read(text if isinstance(text, str) else text.decode("utf-8", "surrogatepass"))


def write_json(value: object, *, sort_keys: bool = False, between: tuple[str, str] = (",", ":")) -> str:
    """Returns a value as ASCII on one line. `between` stands between items, and between a key and its value.

    Raises TypeError for what JSON can't hold, ValueError for what holds itself.
    """
    encode = make_encoder({}, _refuse, encode_basestring_ascii, None, between[1], between[0], sort_keys, False, True)
    return "".join(encode(value, 0))


def _refuse(value: object) -> object:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _error(what: str, text: str, place: int) -> ValueError:
    from json import JSONDecodeError

    return JSONDecodeError(what, text, place)
