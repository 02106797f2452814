"""How long operations report their progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""An operation calls it with the amount done and the amount in all, mostly in bytes; the second number may still grow."""

Reading = Callable[[str], Progress | None]
"""Called with the name of an image before its content is read; returns what is to be told how far that is, or None."""


def of_each(progress: Progress | None) -> Reading:
    """Returns what has `progress` told of every image alike."""
    return lambda _: progress
