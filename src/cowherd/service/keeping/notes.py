"""Has the notes beside blobs say what the records do, soon after those change: records could be made again from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cowherd.service.keeping.beside import write_about
from cowherd.service.records.database import Database
from cowherd.service.records.events import images_since
from cowherd.service.records.faults import ImageNotFound
from cowherd.service.records.images import read_image
from cowherd.service.records.places import places_of
from cowherd.stores.directory import DirectoryStore

_BATCH = 500


class Notes:
    """Follows the events of the records; the notes of images that they tell of are written again where they differ."""

    def __init__(self, database: Database, stores: Mapping[str, DirectoryStore]):
        self._database, self._stores = database, stores
        self._last = 0

    def follow(self, go_on: Callable[[], None]) -> int:
        """Brings the notes up to date, and returns how many were not. Raises `HostFileError`, and what the records raise."""
        written = 0
        while True:
            with self._database.read() as connection:
                news = images_since(connection, self._last, _BATCH)
            if not news:
                return written
            for digest in self._blobs_of({(image_id, blob) for _, image_id, blob in news}):
                go_on()
                written += self._writes(digest)
            self._last = news[-1][0]

    def _blobs_of(self, told: set[tuple[str | None, str | None]]) -> set[str]:
        found = {blob for _, blob in told if blob is not None}
        with self._database.read() as connection:
            for image_id in {image_id for image_id, _ in told if image_id is not None}:
                try:
                    image = read_image(connection, image_id)
                except ImageNotFound:  # the event of its deletion names its blob
                    continue
                if image.blob is not None:
                    found.add(image.blob)
        return found

    def _writes(self, digest: str) -> int:
        """Writes the notes of a blob in all stores that have it; returns how many said something else."""
        with self._database.read() as connection:
            held = [self._stores[one.store] for one in places_of(connection, digest) if one.store in self._stores]
        return sum(write_about(self._database, store, digest) for store in held)
