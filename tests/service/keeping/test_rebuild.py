"""Lost records are made again from the stores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from cowherd.errors import InvalidRequest
from cowherd.service.intake.arriving import Intake
from cowherd.service.keeping.notes import Notes
from cowherd.service.keeping.reading import Reader
from cowherd.service.keeping.rebuild import Rebuilt, rebuild
from cowherd.service.records.blobs import read_blob
from cowherd.service.records.database import Database, open_database
from cowherd.service.records.events import Event, record_event
from cowherd.service.records.faults import ImageNotFound
from cowherd.service.records.image import Image, Location
from cowherd.service.records.images import change_status, delete_image, read_image, update_image
from cowherd.service.records.members import add_member, change_member, list_members
from cowherd.service.records.pages import page
from cowherd.service.records.query import Query, Viewer
from cowherd.service.records.states import ACTIVE, DEACTIVATED
from tests.service.keeping.keeping import DATA, Queued, flip, found, stored, two_stores

DIGEST = blake3(DATA).hexdigest()


@pytest.fixture
def empty(new_tables: Path, tmp_path: Path) -> Iterator[Database]:
    """A database with nothing in it."""
    shutil.copy(new_tables, tmp_path / "new.db")
    database = open_database(f"sqlite:///{tmp_path / 'new.db'}")
    yield database
    database.close()


def rebuilt(empty: Database, intake: Intake) -> Rebuilt:
    return rebuild(empty, {"main": intake.store})


def read(database: Database, image: Image) -> Image:
    with database.read() as connection:
        return read_image(connection, image.id)


def test_images_and_blobs_are_as_they_were(intake: Intake, queued: Queued, empty: Database):
    one = stored(intake, queued(name="a", owner="demo", visibility="public", tags=("t",), properties={"k": "v"}, min_ram=5))
    twin = stored(intake, queued(name="b", protected=True))
    other = stored(intake, queued(), b"other")
    assert rebuilt(empty, intake) == (3, 2, ())
    for image in (one, twin, other):
        before, after = found(intake, image), read(empty, image)
        assert msgspec.structs.replace(after, version=0, updated_at=before.updated_at) == msgspec.structs.replace(
            before, version=0
        )
    with empty.read() as connection, intake.database.read() as known:
        assert msgspec.structs.replace(read_blob(connection, DIGEST), created_at=one.created_at) == msgspec.structs.replace(
            read_blob(known, DIGEST), created_at=one.created_at
        )


def test_a_blob_in_two_stores_is_in_both_again(intake: Intake, queued: Queued, empty: Database):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    assert rebuild(empty, stores)[:2] == (1, 1)
    assert read(empty, image).stores == ("main", "other")


def test_what_was_changed_or_deleted_stays_so_once_its_note_followed(intake: Intake, queued: Queued, empty: Database):
    changed, deleted, off = (stored(intake, queued(name="before")) for _ in range(3))
    with intake.database.write() as connection:
        update_image(connection, msgspec.structs.replace(changed, name="after"))
        record_event(connection, Event(action="image.update", image_id=changed.id))
        change_status(connection, off.id, {ACTIVE}, DEACTIVATED)
        record_event(connection, Event(action="image.deactivate", image_id=off.id))
        delete_image(connection, deleted.id)
        record_event(connection, Event(action="image.delete", image_id=deleted.id, detail={"blob": deleted.blob}))
    notes = Notes(intake.database, {"main": intake.store})
    assert notes.follow(lambda: None) == 1
    assert notes.follow(lambda: None) == 0
    assert rebuilt(empty, intake) == (2, 1, ())
    assert (read(empty, changed).name, read(empty, off).status) == ("after", "deactivated")
    with pytest.raises(ImageNotFound):
        read(empty, deleted)


def test_who_an_image_is_lent_to_and_what_they_answered_is_as_it_was(intake: Intake, queued: Queued, empty: Database):
    early, late = queued(), stored(intake, queued(), b"late")
    with intake.database.write() as connection:
        add_member(connection, early.id, "before-the-upload")
    stored(intake, early)
    with intake.database.write() as connection:
        add_member(connection, late.id, "accepts")
        change_member(connection, late.id, "accepts", "accepted")
        add_member(connection, late.id, "waits")
        record_event(connection, Event(action="member.add", image_id=late.id))
    Notes(intake.database, {"main": intake.store}).follow(lambda: None)
    assert rebuilt(empty, intake) == (2, 2, ())
    with empty.read() as connection:
        lent = {image.id: {one.member: one.status for one in list_members(connection, image.id)} for image in (early, late)}
    assert lent == {early.id: {"before-the-upload": "pending"}, late.id: {"accepts": "accepted", "waits": "pending"}}


def test_addresses_beside_a_blob_are_as_they_were(intake: Intake, queued: Queued, empty: Database):
    image = stored(intake, queued())
    with intake.database.write() as connection:
        update_image(connection, msgspec.structs.replace(image, locations=(Location("http://mirror.example/x", {"k": 1}),)))
        record_event(connection, Event(action="image.update", image_id=image.id))
    Notes(intake.database, {"main": intake.store}).follow(lambda: None)
    assert rebuilt(empty, intake) == (1, 1, ())
    assert read(empty, image).locations == (Location("http://mirror.example/x", {"k": 1}),)


def test_a_note_of_an_older_version_tells_of_no_members(intake: Intake, queued: Queued, empty: Database):
    image = stored(intake, queued())
    note = msgspec.json.decode(intake.store.read_beside(DIGEST, "about"))
    del note["images"][image.id]["members"], note["images"][image.id]["locations"]
    intake.store.write_beside(DIGEST, "about", msgspec.json.encode(note))
    assert rebuilt(empty, intake) == (1, 1, ())


def test_an_image_in_the_notes_of_two_blobs_is_told(intake: Intake, queued: Queued, empty: Database):
    image = stored(intake, queued())
    other = stored(intake, queued(), b"other")
    note = msgspec.json.decode(intake.store.read_beside(other.blob or "", "about"))
    note["images"][image.id] = note["images"][other.id]
    intake.store.write_beside(other.blob or "", "about", msgspec.json.encode(note))
    made = rebuilt(empty, intake)
    assert made[:2] == (2, 2)
    assert [image.id in problem and "two blobs" in problem for problem in made.problems] == [True]


def test_a_blob_whose_note_is_lost_becomes_an_image_that_only_admins_see(intake: Intake, queued: Queued, empty: Database):
    image = stored(intake, queued())
    flip(intake.store.beside(DIGEST, "about"), 0)
    made = rebuilt(empty, intake)
    assert made[:2] == (1, 1)
    assert DIGEST in made.problems[0]
    with empty.read() as connection:
        (new,) = page(connection, Query(visibility="all"), Viewer(None, everything=True))
        assert page(connection, Query(visibility="all"), Viewer("demo")) == []
    assert (new.checksum, new.os_hash_value, new.disk_format, new.size) == (
        image.checksum,
        image.os_hash_value,
        "raw",
        image.size,
    )
    assert Reader(empty, {"main": intake.store}, DIGEST, len(DATA)).open(0, len(DATA)) > 0


def test_a_note_with_a_moment_in_no_time_zone_is_a_lost_one(intake: Intake, queued: Queued, empty: Database):
    image = stored(intake, queued())
    note = msgspec.json.decode(intake.store.read_beside(DIGEST, "about"))
    note["images"][image.id]["created_at"] = "2026-01-01T00:00:00"
    intake.store.write_beside(DIGEST, "about", msgspec.json.encode(note))
    made = rebuilt(empty, intake)
    assert (made[:2], "has no note" in made.problems[0]) == ((1, 1), True)


def test_a_damaged_blob_without_a_note_is_told(intake: Intake, queued: Queued, empty: Database):
    stored(intake, queued())
    flip(intake.store.path(DIGEST), 5)
    intake.store.beside(DIGEST, "about").unlink()
    made = rebuilt(empty, intake)
    assert made[:2] == (0, 0)
    assert DIGEST in made.problems[0]


def test_records_that_are_there_are_not_touched(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    with pytest.raises(InvalidRequest, match="already"):
        rebuild(intake.database, {"main": intake.store})
    assert found(intake, image) == image
