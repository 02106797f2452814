"""A file in memory: what formats are written against, without a disk under it. What it must not do, it fails at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cowherd.errors import ReadOnlyImage
from cowherd.storage.hostfile import Buffer
from cowherd.storage.locks import LockMode

PAGE = 4096


class MemoryFile:
    """A `cowherd.storage.blocks.BlockFile` whose bytes are `content`; what reads as zeros in whole pages counts as a hole."""

    is_block_device = False
    host = None

    def __init__(self, content: bytes = b"", *, writable: bool = True):
        self.content = bytearray(content)
        self.writable = writable
        self.closed = False
        self.name = "memory"
        self.path = Path(self.name)
        self.flushes = 0

    @property
    def key(self) -> object:
        return id(self)

    def size(self) -> int:
        return len(self.content)

    def allocated_bytes(self) -> int:
        return sum(end - start for start, end in self.data_ranges(0, self.size()))

    def lock(self, mode: LockMode) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def pread(self, offset: int, length: int) -> bytes:
        assert not self.closed
        return bytes(self.content[offset : offset + length]).ljust(length, b"\0")

    def pread_each(self, offsets: Iterable[int], length: int) -> list[bytes]:
        return [self.pread(offset, length) for offset in offsets]

    def preadinto(self, offset: int, buffer: memoryview) -> None:
        view = buffer.cast("B") if buffer.nbytes else buffer[:0]
        view[:] = self.pread(offset, len(view))

    def gather(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        for offset, buffer in parts:
            self.preadinto(offset, buffer)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        position = self.next_data(start)
        while position is not None and position < end:
            hole = position
            while hole < end and any(self.content[hole : hole + PAGE - hole % PAGE]):
                hole += PAGE - hole % PAGE
            yield position, min(hole, end)
            position = self.next_data(hole)

    def next_data(self, offset: int) -> int | None:
        while offset < self.size():
            page_end = offset + PAGE - offset % PAGE
            if any(self.content[offset:page_end]):
                return offset
            offset = page_end
        return None

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.pwritev(offset, [data])

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        self._require_writable()
        for buffer in buffers:
            data = bytes(memoryview(buffer).cast("B")) if len(buffer) else b""
            self.content.extend(bytes(max(0, offset - self.size())))
            self.content[offset : offset + len(data)] = data
            offset += len(data)

    def flush(self) -> None:
        self.flushes += 1

    def truncate(self, size: int) -> None:
        self._require_writable()
        self.content = self.content[:size].ljust(size, b"\0")

    def reach(self, size: int) -> None:
        self.truncate(size)

    def write_zeros(self, offset: int, length: int, *, unmap: bool) -> None:
        self.zero_range(offset, length, unmap=unmap)

    def zero_range(self, offset: int, length: int, *, unmap: bool) -> bool:
        self._require_writable()
        inside = max(0, min(length, self.size() - offset))
        self.content[offset : offset + inside] = bytes(inside)
        return True

    def punch_hole(self, offset: int, length: int) -> None:
        self.zero_range(offset, length, unmap=True)

    def preallocate(self, offset: int, length: int) -> None:
        self._require_writable()
        self.content.extend(bytes(max(0, offset + length - self.size())))

    def _require_writable(self) -> None:
        if not self.writable:
            raise ReadOnlyImage(self.name)
