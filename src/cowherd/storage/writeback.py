"""Starts to write a file's pages to the disk, without waiting: sync_file_range(2), which Python's `os` lacks.

This makes nothing durable; the flush that does only has less left to write.
"""

from __future__ import annotations

from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cowherd.storage.hostfile import HostFile

BEHIND_BYTES = 16 << 20
"""So many bytes are written to a file before the kernel is asked to write them to the disk."""


class WriteBehind:
    """Has the kernel write a file's pages to the disk while the file is still being written, so that its flush finds few.

    For who writes a file at many places; nothing is done without a file.
    """

    def __init__(self, file: HostFile | None):
        self._file, self._bytes = file, 0

    def wrote(self, count: int) -> None:
        """Called after so many bytes were written to the file."""
        self._bytes += count
        if self._file is not None and self._bytes >= BEHIND_BYTES:
            self._file.start_writing(0, 0)
            self._bytes = 0


_WRITE = 2  # SYNC_FILE_RANGE_WRITE


def start_writing(fd: int, offset: int, length: int) -> None:
    """Asks the kernel to begin writing a range of a file to its disk; a `length` of 0 reaches to the file's end.

    Whether it does affects only the time: the next flush reports a failed write, as it does for any.
    """
    _sync_file_range()(fd, offset, length, _WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int]:
    """Returns sync_file_range(2), or a function that does nothing if the C library has none."""
    import ctypes  # here, because most uses of a host file never need it and it takes milliseconds to load

    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is None:
        return lambda _fd, _offset, _length, _flags: 0
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return lambda fd, offset, length, flags: int(function(fd, offset, length, flags))
