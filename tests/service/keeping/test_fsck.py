"""The check finds what does not fit, changes nothing unless it is asked to, and then puts right what it can."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from blake3 import blake3

from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.staging import Staging
from cowherd.service.keeping import reaper
from cowherd.service.keeping.fsck.report import Finding
from cowherd.service.keeping.fsck.run import check_service
from cowherd.service.records.image import now
from cowherd.service.records.images import delete_image
from cowherd.service.records.lineage import Claim, base_of, record_base
from cowherd.service.records.places import forget_place
from cowherd.service.records.tasks import PROCESSING, Task, create_task, read_task
from cowherd.stores.directory import KINDS, DirectoryStore
from tests.service.keeping.keeping import DATA, MIB, Queued, flip, found, places, stored, truncate, two_stores

DIGEST = blake3(DATA).hexdigest()
WAYS = {
    "missing": os.unlink,
    "wrong-size": lambda path: truncate(path, 5),
    "damaged": lambda path: flip(path, MIB),
}


def checked(intake: Intake, stores: dict[str, DirectoryStore] | None = None, *, repair: bool = False) -> list[Finding]:
    return list(check_service(intake.database, stores or {"main": intake.store}, repair=repair))


def kinds(findings: list[Finding]) -> list[tuple[str, bool]]:
    return [(one.kind, one.repaired) for one in findings]


def test_what_is_well_is_found_well(intake: Intake, queued: Queued):
    two_stores(intake, stored(intake, queued()))
    queued()
    Staging.begin(intake, queued())
    assert checked(intake) == []


@pytest.mark.parametrize("way", WAYS)
def test_bytes_that_are_not_as_they_were_are_found_and_repaired_only_on_request(intake: Intake, queued: Queued, way: str):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    WAYS[way](intake.store.path(DIGEST))
    before = places(intake, image)
    findings = checked(intake, stores)
    assert [(one.kind, one.store, one.blob, one.is_left) for one in findings] == [(way, "main", DIGEST, True)]
    assert places(intake, image) == before
    assert kinds(checked(intake, stores, repair=True)) == [(way, True)]
    assert intake.store.path(DIGEST).read_bytes() == DATA
    assert checked(intake, stores) == []


@pytest.mark.parametrize("way", WAYS)
def test_what_no_store_has_whole_is_left_and_told(intake: Intake, queued: Queued, way: str):
    image = stored(intake, queued())
    WAYS[way](intake.store.path(DIGEST))
    assert [one.is_left for one in checked(intake, repair=True)] == [True]
    assert places(intake, image)["main"].state == ("missing" if way == "missing" else "damaged")
    assert "main" in found(intake, image).reason


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beside_is_checked(intake: Intake, queued: Queued, kind: str):
    stored(intake, queued())
    flip(intake.store.beside(DIGEST, kind), 50)
    assert kinds(checked(intake)) == [(kind, False)]
    assert kinds(checked(intake, repair=True)) == [(kind, True)]
    assert checked(intake) == []


def test_blobs_without_records_are_listed_and_harmless(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    stored(intake, queued())
    with intake.database.write() as connection:
        forget_place(connection, DIGEST, "main")
        connection.exec_driver_sql("DELETE FROM images")
    findings = checked(intake, repair=True)
    assert [(one.kind, one.repaired, one.is_left) for one in findings] == [("orphan", False, False)]
    tomorrow = reaper.time.time() + 90_000
    monkeypatch.setattr(reaper.time, "time", lambda: tomorrow)
    assert kinds(checked(intake, repair=True)) == [("orphan", True)]
    assert list(intake.store.digests()) == []


def test_uploads_that_nobody_continues_and_their_files_are_found(intake: Intake, queued: Queued):
    image = queued()
    staging = Staging.begin(intake, image)
    staging.feed(DATA)
    staging._incoming.close()  # as if its process had died
    with intake.store.begin():
        pass
    assert sorted(kinds(checked(intake))) == [("stray", False), ("stuck-upload", False)]
    assert sorted(kinds(checked(intake, repair=True))) == [("stray", True), ("stuck-upload", True)]
    assert (found(intake, image).status, intake.store.incoming(), checked(intake)) == ("queued", [], [])


@pytest.mark.parametrize("status", ["saving", "uploading", "importing"])
def test_images_that_wait_for_nothing_are_queued(intake: Intake, queued: Queued, status: str):
    image = queued(status=status)
    assert kinds(checked(intake)) == [("stuck-image", False)]
    assert kinds(checked(intake, repair=True)) == [("stuck-image", True)]
    assert found(intake, image).status == "queued"


def test_an_image_that_a_task_imports_waits_for_it(intake: Intake, queued: Queued):
    image = queued(status="importing")
    with intake.database.write() as connection:
        create_task(connection, Task(id="t", type="import", image_id=image.id))
    assert checked(intake) == []


def test_an_image_whose_content_is_nowhere_is_told(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    with intake.database.write() as connection:
        forget_place(connection, DIGEST, "main")
    assert ("no-content", image.id) in [(one.kind, one.image) for one in checked(intake)]


def test_a_task_whose_process_has_long_been_silent_is_ended(intake: Intake):
    with intake.database.write() as connection:
        for name, hours in (("old", 2), ("new", 0)):
            lease = now() - timedelta(hours=hours)
            create_task(connection, Task(id=name, type="import", status=PROCESSING, holder="x", leased_until=lease))
    assert kinds(checked(intake)) == [("stuck-task", False)]
    assert kinds(checked(intake, repair=True)) == [("stuck-task", True)]
    with intake.database.read() as connection:
        assert [read_task(connection, name).status for name in ("old", "new")] == ["failure", "processing"]


def test_lineage_that_leads_nowhere_is_told_and_what_can_be_is_put_right(intake: Intake, queued: Queued):
    base, child, lost = stored(intake, queued()), queued(), queued()
    with intake.database.write() as connection:
        content = connection.exec_driver_sql("SELECT content_digest FROM blobs").scalar()
        record_base(connection, Claim(child.id, content, None, "binding"))
        record_base(connection, Claim(lost.id, "00" * 32, base.id, "binding"))
    assert sorted((one.kind, one.image, one.repaired) for one in checked(intake, repair=True)) == sorted(
        [("dangling", child.id, True), ("dangling", lost.id, False)]
    )
    with intake.database.read() as connection:
        assert base_of(connection, child.id).base == base.id


def test_a_blob_that_no_image_has_any_more_is_nobodys_loss(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    with intake.database.write() as connection:
        delete_image(connection, image.id)
    intake.store.delete_beside(DIGEST, "sums")  # as if the reaper had been killed in the middle
    assert checked(intake) == []


def test_one_repair_puts_right_what_lies_beside_a_blob_as_well(intake: Intake, queued: Queued):
    image = stored(intake, queued())
    stores = two_stores(intake, image)
    flip(intake.store.path(DIGEST), MIB)
    intake.store.delete_beside(DIGEST, "seal")
    checked(intake, stores, repair=True)
    assert checked(intake, stores) == []
