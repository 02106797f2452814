"""Reads the content of Glance's images, holds it against their records, and gives it to a store."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from cowherd.errors import HostFileError
from cowherd.service.glance.faults import Unfit
from cowherd.service.intake.adoption import Arrived
from cowherd.service.intake.arriving import told_if_full
from cowherd.service.intake.examining import Examination
from cowherd.service.intake.faults import StoreFull
from cowherd.service.intake.hashing import BLOCK_BYTES, Digests, Take
from cowherd.service.intake.inspection import Rules
from cowherd.service.intake.lineage import Bases
from cowherd.service.records.image import Image
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import GONE
from cowherd.stores.directory import DirectoryStore
from cowherd.stores.incoming import Incoming
from cowherd.text import printable

_MD5 = "md5"


class How(StrEnum):
    """In which way a store got content: the blocks are shared, the file is the same one under a second name, or a copy."""

    SHARED = "shared"
    LINKED = "linked"
    COPIED = "copied"


class Brought(NamedTuple):
    """Content that has arrived in a store as the file `temporary`."""

    temporary: str
    arrived: Arrived
    how: How


def _ignore(length: int) -> None:
    """Counts nothing."""


@dataclass(frozen=True)
class Bringing:
    """Brings content. `algorithm` is the hash where Glance has none; `count` is called with the bytes that were read."""

    rules: Rules = field(default_factory=Rules)
    algorithm: str = "sha512"
    hard_links: bool = False
    count: Callable[[int], None] = _ignore

    def look(self, image: Image, path: Path, bases: Bases) -> Arrived:
        """Reads what is to be the content of an image, and keeps nothing of it. Raises as `bring`."""
        with _opened(image, path) as source:
            return self._examined(image, source, path, bases)

    @contextlib.contextmanager
    def bring(self, image: Image, path: Path, bases: Bases, store: DirectoryStore) -> Iterator[Brought]:
        """Gives a store what is to be the content of an image; the block makes it a blob, or it is gone when the block ends.

        Raises `Unfit` if it is not what the image's record says, `Refused`, `StoreFull`, `HostFileError`.
        """
        with _opened(image, path) as source, told_if_full(store):
            incoming, how = self._begin(source, path, store)
            with incoming:
                try:
                    yield Brought(incoming.name, self._arrived(image, source, incoming, store, bases, how), how)
                finally:
                    store.discard(incoming.name)

    def _begin(self, source: HostFile, path: Path, store: DirectoryStore) -> tuple[Incoming, How]:
        linked = store.begin_linked(path) if self.hard_links else None
        if linked is not None:
            return linked, How.LINKED
        incoming = store.begin()
        if incoming.share(source):
            return incoming, How.SHARED
        return incoming, How.COPIED

    def _arrived(
        self, image: Image, source: HostFile, incoming: Incoming, store: DirectoryStore, bases: Bases, how: How
    ) -> Arrived:
        path = store.arriving(incoming.name)
        if how is How.COPIED:
            _require_room(store, source.size())
            return self._examined(image, source, path, bases, [incoming.append], _settling(incoming))
        with HostFile.open(path, lock=None, follow=False) as file:
            return self._examined(image, file, path, bases, settle=_settling(incoming))

    def _examined(
        self,
        image: Image,
        file: HostFile,
        path: Path,
        bases: Bases,
        takers: Sequence[Take] = (),
        settle: Callable[[Digests], Digests] | None = None,
    ) -> Arrived:
        size = file.size()
        # Nova makes an image of no bytes of a machine that boots from volumes, whatever its format: there is nothing to inspect.
        inspected = image if size else replace(image, container_format=None)
        examination = Examination(inspected, _hashes(image, self.algorithm), self.rules, size, bases, takers)
        try:
            for block in _blocks(file, size):
                examination.feed(block)
                self.count(len(block))
            arrived = examination.finish(path, settle)
        except BaseException:
            examination.abandon()
            raise
        _require_as_recorded(image, arrived)
        return arrived


def _settling(incoming: Incoming) -> Callable[[Digests], Digests]:
    def settle(digests: Digests) -> Digests:
        incoming.sync()
        return digests

    return settle


@contextlib.contextmanager
def _opened(image: Image, path: Path) -> Iterator[HostFile]:
    """Opens a file of Glance's. Raises `Unfit` if it has not as many bytes as its image; owners read that: it names no path."""
    try:
        file = HostFile.open(path, lock=None, follow=False)
    except HostFileError as error:
        if error.errno not in GONE:
            raise
        raise Unfit("its file vanished") from error  # a Glance that runs deleted it
    with file:
        if image.size is not None and file.size() != image.size:
            raise Unfit(f"its file has {file.size()} bytes, and Glance's record says {image.size}")
        yield file


def _blocks(file: HostFile, size: int) -> Iterator[bytes]:
    for begin in range(0, size, BLOCK_BYTES):
        try:
            yield file.pread(begin, min(BLOCK_BYTES, size - begin))
        except HostFileError as error:
            raise Unfit(f"its file can't be read: {printable(error.reason)}") from error


def _hashes(image: Image, otherwise: str) -> tuple[str, ...]:
    """Returns the digests to make. Raises `Unfit` if the record has one that can't be made here."""
    stated = image.os_hash_algo
    if stated is None or stated == _MD5:
        return _MD5, otherwise
    if stated not in hashlib.algorithms_available or not hashlib.new(stated, usedforsecurity=False).digest_size:
        raise Unfit(f"its os_hash_algo is {stated!a}, which can't be computed here")
    return _MD5, stated


def _require_as_recorded(image: Image, arrived: Arrived) -> None:
    """Raises `Unfit` unless content has the digests that its image's record states."""
    stated = {_MD5: image.checksum, image.os_hash_algo: image.os_hash_value}
    for algorithm, value in stated.items():
        found = arrived.digests.named.get(algorithm or "")
        if value is not None and found != value:
            raise Unfit(f"its file has the {algorithm} {found}, and Glance's record says {printable(value)}")


def _require_room(store: DirectoryStore, size: int) -> None:
    free = store.free_bytes()
    if size > free:
        raise StoreFull(store.name, size, free)
