"""How names and sizes are read and printed."""

from __future__ import annotations

import os
import re
from typing import Any

_SUFFIXES = "BKMGTPE"
_SIZE = re.compile(r"(?:0x([0-9a-f]+)|([0-9]+)(?:\.([0-9]{1,18}))?)([bkmgtpe]?)", re.IGNORECASE)


def printable(name: str | bytes | os.PathLike[Any]) -> str:
    r"""Returns `name` with control characters, terminal escapes and undecodable bytes written as \xNN or \uNNNN."""
    text = os.fsdecode(name)
    return "".join(ch if ch.isprintable() else _escaped(ch) for ch in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not valid UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def parse_size(text: str) -> int:
    """Returns the bytes that `text` means, with the suffixes that QEMU knows: b, k, M, G, T, P, E (1024 each), as in "1.5G".

    Raises ValueError for anything else, also for a negative number and a fraction of a byte.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"'{printable(text)}' is not a size")
    hexadecimal, whole, fraction, suffix = match.groups()
    unit_bits = 10 * _SUFFIXES.index((suffix or "B").upper())
    if not fraction:
        number: int = int(hexadecimal, 16) if hexadecimal else int(whole)
        return number << unit_bits
    if not unit_bits:
        raise ValueError(f"'{printable(text)}' is not a whole number of bytes")
    part: int = (int(fraction) << unit_bits) // 10 ** len(fraction)
    return (int(whole) << unit_bits) + part
