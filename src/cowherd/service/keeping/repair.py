"""Repairs a blob in a store from the other stores: only pieces that are damaged are fetched, and each one is proved.

The repaired blob is a new file that takes the old one's place at once, when it is whole and durable. So who reads the old one
meanwhile is not disturbed, and a repair that is killed has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from blake3 import blake3

from cowherd.progress import Progress
from cowherd.service.keeping.beside import restore_beside
from cowherd.service.keeping.findings import note_whole
from cowherd.service.records.blobs import MISSING
from cowherd.service.records.database import Database
from cowherd.service.records.places import place_of, places_of
from cowherd.storage.ticks import wait_for_tick
from cowherd.stores.directory import DirectoryStore
from cowherd.stores.incoming import Incoming
from cowherd.stores.pieces import Pieces, sums_of
from cowherd.stores.sums import Sums, pieces_in

HOW = "repair"


def repair_place(
    database: Database, stores: Mapping[str, DirectoryStore], digest: str, name: str, progress: Progress | None = None
) -> bool:
    """Makes the blob of the store `name` whole from what the stores have of it; returns whether it is.

    Pieces may come from stores that are damaged themselves, elsewhere. `progress(done, total)` counts bytes; what it raises ends
    the repair. Raises `HostFileError`, and what the records raise; the blob is as before then.
    """
    target = stores[name]
    with database.read() as connection:
        held = [one.store for one in places_of(connection, digest) if one.state != MISSING and one.store != name]
    sources = [stores[other] for other in held if other in stores]
    sums = next((found for store in (target, *sources) if (found := sums_of(store, digest))), None)
    if sums is None:
        return False
    with target.begin() as incoming:
        try:
            if _mend(digest, sums, [target, *sources], incoming, progress):
                return _put_in_place(database, target, digest, sums, incoming)
            target.discard(incoming.name)
        except BaseException:
            target.discard(incoming.name)
            raise
    return False


def _mend(digest: str, sums: Sums, stores: Sequence[DirectoryStore], incoming: Incoming, progress: Progress | None) -> bool:
    """Writes the blob from the first of `stores` that has each piece as it was; returns whether that made it whole."""
    whole = blake3()
    with ExitStack() as stack:
        places = [stack.enter_context(Pieces(store, digest, sums)) for store in stores]
        for number in range(pieces_in(sums.size)):
            piece = next((data for place in places if (data := place.read(number)) is not None), None)
            if piece is None:
                return False
            whole.update(piece)
            incoming.append(piece)
            if progress:
                progress(incoming.offset, sums.size)
    incoming.sync()
    return whole.hexdigest() == digest


def _put_in_place(database: Database, target: DirectoryStore, digest: str, sums: Sums, incoming: Incoming) -> bool:
    """Makes a whole file the blob; returns whether the records still want it there."""
    with target.locked(digest):
        with database.read() as connection:
            wanted = place_of(connection, digest, target.name) is not None
        if not wanted:
            target.discard(incoming.name)
            return False
        target.adopt(incoming.name, digest, replaces=True)
        target.write_beside(digest, "sums", sums.encode(digest))
        identity, _ = wait_for_tick(target.path(digest))
        with database.write() as connection:
            note_whole(connection, digest, target.name, HOW, identity)
    restore_beside(database, target, digest)
    return True
