"""A read-only file on a server, over HTTP or HTTPS: see `cowherd.storage.blocks.BlockFile`.

Small reads use blocks that the file keeps, and fetch more than they need, as QEMU's curl driver does; large reads go from the
connection into the caller's buffer.
"""

from __future__ import annotations

import threading
from operator import itemgetter
from typing import TYPE_CHECKING

from cowherd.errors import ReadOnlyImage, RemoteFileError
from cowherd.storage.buffers import clear
from cowherd.storage.httpranges import RangeClient, Version

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator
    from typing import NoReturn, Self

    from cowherd.storage.locks import LockMode
    from cowherd.urls import Url

    Part = tuple[int, memoryview]

BLOCK_BYTES = 64 << 10
"""Bytes of a kept block. A read of this many or more fetches only its own blocks: clusters may lie in any order."""
READ_AHEAD_BYTES = 256 << 10
"""Bytes fetched for a smaller read than a block, and on opening; as many as QEMU's `readahead`. A read of as many is not kept."""
LONGEST_BYTES = 4 << 20
"""Most bytes of one request: its answer has to come within `httpconnection.ANSWER_SECONDS`."""
_KEPT_BLOCKS = 256
_SMALL_GAP = 64 << 10
"""Most bytes between two parts that one request fetches together: fetching these takes less time than another request."""


class HttpFile:
    """A remote file as it was when it was opened. If it changes on the server, reads fail, as far as the server tells."""

    is_block_device = False
    writable = False
    host = None

    def __init__(self, client: RangeClient, version: Version):
        """Takes over `client`."""
        self.name = self.path = client.url
        self.closed = False
        self._client, self._version = client, version
        self._blocks: dict[int, bytes] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, url: Url, *, writable: bool = False) -> Self:
        """Opens the file at `url`. Raises `RemoteFileError`, always if `writable`."""
        if writable:
            raise RemoteFileError(url, "open", "an image can be read over HTTP, and not be written to")
        client = RangeClient(url)
        try:
            version, beginning = client.open(READ_AHEAD_BYTES)
        except BaseException:
            client.close()
            raise
        file = cls(client, version)
        file._keep(0, beginning)
        return file

    @property
    def key(self) -> Hashable:
        """Address and version: see `BlockFile.key`."""
        return self.name, self._version

    def size(self) -> int:
        """Returns the file's length in bytes."""
        return self._version.size

    def allocated_bytes(self) -> None:
        """Returns None: a server does not report it."""
        return

    def lock(self, mode: LockMode) -> None:
        """Does nothing: nothing can keep others from changing the file, but reads notice a change."""

    def close(self) -> None:
        """Closes the connections. Closing twice is fine."""
        self.closed = True
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def pread(self, offset: int, length: int) -> bytes:
        """Returns exactly `length` bytes; bytes past the end are zeros."""
        data = bytearray(length)
        self.preadinto(offset, memoryview(data))
        return bytes(data)

    def pread_each(self, offsets: Iterable[int], length: int) -> list[bytes]:
        """Returns `length` bytes from each of `offsets`; bytes past the end are zeros."""
        parts = [(offset, memoryview(bytearray(length))) for offset in offsets]
        self.gather(parts)
        return [bytes(view) for _, view in parts]

    def preadinto(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` (contiguous, of any item type) from `offset`; bytes past the end are zeros."""
        view = buffer.cast("B") if buffer.nbytes else buffer[:0]
        inside = max(0, min(len(view), self.size() - offset))
        clear(view[inside:])
        if inside:
            self._fill(offset, view[:inside])

    def gather(self, parts: Iterable[Part]) -> None:
        """Fills each buffer from the offset beside it; one request fetches parts that lie close together."""
        for piece in _close_together(parts):
            begin, end = piece[0][0], max(offset + view.nbytes for offset, view in piece)
            if len(piece) == 1:
                self.preadinto(*piece[0])
                continue
            data = memoryview(bytearray(end - begin))
            self.preadinto(begin, data)
            for offset, view in piece:
                view.cast("B")[:] = data[offset - begin : offset - begin + view.nbytes]

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields all of [start, end) that lies inside the file: a server does not report holes."""
        end = min(end, self.size())
        if start < end:
            yield start, end

    def next_data(self, offset: int) -> int | None:
        """Returns `offset`, None past the end of the file."""
        return offset if offset < self.size() else None

    def _fill(self, offset: int, view: memoryview) -> None:
        """Fills `view` with bytes that lie inside the file."""
        end = offset + len(view)
        numbers = range(offset // BLOCK_BYTES, -(-end // BLOCK_BYTES))
        blocks = self._kept(numbers)
        missing = [number for number in numbers if number not in blocks]
        if missing and len(view) >= READ_AHEAD_BYTES:
            for begin in range(0, len(view), LONGEST_BYTES):
                self._client.read(offset + begin, view[begin : begin + LONGEST_BYTES], self._version)
            return
        if missing:
            begin = missing[0] * BLOCK_BYTES
            wanted = READ_AHEAD_BYTES if len(view) < BLOCK_BYTES else (missing[-1] + 1) * BLOCK_BYTES - begin
            data = memoryview(bytearray(min(wanted, self.size() - begin)))
            self._client.read(begin, data, self._version)
            blocks |= self._keep(missing[0], data)
        for number in numbers:
            begin = number * BLOCK_BYTES
            low, high = max(offset, begin), min(end, begin + BLOCK_BYTES)
            view[low - offset : high - offset] = blocks[number][low - begin : high - begin]

    def _kept(self, numbers: range) -> dict[int, bytes]:
        with self._lock:
            found = {number: self._blocks.pop(number) for number in numbers if number in self._blocks}
            self._blocks |= found  # blocks used last stand last, and are dropped last
            return found

    def _keep(self, first: int, data: bytes | memoryview) -> dict[int, bytes]:
        """Keeps the blocks from number `first` on, whose bytes are `data`, and returns them."""
        begins = range(0, len(data), BLOCK_BYTES)
        blocks = {first + begin // BLOCK_BYTES: bytes(data[begin : begin + BLOCK_BYTES]) for begin in begins}
        with self._lock:
            self._blocks |= blocks
            while len(self._blocks) > _KEPT_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
        return blocks

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Raises `ReadOnlyImage`: nothing can be changed over HTTP."""
        raise ReadOnlyImage(self.name)

    pwrite = pwritev = flush = truncate = reach = write_zeros = zero_range = punch_hole = preallocate = _refuse


def _close_together(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Yields groups of parts in the file's order; their parts lie so close that one request costs less than two."""
    piece: list[Part] = []
    begin = end = 0
    for offset, view in sorted(parts, key=itemgetter(0)):
        after = offset + view.nbytes
        if piece and (offset > end + _SMALL_GAP or after > begin + LONGEST_BYTES):
            yield piece
            piece = []
        if not piece:
            begin, end = offset, after
        piece.append((offset, view))
        end = max(end, after)
    if piece:
        yield piece
