"""Partition tables: MBR with its logical partitions, and GPT, read as the kernel reads them.

Sources: UEFI specification 2.10, chapter 5; the kernel's block/partitions/msdos.c, efi.c and core.c. Partitions may overlap.
An MBR's partition that ends past the end of the disk is shortened to it. A GPT counts only together with a protective MBR.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.chart import NO_RANGES
from cowherd.guest.source import Cached, Malformed, Volume

_SIGNATURE, _GPT_MAGIC = b"\x55\xaa", b"EFI PART"
_EXTENDED = (0x05, 0x0F, 0x85)  # of DOS, of Windows (LBA), of Linux: is_extended_partition in msdos.c
_PROTECTIVE = 0xEE
_SECTORS = (512, 4096)  # an image does not say of which sector size the disk was that it came from, so both are tried
# Limits against hostile numbers. The kernel numbers at most 256 partitions (DISK_MAX_PARTS); GPTs usually have 128 entries.
_MOST_LOGICAL, _MOST_ENTRIES, _ENTRY_BYTES = 256, 1024, (128, 4096)

MBR, GPT = "MBR", "GPT"

Source = Cached | Volume


@dataclass(frozen=True)
class Partition:
    """One partition: its number as Linux counts it, its first guest byte and its length."""

    number: int
    start: int
    length: int


@dataclass(frozen=True)
class Problem:
    """A part of a table that can't be followed: its name, its first guest byte and length on the disk (0: none), and why."""

    place: str
    start: int
    length: int
    reason: str


