"""Reads the pieces of a blob, each proved by its sum."""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Self

from blake3 import blake3

from cowherd.errors import HostFileError
from cowherd.storage.reads import read_range
from cowherd.stores.checking import Pace
from cowherd.stores.directory import DirectoryStore
from cowherd.stores.faults import BlobMissing, SumsDamaged
from cowherd.stores.sums import PIECE, Summing, Sums


class Pieces:
    """The pieces of a blob in a store, which may be damaged or missing there; a context manager that closes the file."""

    def __init__(self, store: DirectoryStore, digest: str, sums: Sums):
        """Opens the blob. Raises `HostFileError`, but not for one that is missing."""
        self.store, self.sums = store, sums
        self._path = store.path(digest)
        try:
            self._fd: int | None = store.open(digest)
        except BlobMissing:
            self._fd = None

    def read(self, number: int) -> bytes | None:
        """Returns a piece, counted from 0, or None if the store does not have it as it was. Raises `HostFileError`."""
        begin = number * PIECE
        data = self._read(begin, min(PIECE, self.sums.size - begin))
        return data if data is not None and blake3(data).digest() == self.sums.piece(number) else None

    def _read(self, begin: int, length: int) -> bytes | None:
        if self._fd is None:
            return None
        try:
            return read_range(self._fd, begin, length)
        except OSError as error:
            if error.errno == errno.EIO:
                return None
            raise HostFileError(self._path, "read", error) from error

    def close(self) -> None:
        """Closes the file; closing twice is fine."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def sums_of(store: DirectoryStore, digest: str, pace: Pace | None = None) -> Sums | None:
    """Returns the sums of a blob: those beside it, or those of its bytes, if they are what its name says; otherwise None.

    Raises `HostFileError`.
    """
    try:
        return store.sums(digest) or made_sums(store, digest, pace)
    except SumsDamaged:
        return made_sums(store, digest, pace)


def made_sums(store: DirectoryStore, digest: str, pace: Pace | None = None) -> Sums | None:
    """Reads a blob and returns the sums of its bytes, None if they are not what its name says. Raises `HostFileError`."""
    pace = pace or Pace()
    whole, summing, read = blake3(), Summing(), 0
    try:
        with os.fdopen(store.open(digest), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while piece := file.read(PIECE):
                whole.update(piece)
                summing.update(piece)
                read += len(piece)
                pace.spend(len(piece))
                pace.report(read, size)
    except BlobMissing:
        return None
    except OSError as error:
        if error.errno == errno.EIO:
            return None
        raise HostFileError(store.path(digest), "read", error) from error
    return summing.finish() if whole.hexdigest() == digest else None
