"""Digests of guest content: one BLAKE3 digest for each block of 64 KiB, and one over them all.

The digests depend on the guest-visible bytes only, so a raw image, its qcow2 conversion and a sparse copy have the same. Blocks
of zeros are recognised by content and not listed; ranges that no layer holds data for are not even read. A last block that
the disk's end cuts short is padded with zeros, so that the same bytes on a disk that was grown still compare as equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.herd.records.block import BLOCK, DIGEST_BYTES
from cowherd.herd.records.content import BLOCKS_READ, ZERO_DIGEST, BlockHasher, content_digest
from cowherd.ops.workers import share_out
from cowherd.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.extents import Extents, Ranges
    from cowherd.image.disk import Disk

Digests = NDArray[np.uint8]
"""An array of shape (n, 32): one digest a row."""
Blocks = NDArray[np.int64]
"""Block numbers, ascending."""

_TASK_BLOCKS = 256
_KEPT_EXTENTS = 100_000
"""Some 4 MB: of disks with more extents these are looked up twice."""


@dataclass(frozen=True, eq=False)
class BlockDigests:
    """The guest content of a disk of `size` bytes, or with `of_file` the bytes of an image's file.

    `runs` is a range array of the numbers of blocks that are not zeros; `digests` has a row for each of them, in their order.
    """

    size: int
    runs: Ranges
    digests: Digests
    of_file: bool = False

    @cached_property
    def content_digest(self) -> bytes:
        """32 bytes that stand for size and content together."""
        runs = self.runs.astype("<i8").tobytes()
        return content_digest(self.size, len(self.runs), runs, self.digests.tobytes(), of_file=self.of_file)

    def lookup(self, blocks: Blocks) -> Digests:
        """Returns the digest of each of `blocks`; that of zeros for blocks outside the runs or past the end."""
        found = np.tile(np.frombuffer(ZERO_DIGEST, np.uint8), (len(blocks), 1))
        if len(self.runs) and len(blocks):
            run = np.searchsorted(self.runs[:, 0], blocks, side="right") - 1
            inside = (run >= 0) & (blocks < self.runs[run, 1])
            found[inside] = self.digests[self._first_row[run[inside]] + blocks[inside] - self.runs[run[inside], 0]]
        return found

    @cached_property
    def _first_row(self) -> NDArray[np.int64]:
        return starts_within(self.runs[:, 1] - self.runs[:, 0])


def digest_disk(disk: Disk, progress: Progress | None = None) -> BlockDigests:
    """Reads the data of an open disk, through its whole chain, and returns its digests.

    Costs 32 bytes of memory for each 64 KiB of data, and nothing for zeros. `progress(done, total)` counts bytes.
    """
    covers = _few(disk.extents())
    candidates = data_runs(disk, covers)
    digests = digests_of(disk, candidates, progress, covers)
    kept = ~is_zero(digests)
    if kept.all():
        return BlockDigests(disk.size, candidates, digests)
    return BlockDigests(disk.size, runs_of(expand(candidates)[kept]), digests[kept])


def _few(batches: Iterator[Extents]) -> list[Extents] | None:
    """Returns all of `batches`, so that tables, or a file's holes, are looked up once; None if they hold very many extents."""
    kept: list[Extents] = []
    for batch in batches:
        kept.append(batch)
        if sum(map(len, kept)) > _KEPT_EXTENTS:
            return None
    return kept


def data_runs(disk: Disk, covers: Iterable[Extents] | None = None) -> Ranges:
    """Returns the runs of block numbers that some layer of the chain holds data for. `covers`: the disk's extents, if known."""
    parts = [np.empty((0, 2), np.int64)]
    for batch in disk.extents() if covers is None else covers:
        data = extents.ranges_of(extents.of_kind(batch, extents.DATA, extents.COMPRESSED))
        parts.append(to_blocks(data))
    return extents.normalised(np.concatenate(parts))


def digests_of(disk: Disk, runs: Ranges, progress: Progress | None = None, covers: Iterable[Extents] | None = None) -> Digests:
    """Returns the digest of every block in `runs`; what lies past the disk's end counts as zeros.

    `covers` are the extents of the whole disk, in order, if they are known.
    """
    out = np.tile(np.frombuffer(ZERO_DIGEST, np.uint8), (extents.total(runs), 1))
    hasher = BlockHasher()

    def hash_task(task: _Task) -> int:
        found: list[bytes] = []
        for first, count, depth, host in task.window.places(task.pieces):
            buffer = hasher.room(count)
            if host == extents.NOWHERE:
                task.window.read(disk, first * BLOCK, buffer)
            else:
                disk.layers[depth].file.preadinto(host, buffer)
            found += hasher.digests(count)
        out[task.row : task.row + len(found)] = np.frombuffer(b"".join(found), np.uint8).reshape(-1, DIGEST_BYTES)
        return len(found) * BLOCK

    share_out(_tasks(disk, runs, covers), hash_task, len(out) * BLOCK, progress)
    return out


