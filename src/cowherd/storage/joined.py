"""Several files read as one, each beginning after the last byte of the one before; see `cowherd.storage.blocks.BlockFile`."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from cowherd.errors import ReadOnlyImage
from cowherd.storage.buffers import clear

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import NoReturn

    from cowherd.storage.blocks import BlockFile
    from cowherd.storage.locks import LockMode
    from cowherd.urls import Url


class JoinedFile:
    """The files into which a format puts the guest's bytes, in order, as one file that can only be read."""

    is_block_device = False
    writable = False
    host = None

    def __init__(self, parts: Sequence[tuple[BlockFile, int]]):
        """Takes over the files of `parts`, at least one. Each comes with how many of its bytes count, whatever its length."""
        self._parts = tuple(parts)
        self._starts = [0]
        for _, length in parts:
            self._starts.append(self._starts[-1] + length)

    @property
    def name(self) -> str | Url:
        """The name of the first file."""
        return self._parts[0][0].name

    @property
    def path(self) -> Path | Url:
        """The same, in the form that errors keep."""
        return self._parts[0][0].path

    @property
    def key(self) -> Hashable:
        """The keys of all files, and how much of each counts."""
        return tuple((file.key, length) for file, length in self._parts)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return all(file.closed for file, _ in self._parts)

    def size(self) -> int:
        """Returns the bytes of all files together."""
        return self._starts[-1]

    def allocated_bytes(self) -> int | None:
        """Returns the bytes that all files occupy, None if that is unknown for one."""
        each = [file.allocated_bytes() for file, _ in self._parts]
        known = [allocated for allocated in each if allocated is not None]
        return sum(known) if len(known) == len(each) else None

    def lock(self, mode: LockMode) -> None:
        """Takes the locks of `mode` on each file; see `BlockFile.lock`."""
        for file, _ in self._parts:
            file.lock(mode)

    def close(self) -> None:
        """Closes all files. Closing twice is fine."""
        for file, _ in self._parts:
            file.close()

    def pread(self, offset: int, length: int) -> bytes:
        """Returns exactly `length` bytes; bytes past the end are zeros."""
        data = bytearray(length)
        self.preadinto(offset, memoryview(data))
        return bytes(data)

    def pread_each(self, offsets: Iterable[int], length: int) -> list[bytes]:
        """Returns `length` bytes from each of `offsets`; bytes past the end are zeros."""
        return [self.pread(offset, length) for offset in offsets]

    def preadinto(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` (contiguous, of any item type) from `offset`; bytes past the end are zeros."""
        self.gather([(offset, buffer)])

    def gather(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fills each buffer from the offset beside it; each file gets all of its parts in one call."""
        wanted: list[list[tuple[int, memoryview]]] = [[] for _ in self._parts]
        for offset, buffer in parts:
            view = buffer.cast("B") if buffer.nbytes else buffer[:0]
            inside = max(0, min(len(view), self.size() - offset))
            clear(view[inside:])
            for number, start, end in self._pieces(offset, offset + inside):
                wanted[number].append((start - self._starts[number], view[start - offset : end - offset]))
        for (file, _), those in zip(self._parts, wanted, strict=True):
            if those:
                file.gather(those)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields the (start, end) runs of [start, end) that may hold data."""
        for number, first, last in self._pieces(start, min(end, self.size())):
            begin = self._starts[number]
            for low, high in self._parts[number][0].data_ranges(first - begin, last - begin):
                yield begin + low, begin + high

    def next_data(self, offset: int) -> int | None:
        """Returns the first offset at or after `offset` that may hold data, None if there is none."""
        return next((start for start, _ in self.data_ranges(offset, self.size())), None)

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Cuts [start, end), which lies inside the whole, where files end; yields each file's number and the range in it."""
        number = bisect_right(self._starts, start) - 1
        while start < end:
            stop = min(end, self._starts[number + 1])
            if start < stop:
                yield number, start, stop
            start, number = stop, number + 1

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Raises `ReadOnlyImage`: formats of several files can only be read."""
        raise ReadOnlyImage(self.name)

    pwrite = pwritev = flush = truncate = reach = write_zeros = zero_range = punch_hole = preallocate = _refuse
