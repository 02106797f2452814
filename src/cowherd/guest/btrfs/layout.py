"""btrfs: the superblock, and where logical addresses lie on the one device.

Source: the kernel's include/uapi/linux/btrfs_tree.h and fs/btrfs/volumes.c, and btrfs-progs' documentation of the format
(btrfs-dev-docs, on-disk format). All numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.distribution import how_to_install
from cowherd.extents import Ranges
from cowherd.guest.chart import NO_RANGES, union_of
from cowherd.guest.crc import START, crc32c_rows
from cowherd.guest.source import Malformed, Volume

SUPERBLOCK, SUPERBLOCK_BYTES, MAGIC = 65536, 4096, b"_BHRfS_M"
MIRRORS = (SUPERBLOCK, 64 << 20, 256 << 30)
DATA, SYSTEM, METADATA, DUP = 0x1, 0x2, 0x4, 0x20
_PROFILES = {
    0x8: "RAID0",
    0x10: "RAID1",
    0x40: "RAID10",
    0x80: "RAID5",
    0x100: "RAID6",
    0x200: "RAID1C3",
    0x400: "RAID1C4",
}
_METADATA_UUID = 0x400
_READABLE = 0x7FF  # all incompat bits up to metadata-uuid: what they change is handled here, or not read
_UNREADABLE_NAMES = {0x800: "raid1c34", 0x1000: "zoned", 0x2000: "extent-tree-v2", 0x4000: "raid-stripe-tree"}
_READABLE |= 0x10000  # simple quotas
_CHUNK, _STRIPE, KEY = struct.Struct("<QQQQIIIHH"), struct.Struct("<QQ16s"), struct.Struct("<QBQ")
CHUNK_ITEM = 228
_MOST_CHUNKS = 1 << 20

_FIELDS = {  # name: (offset in the superblock, struct code)
    "bytenr": (0x30, "Q"),
    "generation": (0x48, "Q"),
    "root": (0x50, "Q"),
    "chunk_root": (0x58, "Q"),
    "log_root": (0x60, "Q"),
    "total_bytes": (0x70, "Q"),
    "bytes_used": (0x78, "Q"),
    "devices": (0x88, "Q"),
    "sector": (0x90, "I"),
    "node": (0x94, "I"),
    "system_chunks": (0xA0, "I"),
    "chunk_root_generation": (0xA4, "Q"),
    "compatible_read_only": (0xB4, "Q"),
    "incompat": (0xBC, "Q"),
    "checksum_type": (0xC4, "H"),
    "root_level": (0xC6, "B"),
    "chunk_root_level": (0xC7, "B"),
    "log_root_level": (0xC8, "B"),
    "device": (0xC9, "Q"),
    "device_bytes": (0xD1, "Q"),
}
_SYSTEM_CHUNKS_AT = 0x32B

Sums = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Returns the checksum of each row, as a row of bytes in the order that they have on the disk."""


