"""Pieces of HTML. Whatever comes from outside passes through `text`."""

from __future__ import annotations

import enum
import html
from typing import TYPE_CHECKING

from cowherd.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.paths import PathName


class Severity(enum.StrEnum):
    """How bad a state is, worst first. Each has a colour on the page, and a shape for those who do not see colours."""

    BAD = "bad"
    WARN = "warn"
    QUIET = "quiet"
    GOOD = "good"


def text(value: PathName) -> str:
    """Returns a text or name from outside as HTML."""
    return html.escape(printable(value))


def count_of(number: int, noun: str) -> str:
    """Returns a number with a noun that forms its plural with an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def marked(severity: Severity, words: str) -> str:
    """Returns words, as HTML, in the colour of a severity and with its shape."""
    return f"<span class={severity}><b></b>{words}</span>"


def branch(open_lines: Sequence[bool], *, has_overlays: bool) -> str:
    """Returns the part of a tree that lies in a row: lines past it, one up to its base, and a dot for the image.

    `open_lines` tells for each level whether more images follow on it.
    """
    passing = "".join(f"<i class={'l' if more else 'g'}></i>" for more in open_lines[:-1])
    up = "".join(f"<i class={'t' if more else 'e'}></i>" for more in open_lines[-1:])
    return f"{passing}{up}{'<i class=d></i>' if has_overlays else ''}<b></b>"
