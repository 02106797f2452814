"""The interface of files that hold an image's bytes: formats and chains use it, whatever kind of file is behind it.

`HostFile` is a file or a device of this host, `HttpFile` a file on a web server. Only type checkers need this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence
    from pathlib import Path

    from cowherd.storage.hostfile import Buffer, HostFile
    from cowherd.storage.locks import LockMode
    from cowherd.urls import ImageName, Url


class Opener(Protocol):
    """Opens the file of an image, without locks: `cowherd.storage.opening.open_file`, or one that lends files that are open."""

    def __call__(self, name: ImageName, *, writable: bool = False) -> BlockFile:
        """Opens the file. Raises `HostFileError`."""
        ...


class BlockFile(Protocol):
    """A file to read, and perhaps to write, at offsets. Threads may share one object.

    Every method raises `HostFileError` if the file's host refuses; methods that change something raise `ReadOnlyImage` unless the
    file is `writable`. Offsets and lengths are bytes of the file.
    """

    @property
    def name(self) -> str | Url:
        """The name or address under which it was opened."""
        ...

    @property
    def path(self) -> Path | Url:
        """The same, in the form that errors keep."""
        ...

    @property
    def key(self) -> Hashable:
        """Its identity: two open files with equal keys always have the same bytes."""
        ...

    @property
    def host(self) -> HostFile | None:
        """The file of this host that has these bytes, so that the kernel may copy or share them; None if there is none."""
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
        """Whether its length is fixed, and bytes that nobody wrote are not zeros."""
        ...

    def size(self) -> int:
        """Returns its length in bytes."""
        ...

    def allocated_bytes(self) -> int | None:
        """Returns the bytes that it occupies where it is stored, None if that is unknown."""
        ...

    def lock(self, mode: LockMode) -> None:
        """Takes the locks of `mode` in place of those held, if files of its kind have locks. Raises `ImageInUse`."""
        ...

    def close(self) -> None:
        """Closes it. Closing twice is fine."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """Returns exactly `length` bytes; bytes past the end are zeros."""
        ...

    def pread_each(self, offsets: Iterable[int], length: int) -> list[bytes]:
        """Returns `length` bytes from each of `offsets`; bytes past the end are zeros."""
        ...

    def preadinto(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` (contiguous, of any item type) from `offset`; bytes past the end are zeros."""
        ...

    def gather(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Does what `preadinto` does for each buffer and the offset beside it, with as few requests as possible."""
        ...

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields the (start, end) runs of [start, end) that may hold data; the rest reads as zeros without being stored."""
        ...

    def next_data(self, offset: int) -> int | None:
        """Returns the first offset at or after `offset` that may hold data, None if there is none: the rest reads as zeros."""
        ...

    def pwrite(self, offset: int, data: Buffer) -> None:
        """Writes all of `data` (contiguous, of any item type) at `offset`."""
        ...

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Writes the concatenation of `buffers` at `offset`."""
        ...

    def flush(self) -> None:
        """Makes everything written so far durable. Raises `FlushFailed`; once it did, it always does."""
        ...

    def truncate(self, size: int) -> None:
        """Sets its length."""
        ...

    def reach(self, size: int) -> None:
        """Makes it `size` bytes long; a block device only has to have that many."""
        ...

    def write_zeros(self, offset: int, length: int, *, unmap: bool) -> None:
        """Makes a range read as zeros, by writing them if there is no other way; with `unmap`, gives its space back."""
        ...

    def zero_range(self, offset: int, length: int, *, unmap: bool) -> bool:
        """Makes a range read as zeros without writing it; returns False if it can't: then the caller must write zeros."""
        ...

    def punch_hole(self, offset: int, length: int) -> None:
        """Gives a range's space back if it can; the range's content is then undefined."""
        ...

    def preallocate(self, offset: int, length: int) -> None:
        """Reserves space for a range, extending it if it ends inside the range."""
        ...
