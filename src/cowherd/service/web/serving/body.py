"""The rest of a long body, received straight into blocks of memory.

The kernel copies the bytes into the block that the application gets. Parsed as HTTP they would be copied twice more, and joined
of some ten parts a block; but where the length of a body is known, there is nothing to parse.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from cowherd.service.intake.hashing import BLOCK_BYTES, SMALL_BLOCK_BYTES

LONGEST_HOLD_SECONDS = 1.0
"""How long bytes wait for the rest of their block before the application gets them without it."""
_TOGETHER_BYTES = 8 << 20
"""Bytes of the blocks that are filled at once, one for each body, unless there are very many."""


class Connection(Protocol):
    """Who a body is received for: a protocol of the event loop that is told of parts of the body, and of its end."""

    def on_body(self, body: memoryview) -> None:
        """Takes a part of the body."""

    def end_body(self) -> None:
        """Called after the last part; takes the transport back."""

    def eof_received(self) -> None:
        """Called when the client sends nothing more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection is over."""

    def pause_writing(self) -> None:
        """Called when too much waits to be sent."""

    def resume_writing(self) -> None:
        """Called when little waits to be sent."""


def _block_bytes(bodies: int) -> int:
    """Returns how many bytes the next block is to have, a power of two, while so many bodies come."""
    share = 1 << ((_TOGETHER_BYTES // bodies).bit_length() - 1)
    return min(max(share, SMALL_BLOCK_BYTES), BLOCK_BYTES)


class LongBody(asyncio.BufferedProtocol):
    """Stands in for a connection's protocol until the last byte of a body has come.

    Blocks end at multiples of `BLOCK_BYTES` in the body; while several bodies come at once, since each has some blocks in memory,
    at those of a half, or of a quarter, which is `SMALL_BLOCK_BYTES`. A slow client's bytes are given on in parts of a block.
    """

    _under_way = 0

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop, length: int, begun: int):
        """Of the body's `length` bytes, `begun` have come."""
        self._connection, self._loop = connection, loop
        self._length, self._left = length, length - begun
        self._block = bytearray()
        self._given = self._filled = 0
        self._timer: asyncio.TimerHandle | None = None
        LongBody._under_way += 1

    def get_buffer(self, sizehint: int) -> memoryview:
        """Returns where the next bytes go; never more room than the body needs, so that the next request stays where it is."""
        if self._filled == len(self._block):
            unit = _block_bytes(LongBody._under_way)
            self._block = bytearray(min(unit - (self._length - self._left) % unit, self._left))
            self._given = self._filled = 0
        return memoryview(self._block)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Called when so many bytes have come."""
        self._filled += nbytes
        self._left -= nbytes
        if self._filled == len(self._block):
            self._give()
        elif self._timer is None:
            self._timer = self._loop.call_later(LONGEST_HOLD_SECONDS, self._give_part)
        if not self._left:
            self._end()
            self._connection.end_body()

    def eof_received(self) -> None:
        """Tells the connection."""
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives the last bytes on, and tells the connection."""
        self._end()
        self._give()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tells the connection."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Tells the connection."""
        self._connection.resume_writing()

    def _give_part(self) -> None:
        self._timer = None
        self._give()

    def _give(self) -> None:
        if self._given < self._filled:
            part = memoryview(self._block)[self._given : self._filled].toreadonly()
            self._given = self._filled
            self._connection.on_body(part)

    def _end(self) -> None:
        """Called when no more bytes come."""
        LongBody._under_way -= 1
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
