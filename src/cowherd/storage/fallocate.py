"""fallocate(2) with the modes that Python's `os` module does not offer: punching holes and zeroing ranges."""

from __future__ import annotations

import errno
import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_ZERO_RANGE = 0x10
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.ENOTTY)


def zero_range(fd: int, offset: int, length: int, *, unmap: bool) -> bool:
    """Makes [offset, offset+length) read as zeros; with `unmap` frees its space. Returns False if the host does not support it.

    Raises OSError if the host fails, as on a full disk. The file's length stays as it is.
    """
    if length <= 0:
        return True
    mode = (_PUNCH_HOLE if unmap else _ZERO_RANGE) | _KEEP_SIZE
    while error := _fallocate()(fd, mode, offset, length):
        if error in _UNSUPPORTED:
            return False
        if error != errno.EINTR:  # after a signal, whose handler has run, the call is repeated
            raise OSError(error, os.strerror(error))
    return True


@cache
def _fallocate() -> Callable[[int, int, int, int], int]:
    """Returns fallocate(2) as a function that returns 0 or an errno."""
    import ctypes  # here, because most uses of a host file never need it and it takes milliseconds to load

    libc = ctypes.CDLL(None, use_errno=True)
    function = getattr(libc, "fallocate64", None) or libc.fallocate  # the plain name takes 32-bit offsets on 32-bit glibc
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

    def call(fd: int, mode: int, offset: int, length: int) -> int:
        return 0 if function(fd, mode, offset, length) == 0 else ctypes.get_errno()

    return call
