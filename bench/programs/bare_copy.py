"""What the machine itself needs for a job: reads bytes of some files' data and writes as many as are asked for, block by block.

python bare_copy.py direct|"direct writes"|buffered|kernel READS WRITES TARGET SOURCE [SOURCE ...]

direct: past the page cache (as dd iflag=direct oflag=direct bs=8M does); direct writes: only what is written (dd oflag=direct);
buffered: through it (dd bs=8M conv=fsync); kernel: copy_file_range. Unlike dd it leaves holes of the sources out. What is written
is flushed. If the sources hold less data than READS, all of it is read; what is to be written beyond that is the last block
again. With 0 WRITES there is no target.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator

BLOCK = 8 << 20
_PAGE = 4096
_KERNELS_MOST = 1 << 30
"""One call moves so much: the kernel's limit is a little under 2 GiB."""


def main() -> None:
    """Does what the command line asks for."""
    way, reads, writes, target, *sources = sys.argv[1:]
    fd = open_target(target, way) if int(writes) else -1
    if way == "kernel":
        copy_in_kernel(sources, int(writes), fd)
    else:
        copy(sources, int(reads), int(writes), fd, os.O_DIRECT if way == "direct" else 0)
    if fd >= 0:
        os.fsync(fd)


def open_target(path: str, way: str) -> int:
    """A new file to write to."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (os.O_DIRECT if way.startswith("direct") else 0), 0o644)


def copy(sources: list[str], reads: int, writes: int, target: int, flags: int) -> None:
    """Reads and writes in turn, in one thread."""
    buffer = memoryview(mmap.mmap(-1, BLOCK))  # begins on a page, as O_DIRECT wants it
    written = 0
    for fd, start, length in blocks(sources, flags, BLOCK, reads):
        os.preadv(fd, [buffer[: whole_pages(length)]], start)
        written += write(target, buffer, min(length, writes - written), written)
    while written < writes:
        written += write(target, buffer, min(BLOCK, writes - written), written)


def write(target: int, buffer: memoryview, length: int, offset: int) -> int:
    """Writes the first bytes of `buffer`, in whole pages; returns how many."""
    return os.pwrite(target, buffer[: whole_pages(length)], offset) if length > 0 else 0


def copy_in_kernel(sources: list[str], writes: int, target: int) -> None:
    """Has the kernel copy the data."""
    written = 0
    for fd, start, length in blocks(sources, 0, _KERNELS_MOST, writes):
        end = start + length
        while start < end:
            copied = os.copy_file_range(fd, target, end - start, start, written)
            if not copied:
                raise SystemExit(f"{sources} end before byte {end}")
            start, written = start + copied, written + copied


def blocks(sources: list[str], flags: int, most: int, limit: int) -> Iterator[tuple[int, int, int]]:
    """Descriptor, start and length of pieces of the files' data, each of `most` bytes or less, in all `limit` or less."""
    for path in sources:
        fd = os.open(path, os.O_RDONLY | flags)
        for start, end in data(fd):
            while start < end and limit > 0:
                length = min(most, end - start, limit)
                yield fd, start, length
                start, limit = start + length, limit - length
        os.close(fd)


def data(fd: int) -> Iterator[tuple[int, int]]:
    """Where data begins and ends in a file, from its beginning on."""
    size, end = os.fstat(fd).st_size, 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            return  # ENXIO: nothing but a hole follows
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def whole_pages(length: int) -> int:
    """`length`, rounded up to pages."""
    return -(-length // _PAGE) * _PAGE


main()
