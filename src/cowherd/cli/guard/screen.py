"""What a terminal makes of text: columns that it takes, the window that it has to fit in, and the colours of states."""

from __future__ import annotations

import os
import sys

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
_PAINT = "\x1b["
_DRAWN = " │├└─"


def columns(text: str) -> int:
    """Returns how many columns a terminal needs for a line of printable text, which may be painted."""
    text = unpainted(text)
    name = text.lstrip(_DRAWN)  # these are a column each
    if name.isascii() and name.isprintable():
        return len(text)
    from cowherd.cli.guard.wide import columns_of

    return columns_of(text)


def padded(text: str, width: int) -> str:
    """Returns text with spaces behind it, `width` columns wide unless it is wider."""
    return text + " " * (width - columns(text))


def terminal_columns() -> int:
    """Returns the width of the terminal, as shutil.get_terminal_size does."""
    said = os.environ.get("COLUMNS", "")
    try:
        if int(said or 0) > 0:
            return int(said)
    except ValueError:
        """It is no number, and nothing was said."""
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or _USUAL_COLUMNS  # type: ignore[union-attr]  # None if closed: caught
    except (AttributeError, ValueError, OSError):
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
    if _PAINT not in text:
        return text
    start, *painted = text.split(_PAINT)
    return start + "".join(part.partition("m")[2] for part in painted)


def wants_colour(choice: str, stream: TextIO) -> bool:
    """Returns whether text for `stream` is to be painted, by the choice of --color.

    "auto" paints for a terminal, unless the environment has NO_COLOR (https://no-color.org) or calls the terminal "dumb".
    """
    if choice == "auto":
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"
