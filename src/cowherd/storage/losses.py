"""Attributes that a new file could not get from the file whose place it takes: noted where it happens, reported by the command.

QEMU may not be able to open a file without its old owner or access list, so the user hears of it at once.
"""

from __future__ import annotations

import contextlib
import os

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.paths import PathName


class Lost(NamedTuple):
    """An attribute that the host did not let a file have, as in "the owner 107", and the reason."""

    what: str
    problem: str


class Loss(NamedTuple):
    """The same, with the `path` of the file."""

    path: str
    what: str
    problem: str


_gatherers: list[list[Loss]] = []


def note(path: PathName, lost: Sequence[Lost]) -> None:
    """Adds to every gathering list what the file that is at `path` now, or will be in a moment, could not get."""
    for gatherer in _gatherers:
        gatherer += [Loss(os.fspath(path), *one) for one in lost]


@contextlib.contextmanager
def gathering() -> Iterator[list[Loss]]:
    """Yields a list that receives every loss while the block runs."""
    found: list[Loss] = []
    _gatherers.append(found)
    try:
        yield found
    finally:
        _gatherers.remove(found)
