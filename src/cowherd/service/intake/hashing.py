"""Hashes bytes as they arrive, each digest in a thread of its own, beside the one that stores them."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterable
from typing import ClassVar, NamedTuple

from blake3 import blake3

from cowherd.storage.hostfile import Buffer
from cowherd.stores.sums import Summing, Sums

BLOCK_BYTES = 4 << 20
"""Bytes of the blocks to feed: so many that to wake the threads for each costs little."""
SMALL_BLOCK_BYTES = BLOCK_BYTES // 4
"""Bytes of the blocks where memory counts for more."""
IN_FLIGHT = 2
"""The most blocks that wait for the slowest thread, the one that it works on among them."""
PROCESSORS = len(os.sched_getaffinity(0))
"""The processors that this process may use."""

Take = Callable[[Buffer], object]


class Digests(NamedTuple):
    """What bytes hash to: `blake3` and `named` (by hashlib's names) in hexadecimal digits, and the sums of their pieces."""

    size: int
    blake3: str
    named: dict[str, str]
    sums: Sums


class Hasher:
    """Takes blocks of bytes and gives each to all its threads, which must not change them.

    One thread feeds it. It does the work of the others itself while as many feed hashers as there are processors: then the others
    bring nothing, and to wake them has its price. It ends with `finish` or `abandon`; until then its threads run. What a thread
    raises, `feed` or `finish` raises later, and the blocks after that are dropped.
    """

    _being_fed: ClassVar[set[Hasher]] = set()

    def __init__(self, names: Iterable[str], *takers: Take):
        """`names` are digests that hashlib knows; `takers` are called with each block in a thread of their own."""
        self._named = {name: hashlib.new(name, usedforsecurity=False) for name in names}
        self._whole, self._summing, self.size = blake3(), Summing(), 0
        self._lanes: list[_Lane] = []
        try:
            for take in (*(one.update for one in self._named.values()), self._take_blake3, *takers):
                self._lanes.append(_Lane(take))
        except RuntimeError:  # the host has no more threads
            self.abandon()
            raise

    def feed(self, block: Buffer) -> None:
        """Hands over the next bytes; waits while the slowest thread is too far behind."""
        self._being_fed.add(self)
        try:
            here = len(self._being_fed) >= PROCESSORS
            for lane in self._lanes:
                lane.put(block, here=here)
        finally:
            self._being_fed.remove(self)
        self.size += len(block)

    def finish(self) -> Digests:
        """Waits for all threads, and returns the digests of all bytes."""
        self._end()
        for lane in self._lanes:
            lane.require_fine()
        named = {name: one.hexdigest() for name, one in self._named.items()}
        return Digests(self.size, self._whole.hexdigest(), named, self._summing.finish())

    def abandon(self) -> None:
        """Drops what is not hashed yet, and waits until no thread runs any more. Abandoning twice is fine."""
        for lane in self._lanes:
            lane.dropping = True
        self._end()

    def _end(self) -> None:
        for lane in self._lanes:
            lane.end()

    def _take_blake3(self, block: Buffer) -> None:
        self._whole.update(block)
        self._summing.update(block)


class _Lane:
    """A thread that calls `take` with each block, in order."""

    def __init__(self, take: Take):
        self._take, self.dropping = take, False
        self._error: BaseException | None = None
        # Two queues that only C works on: a bounded one of Python's takes ten times as long, for each block and thread.
        self._blocks: queue.SimpleQueue[Buffer | None] = queue.SimpleQueue()
        self._taken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._room = IN_FLIGHT
        self._thread = threading.Thread(target=self._run, daemon=True)  # a process that ends does not wait for it
        self._thread.start()

    def put(self, block: Buffer, *, here: bool) -> None:
        """Has the thread take the next block; the caller takes it before this returns if `here` and the thread has nothing to do.

        Raises what `take` raised for this block or one before.
        """
        self.require_fine()
        if here and self._room + self._taken.qsize() == IN_FLIGHT:
            self._attempt(block)
            self.require_fine()
            return
        if self._room:
            self._room -= 1
        else:
            self._taken.get()
        self._blocks.put(block)

    def end(self) -> None:
        """Waits until the blocks put so far are taken, and the thread is over."""
        if self._thread.is_alive():
            self._blocks.put(None)
            self._thread.join()

    def require_fine(self) -> None:
        """Raises what `take` raised."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            if not self.dropping:
                self._attempt(block)
            del block  # not to be held while there is no other
            self._taken.put(None)

    def _attempt(self, block: Buffer) -> None:
        try:
            self._take(block)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that feeds
            self._error, self.dropping = error, True
