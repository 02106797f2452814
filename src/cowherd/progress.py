"""How long operations report their progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""An operation calls it with the amount done and the amount in all, mostly in bytes; the second number may still grow."""