class _Window:
    """A stretch of a disk with its extents, so that they are looked up once and not for every read."""

    def __init__(self, cover: Extents):
        self.cover = cover
        self.starts = np.ascontiguousarray(cover["start"])
        self.start, self.end = int(self.starts[0]), int(self.starts[-1] + cover["length"][-1])

    def places(self, pieces: list[tuple[int, int]]) -> Iterator[tuple[int, int, int, int]]:
        """Yields (first block, count, depth, host) of `pieces`; `NOWHERE` where one does not lie in one place as plain bytes."""
        first, count = np.array(pieces, np.int64).T
        start = first * BLOCK
        holder = self.cover[np.searchsorted(self.starts, start, side="right") - 1]
        whole = (holder["kind"] == extents.DATA) & (extents.ends(holder) >= start + count * BLOCK)
        host = np.where(whole, holder["host"] + start - holder["start"], extents.NOWHERE)
        return zip(first.tolist(), count.tolist(), holder["depth"].tolist(), host.tolist(), strict=True)

    def read(self, disk: Disk, start: int, buffer: memoryview) -> None:
        """Fills `buffer` with guest bytes from `start` on; what lies past the window is past the disk's end, and zeros."""
        end = min(start + len(buffer), self.end)
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        last = int(np.searchsorted(self.starts, end, side="left"))
        disk.read_extents(extents.clip(self.cover[first:last], start, end), start, buffer)
        if end - start < len(buffer):
            buffer[end - start :] = bytes(len(buffer) - (end - start))


@dataclass(frozen=True, eq=False)
class _Task:
    """Up to 256 blocks of one window: `pieces` of (first block, count to read); `row` is that of the first one's digest."""

    window: _Window
    row: int
    pieces: list[tuple[int, int]]


def _tasks(disk: Disk, runs: Ranges, covers: Iterable[Extents] | None) -> Iterator[_Task]:
    inside = extents.intersect(runs, extents.ranges([(0, -(-disk.size // BLOCK))]))
    if not len(inside):
        return
    start, end = int(inside[0, 0]) * BLOCK, min(int(inside[-1, 1]) * BLOCK, disk.size)
    row = 0
    for cover in disk.extents(start, end - start) if covers is None else covers:
        window = _Window(cover)
        wanted = extents.intersect(inside, extents.ranges([(window.start // BLOCK, -(-window.end // BLOCK))]))
        for pieces in _portions(wanted):
            yield _Task(window, row, pieces)
            row += sum(count for _, count in pieces)


def _portions(runs: Ranges) -> Iterator[list[tuple[int, int]]]:
    """Cuts `runs` into portions of up to 256 blocks, in pieces to be read at once."""
    pieces: list[tuple[int, int]] = []
    room = _TASK_BLOCKS
    for first, end in runs.tolist():
        while first < end:
            count = min(end - first, room, BLOCKS_READ)
            pieces.append((first, count))
            first, room = first + count, room - count
            if not room:
                yield pieces
                pieces, room = [], _TASK_BLOCKS
    if pieces:
        yield pieces


def read_padded(disk: Disk, start: int, buffer: memoryview) -> None:
    """Fills `buffer` with guest bytes from `start` on; what lies past the disk's end is zeros."""
    inside = max(0, min(len(buffer), disk.size - start))
    if inside:
        disk.readinto(start, buffer[:inside])
    if inside < len(buffer):
        buffer[inside:] = bytes(len(buffer) - inside)


def is_zero(digests: Digests) -> NDArray[np.bool_]:
    """Returns which rows are the digest of a block of zeros."""
    return equal_rows(digests, np.frombuffer(ZERO_DIGEST, np.uint8).reshape(1, -1))


def equal_rows(a: Digests, b: Digests) -> NDArray[np.bool_]:
    """Returns which rows agree; `b` may be a single row."""
    agree: NDArray[np.bool_] = (np.ascontiguousarray(a).view(np.uint64) == np.ascontiguousarray(b).view(np.uint64)).all(axis=1)
    return agree


def differing(a: BlockDigests, b: BlockDigests) -> Ranges:
    """Returns the runs of block numbers whose content differs; past its end a disk counts as zeros."""
    common = extents.intersect(a.runs, b.runs)
    lonely = extents.union(extents.subtract(a.runs, common), extents.subtract(b.runs, common))
    blocks = expand(common)
    changed = ~equal_rows(a.lookup(blocks), b.lookup(blocks))
    return extents.union(lonely, runs_of(blocks[changed]))


def to_blocks(pairs: Ranges) -> Ranges:
    """Returns the runs of block numbers that byte ranges touch."""
    return extents.normalised(np.column_stack((pairs[:, 0] // BLOCK, -(-pairs[:, 1] // BLOCK))))


def to_bytes(runs: Ranges, limit: int) -> Ranges:
    """Returns the byte ranges of runs of block numbers, cut at `limit`."""
    return extents.normalised(np.minimum(runs * BLOCK, limit))


def expand(runs: Ranges) -> Blocks:
    """Returns every block number in `runs`."""
    lengths = runs[:, 1] - runs[:, 0]
    within = np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(starts_within(lengths), lengths)
    blocks: Blocks = np.repeat(runs[:, 0], lengths) + within
    return blocks


def starts_within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns where runs of these lengths start when they are laid end to end."""
    starts: NDArray[np.int64] = np.cumsum(lengths) - lengths
    return starts


def runs_of(blocks: Blocks) -> Ranges:
    """Returns the runs that ascending block numbers form."""
    return extents.normalised(np.column_stack((blocks, blocks + 1)))
