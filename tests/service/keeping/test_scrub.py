"""What rots is found, told, and repaired from another store: the bytes, and each file beside them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from sqlalchemy import update

from cowherd.errors import HostFileError
from cowherd.herd.records.sealfile import check_seal
from cowherd.service import counting
from cowherd.service.intake.arriving import Intake
from cowherd.service.keeping.beside import damaged_beside
from cowherd.service.keeping.keeper import Ended
from cowherd.service.keeping.scrub import Scrub
from cowherd.service.records import schema
from cowherd.service.records.blobs import MISSING, WHOLE, read_blob
from cowherd.service.records.events import list_events
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import update_image
from cowherd.stores.directory import KINDS, DirectoryStore
from tests.service.keeping.keeping import DATA, MIB, Queued, flip, found, places, stored, truncate, two_stores

DIGEST = blake3(DATA).hexdigest()


def nothing() -> None:
    pass


def scrub_of(intake: Intake, stores: dict[str, DirectoryStore] | None = None) -> Scrub:
    return Scrub(intake.database, stores or {intake.store.name: intake.store}, None, timedelta(0))


def verified(intake: Intake, stores: dict[str, DirectoryStore] | None = None) -> int:
    return scrub_of(intake, stores).verify_due(nothing)


def repaired(intake: Intake, stores: dict[str, DirectoryStore]) -> int:
    return scrub_of(intake, stores).repair_all(nothing)


def told(intake: Intake, image: Image) -> list[str]:
    """Returns what was told of an image after it had its content."""
    with intake.database.read() as connection:
        actions = [event.action for event in list_events(connection, image_id=image.id)]
    return [action for action in actions if action != "image.active"]


def damage_blob(path: Path, way: str) -> tuple[tuple[int, int], ...]:
    """Damages the blob in some way, and returns what a store is to find."""
    if way == "bit":
        flip(path, MIB + 5)
        return ((MIB, 2 * MIB),)
    if way == "cut":
        truncate(path, 2 * MIB)
        return ((2 * MIB, len(DATA)),)
    path.unlink()
    return ()


def test_what_is_whole_is_said_to_be(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    before = places(intake, image)["main"]
    assert verified(intake) == 1
    after = places(intake, image)["main"]
    assert (after.state, after.verified_how, after.identity) == ("whole", "scrub", before.identity)
    assert after.verified_at > before.verified_at
    assert (found(intake, image).reason, told(intake, image)) == (None, [])


def test_only_what_is_due_is_read_the_eldest_first(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    images = [stored(intake, queued(), os.urandom(1000)) for _ in range(3)]
    with intake.database.write() as connection:
        for image, days in zip(images, (8, 6, 9), strict=True):
            rows = schema.places.c.blob == image.blob
            connection.execute(update(schema.places).where(rows).values(verified_at=now() - timedelta(days=days)))
    read = []
    verify = DirectoryStore.verify
    monkeypatch.setattr(
        DirectoryStore, "verify", lambda self, digest, **more: read.append(digest) or verify(self, digest, **more)
    )
    assert Scrub(intake.database, {"main": intake.store}, None, timedelta(days=7)).verify_due(nothing) == 2
    assert read == [images[2].blob, images[0].blob]


@pytest.mark.parametrize("way", ["bit", "cut", "gone"])
def test_damage_without_another_store_is_told_with_its_ranges(intake: Intake, queued: Queued, way: str):
    image, twin, sound = stored(intake, queued()), stored(intake, queued()), stored(intake, queued(), b"other")
    damage = damage_blob(intake.store.path(DIGEST), way)
    verified(intake)
    place = places(intake, image)["main"]
    assert (place.state, place.damage) == ("missing" if way == "gone" else "damaged", damage)
    reason = found(intake, image).reason
    assert "main" in reason
    assert "backup" in reason
    assert way == "gone" or f"{damage[0][0]}-{damage[0][1] - 1}" in reason
    assert found(intake, twin).reason == reason
    assert found(intake, sound).reason is None
    assert told(intake, image) == ["blob.missing" if way == "gone" else "blob.damaged"]
    verified(intake)
    assert len(told(intake, image)) == 1  # it is no news any more
    assert repaired(intake, {"main": intake.store}) == 0


@pytest.mark.parametrize("way", ["bit", "cut", "gone"])
def test_damage_is_repaired_from_another_store(intake: Intake, queued: Queued, way: str):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    damage_blob(intake.store.path(DIGEST), way)
    verified(intake, stores)
    assert "another store" in found(intake, image).reason
    assert repaired(intake, stores) == 1
    assert intake.store.path(DIGEST).read_bytes() == DATA
    place = places(intake, image)["main"]
    assert (place.state, place.verified_how, place.damage) == ("whole", "repair", ())
    assert found(intake, image).reason is None
    assert told(intake, image)[0] == "blob.whole"
    assert intake.store.incoming() == []
    assert intake.store.path(DIGEST).stat().st_mode & 0o777 == 0o440


def test_what_is_read_found_and_repaired_is_counted(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    monkeypatch.setattr(counting, "_rows", counting.Rows(1))
    for way in ("bit", "gone"):
        damage_blob(intake.store.path(DIGEST), way)
        verified(intake, stores)
        verified(intake, stores)
        repaired(intake, stores)
    totals = counting.totals()
    for what, count in ((counting.DAMAGED, 1), (counting.MISSING, 1), (counting.REPAIRED, 2)):
        assert totals[what.name] == {("main",): count}
    assert totals[counting.SCRUBBED.name] == {("main",): 2 * len(DATA), ("other",): 4 * len(DATA)}


def test_two_stores_that_are_damaged_in_different_places_heal_each_other(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    flip(intake.store.path(DIGEST), 5)
    flip(stores["other"].path(DIGEST), 3 * MIB)
    verified(intake, stores)
    assert repaired(intake, stores) == 2
    assert {store.path(DIGEST).read_bytes() == DATA for store in stores.values()} == {True}


def test_only_damaged_pieces_are_fetched(intake: Intake, queued: Queued):
    """The other store has lost all other pieces: it is not asked for them."""
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    flip(intake.store.path(DIGEST), MIB)
    for piece in (0, 2, 3):
        flip(stores["other"].path(DIGEST), piece * MIB)
    verified(intake, stores)
    assert repaired(intake, stores) == 2


def test_what_is_lost_in_all_stores_stays_as_it_is(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    for store in stores.values():
        flip(store.path(DIGEST), MIB)
    verified(intake, stores)
    before = intake.store.path(DIGEST).read_bytes()
    scrub = scrub_of(intake, stores)
    assert scrub.repair_all(nothing) == 0
    assert intake.store.path(DIGEST).read_bytes() == before
    assert intake.store.incoming() == []
    assert places(intake, image)["main"].state == "damaged"


def test_what_can_not_be_repaired_is_not_read_again_and_again(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    for store in stores.values():
        flip(store.path(DIGEST), MIB)
    verified(intake, stores)
    scrub = scrub_of(intake, stores)
    scrub.repair_all(nothing)
    begun = []
    begin = DirectoryStore.begin
    monkeypatch.setattr(DirectoryStore, "begin", lambda self: begun.append(self.name) or begin(self))
    assert scrub.repair_all(nothing) == 0
    assert begun == []


def test_a_copy_that_somebody_brought_is_taken(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    path = intake.store.path(DIGEST)
    damage_blob(path, "gone")
    verified(intake)
    path.write_bytes(DATA)
    assert repaired(intake, {"main": intake.store}) == 1
    assert (places(intake, image)["main"].state, found(intake, image).reason) == ("whole", None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["bit", "cut", "empty", "gone"])
def test_what_lies_beside_a_whole_blob_is_made_again(intake: Intake, queued: Queued, kind: str, way: str):
    image = stored(intake, queued(name="a name"))
    path = intake.store.beside(DIGEST, kind)
    sound = path.read_bytes()
    if way == "bit":
        flip(path, 30)
    elif way == "gone":
        path.unlink()
    else:
        truncate(path, len(sound) // 2 if way == "cut" else 0)
    with intake.database.read() as connection:
        blob = read_blob(connection, DIGEST)
    assert damaged_beside(intake.store, blob) == [kind]
    verified(intake)
    assert damaged_beside(intake.store, blob) == []
    if kind == "seal":
        assert check_seal(path).content_digest.hex() == blob.content_digest
    else:
        assert path.read_bytes() == sound
    assert found(intake, image).reason is None


def test_a_blob_whose_sums_are_damaged_too_is_repaired(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    flip(intake.store.path(DIGEST), MIB)
    flip(intake.store.beside(DIGEST, "sums"), 70)
    verified(intake, stores)
    assert places(intake, image)["main"].damage == ((0, len(DATA)),)
    assert repaired(intake, stores) == 1
    assert intake.store.path(DIGEST).read_bytes() == DATA
    assert intake.store.sums(DIGEST) == stores["other"].sums(DIGEST)


def test_the_note_beside_a_blob_follows_the_records(intake: Intake, queued: Queued):
    image = stored(intake, queued(name="before"))
    with intake.database.write() as connection:
        update_image(connection, msgspec.structs.replace(image, name="after"))
    verified(intake)
    assert json.loads(intake.store.read_beside(DIGEST, "about"))["images"][image.id]["name"] == "after"


def test_a_blob_that_can_not_be_looked_at_keeps_no_other_waiting(
    intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch, caplog
):
    refused, other = stored(intake, queued()), stored(intake, queued(), b"other")
    opened = DirectoryStore.open

    def open_or_refuse(self: DirectoryStore, digest: str) -> int:
        if digest == refused.blob:
            raise HostFileError(self.path(digest), "open", OSError(errno.EACCES, "Permission denied"))
        return opened(self, digest)

    monkeypatch.setattr(DirectoryStore, "open", open_or_refuse)
    assert verified(intake) == 1
    assert "Permission denied" in caplog.text
    assert places(intake, refused)["main"].verified_how == "upload"
    assert places(intake, other)["main"].verified_how == "scrub"


def test_scrub_and_repair_end_when_the_service_does(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    calls = []

    def end() -> None:
        calls.append(1)
        if len(calls) > 2:
            raise Ended

    with pytest.raises(Ended):
        scrub_of(intake).verify_due(end)
    assert places(intake, image)["main"].verified_how == "upload"
    damage_blob(intake.store.path(DIGEST), "cut")
    verified(intake, stores)
    with pytest.raises(Ended):
        scrub_of(intake, stores).repair_all(end)
    assert (places(intake, image)["main"].state, intake.store.incoming()) == ("damaged", [])


def test_a_store_that_was_lost_has_all_again_from_another_one(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    shutil.rmtree(intake.store.directory)
    intake.store.prepare()
    verified(intake, stores)
    assert places(intake, image)["main"].state == MISSING
    assert repaired(intake, stores) == 1
    assert places(intake, image)["main"].state == WHOLE
    assert intake.store.path(DIGEST).read_bytes() == DATA
    with intake.database.read() as connection:
        assert damaged_beside(intake.store, read_blob(connection, DIGEST)) == []
