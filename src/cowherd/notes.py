"""Notes: remarks of a job for the user, beside its result. Each note goes once to every listener.

The programs print notes on standard error. In a library nobody listens, unless the caller adds a function to `listeners`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

listeners: list[Callable[[str], None]] = []
"""Functions that are called with each note, a sentence without the program's name."""

_said: set[str] = set()


def say(note: str) -> None:
    """Passes a note to all listeners, unless that was done before."""
    if note not in _said:
        _said.add(note)
        for listener in listeners:
            listener(note)
