"""What an image's bytes lie in: the side of a file that formats and chains know, whatever is behind it.

`HostFile` is a file or a device of this host, `HttpFile` one that a server gives out. Only type checkers need this module.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cowherd.storage.hostfile import Buffer, HostFile
from cowherd.storage.locks import LockMode
from cowherd.urls import Url


class BlockFile(Protocol):
    """Bytes that are read, and perhaps written, at offsets. Threads may share one object.

    Every method raises `HostFileError` where its host refuses; those that change something raise `ReadOnlyImage` unless it is
    `writable`. Offsets and lengths are bytes of the file.
    """

    @property
    def name(self) -> str | Url:
        """What it was opened by."""
        ...

    @property
    def path(self) -> Path | Url:
        """The same, as errors keep it."""
        ...

    @property
    def key(self) -> Hashable:
        """What it is known by: two open files of equal keys have the same bytes, always."""
        ...

    @property
    def host(self) -> HostFile | None:
        """The file of this host whose bytes these are, which the kernel may copy or share; None where there is none."""
        ...

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        ...

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        ...

    @property
    def is_block_device(self) -> bool:
        """Whether its length is given, and what nobody wrote is not zeros."""
        ...

    def size(self) -> int:
        """Returns its length in bytes."""
        ...

    def allocated_bytes(self) -> int | None:
        """Returns the bytes that it occupies where it is stored, None where nobody tells."""
        ...

    def lock(self, mode: LockMode) -> None:
        """Takes the locks of `mode` in place of those held, where there are any; raises `ImageInUse` where it can't."""
        ...

    def close(self) -> None:
        """Closes it. Closing twice is fine."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """Returns exactly `length` bytes; what lies past the end is zeros."""
        ...

    def pread_each(self, offsets: Iterable[int], length: int) -> list[bytes]:
        """Returns `length` bytes from each of `offsets`; what lies past the end is zeros."""
        ...

    def preadinto(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` (contiguous, of any item type) from `offset`; what lies past the end is zeros."""
        ...

    def gather(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Does what `preadinto` does for each buffer and the offset beside it, with as few requests as it may take."""
        ...

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields the (start, end) runs of [start, end) that may hold data; the rest reads as zeros without being stored."""
        ...

    def next_data(self, offset: int) -> int | None:
        """Returns where there may be data at or after `offset`, None where there is none: the rest reads as zeros."""
        ...

    def pwrite(self, offset: int, data: Buffer) -> None:
        """Writes all of `data` (contiguous, of any item type) at `offset`."""
        ...

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Writes the concatenation of `buffers` at `offset`."""
        ...

    def flush(self) -> None:
        """Makes everything written so far durable. Raises `FlushFailed`, and from then on always."""
        ...

    def truncate(self, size: int) -> None:
        """Sets its length."""
        ...

    def reach(self, size: int) -> None:
        """Makes it `size` bytes long; a block device only has to have as many."""
        ...

    def write_zeros(self, offset: int, length: int, *, unmap: bool) -> None:
        """Makes a range read as zeros, by writing them where there is no other way; with `unmap` its space is given back."""
        ...

    def zero_range(self, offset: int, length: int, *, unmap: bool) -> bool:
        """Makes a range read as zeros without writing it; returns False where it can't, and the caller must write zeros."""
        ...

    def punch_hole(self, offset: int, length: int) -> None:
        """Gives a range's space back where it can; the range's content is then undefined."""
        ...

    def preallocate(self, offset: int, length: int) -> None:
        """Reserves space for a range, extending it if it ends inside the range."""
        ...
