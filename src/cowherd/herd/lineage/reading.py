"""Reads the headers of very many files, several at once, while the caller looks for more files."""

from __future__ import annotations

from collections import deque

from cowherd.herd.records.header import Read, read_image, read_seal
from cowherd.herd.records.sealrecord import SUFFIX
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from cowherd.herd.lineage.pool import Pool

_FEW = 64  # up to so many files are read here: starting other readers would take longer
_MANY = 4096  # from so many files on, processes are worth their start
_AT_ONCE = 32768  # files that wait to be read or fetched, before the caller is made to fetch results

Files = list[tuple[str, list[str]]]
"""Files by directory: the directory with its slash, and the names in it."""


class _Batch(NamedTuple):
    files: Files
    number: int


def read(files: Files) -> list[Read | None]:
    """Reads the header of each file; None stands for a file that can't be read."""
    return [_read_or_none(prefix + name) for prefix, names in files for name in names]


class Readers:
    """Reads batches of files; results come back in the order in which the batches were added. A context manager.

    It reads many files at once, so that a disk can answer in the order that suits it: see `cowherd.herd.lineage.pool`.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Batch] = deque()
        self._begun: deque[tuple[_Batch, Future[list[Read | None]] | None]] = deque()
        self._files = 0
        self._pool: Pool[Files, list[Read | None]] | None = None

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool:
            self._pool.close()

    def add(self, files: Files) -> None:
        """Adds a batch of files to read."""
        batch = _Batch(files, sum(len(names) for _, names in files))
        self._waiting.append(batch)
        self._files += batch.number
        if self._pool or self._files >= _MANY:
            self._begin()

    def overdue(self) -> Iterator[list[Read | None]]:
        """Yields the results of the oldest batches while too many files wait, which bounds memory. None: it can't be read."""
        while self._pool and self._begun and self._files > _AT_ONCE:
            yield self._take_oldest(self._pool)

    def rest(self) -> Iterator[list[Read | None]]:
        """Yields the results of all remaining batches, as `overdue` does."""
        if self._pool or self._files > _FEW:
            self._begin()
        while self._pool and self._begun:
            yield self._take_oldest(self._pool)
        while self._waiting:
            batch = self._waiting.popleft()
            yield read(batch.files)

    def _begin(self) -> None:
        if self._pool is None:
            from cowherd.herd.lineage.pool import Pool

            self._pool = Pool(read, by_processes=self._files >= _MANY)
        while self._waiting:
            batch = self._waiting.popleft()
            self._begun.append((batch, self._pool.submit(batch.files)))

    def _take_oldest(self, pool: Pool[Files, list[Read | None]]) -> list[Read | None]:
        batch, future = self._begun.popleft()
        self._files -= batch.number
        return pool.result(future, batch.files)


def _read_or_none(path: str) -> Read | None:
    try:
        return read_seal(path) if path.endswith(SUFFIX) else read_image(path)
    except OSError:
        return None
