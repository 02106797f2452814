"""FAT12, FAT16 and FAT32: the files as The Sleuth Kit lists them, compared with the file allocation table.

Source: Microsoft, FAT32 File System Specification, 1.03 (names such as BPB_FATSz16 are its own).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.chart import FILE, NO_RUNS, FileEntry, FileSystem
from cowherd.guest.owners import overlaps, tails
from cowherd.guest.sleuthkit import Sleuth
from cowherd.guest.source import Malformed, Volume

_MOST_NAMED = 20
_BAD = {12: 0xFF7, 16: 0xFFF7, 32: 0x0FFFFFF7}


@dataclass(frozen=True)
class _Geometry:
    """Where things lie and how large they are, in bytes. `tables` and `clusters` are counts; an entry of a table has `bits`."""

    bits: int
    cluster: int
    reserved: int
    table: int
    tables: int
    root: int
    data: int
    clusters: int

    @property
    def end(self) -> int:
        return self.data + self.clusters * self.cluster


def read_fat(volume: Volume) -> FileSystem:
    """Reads the file system in a volume. Raises `Malformed` if its boot sector makes no sense."""
    geometry = _geometry(volume)
    entries = _table(volume, geometry)
    free, sleuth = _clusters(geometry, entries == 0), Sleuth(volume)
    problems: list[str] = []
    files: dict[str, FileEntry] = {}
    owned: list[tuple[int, int]] = []
    directories: list[tuple[int, int]] = []
    for listed in sleuth.listed(problems):
        attribute = next(iter(listed.attributes), None)
        runs = [(start, start + length) for _, start, length in attribute.runs] if attribute and listed.in_use else []
        owned += [(low, high) for low, high in runs if low >= geometry.data]
        directories += runs if listed.is_directory else []
        if listed.path:
            files[listed.path] = sleuth.entry(listed, attribute)
        if not attribute or listed.is_directory:
            continue
        if len(extents.intersect(extents.ranges(runs), free)):
            problem = "its chain of clusters leads to a free one"
            files[listed.path] = FileEntry(FILE, attribute.size, NO_RUNS, problem=problem)
        elif sum(high - low for low, high in runs) < attribute.size:
            problems.append(f"{listed.path}: its chain of clusters ends before the file does")
    claimed = np.array(owned, np.int64).reshape(-1, 2)
    return FileSystem(
        volume.place,
        f"FAT{geometry.bits}",
        volume.span,
        files,
        free=volume.on_disk(extents.union(free, extents.ranges([(geometry.end, max(volume.size, geometry.end))]))),
        idle=tails(files.values(), volume, geometry.data, geometry.cluster),
        areas=tuple((name, volume.on_disk(area)) for name, area in _areas(geometry, directories)),
        contradictions=(*problems[:_MOST_NAMED], *_contradictions(volume, geometry, entries, claimed, free)),
        checked=True,
    )


def _geometry(volume: Volume) -> _Geometry:
    boot = volume.read(0, 512)
    # BPB_BytsPerSec to BPB_TotSec16, then BPB_FATSz16, BPB_TotSec32 and (FAT32 only) BPB_FATSz32. A 16-bit number that is 0
    # means that the 32-bit one counts.
    sector, per_cluster, reserved, tables, root_entries, small = struct.unpack_from("<HBHBHH", boot, 11)
    table_small, large, table_large = struct.unpack_from("<H8xII", boot, 22)
    total, table = small or large, table_small or table_large
    if sector not in (512, 1024, 2048, 4096) or per_cluster not in (1, 2, 4, 8, 16, 32, 64, 128) or not (reserved and tables):
        raise Malformed("its boot sector makes no sense")
    root = (reserved + tables * table) * sector
    data = root + -(-root_entries * 32 // sector) * sector
    clusters = (total * sector - data) // (per_cluster * sector)
    if not table or clusters < 1 or data + clusters * per_cluster * sector > volume.size:
        raise Malformed("its boot sector contradicts the size of the volume")
    # As the kernel decides it (fs/fat/inode.c): an empty BPB_FATSz16 makes it FAT32, otherwise the number of clusters decides.
    bits = 32 if not table_small else 12 if clusters < 4085 else 16
    # Two more entries than clusters: the first two of the table hold the media byte and the flags of a clean shutdown.
    if table * sector * 8 < (clusters + 2) * bits:
        raise Malformed("its table is too small for its clusters")
    return _Geometry(bits, per_cluster * sector, reserved * sector, table * sector, tables, root, data, clusters)


def _table(volume: Volume, geometry: _Geometry) -> NDArray[np.int64]:
    """Returns the entry of each cluster of data."""
    data = volume.read(geometry.reserved, geometry.table)
    if geometry.bits == 12:
        # Three bytes hold two entries; the middle byte gives its low half to the even one and its high half to the odd one.
        triples = np.frombuffer(data[: len(data) // 3 * 3], np.uint8).astype(np.int64).reshape(-1, 3)
        even, odd = triples[:, 0] | (triples[:, 1] & 15) << 8, triples[:, 1] >> 4 | triples[:, 2] << 4
        entries = np.column_stack((even, odd)).reshape(-1)
    else:
        # FAT32 uses 28 bits of an entry; the upper four are reserved and may hold anything.
        entries = np.frombuffer(data, f"<u{geometry.bits // 8}").astype(np.int64) & (
            0x0FFFFFFF if geometry.bits == 32 else 0xFFFF
        )
    found: NDArray[np.int64] = entries[2 : 2 + geometry.clusters]
    return found


def _clusters(geometry: _Geometry, chosen: NDArray[np.bool_]) -> Ranges:
    numbers = np.flatnonzero(chosen)
    starts = geometry.data + numbers.astype(np.int64) * geometry.cluster
    return extents.normalised(np.column_stack((starts, starts + geometry.cluster)))


def _areas(geometry: _Geometry, directories: list[tuple[int, int]]) -> list[tuple[str, Ranges]]:
    tables = geometry.reserved + geometry.tables * geometry.table
    named = [
        ("boot sector", [(0, geometry.reserved)]),
        ("file allocation table", [(geometry.reserved, tables)]),
        ("directory", [*directories, (tables, geometry.data)]),
    ]
    return [(name, extents.ranges(pairs)) for name, pairs in named]


def _miscounted(volume: Volume, geometry: _Geometry, entries: NDArray[np.int64]) -> Iterator[str]:
    """Compares the count of free clusters that a FAT32 file system keeps with its table."""
    if geometry.bits == 32:
        # BPB_FSInfo is the sector of that count, FSI_Free_Count lies at its byte 488, and all ones stand for "not known".
        at = int.from_bytes(volume.read(48, 2), "little") * int.from_bytes(volume.read(11, 2), "little")
        said, counted = int.from_bytes(volume.read(at + 488, 4), "little"), int((entries == 0).sum())
        if said not in (0xFFFFFFFF, counted):
            yield f"it counts {said} free clusters, its table {counted}"


def _contradictions(volume: Volume, geometry: _Geometry, entries: NDArray[np.int64], owned: Ranges, free: Ranges) -> list[str]:
    found = list(_miscounted(volume, geometry, entries))
    first = volume.read(geometry.reserved, geometry.table)
    for copy in range(1, geometry.tables):
        if volume.read(geometry.reserved + copy * geometry.table, geometry.table) != first:
            found.append(f"copy {copy + 1} of the file allocation table differs from the first")
    claimed = extents.normalised(owned)
    for start, end in overlaps(owned)[:_MOST_NAMED].tolist():
        found.append(f"bytes {start} to {end} belong to two files")
    for start, end in extents.intersect(claimed, free)[:_MOST_NAMED].tolist():
        found.append(f"bytes {start} to {end} are in use but marked as free")
    taken = _clusters(geometry, (entries != 0) & (entries != _BAD[geometry.bits]))
    for start, end in extents.subtract(taken, claimed)[:_MOST_NAMED].tolist():
        found.append(f"bytes {start} to {end} are marked as in use but belong to nothing")
    return found
