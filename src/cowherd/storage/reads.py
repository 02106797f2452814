"""Reads of a descriptor that are gone on with: a host may give less at once than there is, which is no end of the file."""

from __future__ import annotations

import os


def read_range(fd: int, offset: int, length: int) -> bytes:
    """Returns `length` bytes from `offset` on, or all that the file has of them. Raises OSError."""
    found = os.pread(fd, length, offset)
    while len(found) < length and (more := os.pread(fd, length - len(found), offset + len(found))):
        found += more
    return found
