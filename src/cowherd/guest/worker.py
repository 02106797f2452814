"""The process that reads a guest's file systems: `python -m cowherd.guest.worker`, started by `cowherd.guest.sandbox`.

It opens no file of the host. It writes requests, each an offset and a length (two little-endian 64-bit numbers), to its standard
output and reads that many bytes from its standard input; the first eight bytes that it reads are the disk's size. A request of
length 0 is the end: its offset is the length of the answer that follows it.
"""

from __future__ import annotations

import os
import resource
import struct
import sys

from cowherd.guest.source import Cached
from cowherd.guest.survey import survey
from cowherd.guest.wire import encoded

REQUEST = struct.Struct("<QQ")
SIZE = struct.Struct("<Q")

_READING, _WRITING = 0, 1
_MOST_SAID = 1 << 20


def main() -> int:
    """Answers one disk and ends."""
    _limit(int(sys.argv[1]), int(sys.argv[2]))
    (size,) = SIZE.unpack(_receive(SIZE.size))
    answer = encoded(survey(Cached(_fetch, size)))
    _send(REQUEST.pack(len(answer), 0))
    _send(answer)
    return 0


def _limit(memory: int, seconds: int) -> None:
    """Takes from this process what it does not need: more memory and time, and more than a message to write."""
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, _MOST_SAID),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def _fetch(offset: int, length: int) -> bytes:
    _send(REQUEST.pack(offset, length))
    return _receive(length)


def _receive(length: int) -> bytes:
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        got = os.readv(_READING, [view])
        if not got:
            sys.exit("nobody asks any more")
        view = view[got:]
    return bytes(buffer)


def _send(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(_WRITING, view) :]


if __name__ == "__main__":
    sys.exit(main())
