"""What the host's files say: what contents take on disk, how much of an upload has arrived, how full a store is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from cowherd.errors import HostFileError
from cowherd.stores.directory import DirectoryStore
from cowherd.stores.faults import BlobMissing

if TYPE_CHECKING:
    from cowherd.service.records.places import Place
    from cowherd.service.records.uploads import UploadRecord

Stores = Mapping[str, DirectoryStore]


class Arrival(NamedTuple):
    """So many bytes of an upload are there, the last ones since a moment; on the way they came so many a second."""

    arrived: int
    last: datetime
    rate: float


class Fill(NamedTuple):
    """Which part of a store's file system is taken (from 0 to 1), and the bytes that are free; or the `problem` with asking."""

    taken: float
    free: int
    problem: str = ""


def used_bytes(stores: Stores, places: Sequence[Place]) -> int | None:
    """Returns what a content takes on the disks of all stores that have it; None if one can't say."""
    total = 0
    for place in places:
        try:
            total += stores[place.store].allocated(place.blob) if place.store in stores else 0
        except BlobMissing:  # it takes nothing, then
            continue
        except HostFileError:
            return None
    return total


def arrival_of(stores: Stores, upload: UploadRecord) -> Arrival | None:
    """Returns what has arrived of an upload; None if its file can't be seen, or has just become a blob."""
    store = stores.get(upload.store)
    try:
        found = None if store is None or upload.temporary is None else store.arrived(upload.temporary)
    except HostFileError:
        return None
    if found is None:
        return None
    last = datetime.fromtimestamp(found.mtime, UTC)
    took = (last - upload.created_at).total_seconds()
    return Arrival(found.size, last, found.size / took if took > 0 else 0.0)


def fill_of(store: DirectoryStore) -> Fill:
    """Returns how full a store is."""
    try:
        return Fill(store.fill(), store.free_bytes())
    except HostFileError as error:
        return Fill(0.0, 0, f"the host refuses to tell: {error.reason}")
