"""What the check finds."""

from __future__ import annotations

from typing import NamedTuple

HARMLESS = ("orphan", "stray")
"""Kinds of findings that harm nobody: they are deleted when nobody can want them any more."""


class Finding(NamedTuple):
    """Something that is not as it should be: its kind, a sentence about it, where it is, and whether it was put right."""

    kind: str
    problem: str
    store: str | None = None
    blob: str | None = None
    image: str | None = None
    repaired: bool = False

    @property
    def is_left(self) -> bool:
        """Whether it is still not as it should be, and matters."""
        return not self.repaired and self.kind not in HARMLESS
