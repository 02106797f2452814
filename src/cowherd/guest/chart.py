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
    """One path. Content that is not plain bytes at `runs` (kept inside of an inode, compressed) has its SHA-256 in `digest`.

    `problem` says why a file that a directory names can't be read; it is None for all others. `runs` end at the file's `size`.
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

    `place` says where it lies ("partition 1", "logical volume vg/root", "the whole disk"). `span` is all its bytes, `free` what
    it does not use, `idle` what belongs to something but is never read (the log of a clean file system, space reserved for a
    file, the rest of a file's last block), `areas` its structures by name. `contradictions` lists where its structures disagree;
    if `checked` is True, an empty list means that they agree. `notes` lists what could not be read. `summed` says that the file
    system keeps checksums of its files' content. A `rival` is a second reading of bytes for which another reading is believed.
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
        # A directory's runs hold names, which are structure: a changed name changes what the guest finds, not a file's bytes.
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
        """Returns how many bytes of `ranges` lie in each named area; structures without a name count as "other"."""
        hit = extents.intersect(ranges, self.metadata)
        found = {name: extents.total(extents.intersect(hit, area)) for name, area in self.areas}
        left = extents.total(extents.subtract(hit, union_of(area for _, area in self.areas)))
        return {name: size for name, size in (found | {"other": left}).items() if size}


@dataclass(frozen=True, eq=False)
class Uncharted:
    """Space of a disk that no file system here describes, and why. `idle` space belongs to nobody: gaps, swap space."""

    place: str
    span: Ranges
    reason: str
    idle: bool = False


@dataclass(frozen=True, eq=False)
class Marks:
    """The bytes `marks` of a volume that decide as what it is read; `span` is all bytes of the volume."""

    place: str
    span: Ranges
    marks: Ranges


@dataclass(frozen=True, eq=False)
class Chart:
    """What lies where on a disk: its file systems, its partition tables and the like, and what is not known.

    If bytes can be read in more than one way, the chart holds every reading, so that a byte may belong to several. `notes` are
    (place, text): what formatting left behind, and which of several readings is believed. `marks` are the bytes that decide how
    each volume is read.
    """

    systems: tuple[FileSystem, ...]
    tables: Ranges
    uncharted: tuple[Uncharted, ...]
    notes: tuple[tuple[str, str], ...] = ()
    marks: tuple[Marks, ...] = ()

    def outline(self, span: Ranges) -> set[tuple[str, str]]:
        """Returns the (place, kind or reason) of every reading that touches the bytes `span`, without its files."""
        systems = {(one.place, one.kind) for one in self.systems if len(extents.intersect(one.span, span))}
        return systems | {(one.place, one.reason) for one in self.uncharted if len(extents.intersect(one.span, span))}


def union_of(parts: Iterable[Ranges]) -> Ranges:
    """Returns the bytes that are in any of several range arrays."""
    return extents.normalised(np.concatenate([NO_RANGES, *parts]))
