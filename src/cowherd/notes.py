"""What work has to say beside its result while it is done: each note once, to whoever listens.

The programs print notes on standard error. Used as a library, nobody listens unless `listeners` gets a function.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

listeners: list[Callable[[str], None]] = []
"""Functions that are called with each note, a sentence without the program's name."""

_said: set[str] = set()


def say(note: str) -> None:
    """Tells a note to all listeners, unless it was told before."""
    if note not in _said:
        _said.add(note)
        for listener in listeners:
            listener(note)
