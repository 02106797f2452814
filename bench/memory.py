"""Taking memory from the host before a run, so that no run has to.

A virtual machine may give memory that is free back to its host, and whoever takes it anew waits for each page: more than a second
for 1 GiB, which is more than many a job takes. Which run that hits is a matter of luck, and of who comes second.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

_MOST_SHARE = 2  # of the memory that is there
# As cowherd and qemu-img write: Linux looks for memory for its cache in pieces as large as the write.
_WRITES = (1 << 20, 2 << 20)


def touch(size: int, folder: Path) -> None:
    """Writes to `size` bytes of new memory, less if there is not twice as much, and gives it back.

    It does so with a process's own memory, and with the page cache, by files in `folder` that are gone before they reach a disk.
    """
    available = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE
    size = min(size, available // _MOST_SHARE) // mmap.PAGESIZE * mmap.PAGESIZE
    if size:
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            pages = np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE]
            pages[:] = 1
            del pages  # memory with a view of it can't be given back
    for length in _WRITES:
        _write(size, length, folder)


def _write(size: int, length: int, folder: Path) -> None:
    """Writes a file without a name, and drops it."""
    content = bytes(length)
    fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
    try:
        for _ in range(size // length):
            os.write(fd, content)
    finally:
        os.close(fd)