def _crc32c(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found = crc32c_rows(rows, np.full(len(rows), START, np.uint32)) ^ np.uint32(START)
    return found.astype("<u4").view(np.uint8).reshape(-1, 4)


def _each(function: Callable[[bytes], bytes], size: int) -> Sums:
    def sums(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        joined = b"".join(function(row.tobytes()) for row in rows)
        return np.frombuffer(joined, np.uint8).reshape(-1, size)

    return sums


def _sums_of(kind: int) -> tuple[int, Sums]:
    """Returns the bytes of a checksum of this type, and the function that computes it. Raises `Malformed` for an unknown type."""
    if kind == 0:
        return 4, _crc32c
    if kind == 1:
        try:
            import xxhash
        except ModuleNotFoundError as error:
            raise Malformed(f"xxhash is not installed, which its checksums need: {how_to_install('guest')}") from error
        # A digest of xxhash is big-endian; the disk has the number little-endian.
        return 8, _each(lambda data: xxhash.xxh64_digest(data)[::-1], 8)
    if kind == 2:
        return 32, _each(lambda data: hashlib.sha256(data).digest(), 32)
    if kind == 3:
        return 32, _each(lambda data: hashlib.blake2b(data, digest_size=32).digest(), 32)
    raise Malformed(f"its checksums are of a type that is not known here ({kind})")


@dataclass(frozen=True)
class Chunk:
    """A stretch of logical addresses, and the byte of the volume at which each copy of it begins."""

    start: int
    length: int
    kind: int
    copies: tuple[int, ...]


class Layout:
    """The numbers of one file system, each checked before it is used to read or to allocate."""

    def __init__(self, volume: Volume):
        """Raises `Malformed` if there is no such file system, or one that can't be read here."""
        self.volume = volume
        raw = volume.read(SUPERBLOCK, SUPERBLOCK_BYTES)
        values: dict[str, int] = {name: struct.unpack_from("<" + code, raw, at)[0] for name, (at, code) in _FIELDS.items()}
        self.values, self.raw = values, raw
        if raw[0x40:0x48] != MAGIC:
            raise Malformed("no btrfs")
        self.sum_bytes, self.sums = _sums_of(values["checksum_type"])
        # Every checksum of a block lies in its first 32 bytes, whatever its size, and covers all bytes after them.
        if self.sum_of(raw[32:]) != raw[: self.sum_bytes]:
            raise Malformed("the superblock's checksum is wrong")
        self._require_known()
        self.sector, self.node, self.generation = values["sector"], values["node"], values["generation"]
        # btrfstune -m changes the file system's own number and keeps that of the blocks, so that it need not rewrite them.
        self.uuid = raw[0x23B:0x24B] if values["incompat"] & _METADATA_UUID else raw[0x20:0x30]
        self.compatible = values["compatible_read_only"]
        self._chunks: dict[int, Chunk] = {}
        self._starts: list[int] = []
        self._read_system_chunks()

    def _require_known(self) -> None:
        values, unknown = self.values, self.values["incompat"] & ~_READABLE
        if unknown:
            names = [name for bit, name in _UNREADABLE_NAMES.items() if unknown & bit]
            raise Malformed(f"it has features that are not read here: {', '.join(names) or 'newer ones'}")
        if values["devices"] != 1:
            raise Malformed(f"it lies on {values['devices']} devices, of which this is one")
        powers = all(values[name] & (values[name] - 1) == 0 for name in ("sector", "node"))
        sane = (
            powers
            and 4096 <= values["sector"] <= values["node"] <= 65536
            and values["bytenr"] == SUPERBLOCK
            and values["system_chunks"] <= 2048
            and max(values["root_level"], values["chunk_root_level"], values["log_root_level"]) < 8
            and values["device_bytes"] <= self.volume.size
        )
        if not sane:
            raise Malformed("its superblock's numbers contradict each other or the size of the volume")

    def sum_of(self, data: bytes) -> bytes:
        """Returns the checksum of one buffer."""
        return bytes(self.sums(np.frombuffer(data, np.uint8).reshape(1, -1))[0])

    def _read_system_chunks(self) -> None:
        data = self.raw[_SYSTEM_CHUNKS_AT : _SYSTEM_CHUNKS_AT + self.values["system_chunks"]]
        at = 0
        while at < len(data):
            if at + KEY.size + _CHUNK.size > len(data):
                raise Malformed("its list of system chunks is damaged")
            _, kind, start = KEY.unpack_from(data, at)
            if kind != CHUNK_ITEM:
                raise Malformed("its list of system chunks is damaged")
            at += KEY.size
            at += self.add_chunk(start, data[at:])

    def add_chunk(self, start: int, item: bytes) -> int:
        """Adds a chunk, given as an item of the chunk tree; returns the item's length.

        Raises `Malformed` if the item is damaged, or the chunk needs another device or a profile that is not read here.
        """
        if len(item) < _CHUNK.size:
            raise Malformed("a chunk is cut short")
        length, _, _, kind, _, _, _, count, _ = _CHUNK.unpack_from(item)
        profile = [name for bit, name in _PROFILES.items() if kind & bit]
        if profile:
            raise Malformed(f"a part of it is kept as {profile[0]}")
        if count != (2 if kind & DUP else 1) or len(item) < _CHUNK.size + count * _STRIPE.size:
            raise Malformed("a chunk has a number of copies that is not its profile's")
        copies = []
        for number in range(count):
            device, at, _ = _STRIPE.unpack_from(item, _CHUNK.size + number * _STRIPE.size)
            if device != self.values["device"] or not 0 < length <= at + length <= self.volume.size:
                raise Malformed("a chunk lies on another device, or past the end of this one")
            copies.append(at)
        self._insert(Chunk(start, length, kind, tuple(copies)))
        return int(_CHUNK.size + count * _STRIPE.size)

    def _insert(self, chunk: Chunk) -> None:
        # System chunks are both in the superblock and in the chunk tree; the same chunk twice is no fault.
        if self._chunks.get(chunk.start, chunk) != chunk:
            raise Malformed("two chunks begin at one address")
        if chunk.start not in self._chunks:
            self._chunks[chunk.start] = chunk
            at = bisect_right(self._starts, chunk.start)
            self._starts.insert(at, chunk.start)
            around = [self._chunks[start] for start in self._starts[max(0, at - 1) : at + 2]]
            if any(one.start + one.length > other.start for one, other in itertools.pairwise(around)):
                raise Malformed("two chunks overlap")
        if len(self._chunks) > _MOST_CHUNKS or chunk.start + chunk.length >= 1 << 63:
            raise Malformed("its chunks make no sense")

    @property
    def chunks(self) -> list[Chunk]:
        """All chunks, in the order of their addresses."""
        return [self._chunks[start] for start in self._starts]

    def chunk_at(self, logical: int, length: int) -> Chunk:
        """Returns the chunk that holds a range of logical addresses. Raises `Malformed` if none does."""
        at = bisect_right(self._starts, logical) - 1
        chunk = self._chunks[self._starts[at]] if at >= 0 else None
        if chunk is None or logical + length > chunk.start + chunk.length:
            raise Malformed(f"something is said to lie at address {logical}, which is no part of a chunk")
        return chunk

    def on_volume(self, logical: Ranges, copy: int | None = None) -> Ranges:
        """Returns the bytes of the volume that hold ranges of logical addresses: of one copy, or of all (`copy` is None)."""
        parts = [NO_RANGES]
        for chunk in self.chunks:
            inside = extents.intersect(logical, np.array([[chunk.start, chunk.start + chunk.length]], np.int64))
            chosen = chunk.copies if copy is None else chunk.copies[copy : copy + 1]
            parts += [inside - chunk.start + at for at in chosen if len(inside)]
        return union_of(parts)

    def to_logical(self, at: Ranges, copy: int) -> Ranges:
        """Returns the logical addresses whose copy number `copy` lies in ranges of the volume."""
        parts = [NO_RANGES]
        for chunk in self.chunks:
            for start in chunk.copies[copy : copy + 1]:
                parts.append(extents.intersect(at, np.array([[start, start + chunk.length]], np.int64)) - start + chunk.start)
        return union_of(parts)
