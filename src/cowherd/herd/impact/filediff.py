"""Finds the files in which two states of one file system differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cowherd import extents
from cowherd.guest.chart import DIRECTORY, FileEntry, FileSystem
from cowherd.herd.impact.former_content import ReadInto, steps
from cowherd.herd.records.block import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.extents import Ranges
    from cowherd.progress import Progress

_REREADS = 4  # times the disk's size that a comparison may read: files can share blocks, so their sizes have no bound


@dataclass
class Difference:
    """Paths of one file system, sorted; those of directories end with a slash.

    `unknown` maps a path to the reason why it was not compared.
    """

    changed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.changed or self.lost or self.new or self.unknown)


@dataclass(frozen=True)
class State:
    """One state of a file system, and a reader of the disk in that state."""

    system: FileSystem
    readinto: ReadInto


def difference(old: State, new: State, exposed: Ranges, size: int, progress: Progress | None = None) -> Difference:
    """Compares two states that differ at most in the bytes `exposed`, of a disk of `size` bytes.

    `progress(done, total)` counts files.
    """
    found = Difference()
    left = size * _REREADS
    touched = touched_files(new.system, exposed)
    for number, (path, before) in enumerate(old.system.files.items(), 1):
        if progress:
            progress(number, len(old.system.files))
        after = new.system.files.get(path)
        if before.problem is not None:
            continue
        if after is None or after.problem is not None:
            found.lost.append(_path_of(path, before))
        elif (before.kind == DIRECTORY) != (after.kind == DIRECTORY):
            found.lost.append(_path_of(path, before))
            found.new.append(_path_of(path, after))
        elif (cost := _cost(before, after, path in touched)) > left:
            found.unknown[path] = "comparing it would take longer than reading the whole disk several times"
        else:
            left -= cost
            if _differ(old, before, new, after, exposed if path in touched else None):
                found.changed.append(_path_of(path, after))
    readable = {path for path, entry in old.system.files.items() if entry.problem is None}
    found.new += [
        _path_of(path, entry) for path, entry in new.system.files.items() if path not in readable and entry.problem is None
    ]
    return _sorted(found)


def _sorted(found: Difference) -> Difference:
    for paths in (found.changed, found.lost, found.new):
        paths.sort()
    return found


def suspicion(system: FileSystem, exposed: Ranges, reason: str, *, same_structure: bool) -> Difference:
    """Returns what is known without an old state. `exposed` are parts of blocks of 64 KiB; in each block some byte changed.

    A file that holds a whole such block has changed, if it lay there before (`same_structure`); other files with exposed bytes
    are unknown, for `reason`. A file that can't be read any more is lost.
    """
    found = Difference()
    for path in sorted(touched_files(system, exposed)):
        entry = system.files[path]
        hit = extents.intersect(entry.ranges, exposed)
        if entry.problem is not None:
            found.lost.append(_path_of(path, entry))
        elif same_structure and (-(-hit[:, 0] // BLOCK) < hit[:, 1] // BLOCK).any():
            found.changed.append(_path_of(path, entry))
        else:
            found.unknown[path] = reason
    return _sorted(found)


def touched_files(system: FileSystem, ranges: Ranges) -> set[str]:
    """Returns the paths of files that hold bytes of `ranges`."""
    entries = [(path, entry) for path, entry in system.files.items() if entry.kind != DIRECTORY and len(entry.runs)]
    if not entries or not len(ranges):
        return set()
    runs = np.concatenate([entry.runs for _, entry in entries])
    first = np.searchsorted(ranges[:, 1], runs[:, 1], side="right")
    last = np.searchsorted(ranges[:, 0], runs[:, 1] + runs[:, 2], side="left")
    owner = np.repeat(np.arange(len(entries)), [len(entry.runs) for _, entry in entries])
    return {entries[index][0] for index in np.unique(owner[first < last]).tolist()}


def _path_of(path: str, entry: FileEntry) -> str:
    return f"{path}/" if entry.kind == DIRECTORY else path


def _same_place(before: FileEntry, after: FileEntry) -> bool:
    return np.array_equal(before.runs, after.runs)


def _cost(before: FileEntry, after: FileEntry, touched: bool) -> int:
    """Returns the number of bytes to read in order to compare two states of a file."""
    if before.kind == DIRECTORY or before.size != after.size or (_same_place(before, after) and not touched):
        return 0
    return int(before.runs[:, 2].sum() + after.runs[:, 2].sum())


def _differ(old: State, before: FileEntry, new: State, after: FileEntry, exposed: Ranges | None) -> bool:
    if before.kind != after.kind:
        return True
    if before.kind == DIRECTORY:
        return False
    if (before.size, before.digest) != (after.size, after.digest):
        return True
    if before.digest is not None:
        return False
    if _same_place(before, after):
        hit = extents.intersect(before.ranges, exposed) if exposed is not None else np.empty((0, 2), np.int64)
        return any(_read(old.readinto, *step) != _read(new.readinto, *step) for step in steps(hit))
    return any(one != other for one, other in zip(_pieces(old, before, after), _pieces(new, after, before), strict=True))


def _pieces(state: State, entry: FileEntry, other: FileEntry) -> Iterator[bytes]:
    """Yields the content of a file, in pieces, wherever it or the other one has blocks; holes of both are skipped."""
    runs = np.concatenate((entry.runs, other.runs))
    for start, length in steps(extents.normalised(np.column_stack((runs[:, 0], runs[:, 0] + runs[:, 2])))):
        buffer = bytearray(length)
        for offset, host, size in entry.runs.tolist():
            low, high = max(start, offset), min(start + length, offset + size)
            if low < high:
                state.readinto(host + low - offset, memoryview(buffer)[low - start : high - start])
        yield bytes(buffer)


def _read(readinto: ReadInto, start: int, length: int) -> bytes:
    buffer = bytearray(length)
    readinto(start, memoryview(buffer))
    return bytes(buffer)
