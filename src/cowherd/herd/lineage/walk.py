"""Walks through directories: which files lie there, and the stat(2) of each, without opening any."""

from __future__ import annotations

import contextlib
import os

from cowherd.herd.lineage.listing import Facts, Listed, PendingDirectories
from cowherd.paths import as_path
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MANY = 4096  # after so many files, another process is worth its start


class Listing(NamedTuple):
    """A directory, whose path has no symbolic links, with its files in order of names; see `Listed`."""

    directory: str
    files: dict[str, Facts]
    links: frozenset[str]
    has_trash: bool = False


def files_under(directory: str, levels: int | None, unreadable: list[Path]) -> Iterator[str]:
    """Yields the path of every file that `walk` finds."""
    for listing in walk(directory, levels, unreadable):
        yield from (os.path.join(listing.directory, name) for name in listing.files)


def walk(directory: str, levels: int | None, unreadable: list[Path]) -> Iterator[Listing]:
    """Yields directory after directory, without leaving the file system of the first, and without trash directories.

    It enters no directory more than `levels` below the first; None means all. It adds what can't be read to `unreadable`. If
    there are very many files, another process lists the next directories while the caller works on the last one.
    """
    try:
        pending = PendingDirectories([(directory, 0)], levels, os.stat(directory).st_dev)
    except OSError:
        unreadable.append(as_path(directory))
        return
    met = 0
    with contextlib.ExitStack() as stack:
        look: Callable[[], Listed | None] = pending.look
        while pending.paths:
            current = pending.paths[-1][0]
            listed = look()
            pending.go_on(listed)
            if listed is None:
                unreadable.append(as_path(current))
                continue
            unreadable.extend(as_path(current, name) for name in listed.unreadable)
            before, met = met, met + len(listed.files)
            if before < _MANY <= met and pending.paths:
                from cowherd.herd.lineage.listing_ahead import ListingAhead, may_fork

                look = stack.enter_context(ListingAhead(pending)).look if may_fork() else look
            yield Listing(current, listed.files, frozenset(listed.links), listed.has_trash)
