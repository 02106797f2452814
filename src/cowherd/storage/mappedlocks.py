"""Locks that are kept without a descriptor, so that a job can hold more files than a process may have open.

A lock belongs to an open file description. It lasts as long as anything refers to that, and a mapping does as a descriptor
does (fcntl_locking(2), mmap(2)). So a locked file is mapped, without access to it, and its descriptor closed. But some file
systems map another file than the one that was opened, as overlayfs does, and some map none. So it is tried beforehand, with a
lock that nobody else asks for, whether one outlives its descriptor on this very file.
"""

from __future__ import annotations

import mmap
import os
from functools import cache

from cowherd.errors import CowherdError
from cowherd.storage.identity import open_unnoticed
from cowherd.storage.locks import is_locked_by_others, lock_shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import CDLL

_NO_ACCESS = 0  # PROT_NONE
_FIRST_OF_OURS = 1 << 61  # no program locks bytes so far out; the one that is taken is drawn at random


class MappedLocks:
    """The locks of a file that is mapped and need not be open. They end with `close`, or with this process.

    Children that are forked meanwhile do not inherit them.
    """

    def __init__(self, fd: int) -> None:
        """Keeps the locks that `fd` has, which the caller may close then. Raises `OSError` for a file that can't be mapped."""
        self._mapped_by = os.getpid()
        self._address = _map(fd)

    def close(self) -> None:
        """Gives up the locks, unless this process was forked from the one that has them."""
        address, self._address = self._address, 0
        if address and self._mapped_by == os.getpid():
            _library().munmap(address, mmap.PAGESIZE)


def outlive_descriptors(fd: int, name: str) -> bool:
    """Returns whether locks of this open file, called `name`, last as long as it is mapped. Takes a descriptor for a moment."""
    byte = _FIRST_OF_OURS + int.from_bytes(os.urandom(7), "little")
    try:
        other = open_unnoticed(name)
        try:
            if not os.path.sameopenfile(fd, other):
                return False
            lock_shared(other, byte, name)
            locks = MappedLocks(other)
        finally:
            os.close(other)
    except (CowherdError, OSError):  # it may not be opened, locked or mapped: so its descriptor stays
        return False
    try:
        return is_locked_by_others(fd, byte, name)
    finally:
        locks.close()


def _map(fd: int) -> int:
    """Maps the first page of a descriptor's file, which may be empty, and returns the address. Raises `OSError`."""
    import ctypes

    libc = _library()
    address = _mmap()(None, mmap.PAGESIZE, _NO_ACCESS, mmap.MAP_PRIVATE, fd, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise _failure()
    if libc.madvise(address, mmap.PAGESIZE, mmap.MADV_DONTFORK):
        error = _failure()
        libc.munmap(address, mmap.PAGESIZE)
        raise error
    return int(address)


def _failure() -> OSError:
    import ctypes

    error = ctypes.get_errno()
    return OSError(error, os.strerror(error))


@cache
def _mmap() -> Callable[..., int | None]:
    """Returns mmap(2). Python's own `mmap` would keep a copy of the descriptor."""
    import ctypes

    libc = _library()
    function = getattr(libc, "mmap64", None) or libc.mmap  # the plain name takes 32-bit offsets on 32-bit glibc
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    return function


@cache
def _library() -> CDLL:
    """Returns the C library."""
    import ctypes  # here, because only jobs on very many files need it and it takes milliseconds to load

    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc
