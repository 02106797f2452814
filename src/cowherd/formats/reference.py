"""How an image names its backing file."""

from __future__ import annotations

from cowherd.tuples import NamedTuple


class BackingReference(NamedTuple):
    """A backing file as an image names it: the stored name and the recorded format (None where none is recorded)."""

    name: str
    format: str | None
