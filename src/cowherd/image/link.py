"""The links of a chain, as the code that follows a chain needs them; only type checkers need this module."""

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
"""Makes a link of an opened and locked file and the name of its known format; takes over the file unless it raises."""
