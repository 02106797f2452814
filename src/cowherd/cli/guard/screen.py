"""What a terminal makes of text: columns that it takes, the window that it has to fit in, and the colours of states."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

COLOURS = ("auto", "always", "never")
"""The choices of --color."""

_RED, _YELLOW, _GREEN = 31, 33, 32
_BAD = ("torn", "unreadable", "drifted", "replaced", "missing-base", "binding-mismatch", "untrusted", "failed", "lost")
_DOUBTFUL = ("altered", "synchronised", "touched", "unvouched", "unknown", "note")
_GOOD = ("ok", "intact", "harmless")
_TONES = {
    **dict.fromkeys(_BAD, _RED),
    **dict.fromkeys(_DOUBTFUL, _YELLOW),
    **dict.fromkeys(_GOOD, _GREEN),
}
_USUAL_COLUMNS = 80
_PAINT = re.compile("\x1b\\[[0-9]*m")
_UNUSUAL = re.compile("[^\x20-\u02ff\u2500-\u257f]")  # these are a column each; the latter are what trees are drawn with
_EMOJI = "\ufe0f"  # makes the sign before it a picture, which is two columns wide


def columns(text: str) -> int:
    """Returns how many columns a terminal needs for a line of printable text, which may be painted."""
    if "\x1b" in text:
        text = unpainted(text)
    if not _UNUSUAL.search(text):
        return len(text)
    widened = sum(_columns_of(sign) == 1 for sign, after in itertools.pairwise(text) if after == _EMOJI)
    return sum(map(_columns_of, text)) + widened


@lru_cache(maxsize=4096)
def _columns_of(character: str) -> int:
    from unicodedata import category, east_asian_width

    if category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":  # the latter end a Korean syllable
        return 0
    return 2 if east_asian_width(character) in ("W", "F") else 1


def padded(text: str, width: int) -> str:
    """Returns text with spaces behind it, `width` columns wide unless it is wider."""
    return text + " " * (width - columns(text))


def terminal_columns() -> int:
    """Returns the width of the terminal, as shutil.get_terminal_size does."""
    with contextlib.suppress(KeyError, ValueError):
        if int(os.environ["COLUMNS"]) > 0:
            return int(os.environ["COLUMNS"])
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or _USUAL_COLUMNS  # type: ignore[union-attr]  # None if it is closed: suppressed
    return _USUAL_COLUMNS


def window() -> int | None:
    """Returns the columns of the window that standard output goes to; None if it goes elsewhere."""
    if not sys.stdout.isatty():
        return None
    return terminal_columns()


def state(word: str) -> str:
    """Returns the name of a state, painted by how bad it is; any other word as it is."""
    tone = _TONES.get(word)
    return f"\x1b[{tone}m{word}\x1b[0m" if tone else word


def wrong(word: str) -> str:
    """Returns the name of something that is wrong, painted."""
    return f"\x1b[{_RED}m{word}\x1b[0m"


def unpainted(text: str) -> str:
    """Returns text without its colours. Names from outside hold none: `printable` makes them harmless."""
    return _PAINT.sub("", text)


def wants_colour(choice: str, stream: TextIO) -> bool:
    """Returns whether text for `stream` is to be painted, by the choice of --color.

    "auto" paints for a terminal, unless the environment has NO_COLOR (https://no-color.org) or calls the terminal "dumb".
    """
    if choice == "auto":
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"