@dataclass(frozen=True, eq=False)
class PartitionTable:
    """The partitions of a disk by number, the bytes of the table itself, and its parts that can't be followed."""

    kind: str
    partitions: tuple[Partition, ...]
    own: Ranges
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables that a disk can be read by; the first is believed. `damage` says why none is left although there was one.

    `notes` say what else a user should know about them.
    """

    found: tuple[PartitionTable, ...] = ()
    damage: str = ""
    notes: tuple[str, ...] = ()


def read_tables(disk: Source) -> Tables:
    """Returns the partition tables by which a disk, or a volume that holds one, can be read."""
    if disk.size < 1024:
        return Tables()
    entries = _entries(disk.read(0, 512))
    if any(kind == _PROTECTIVE for _, kind, _, _ in entries):
        return _protected(disk)
    found = tuple(table for sector in _SECTORS if (table := _mbr(disk, sector)))
    left = _headers(disk)
    return Tables(found, "", ("a GPT was left behind: without a protective MBR nothing reads it",) if left else ())


def marks(size: int) -> Ranges:
    """Returns the bytes of a disk that decide which tables it has."""
    # Of the boot record only the entries and the signature: the boot code before them may change freely.
    places = [(446, 512), *((at, at + len(_GPT_MAGIC)) for _, at in _places_of_headers(size))]
    return extents.ranges(pair for pair in places if pair[1] <= size)


def _entries(sector: bytes) -> list[tuple[int, int, int, int]]:
    """Returns (number, type, first sector, sectors) of the used entries of a boot record, nothing if it is no boot record.

    The boot sector of a file system ends with the same two bytes, but what lies in place of the flags is neither 0 nor 0x80.
    """
    flags = [sector[at] for at in range(446, 510, 16)]
    if sector[510:512] != _SIGNATURE or any(flag not in (0, 0x80) for flag in flags):
        return []
    found = [
        (number, sector[at + 4], *struct.unpack_from("<II", sector, at + 8)) for number, at in enumerate(range(446, 510, 16), 1)
    ]
    return [entry for entry in found if entry[3]]


def _mbr(disk: Source, sector: int) -> PartitionTable | None:
    """Reads an MBR whose numbers count sectors of `sector` bytes; returns None if no part that it names begins on the disk."""
    table = _Mbr(disk, sector)
    for number, kind, start, count in _entries(disk.read(0, 512)):
        if kind == _PROTECTIVE:
            continue
        if kind in _EXTENDED:
            table.follow(start * sector, count * sector)
        else:
            table.add(number, start * sector, count * sector)
    if not table.found and not any(problem.length for problem in table.problems):
        return None
    ordered = tuple(sorted(table.found, key=lambda partition: partition.number))
    return PartitionTable(MBR, ordered, extents.ranges(table.own), tuple(table.problems))


class _Mbr:
    """An MBR while it is read."""

    def __init__(self, disk: Source, sector: int):
        self._disk, self._sector, self._next = disk, sector, 5
        self.found: list[Partition] = []
        self.own = [(0, 512)]
        self.problems: list[Problem] = []

    def add(self, number: int, start: int, length: int) -> None:
        """Adds the part of a partition that lies on the disk."""
        if start >= self._disk.size:
            self.problems.append(Problem(f"partition {number}", self._disk.size, 0, "it lies past the end of the disk"))
        else:
            self.found.append(Partition(number, start, min(length, self._disk.size - start)))

    def follow(self, start: int, length: int) -> None:
        """Follows the chain of boot records in an extended partition to its end, or to the first one that is damaged."""
        at, end, seen = start, min(start + length, self._disk.size), set[int]()
        while at not in seen and len(seen) < _MOST_LOGICAL:
            seen.add(at)
            if at + 512 > end:
                return self._fail(start, end, "its chain of logical partitions leads out of it")
            record = self._disk.read(at, 512)
            if record[510:] != _SIGNATURE:
                # An extended partition that nobody has divided yet begins with zeros: empty, not damaged.
                if at > start or any(record):
                    self._fail(start, end, "its chain of logical partitions is damaged")
                return None
            self.own.append((at, at + 512))
            following = None
            for number, kind, relative, count in _entries(record):
                # A link is relative to the whole extended partition, a logical partition to its own boot record. Entries 3 and 4
                # should be empty; the kernel takes them only if they begin inside (some tools put rubbish there).
                if kind in _EXTENDED:
                    following = following or start + relative * self._sector
                elif number <= 2 or start <= at + relative * self._sector < start + length:
                    self.add(self._next, at + relative * self._sector, count * self._sector)
                    self._next += 1
            if following is None:
                return None
            at = following
        return self._fail(start, end, "its chain of logical partitions goes in circles, or is too long")

    def _fail(self, start: int, end: int, reason: str) -> None:
        self.problems.append(Problem("extended partition", start, max(end - start, 0), reason))


def _places_of_headers(size: int) -> list[tuple[int, int]]:
    """Returns (bytes of a sector, byte of the header): the places of a first header, then those of its copy at the end."""
    sizes = [sector for sector in _SECTORS if sector * 3 <= size]
    return [*((sector, sector) for sector in sizes), *((sector, (size // sector - 1) * sector) for sector in sizes)]


def _headers(disk: Source) -> list[tuple[int, int]]:
    return [(sector, at) for sector, at in _places_of_headers(disk.size) if _has_header(disk, sector, at)]


def _has_header(disk: Source, sector: int, at: int) -> bool:
    return at + sector <= disk.size and disk.read(at, len(_GPT_MAGIC)) == _GPT_MAGIC


def _protected(disk: Source) -> Tables:
    """Returns the tables of a disk with a protective MBR; a hybrid MBR also has entries for partitions of its own."""
    sound: list[PartitionTable] = []
    notes: list[str] = []
    damage = "its GPT is damaged: the protective MBR is there, the header is not"
    for sector, at in _headers(disk):
        try:
            table = _gpt(disk, sector, at)
        except Malformed as error:
            damage = str(error)
            continue
        if at != sector and not sound:
            notes.append("its first GPT is damaged: the one at the end of the disk is believed")
        if not sound or at == sector:
            sound.append(table)
        elif table.partitions != sound[0].partitions:
            notes.append("the GPT at the end of the disk tells of other partitions than the first, which is believed")
    hybrid = _mbr(disk, 512)
    if not sound:
        return Tables((hybrid,) if hybrid else (), damage)
    return Tables((*sound, *([hybrid] if hybrid else [])), "", tuple(notes))


def _gpt(disk: Source, sector: int, at: int) -> PartitionTable:
    header = disk.read(at, sector)
    # Table 5-5 of the specification. The checksum is computed with its own field, bytes 16 to 20, as zeros.
    length, stored = struct.unpack_from("<II", header, 12)
    if not 92 <= length <= sector or zlib.crc32(header[:16] + bytes(4) + header[20:length]) != stored:
        raise Malformed("the checksum of its GPT header is wrong")
    own_place, other, first_usable, last_usable = struct.unpack_from("<QQQQ", header, 24)
    entries_at, count, entry_bytes, entries_sum = struct.unpack_from("<QIII", header, 72)
    if own_place * sector != at:
        raise Malformed("its GPT header belongs to another place")
    if max(first_usable, last_usable) * sector >= disk.size:
        raise Malformed("its GPT is that of a larger disk")
    if count > _MOST_ENTRIES or entry_bytes not in range(_ENTRY_BYTES[0], _ENTRY_BYTES[1] + 1, 128):
        raise Malformed("its GPT header has numbers that make no sense")
    data = disk.read(entries_at * sector, count * entry_bytes)
    if zlib.crc32(data) != entries_sum:
        raise Malformed("the checksum of its GPT entries is wrong")
    found, problems = _partitions(data, entry_bytes, sector, disk.size)
    last = max(own_place, other)
    own = [(0, first_usable * sector), ((last_usable + 1) * sector, min((last + 1) * sector, disk.size))]
    return PartitionTable(GPT, tuple(found), extents.ranges(own), tuple(problems))


def _partitions(data: bytes, entry_bytes: int, sector: int, size: int) -> tuple[list[Partition], list[Problem]]:
    found, problems = [], []
    for number in range(1, len(data) // entry_bytes + 1):
        entry = data[(number - 1) * entry_bytes : number * entry_bytes]
        first, last = struct.unpack_from("<QQ", entry, 32)
        if not any(entry[:16]):
            continue
        if not first <= last < size // sector:
            start = min(first * sector, size)
            problems.append(Problem(f"partition {number}", start, size - start, "it does not lie inside the disk"))
        else:
            found.append(Partition(number, first * sector, (last + 1 - first) * sector))
    return found, problems


def outside(table: PartitionTable, size: int) -> Ranges:
    """Returns the bytes of a disk that neither the table nor a partition occupies."""
    taken = extents.ranges((partition.start, partition.start + partition.length) for partition in table.partitions)
    whole = extents.ranges([(0, size)]) if size else NO_RANGES
    return extents.subtract(whole, extents.union(taken, table.own))
