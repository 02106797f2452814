"""Finds in the log what was done to an image, also under the names that it had before."""

from __future__ import annotations

import os

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.herd.log.concerned import file_at
from cowherd.herd.log.file import read
from cowherd.paths import lies_in, path_names
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from cowherd.herd.log.entry import Entry
    from cowherd.herd.log.file import LogUnread
    from cowherd.paths import PathName, PathNames

WHOLE = ("seal", "verify")
"""The commands that have read the whole content of each image in their entries, and found it as it is to be."""


class History(NamedTuple):
    """What was done, newest first, and the logs that are there and can't be read, with the reasons."""

    entries: tuple[Entry, ...]
    unread: tuple[LogUnread, ...] = ()

    def to_json(self, rows: Callable[[Iterator[dict[str, Any]]], Any] = list) -> dict[str, Any]:
        """Returns plain values, as `cowherd log --json` prints them; `rows` makes the list of the entries."""
        return {"entries": rows(entry.to_json() for entry in self.entries)}


def log(images: PathNames = (), *, number: int | None = None) -> History:
    """Returns what both programs did to images, also under the names that they had before, or to all of this host; of a
    directory, what they did to all that lies or lay under it.

    Only the last `number` commands, if one is given. What was done by programs that import cowherd is not in it. Raises
    `InvalidRequest` for a number below 1, and `HostFileError` if there is neither such a file nor an entry about it.
    """
    if number is not None and number < 1:
        raise InvalidRequest("the number of commands is from 1 on")
    entries, unread = read()
    places = path_names(images)
    wanted = {id(entry) for place in places for entry in history_of(entries, place)}  # two of one second may be equal
    found = [entry for entry in entries if id(entry) in wanted] if places else entries
    return History(tuple(found[::-1][:number]), tuple(unread))


def history_of(entries: Sequence[Entry], place: PathName) -> list[Entry]:
    """Returns the entries about an image, or about what lies or lay under a directory, in the order of `entries` (oldest first).

    An image is found by its path, and by its file as far back as the log saw that being made: before, the number of the file was
    that of another one. Raises `HostFileError` if there is neither such a file nor an entry about it.
    """
    path = os.path.realpath(place)
    if os.path.isdir(path):
        return [entry for entry in entries if any(lies_in(image.path, path) for image in entry.images)]
    file = file_at(path) or _last_file(entries, path)
    found: list[Entry] = []
    is_known = True  # going back in time: whether the file was there already
    for entry in reversed(entries):
        by_name = any(image.path == path for image in entry.images)
        by_file = [image for image in entry.images if is_known and image.file == file]
        found += [entry] if by_name or by_file else []
        is_known = is_known and not any(image.is_new for image in by_file)
    if not found:
        _require_file(path, place)
    return found[::-1]


def _last_file(entries: Sequence[Entry], path: str) -> tuple[int, int] | None:
    return next((image.file for entry in reversed(entries) for image in entry.images if image.path == path), None)


def _require_file(path: str, place: PathName) -> None:
    try:
        os.stat(path)
    except OSError as error:
        raise HostFileError(place, "find in the log", error) from error


class Readings:
    """When the log says that the content of images was last read as a whole and found right."""

    def __init__(self, entries: Sequence[Entry]):
        self._times = {image.file: entry.time for entry in entries if _is_reading(entry) for image in entry.images}

    def last(self, path: str) -> str | None:
        """Returns the time (ISO 8601, UTC), None if the log does not say."""
        file = file_at(path)
        return self._times.get(file) if file else None


def _is_reading(entry: Entry) -> bool:
    return entry.command == "verify" or (entry.command == "seal" and entry.exit_code == 0)


def last_reading(path: str) -> str | None:
    """Returns what `readings` says of one image, in less time where the log is long."""
    file = file_at(path)
    return Readings(read(WHOLE, inode=file[1])[0]).last(path) if file else None


def readings() -> Readings:
    """Returns what the log says of this host's images; what can't be read says nothing."""
    return Readings(read(WHOLE)[0])
