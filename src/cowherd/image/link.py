"""What a chain consists of, as far as following it goes; only type checkers need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from cowherd.formats.reference import BackingReference
from cowherd.storage.blocks import BlockFile


class Link(Protocol):
    """An opened image of a chain."""

    file: BlockFile

    @property
    def backing(self) -> BackingReference | None:
        """The backing file that the image names, or None."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


AnyLink = TypeVar("AnyLink", bound=Link)
Make = Callable[[BlockFile, str], AnyLink]
"""Makes an opened and locked file of a known format, by its name, a link; it takes over the file unless it raises."""
