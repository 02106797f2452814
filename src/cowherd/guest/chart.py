"""What a disk's file systems hold, and which file or structure owns each run of guest bytes.

All ranges are guest bytes of the whole disk, whatever partition or volume a file system lies in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.extents import Ranges

Runs = NDArray[np.int64]
"""An array of shape (n, 3): offset in the file, guest byte of the disk, length. Between the runs a file reads as zeros."""

FILE, DIRECTORY, SYMLINK, OTHER = "file", "directory", "symlink", "other"

NO_RANGES: Ranges = np.empty((0, 2), np.int64)
NO_RUNS: Runs = np.empty((0, 3), np.int64)


@dataclass(frozen=True, eq=False)
class FileEntry:
    """One path. Content that is not plain bytes at `runs` (kept inside of an inode, compressed) is told by `digest`.

    `problem` says why a file that a directory names can't be read, None for all others. `runs` end with the file's `size`.
    """

    kind: str
    size: int
    runs: Runs
    digest: str | None = None
    problem: str | None = None

    @property
    def ranges(self) -> Ranges:
        """The guest bytes that hold the content."""
        return extents.normalised(np.column_stack((self.runs[:, 1], self.runs[:, 1] + self.runs[:, 2])))


@dataclass(frozen=True, eq=False)
class FileSystem:
    """One file system as it was found.

    `place` says where it lies ("partition 1", "logical volume vg/root", "the whole disk"), `span` all its bytes, `free` what it
    does not use, `idle` what belongs to something but is not looked at (the log of a clean file system, space reserved for a
    file, the rest of a file's last block), `areas` its structures by name. `contradictions` are what its structures say against
    each other; where `checked` is True, none means that they agree. `notes` are what could not be looked at. A `rival` is one
    that its bytes can also be read as, while another reading is believed.
    """

    place: str
    kind: str
    span: Ranges
    files: dict[str, FileEntry]
    free: Ranges
    idle: Ranges = field(default_factory=lambda: NO_RANGES)
    areas: tuple[tuple[str, Ranges], ...] = ()
    contradictions: tuple[str, ...] = ()
    checked: bool = False
    notes: tuple[str, ...] = ()
    summed: bool = False
    rival: bool = False

    @property
    def content(self) -> Ranges:
        """The bytes that hold files' content."""
        pairs = [entry.runs[:, 1:] for entry in self.files.values() if entry.kind != DIRECTORY]
        joined = np.concatenate([NO_RANGES, *pairs])
        return extents.normalised(np.column_stack((joined[:, 0], joined[:, 0] + joined[:, 1])))

    @property
    def metadata(self) -> Ranges:
        """The bytes of its structures: all that is neither content nor free nor idle."""
        named = union_of(ranges for _, ranges in self.areas)
        unused = extents.subtract(extents.union(self.free, self.idle), named)
        return extents.subtract(extents.subtract(self.span, self.content), unused)

    def owners(self, ranges: Ranges) -> dict[str, int]:
        """Returns how many bytes of `ranges` lie in each kind of structure, those without a name of their own as "other"."""
        hit = extents.intersect(ranges, self.metadata)
        found = {name: extents.total(extents.intersect(hit, area)) for name, area in self.areas}
        left = extents.total(extents.subtract(hit, union_of(area for _, area in self.areas)))
        return {name: size for name, size in (found | {"other": left}).items() if size}


@dataclass(frozen=True, eq=False)
class Uncharted:
    """Space of a disk that no file system here tells of, and why. What is `idle` belongs to nobody: gaps, swap space."""

    place: str
    span: Ranges
    reason: str
    idle: bool = False


@dataclass(frozen=True, eq=False)
class Marks:
    """The bytes of a volume that tell as what it is read: `marks` of all its bytes `span`."""

    place: str
    span: Ranges
    marks: Ranges


@dataclass(frozen=True, eq=False)
class Chart:
    """What lies where on a disk: its file systems, its partition tables and the like, and what is not known.

    Where bytes can be read in more than one way, every reading is here, so that they may belong to more than one. `notes` are
    (place, text): what was left behind, and which of several readings is believed. `marks` tell where a reading begins.
    """

    systems: tuple[FileSystem, ...]
    tables: Ranges
    uncharted: tuple[Uncharted, ...]
    notes: tuple[tuple[str, str], ...] = ()
    marks: tuple[Marks, ...] = ()

    def outline(self, span: Ranges) -> set[tuple[str, str]]:
        """Returns what is read in the bytes `span` and where, without what is in it."""
        systems = {(one.place, one.kind) for one in self.systems if len(extents.intersect(one.span, span))}
        return systems | {(one.place, one.reason) for one in self.uncharted if len(extents.intersect(one.span, span))}


def union_of(parts: Iterable[Ranges]) -> Ranges:
    """Returns the bytes that are in any of several range arrays."""
    return extents.normalised(np.concatenate([NO_RANGES, *parts]))
