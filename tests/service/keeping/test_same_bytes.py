"""Processes that store, delete and forget the same bytes at once, in both databases."""

from __future__ import annotations

import contextlib
import itertools
import threading
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.upload import Upload
from cowherd.service.keeping.fsck.run import check_service
from cowherd.service.keeping.reading import Reader
from cowherd.service.keeping.reaper import reap
from cowherd.service.records.database import open_database
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, delete_image, read_image
from cowherd.service.records.migration import migrate
from cowherd.stores.directory import DirectoryStore

BYTES = b"the same bytes" * 1000
ROUNDS = 15
_NUMBERS = itertools.count()


class Process:
    """What one process of a service has; `name` is that of the store that it uploads to."""

    def __init__(self, address: str, folder: Path, name: str):
        self.database = open_database(address)
        self.stores = {store: DirectoryStore(store, str(folder / store)) for store in ("one", "two")}
        self._intake = Intake(self.database, self.stores[name])

    def store(self) -> str:
        """Makes an image with the bytes; returns its id."""
        image = Image(id=str(uuid.uuid4()), disk_format="raw", container_format="bare")
        with self.database.write() as connection:
            create_image(connection, image)
        upload = Upload.begin(self._intake, image)
        upload.feed(BYTES)
        upload.finish()
        return image.id

    def read(self, image_id: str) -> bytes:
        with self.database.read() as connection:
            image = read_image(connection, image_id)
        descriptor = Reader(self.database, self.stores, image.blob or "", len(BYTES)).open(0, len(BYTES))
        with open(descriptor, "rb") as file:
            return file.read()

    def delete(self, image_id: str) -> None:
        """Deletes an image, and the bytes that no image has any more."""
        with self.database.write() as connection:
            delete_image(connection, image_id)
        reap(self.database, self.stores, timedelta(0))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_image_loses_them_and_none_are_left(kind: str, tmp_path: Path, request: pytest.FixtureRequest):
    if kind == "sqlite":
        address = f"sqlite:///{tmp_path}/records"
    else:
        address = request.getfixturevalue("postgresql").create(f"same_{next(_NUMBERS)}")
    with contextlib.ExitStack() as stack:
        processes = [Process(address, tmp_path, name) for name in ("one", "one", "two")]
        for one in processes:
            stack.callback(one.database.close)
        migrate(processes[0].database)
        for store in processes[0].stores.values():
            store.prepare()
        found: list[bytes] = []

        def work(process: Process) -> None:
            for _ in range(ROUNDS):
                image_id = process.store()
                found.append(process.read(image_id))
                process.delete(image_id)

        threads = [threading.Thread(target=work, args=(one,)) for one in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [BYTES] * (len(processes) * ROUNDS)
        reap(processes[0].database, processes[0].stores, timedelta(0))
        assert list(check_service(processes[0].database, processes[0].stores, repair=False)) == []
        assert [list(store.digests()) for store in processes[0].stores.values()] == [[], []]
