"""An upload killed at any moment leaves an active image whose bytes are there whole, or none that can be read; a retry works."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from sqlalchemy import select

from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.upload import Upload
from cowherd.service.records.database import open_database
from cowherd.service.records.image import Image
from cowherd.service.records.images import change_status, create_image, read_image
from cowherd.service.records.schema import blobs, places, uploads
from cowherd.service.records.states import ACTIVE, QUEUED, SAVING
from cowherd.stores.directory import DirectoryStore
from tests.service.crashes.killing import killed_at as killed_in_another_process

DATA = b"some bytes" * 10_000
DIGEST = blake3(DATA).hexdigest()
EVERY = 24
PHASES = range(EVERY) if os.environ.get("COWHERD_CRASH") == "all" else (0, 8, 16)
"""Moments are tried from each of these on, every 24th; all of them if so asked, which takes a minute."""


def upload(intake: Intake, image: Image) -> Image:
    under_way = Upload.begin(intake, image, len(DATA))
    under_way.feed(DATA)
    return under_way.finish()


def killed_at(moment: int, folder: Path, image: Image) -> bool:
    """Uploads an image in another process, which is killed at a moment; returns False if it came to its end before."""

    @contextlib.contextmanager
    def opened() -> Iterator[Intake]:
        yield Intake(open_database(f"sqlite:///{folder / 'records.db'}"), DirectoryStore("main", str(folder / "store")))

    return killed_in_another_process(moment, folder, opened, lambda intake: upload(intake, image))


def requires_sense(intake: Intake, image: Image) -> None:
    """Requires that an image is active with all its bytes, or has none."""
    store = intake.store
    with intake.database.read() as connection:
        found = read_image(connection, image.id)
        counts = [len(connection.execute(select(table)).all()) for table in (blobs, places)]
        under_way = connection.execute(select(uploads)).all()
    if found.status == ACTIVE:
        assert (found.blob, found.size, counts, under_way) == (DIGEST, len(DATA), [1, 1], [])
        assert store.verify(DIGEST) == ()
        assert None not in [store.read_beside(DIGEST, kind) for kind in ("seal", "sums", "about")]
        return
    assert (found.blob, found.size, found.checksum, found.os_hash_value, counts) == (None, None, None, None, [0, 0])
    assert found.status == (SAVING if under_way else QUEUED)
    assert all(store.path(one).read_bytes() == DATA for one in store.digests())
    assert not any(store.is_held(one.name) for one in store.incoming())


def put_right(intake: Intake, image: Image) -> Image:
    """Does what the service does when it starts: queues an image that nobody uploads any more. Returns its record."""
    with intake.database.write() as connection:
        found = read_image(connection, image.id)
        if found.status == SAVING:
            change_status(connection, image.id, {SAVING}, QUEUED, reason="the service ended")
        connection.execute(uploads.delete())
        return read_image(connection, image.id)


@pytest.mark.parametrize("phase", PHASES)
def test_killed_at_any_moment_an_upload_loses_nothing_and_shows_nothing_half(intake: Intake, tmp_path: Path, phase: int):
    intake.database.close()
    moment, statuses = phase + 1, set()
    while True:
        database = open_database(f"sqlite:///{tmp_path / 'records.db'}")
        again = Intake(database, intake.store)
        image = Image(id=str(uuid.uuid4()), disk_format="raw", container_format="bare")
        with database.write() as connection:
            create_image(connection, image)
        database.close()
        killed = killed_at(moment, tmp_path, image)
        requires_sense(again, image)
        found = put_right(again, image)
        statuses.add(found.status)
        if found.status == QUEUED:
            assert upload(again, found).status == ACTIVE
        requires_sense(again, image)
        with database.write() as connection:
            for table in ("images", "places", "blobs"):
                connection.exec_driver_sql(f"DELETE FROM {table}")
        intake.store.remove(DIGEST)
        for temporary in intake.store.incoming():
            intake.store.discard(temporary.name)
        database.close()
        if not killed:
            break
        moment += EVERY
    assert statuses == {QUEUED, ACTIVE}
    assert moment > 80
