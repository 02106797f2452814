"""A file that grows by what arrives; zeros in it become holes."""

from __future__ import annotations

from typing import Self

from cowherd.storage.atomic import make_name_lasting
from cowherd.storage.buffers import is_zero, nonzero_units, runs_of
from cowherd.storage.copying import clone_range
from cowherd.storage.hostfile import Buffer, HostFile

PAGE = 4096
"""Bytes that become a hole if they are all zeros and begin at a multiple of this length in the file."""
_WRITE_BEHIND = 8 << 20


class Incoming:
    """A temporary file of a store, appended to by one writer; a context manager that closes it.

    `name` names it in the store. Every method raises `HostFileError` if the host refuses; what was appended before is kept.
    """

    def __init__(self, name: str, file: HostFile, offset: int):
        """Takes over the open file, to go on at `offset`; what lies behind is cut off."""
        self.name, self._file, self.offset = name, file, offset
        self._started = offset
        if file.size() > offset:
            file.truncate(offset)

    def append(self, data: Buffer) -> None:
        """Appends all of `data`; `offset` is behind it afterwards. Memory is read once, and zeros are not written."""
        view = memoryview(data).cast("B")
        ahead = min(-self.offset % PAGE, len(view))
        for part in (view[:ahead], view[ahead:]):
            if not is_zero(part):
                self._write_data(part)
            self.offset += len(part)
        if self.offset - self._started >= _WRITE_BEHIND:
            self._file.start_writing(self._started, self.offset - self._started)
            self._started = self.offset

    def share(self, source: HostFile) -> bool:
        """Makes the file, of which nothing has arrived, share the blocks of `source` (reflink): all its bytes have arrived then.

        Returns False, with nothing changed, if the file system can't.
        """
        size = source.size()
        if not clone_range(source, 0, self._file, 0, size):
            return False
        self.offset = self._started = size
        return True

    def _write_data(self, part: memoryview) -> None:
        """Writes the pages of `part` that are not zeros; it begins with a page, or is less than one."""
        for first, end, holds_data in runs_of(nonzero_units(part, PAGE)):
            if holds_data:
                self._file.pwrite(self.offset + first * PAGE, part[first * PAGE : end * PAGE])

    def cut_back(self, offset: int) -> None:
        """Goes on at `offset`, which lies before the end; what lies behind it is cut off."""
        self._file.truncate(offset)
        self.offset = self._started = offset

    def seek_end(self) -> None:
        """Goes on at the file's end, once another process has written into it."""
        self.offset = self._started = self._file.size()

    def sync(self) -> None:
        """Makes everything durable up to `offset`, which is the file's length then, and its name. Raises `FlushFailed`."""
        if self._file.size() != self.offset:  # one that is another's, too, keeps its times
            self._file.truncate(self.offset)
        self._file.flush(whole=True)
        make_name_lasting(self._file.path)

    def close(self) -> None:
        """Closes the file; what was not synced may be lost in a crash. Closing twice is fine."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
