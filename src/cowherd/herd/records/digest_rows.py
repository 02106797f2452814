"""Reading an image's content for its digests; `cowherd.herd.records.digest` has them as arrays."""

from __future__ import annotations

import sys
from array import array
from functools import cached_property

from cowherd.herd.records.block import BLOCK, DIGEST_BYTES
from cowherd.herd.records.content import BLOCKS_READ, ZERO_DIGEST, BlockHasher, content_digest
from cowherd.image.reading import Reading, windows
from cowherd.image.rows import Clipping, portions
from cowherd.kinds import COMPRESSED, DATA, NOWHERE, ZERO
from cowherd.ops.workers import share_out
from cowherd.storage.ahead import jumps, reading_ahead
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cowherd.image.rows import Ranges
    from cowherd.kinds import Row
    from cowherd.storage.ahead import Stretch

    Progress = Callable[[int, int], None]

_KEPT_ROWS = 1 << 17
"""About 25 MB of rows: the rows of a disk with more are looked up twice."""


class Content:
    """The guest content of a disk of `size` bytes, or with `of_file` the bytes of an image's file.

    `runs` are numbers of blocks that are not zeros: the first of a run, the one after its last, the first of the next run, and
    so on. `digests` are their digests, one after the other.
    """

    def __init__(self, size: int, runs: array[int], digests: bytearray, *, of_file: bool = False):
        self.size, self.runs, self.digests, self.of_file = size, runs, digests, of_file

    @cached_property
    def content_digest(self) -> bytes:
        """32 bytes that stand for size and content together."""
        parts = self.little_endian_runs(), memoryview(self.digests)
        return content_digest(self.size, len(self.runs) // 2, *parts, of_file=self.of_file)

    def little_endian_runs(self) -> memoryview:
        """Returns the runs as a seal holds them: 8 bytes for each number."""
        runs = array("q", self.runs)
        if sys.byteorder == "big":
            runs.byteswap()
        return memoryview(runs).cast("B")


def read_content(reading: Reading, progress: Progress | None = None, *, of_file: bool = False) -> Content:
    """Reads the data of an open chain, and returns its content. `progress(done, total)` counts bytes.

    Costs 32 bytes of memory for each 64 KiB of data, and nothing for zeros. Raises `HostFileError`, `ImageFormatError`.
    """
    kept = _few(reading.batches())
    total = sum(_total(_blocks_with_data(rows)) for rows in kept or reading.batches())
    wanted = ((rows, _blocks_with_data(rows)) for rows in kept or reading.batches())
    runs, digests = array("q"), bytearray()
    for task, found in _hash_tasks(reading, wanted, total, progress):
        if ZERO_DIGEST not in found:
            _extend(runs, ((start // BLOCK, end // BLOCK) for start, end in task.ranges))
            digests += found
            continue
        blocks = (block for start, end in task.ranges for block in range(start // BLOCK, end // BLOCK))
        for block, begin in zip(blocks, range(0, len(found), DIGEST_BYTES), strict=True):
            digest = found[begin : begin + DIGEST_BYTES]
            if digest != ZERO_DIGEST:
                _extend(runs, [(block, block + 1)])
                digests += digest
    return Content(reading.size, runs, digests, of_file=of_file)


def digests_in(reading: Reading, runs: Ranges, progress: Progress | None = None) -> bytearray:
    """Returns the digest of every block in runs of block numbers, one after the other; bytes past the disk's end are zeros."""
    count = sum(end - first for first, end in runs)
    found = bytearray()
    for _, digests in _hash_tasks(reading, _rows_of_runs(reading, runs), count * BLOCK, progress):
        found += digests
    return found + ZERO_DIGEST * (count - len(found) // DIGEST_BYTES)


class _Task(NamedTuple):
    """Whole blocks to read and hash together, and the rows that have their bytes, up to the disk's end."""

    ranges: Ranges
    held: list[Row]


def _hash_tasks(
    reading: Reading, wanted: Iterable[tuple[list[Row], Ranges]], total: int, progress: Progress | None
) -> Iterator[tuple[_Task, bytes]]:
    """Returns tasks and their digests, in order. `wanted` gives whole blocks, each time with rows of the bytes around them."""
    tasks: list[_Task] = []
    results: list[bytes] = []
    hasher = BlockHasher()

    def stretches(number: int) -> Iterator[Stretch]:
        return reading.stretches(tasks[number].held)

    def numbers() -> Iterator[int]:
        for rows, ranges in wanted:
            clipping = Clipping(rows)
            for part in portions(ranges, BLOCKS_READ * BLOCK):
                tasks.append(_Task(part, clipping.inside(part)))
                results.append(b"")
                yield len(tasks) - 1

    def hash_task(number: int) -> int:
        length = _total(tasks[number].ranges)
        room = hasher.room(length // BLOCK)
        reading.read(_fill_up(tasks[number].held, length), room)
        results[number] = b"".join(hasher.digests(length // BLOCK))
        return length

    share_out(reading_ahead(numbers(), jumps(stretches)), hash_task, total, progress)
    return zip(tasks, results, strict=True)


def _few(batches: Iterator[list[Row]]) -> list[list[Row]] | None:
    """Returns all of `batches`, so that tables, or a file's holes, are looked up once; None if they hold very many rows."""
    kept: list[list[Row]] = []
    for rows in batches:
        kept.append(rows)
        if sum(map(len, kept)) > _KEPT_ROWS:
            return None
    return kept


def _blocks_with_data(rows: list[Row]) -> Ranges:
    """Returns the guest ranges of the blocks in which rows have data."""
    found: Ranges = []
    for start, length, _, _, kind in rows:
        if kind in (DATA, COMPRESSED):
            first, end = start // BLOCK * BLOCK, -(-(start + length) // BLOCK) * BLOCK
            if found and found[-1][1] >= first:
                first = found.pop()[0]
            found.append((first, end))
    return found


def _rows_of_runs(reading: Reading, runs: Ranges) -> Iterator[tuple[list[Row], Ranges]]:
    """Yields the guest ranges of runs of blocks, up to the disk's end, with rows that cover them."""
    clipping = Clipping([(first * BLOCK, (end - first) * BLOCK, NOWHERE, 0, ZERO) for first, end in runs])
    for start, end in windows([(reading, len(reading.layers))], reading.size):
        ranges = [(row[0], row[0] + row[1]) for row in clipping.inside([(start, -(-end // BLOCK) * BLOCK)])]
        if ranges:
            yield reading.rows(max(start, ranges[0][0]), min(end, ranges[-1][1])), ranges


def _fill_up(held: list[Row], length: int) -> list[Row]:
    """Returns rows, filled up with zeros behind them to `length` bytes."""
    missing = length - sum(row[1] for row in held)
    return [*held, (0, missing, NOWHERE, 0, ZERO)] if missing else held


def _total(ranges: Ranges) -> int:
    return sum(end - start for start, end in ranges)


def _extend(runs: array[int], more: Iterable[tuple[int, int]]) -> None:
    """Appends runs to a list of borders; a run that follows without a gap makes the last one longer."""
    for first, end in more:
        if runs and runs[-1] == first:
            runs[-1] = end
        else:
            runs.extend((first, end))
