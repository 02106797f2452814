"""Standard output and standard error, as a drop-in must write them.

File names are bytes to QEMU's tools, and names stored in images can be any bytes. A pipe or a file gets exactly those bytes; for
a terminal, control characters are escaped, because they could control it.
"""

from __future__ import annotations

import os
import sys

from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def out(text: str) -> None:
    """Writes `text` to standard output."""
    _write(sys.stdout, text)


def err(text: str) -> None:
    """Writes `text` to standard error."""
    _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    if stream.isatty():
        stream.write("\n".join(map(printable, text.split("\n"))))
        return
    stream.flush()
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # a stream without bytes under it, such as those of tests and notebooks
        stream.write(text)
    else:
        buffer.write(_as_stored(text))


def _as_stored(text: str) -> bytes:
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # half a character, out of the JSON in an image: no bytes stand for it
        return os.fsencode("".join("\ufffd" if _is_half(ord(character)) else character for character in text))


def _is_half(code: int) -> bool:
    return 0xD800 <= code < 0xE000 and not 0xDC80 <= code < 0xDD00
