"""How names that come from outside are printed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def printable(name: str | bytes | os.PathLike[Any]) -> str:
    r"""Returns `name` with control characters, terminal escapes and undecodable bytes written as \xNN or \uNNNN."""
    text = os.fsdecode(name)
    return "".join(ch if ch.isprintable() else _escaped(ch) for ch in text)


def shown(path: str | os.PathLike[str]) -> str:
    """Returns a path, escaped, and relative to the current directory if it lies under it."""
    try:
        return printable(Path(path).relative_to(os.getcwd()))
    except (ValueError, OSError):  # it lies elsewhere, or there is no current directory any more
        return printable(path)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not valid UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
