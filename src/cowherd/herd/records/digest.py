"""Digests of guest content: one BLAKE3 digest for each block of 64 KiB, and one over them all.

The digests depend on the guest-visible bytes only, so a raw image, its qcow2 conversion and a sparse copy have the same. Blocks
of zeros are recognised by content and not listed; ranges that no layer holds data for are not even read. A last block that
the disk's end cuts short is padded with zeros, so that the same bytes on a disk that was grown still compare as equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.herd.records.block import BLOCK, DIGEST_BYTES
from cowherd.herd.records.content import ZERO_DIGEST, content_digest
from cowherd.herd.records.digest_rows import digests_in, read_content
from cowherd.image.reading import Reading
from cowherd.progress import Progress

if TYPE_CHECKING:
    from cowherd.extents import Ranges
    from cowherd.herd.records.digest_rows import Content
    from cowherd.image.disk import Disk

Digests = NDArray[np.uint8]
"""An array of shape (n, 32): one digest a row."""
Blocks = NDArray[np.int64]
"""Block numbers, ascending."""


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


def arrays_of(content: Content) -> BlockDigests:
    """Returns content that was read as arrays."""
    runs = np.array(content.runs, np.int64).reshape(-1, 2)
    return BlockDigests(content.size, runs, _rows(content.digests), content.of_file)


def digest_disk(disk: Disk, progress: Progress | None = None) -> BlockDigests:
    """Reads the data of an open disk, through its whole chain, and returns its digests; see `read_content`."""
    return arrays_of(read_content(Reading.of(disk), progress))


def digests_of(disk: Disk, runs: Ranges, progress: Progress | None = None) -> Digests:
    """Returns the digest of every block in `runs`; what lies past the disk's end counts as zeros."""
    return _rows(digests_in(Reading.of(disk), runs.tolist(), progress))


def _rows(digests: bytearray) -> Digests:
    return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)


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
