"""Partition tables: MBR with its logical partitions, and GPT.

Sources: UEFI specification 2.10, chapter 5; for logical partitions the layout that fdisk and the kernel share
(block/partitions/msdos.c). A table is only believed if its numbers lie inside the disk.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from dataclasses import dataclass

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.blocks import NO_RANGES
from cowherd.guest.source import Cached, Malformed

_SIGNATURE, _GPT_MAGIC = b"\x55\xaa", b"EFI PART"
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
_MOST_LOGICAL, _MOST_ENTRIES, _ENTRY_BYTES = 256, 1024, (128, 4096)


@dataclass(frozen=True)
class Partition:
    """One partition: its number as Linux counts it, and its first guest byte and length."""

    number: int
    start: int
    length: int


@dataclass(frozen=True, eq=False)
class PartitionTable:
    """The partitions of a disk by number, and the bytes of the table itself."""

    kind: str
    partitions: tuple[Partition, ...]
    own: Ranges


def read_partitions(disk: Cached) -> PartitionTable | None:
    """Returns the partition table of a disk, None if it has none that holds together. Raises `Malformed` for a damaged GPT."""
    if disk.size < 1024:
        return None
    first = disk.read(0, 512)
    if first[510:] != _SIGNATURE:
        return None
    entries = _entries(first)
    if any(kind == _PROTECTIVE for kind, _, _ in entries):
        for sector in (512, 4096):
            if sector * 3 <= disk.size and disk.read(sector, 8) == _GPT_MAGIC:
                return _gpt(disk, sector)
        raise Malformed("its GPT is damaged: the protective MBR is there, the header is not")
    return _mbr(disk, first, entries)


def _entries(sector: bytes) -> list[tuple[int, int, int]]:
    """Returns (type, first sector, sectors) of the four entries of a boot record; unused ones have type 0."""
    return [(sector[at + 4], *struct.unpack_from("<II", sector, at + 8)) for at in range(446, 510, 16)]


def _mbr(disk: Cached, first: bytes, entries: list[tuple[int, int, int]]) -> PartitionTable | None:
    flags = [first[at] for at in range(446, 510, 16)]
    if any(flag not in (0, 0x80) for flag in flags):
        return None  # the boot sector of a file system ends with the same two bytes
    found, own = [], [(0, 512)]
    for number, (kind, start, count) in enumerate(entries, 1):
        if not kind or not count:
            continue
        if start == 0 or (start + count) * 512 > disk.size:
            return None
        if kind in _EXTENDED:
            logical, records = _logical(disk, start, count)
            found += logical
            own += records
        else:
            found.append(Partition(number, start * 512, count * 512))
    if not found or _overlap(found):
        return None
    return PartitionTable("MBR", tuple(sorted(found, key=lambda partition: partition.number)), extents.ranges(own))


def _logical(disk: Cached, start: int, count: int) -> tuple[list[Partition], list[tuple[int, int]]]:
    """Follows the chain of boot records in an extended partition."""
    found: list[Partition] = []
    own: list[tuple[int, int]] = []
    at = start
    while len(own) < _MOST_LOGICAL:
        sector = disk.read(at * 512, 512)
        own.append((at * 512, at * 512 + 512))
        if sector[510:] != _SIGNATURE:
            raise Malformed("its chain of logical partitions is damaged")
        following = None
        for kind, relative, length in _entries(sector)[:2]:
            if kind in _EXTENDED:
                following = start + relative
            elif kind and length:
                if (at + relative + length) * 512 > disk.size:
                    raise Malformed("a logical partition ends past the end of the disk")
                found.append(Partition(5 + len(found), (at + relative) * 512, length * 512))
        if following is None:
            return found, own
        if not at < following < start + count:
            raise Malformed("its chain of logical partitions goes in circles")
        at = following
    raise Malformed("it has too many logical partitions")


def _gpt(disk: Cached, sector: int) -> PartitionTable:
    header = disk.read(sector, sector)
    length, stored = struct.unpack_from("<I", header, 12)[0], struct.unpack_from("<I", header, 16)[0]
    if not 92 <= length <= sector or zlib.crc32(header[:16] + bytes(4) + header[20:length]) != stored:
        raise Malformed("the checksum of its GPT header is wrong")
    backup, first_usable, last_usable = struct.unpack_from("<QQQ", header, 32)
    entries_at, count, entry_bytes, entries_sum = struct.unpack_from("<QIII", header, 72)
    if count > _MOST_ENTRIES or entry_bytes not in range(_ENTRY_BYTES[0], _ENTRY_BYTES[1] + 1, 128):
        raise Malformed("its GPT header has numbers that make no sense")
    data = disk.read(entries_at * sector, count * entry_bytes)
    if zlib.crc32(data) != entries_sum:
        raise Malformed("the checksum of its GPT entries is wrong")
    found = []
    for number in range(1, count + 1):
        entry = data[(number - 1) * entry_bytes : number * entry_bytes]
        first, last = struct.unpack_from("<QQ", entry, 32)
        if not any(entry[:16]):
            continue
        if not first_usable <= first <= last <= last_usable or (last + 1) * sector > disk.size:
            raise Malformed(f"partition {number} does not lie inside the disk")
        found.append(Partition(number, first * sector, (last + 1 - first) * sector))
    if _overlap(found):
        raise Malformed("its partitions overlap")
    backup_start = (last_usable + 1) * sector
    own = [(0, first_usable * sector), (backup_start, min((backup + 1) * sector, disk.size))]
    return PartitionTable("GPT", tuple(found), extents.ranges(own))


def _overlap(partitions: list[Partition]) -> bool:
    ordered = sorted(partitions, key=lambda partition: partition.start)
    return any(one.start + one.length > other.start for one, other in itertools.pairwise(ordered))


def outside(table: PartitionTable, size: int) -> Ranges:
    """Returns the bytes of a disk that neither the table nor a partition occupies."""
    taken = extents.ranges((partition.start, partition.start + partition.length) for partition in table.partitions)
    whole = extents.ranges([(0, size)]) if size else NO_RANGES
    return extents.subtract(whole, extents.union(taken, table.own))
