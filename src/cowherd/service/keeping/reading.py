"""Opens blobs for who is to get them: never one that may have changed since it was verified, without looking."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cowherd.errors import HostFileError
from cowherd.service.keeping.faults import ContentDamaged
from cowherd.service.keeping.findings import note_damage, problem_of
from cowherd.service.keeping.verifying import identity_in, is_as_verified, verify_place
from cowherd.service.records.blobs import WHOLE
from cowherd.service.records.places import Place, place_of, places_of
from cowherd.storage.identity import FileIdentity
from cowherd.stores.faults import BlobMissing
from cowherd.stores.pieces import Pieces, sums_of
from cowherd.stores.sums import PIECE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cowherd.service.records.database import Database
    from cowherd.stores.directory import DirectoryStore

HOW = "read"
_NOWHERE = "The content of the image is in no store of this service. Configure the store that has it, or upload it again"
_verifying = threading.Lock()
"""Those who want the same blob when it has changed wait for one verification, and do not read it all at once."""
_log = logging.getLogger("cowherd.service")


class Reader:
    """Reads a blob of `size` bytes from the `stores` that have it, those named in `preferred` first.

    A store that fails is passed over, and the log says so.
    """

    def __init__(
        self, database: Database, stores: Mapping[str, DirectoryStore], digest: str, size: int, preferred: Iterable[str] = ()
    ):
        self._database, self._stores, self._digest, self._size = database, stores, digest, size
        self._preferred = list(preferred)

    def open(self, start: int, end: int) -> int:
        """Returns a descriptor of the blob, in which the bytes from `start` to `end` are as they were; the caller closes it.

        What may have changed is verified before. Raises `ContentDamaged`, and what the records raise.
        """
        for store, place in self._places():
            try:
                identity = self._proved_identity(store, place, start, end)
                descriptor = None if identity is None else _open_if_same(store, self._digest, identity)
            except HostFileError as error:
                _log.error("blob %s in the store %s: %s", self._digest, store.name, error)
                continue
            if descriptor is not None:
                return descriptor
        raise self._damaged()

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yields the bytes from `start` to `end` in parts, each proved by its sum before it is given out.

        Raises `ContentDamaged` at the first part that no store has as it was; `HostFileError`, and what the records raise.
        """
        stores = [store for store, _ in self._places()]
        sums = next((found for store in stores if (found := sums_of(store, self._digest))), None)
        if sums is None:
            for store in stores:
                verify_place(self._database, store, self._digest, HOW)
            raise self._damaged()
        with contextlib.ExitStack() as stack:
            sources = [stack.enter_context(Pieces(store, self._digest, sums)) for store in stores]
            for begin in range(start // PIECE * PIECE, end, PIECE):
                piece = self._proved_piece(sources, begin)
                yield piece[max(0, start - begin) : end - begin]

    def _proved_piece(self, sources: list[Pieces], begin: int) -> bytes:
        """Returns the piece that begins at `begin` from the first source that has it; those before that are sources no more."""
        while sources:
            piece = sources[0].read(begin // PIECE)
            if piece is not None:
                return piece
            self._note_damage(sources.pop(0).store, begin)
        raise self._damaged()

    def _note_damage(self, store: DirectoryStore, begin: int) -> None:
        """Records that a piece is damaged; what else is will be found when the blob is repaired."""
        if identity_in(store, self._digest) is None:
            verify_place(self._database, store, self._digest, HOW)
            return
        with self._database.write() as connection:
            note_damage(connection, self._digest, store.name, ((begin, min(begin + PIECE, self._size)),), HOW)

    def _places(self) -> list[tuple[DirectoryStore, Place]]:
        """Returns where to read from, in order; places that are known to be bad are left out."""
        with self._database.read() as connection:
            found = [one for one in places_of(connection, self._digest) if one.store in self._stores and one.state == WHOLE]
        rank = {name: number for number, name in enumerate(self._preferred)}
        found.sort(key=lambda one: rank.get(one.store, len(rank)))
        return [(self._stores[one.store], one) for one in found]

    def _proved_identity(self, store: DirectoryStore, place: Place, start: int, end: int) -> FileIdentity | None:
        """Returns the identity of a file in which the bytes from `start` to `end` are as they were, None if they are not."""
        if is_as_verified(store, place):
            return identity_in(store, self._digest)
        if (start, end) != (0, self._size):
            return self._identity_if_range_is_fine(store, start, end)
        with _verifying:
            with self._database.read() as connection:
                known = place_of(connection, self._digest, store.name)
            if known is not None and is_as_verified(store, known):
                return identity_in(store, self._digest)
            before = identity_in(store, self._digest)
            return before if verify_place(self._database, store, self._digest, HOW) else None

    def _identity_if_range_is_fine(self, store: DirectoryStore, start: int, end: int) -> FileIdentity | None:
        """Returns the identity of a file if a range of it is as it was; all of it is read only if that is not so."""
        identity = identity_in(store, self._digest)
        with contextlib.suppress(BlobMissing):
            if identity is not None and identity.size == self._size and not store.verify(self._digest, start=start, end=end):
                return identity
        return identity if verify_place(self._database, store, self._digest, HOW) else None

    def _damaged(self) -> ContentDamaged:
        with self._database.read() as connection:
            places = places_of(connection, self._digest)
        return ContentDamaged(self._digest, problem_of(places) or _NOWHERE)


def _open_if_same(store: DirectoryStore, digest: str, identity: FileIdentity) -> int | None:
    """Opens a blob; returns None if it is not the file any more that has this identity."""
    try:
        descriptor = store.open(digest)
    except BlobMissing:
        return None
    if FileIdentity.of(descriptor) == identity:
        return descriptor
    os.close(descriptor)
    return None
