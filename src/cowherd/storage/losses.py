"""What new files could not be given of those whose place they take: noted where it happens, told by the command.

A file that lacks its old owner or an access list may be one that QEMU can't open any more, so it is said at once.
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
    """Something that the host did not let a file have, as in "the owner 107", and why."""

    what: str
    problem: str


class Loss(NamedTuple):
    """The same, of the file at `path`."""

    path: str
    what: str
    problem: str


_gatherers: list[list[Loss]] = []


def note(path: PathName, lost: Sequence[Lost]) -> None:
    """Tells whoever gathers what the file that is at `path` now, or will be in a moment, could not be given."""
    for gatherer in _gatherers:
        gatherer += [Loss(os.fspath(path), *one) for one in lost]


@contextlib.contextmanager
def gathering() -> Iterator[list[Loss]]:
    """Gives a list to which everything is added that files could not be given while the block runs."""
    found: list[Loss] = []
    _gatherers.append(found)
    try:
        yield found
    finally:
        _gatherers.remove(found)
