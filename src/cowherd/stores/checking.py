"""Reads a blob and finds what is damaged in it, by the sums of its pieces, or by its name if it has no sums."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable

from blake3 import blake3

from cowherd.errors import HostFileError
from cowherd.progress import Progress
from cowherd.storage.buffers import page_aligned
from cowherd.storage.hostfile import HostFile
from cowherd.stores.sums import PIECE, Sums, sum_of_zeros

Damage = tuple[tuple[int, int], ...]
"""(start, end) ranges of a blob's bytes, in order, none touching the next."""


class Pace:
    """Keeps a reader to `rate` bytes a second (None: as fast as it can), and reports how far it is."""

    def __init__(self, rate: float | None = None, progress: Progress | None = None):
        self._rate, self._progress = rate, progress
        self._started, self._read = time.monotonic(), 0

    def spend(self, length: int) -> None:
        """Called after `length` bytes were read: waits until that much was due."""
        self._read += length
        if self._rate:
            time.sleep(max(0.0, self._started + self._read / self._rate - time.monotonic()))

    def report(self, done: int, total: int) -> None:
        """Tells the caller how many bytes are checked."""
        if self._progress:
            self._progress(done, total)


def damaged_ranges(file: HostFile, digest: str, sums: Sums | None, start: int, end: int | None, pace: Pace) -> Damage:
    """Returns what is damaged in the pieces of a blob that [start, end) touches; see `DirectoryStore.verify`."""
    size = file.size()
    if sums is None:
        return () if _whole_digest(file, size, pace) == digest else ((0, size),)
    end = sums.size if end is None else min(end, sums.size)
    first = start // PIECE * PIECE
    buffer, found = page_aligned(PIECE), []
    for begin in range(first, end, PIECE):
        length = min(PIECE, sums.size - begin)
        if begin + length > size or _sum_of(file, begin, buffer[:length], pace) != sums.piece(begin // PIECE):
            found.append((begin, begin + length))
        pace.report(min(begin + PIECE, end) - first, end - first)
    if size > sums.size and end == sums.size:
        found.append((sums.size, size))
    return _joined(found)


def _whole_digest(file: HostFile, size: int, pace: Pace) -> str | None:
    """Returns the digest of a file, None if the disk can't read it."""
    whole, buffer = blake3(), page_aligned(PIECE)
    for begin in range(0, size, PIECE):
        part = buffer[: min(PIECE, size - begin)]
        if not _is_read(file, begin, part):
            return None
        whole.update(part)
        pace.spend(len(part))
        pace.report(begin + len(part), size)
    return whole.hexdigest()


def _sum_of(file: HostFile, begin: int, part: memoryview, pace: Pace) -> bytes | None:
    """Reads a piece into `part` and returns its sum, None if the disk can't read it. A hole is not read."""
    data = file.next_data(begin)
    if data is None or data >= begin + len(part):
        return sum_of_zeros(len(part))
    known = _is_read(file, begin, part)
    pace.spend(len(part))
    return blake3(part).digest() if known else None


def _is_read(file: HostFile, begin: int, part: memoryview) -> bool:
    """Fills `part` from a file; returns False if the disk has lost these bytes."""
    try:
        file.preadinto(begin, part)
    except HostFileError as error:
        if error.errno != errno.EIO:
            raise
        return False
    return True


def _joined(ranges: Iterable[tuple[int, int]]) -> Damage:
    found: list[tuple[int, int]] = []
    for start, end in ranges:
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, end))
    return tuple(found)
