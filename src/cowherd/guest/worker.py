"""The process that reads a guest's file systems: `python -m cowherd.guest.worker`, started by `cowherd.guest.sandbox`.

It opens no file of the host. First it reads from its standard input the disk's size, the number of doubted ranges, and these
ranges, all as little-endian 64-bit numbers. Then it writes messages to its standard output, each a kind and two such numbers:

    READ      an offset and a length; the process then reads that many bytes from its standard input
    PROGRESS  how much is done, and of how much
    ANSWER    the length of the chart, which follows; this is the last message
"""

from __future__ import annotations

import os
import struct
import sys

import numpy as np

from cowherd.children import limit_self
from cowherd.guest.source import Cached
from cowherd.guest.survey import survey
from cowherd.guest.wire import encoded

MESSAGE = struct.Struct("<BQQ")
READ, PROGRESS, ANSWER = 0, 1, 2
HEAD = struct.Struct("<QQ")

_READING, _WRITING = 0, 1
_MOST_SAID = 1 << 20


def main() -> int:
    """Reads one disk, sends its chart and ends. Returns the exit code."""
    limit_self(int(sys.argv[1]), int(sys.argv[2]), _MOST_SAID)
    size, count = HEAD.unpack(_receive(HEAD.size))
    doubted = np.frombuffer(_receive(16 * count), "<i8").astype(np.int64).reshape(-1, 2)
    answer = encoded(survey(Cached(_fetch, size, _report, doubted)))
    _send(MESSAGE.pack(ANSWER, len(answer), 0))
    _send(answer)
    return 0


def _fetch(offset: int, length: int) -> bytes:
    _send(MESSAGE.pack(READ, offset, length))
    return _receive(length)


def _report(done: int, total: int) -> None:
    _send(MESSAGE.pack(PROGRESS, done, total))


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
