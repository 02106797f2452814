"""Gives the body of a request to a thread, block for block, while the event loop receives the next ones.

The body has one thread, and the loop is told only when that has nothing left: to hand each block to a pool of threads by itself
took two fifths of all the time that the interpreter spent on an upload.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING

from cowherd.service.intake.hashing import SMALL_BLOCK_BYTES
from cowherd.service.web.call import ClientGone
from cowherd.service.web.errors import BodyStalled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cowherd.service.intake.hashing import Take
    from cowherd.service.web.call import Call
    from cowherd.storage.hostfile import Buffer

_MOST_WAITING = 1


async def feed_body(call: Call, take: Take) -> None:
    """Calls `take` with each block of the body, in order, in a thread.

    Raises what it raises, as soon as it does; `ClientGone` or `BodyStalled` once it has taken all that came before. No call of it
    is under way any more when this returns or raises.
    """
    feeder = _Feeder(take)
    try:
        await feeder.receive(call)
    except (ClientGone, BodyStalled):
        await feeder.finish()
        raise
    except BaseException:
        feeder.stop()
        raise
    await feeder.finish()


async def blocks_of(call: Call) -> AsyncIterator[Buffer]:
    """Gives the body in blocks as large as the intake takes them best; also what came before the client was gone."""
    parts: list[Buffer] = []
    size = 0
    try:
        async for part in call.parts():
            if not parts and len(part) >= SMALL_BLOCK_BYTES:
                yield part
                continue
            parts.append(part)
            size += len(part)
            if size >= SMALL_BLOCK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
    except (ClientGone, BodyStalled):
        if parts:
            yield b"".join(parts)
        raise
    if parts:
        yield b"".join(parts)


class _Feeder:
    """The thread that calls `take`, and what the event loop knows of it."""

    def __init__(self, take: Take):
        self._take, self._loop = take, asyncio.get_running_loop()
        self._blocks: queue.SimpleQueue[Buffer | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._dropping = self._is_awaited = False
        self._empty, self._over = asyncio.Event(), asyncio.Event()
        self._receiving: asyncio.Timeout | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)  # a process that ends does not wait for it
        self._thread.start()

    async def receive(self, call: Call) -> None:
        """Gives the body to the thread. Raises what `take` raised, `ClientGone`, `BodyStalled`."""
        try:
            async with asyncio.timeout(None) as self._receiving:
                async for block in blocks_of(call):
                    await self._give(block)
        except TimeoutError:
            self._require_fine()
            raise
        finally:
            self._receiving = None

    async def finish(self) -> None:
        """Waits until all is taken. Raises what `take` raised."""
        self._blocks.put(None)
        await self._over.wait()
        self._require_fine()

    def stop(self) -> None:
        """Waits until the call of `take` under way is over; what waits is dropped."""
        self._dropping = True
        self._blocks.put(None)
        self._thread.join()

    async def _give(self, block: Buffer) -> None:
        self._blocks.put(block)
        while self._blocks.qsize() >= _MOST_WAITING:
            self._empty.clear()
            self._is_awaited = True
            if not self._blocks.empty():  # the thread looks at the flag after it took the last one
                await self._empty.wait()

    def _require_fine(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (block := self._blocks.get()) is not None and not self._dropping:
                if self._is_awaited and self._blocks.empty():
                    self._is_awaited = False
                    self._loop.call_soon_threadsafe(self._empty.set)
                self._take(block)
                del block  # not to be held while there is no other
        except BaseException as error:  # noqa: BLE001 - it is raised in the task that receives
            self._error = error
        if not self._dropping:
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        """Called in the event loop when the thread takes no more."""
        self._over.set()
        if self._receiving is not None:
            self._receiving.reschedule(self._loop.time())
