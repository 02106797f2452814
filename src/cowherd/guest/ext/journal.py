"""The log of an ext3 or ext4 that was not unmounted: replayed in memory, so that all else is read as a mount would leave it.

Source: the kernel's fs/jbd2/recovery.c and include/linux/jbd2.h. The log's numbers are big-endian, unlike all others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from cowherd.guest.crc import crc32c
from cowherd.guest.ext.inodes import Inode
from cowherd.guest.ext.layout import Layout
from cowherd.guest.source import Malformed, Volume

_MAGIC = 0xC03B3998
_DESCRIPTOR, _COMMIT, _SUPERBLOCKS, _REVOKE = 1, 2, (3, 4), 5
_WIDE, _SUMS_2, _SUMS_3, _FAST_COMMITS = 0x2, 0x8, 0x10, 0x20
# Revocations (0x1) are always looked for; asynchronous commits (0x4) change how a log is written, not how it is read.
_KNOWN = 0x1 | _WIDE | 0x4 | _SUMS_2 | _SUMS_3 | _FAST_COMMITS
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_HEADER = struct.Struct(">III")
_TAG, _TAG_3 = struct.Struct(">IHH"), struct.Struct(">IIII")
_FAST_COMMIT_HEAD = 9


@dataclass(frozen=True)
class _Tag:
    """A block that the log holds: where it belongs, and the flags and checksum of its copy in the log."""

    block: int
    flags: int
    checksum: int


@dataclass
class Replay:
    """The result of a replay. `moved` maps a block to the block of the log that holds its content.

    The log's copies of blocks in `escaped` have zeros in place of their first four bytes. `live` are the blocks of the log that
    the replay has read.
    """

    moved: dict[int, int] = field(default_factory=dict)
    escaped: set[int] = field(default_factory=set)
    live: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Replayed(Volume):
    """A volume as it is after the replay. Nothing is written: the content of replayed blocks is taken from the log."""

    def __init__(self, volume: Volume, block: int, replay: Replay):
        super().__init__(volume.disk, volume.place, volume.pieces)
        self._block, self._replay = block, replay
        self._moved = np.array(sorted(replay.moved), np.int64)

    def read(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes as they are after the replay. Raises `Malformed` for a range that does not lie inside."""
        data = super().read(offset, length)
        touched = self._touched(offset, length)
        if not touched:
            return data
        found = bytearray(data)
        for block in touched:
            start = block * self._block
            content = super().read(self._replay.moved[block] * self._block, self._block)
            # A block that begins with the log's magic number would pass for one of the log's own, so the log blanks that word.
            if block in self._replay.escaped:
                content = struct.pack(">I", _MAGIC) + content[4:]
            low, high = max(start, offset), min(start + self._block, offset + length)
            found[low - offset : high - offset] = content[low - start : high - start]
        return bytes(found)

    def _touched(self, offset: int, length: int) -> list[int]:
        low = np.searchsorted(self._moved, offset // self._block)
        high = np.searchsorted(self._moved, -(-(offset + length) // self._block))
        touched: list[int] = self._moved[low:high].tolist()
        return touched

    def runs_on_disk(self, runs: Sequence[tuple[int, int, int]], size: int) -> list[tuple[int, int, int]]:
        """Returns runs of a file as runs of the disk, as `Volume` does; replayed blocks lie where the log has them."""
        found = []
        for offset, start, length in runs:
            at = start
            for block in self._touched(start, length):
                low, high = max(start, block * self._block), min(start + length, (block + 1) * self._block)
                found.append((offset + at - start, at, low - at))
                moved = (self._replay.moved[block] - block) * self._block
                found.append((offset + low - start, low + moved, high - low))
                at = high
            found.append((offset + at - start, at, start + length - at))
        return super().runs_on_disk([run for run in found if run[2] > 0], size)

    def is_escaped(self, runs: Sequence[tuple[int, int, int]]) -> bool:
        """Returns whether the log's copy of any block in runs of a file is escaped, so that its bytes differ from the content."""
        return any(block in self._replay.escaped for _, start, length in runs for block in self._touched(start, length))


def replay(layout: Layout, journal: Inode) -> Replay:
    """Reads the log in a file system's journal. Raises `Malformed` if it can't be used at all."""
    return _Log(layout, journal).replayed()


class _Log:
    """A log while it is read."""

    def __init__(self, layout: Layout, journal: Inode):
        self._layout, self._found = layout, Replay()
        self._blocks = {first + n: block + n for first, block, count, _ in journal.mapped for n in range(count)}
        head = self._read(0)
        magic, kind, _, size, self._end, self._first, self._sequence, self._start = struct.unpack_from(">8I", head)
        if magic != _MAGIC or kind not in _SUPERBLOCKS or size != layout.block:
            raise Malformed("its log does not begin as one")
        self._features = struct.unpack_from(">I", head, 40)[0] if kind == _SUPERBLOCKS[1] else 0
        if self._features & ~_KNOWN:
            raise Malformed("its log has features that are not known here")
        self._sums = bool(self._features & (_SUMS_2 | _SUMS_3))
        self._seed = crc32c(head[48:64])
        if self._sums and crc32c(head[:252] + bytes(4) + head[256:1024]) != struct.unpack_from(">I", head, 252)[0]:
            raise Malformed("the checksum of its log's superblock is wrong")
        if self._features & _FAST_COMMITS:
            # The last s_num_fc_blks blocks are for fast commits; 0 stands for 256 (JBD2_DEFAULT_FAST_COMMIT_BLOCKS).
            self._end -= struct.unpack_from(">I", head, 84)[0] or 256
        if not 0 < self._first < self._end <= len(self._blocks) or not (
            self._start == 0 or self._first <= self._start < self._end
        ):
            raise Malformed("its log's numbers contradict each other")

    def _read(self, number: int) -> bytes:
        if number not in self._blocks:
            raise Malformed("a part of its log is missing")
        return self._layout.volume.read(self._blocks[number] * self._layout.block, self._layout.block)

    def replayed(self) -> Replay:
        # All revocations are read before any block is taken: one covers copies in its own transaction and in those before it.
        transactions = list(self._transactions()) if self._start else []
        revoked: dict[int, int] = {}
        for sequence, blocks in transactions:
            for kind, number, _ in blocks:
                if kind == _REVOKE:
                    revoked |= dict.fromkeys(self._revocations(self._read(number)), sequence)
        for sequence, blocks in transactions:
            for kind, number, tag in blocks:
                if kind == _DESCRIPTOR and tag and revoked.get(tag.block, -1) < sequence:
                    self._take(sequence, number, tag)
        if self._features & _FAST_COMMITS and self._has_fast_commits():
            self._found.notes.append("its log has fast commits, which were not replayed")
            self._found.live += [block for number, block in self._blocks.items() if number > self._end]
        return self._found

    def _take(self, sequence: int, number: int, tag: _Tag) -> None:
        """Replays one block of the log."""
        if not 0 <= tag.block < self._layout.blocks:
            self._found.problems.append(f"its log has a block {tag.block}, past the end")
            return
        if self._sums:
            found = crc32c(self._read(number), crc32c(struct.pack(">I", sequence), self._seed))
            if found != tag.checksum and (self._features & _SUMS_3 or found & 0xFFFF != tag.checksum):
                self._found.problems.append(f"the checksum of block {tag.block} in its log is wrong")
                return
        self._found.moved[tag.block] = self._blocks[number]
        (self._found.escaped.add if tag.flags & _ESCAPED else self._found.escaped.discard)(tag.block)

    def _transactions(self) -> Iterator[tuple[int, list[tuple[int, int, _Tag | None]]]]:
        """Yields each finished transaction: its number, and (kind, block of the log, tag) of each block in it."""
        # The log is a ring. It ends where a block does not carry the number of the next transaction: that one was never finished.
        at, left = self._start, self._end - self._first
        blocks: list[tuple[int, int, _Tag | None]] = []
        while left > 0:
            data = self._read(at)
            self._found.live.append(self._blocks[at])
            magic, kind, number = _HEADER.unpack_from(data)
            if magic != _MAGIC or number != self._sequence:
                return
            if not self._is_sound(data, kind):
                self._found.problems.append(f"the checksum of a block of transaction {self._sequence} in its log is wrong")
                return
            left, at = left - 1, self._next(at)
            if kind == _DESCRIPTOR:
                for tag in self._tags(data):
                    self._found.live.append(self._blocks[at])
                    blocks.append((_DESCRIPTOR, at, tag))
                    left, at = left - 1, self._next(at)
            elif kind == _REVOKE:
                blocks.append((_REVOKE, self._before(at), None))
            elif kind == _COMMIT:
                yield self._sequence, blocks
                self._sequence, blocks = (self._sequence + 1) & 0xFFFFFFFF, []
            else:
                return

    def _next(self, at: int) -> int:
        return at + 1 if at + 1 < self._end else self._first

    def _before(self, at: int) -> int:
        return at - 1 if at > self._first else self._end - 1

    def _is_sound(self, data: bytes, kind: int) -> bool:
        """Compares a block of the log with its checksum, which is at its end; a commit block has it in its head."""
        if not self._sums:
            return True
        at = 16 if kind == _COMMIT else len(data) - 4
        (stored,) = struct.unpack_from(">I", data, at)
        return bool(crc32c(data[:at] + bytes(4) + data[at + 4 :], self._seed) == stored)

    def _tags(self, data: bytes) -> Iterator[_Tag]:
        # As journal_tag_bytes computes it. A tag without _SAME_UUID is followed by a UUID, 16 bytes.
        size = 8 + 2 * bool(self._features & _SUMS_2) + 4 * bool(self._features & _WIDE)
        size = _TAG_3.size if self._features & _SUMS_3 else size
        at, end = _HEADER.size, len(data) - 4 * self._sums
        while at + size <= end:
            if self._features & _SUMS_3:
                block, flags, high, checksum = _TAG_3.unpack_from(data, at)
            else:
                block, checksum, flags = _TAG.unpack_from(data, at)
                high = struct.unpack_from(">I", data, at + 8)[0] if self._features & _WIDE else 0
            yield _Tag(block | (high << 32 if self._features & _WIDE else 0), flags, checksum)
            at += size + (0 if flags & _SAME_UUID else 16)
            if flags & _LAST:
                return

    def _revocations(self, data: bytes) -> list[int]:
        (end,) = struct.unpack_from(">I", data, _HEADER.size)  # r_count is in bytes, and counts its own header of 16 as well
        width = 8 if self._features & _WIDE else 4
        end = min(end, len(data) - 4 * self._sums)
        return [int.from_bytes(data[at : at + width], "big") for at in range(16, end - width + 1, width)]

    def _has_fast_commits(self) -> bool:
        """Returns whether the area of fast commits begins with one for the transaction after the last finished one."""
        # Fast commits are ext4's own, and so little-endian (ext4_fc_tl, ext4_fc_head). j_fc_first is j_last + 1.
        tag, _, _, number = struct.unpack_from("<HHII", self._read(self._end + 1))
        return bool(tag == _FAST_COMMIT_HEAD and number == self._sequence)
