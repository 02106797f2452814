"""What nobody needs is deleted: after a while, and not while somebody stores the same bytes again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from blake3 import blake3

from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.upload import Upload
from cowherd.service.keeping import reaper
from cowherd.service.keeping.reaper import ORPHAN_GRACE, delete_orphans, orphans, reap
from cowherd.service.records.blobs import read_blob
from cowherd.service.records.events import Event, list_events, record_event
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import delete_image
from cowherd.service.records.places import forget_place, places_of
from cowherd.service.records.states import ACTIVE
from cowherd.service.records.tasks import Task, create_task, list_tasks
from cowherd.stores.directory import KINDS, DirectoryStore

DATA = b"some bytes" * 1000
DIGEST = blake3(DATA).hexdigest()
AT_ONCE, LATER = timedelta(0), timedelta(hours=1)

Queued = Callable[..., Image]


def stored(intake: Intake, image: Image) -> Image:
    upload = Upload.begin(intake, image)
    upload.feed(DATA)
    return upload.finish()


def deleted(intake: Intake, *images: Image) -> None:
    with intake.database.write() as connection:
        for image in images:
            delete_image(connection, image.id)


def stores_of(intake: Intake) -> dict[str, DirectoryStore]:
    return {intake.store.name: intake.store}


def reaped(intake: Intake, grace: timedelta = AT_ONCE) -> int:
    return reap(intake.database, stores_of(intake), grace).blobs


def files(intake: Intake) -> list[str]:
    return sorted(name for _, _, names in os.walk(intake.store.directory / "blobs") for name in names)


def test_the_bytes_of_a_deleted_image_go_after_a_while(intake: Intake, queued: Queued):
    deleted(intake, stored(intake, queued()))
    assert reaped(intake, LATER) == 0
    assert len(files(intake)) == 1 + len(KINDS)
    assert reaped(intake) == 1
    assert files(intake) == []
    with intake.database.read() as connection:
        assert (read_blob(connection, DIGEST), places_of(connection, DIGEST)) == (None, [])


def test_bytes_that_another_image_has_stay(intake: Intake, queued: Queued):
    one, _ = stored(intake, queued()), stored(intake, queued())
    deleted(intake, one)
    assert reaped(intake) == 0
    assert intake.store.verify(DIGEST) == ()


def test_bytes_that_came_again_stay(intake: Intake, queued: Queued):
    deleted(intake, stored(intake, queued()))
    stored(intake, queued())
    assert reaped(intake) == 0
    assert intake.store.verify(DIGEST) == ()


def test_an_upload_of_the_same_bytes_at_that_moment_wins(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    """The reaper is about to forget the blob when the same bytes are about to become it."""
    deleted(intake, stored(intake, queued()))
    image, meanwhile = queued(), []
    adopt = DirectoryStore.adopt

    def adopted(self: DirectoryStore, *arguments: str, **options: bool) -> bool:
        threads = [threading.Thread(target=lambda: meanwhile.append(reaped(intake)))]
        threads[0].start()
        threads[0].join(0.3)
        meanwhile.append(threads[0])
        return adopt(self, *arguments, **options)

    monkeypatch.setattr(DirectoryStore, "adopt", adopted)
    assert stored(intake, image).status == ACTIVE
    thread = next(one for one in meanwhile if isinstance(one, threading.Thread))
    thread.join()
    assert 0 in meanwhile
    assert intake.store.verify(DIGEST) == ()


def test_bytes_that_go_at_this_moment_are_stored_again(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    """The same bytes have arrived while the reaper deletes the old ones: they wait for it, and are stored."""
    deleted(intake, stored(intake, queued()))
    begun, done = Upload.begin(intake, queued()), []
    begun.feed(DATA)
    finishing = threading.Thread(target=lambda: done.append(begun.finish()))
    remove = DirectoryStore.remove

    def removed(self: DirectoryStore, digest: str) -> None:
        finishing.start()
        finishing.join(0.3)
        assert done == []
        remove(self, digest)

    monkeypatch.setattr(DirectoryStore, "remove", removed)
    assert reaped(intake) == 1
    finishing.join()
    assert done[0].status == ACTIVE
    assert intake.store.verify(DIGEST) == ()


def test_a_reaper_that_was_killed_after_the_bytes_goes_on_with_the_records(
    intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch
):
    deleted(intake, stored(intake, queued()))
    remove = DirectoryStore.remove

    def killed(self: DirectoryStore, digest: str) -> None:
        remove(self, digest)
        raise KeyboardInterrupt

    monkeypatch.setattr(DirectoryStore, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        reaped(intake)
    monkeypatch.undo()
    with intake.database.read() as connection:
        assert read_blob(connection, DIGEST) is not None
    assert reaped(intake) == 1


def test_a_store_that_refuses_keeps_blob_and_record(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch, caplog):
    deleted(intake, stored(intake, queued()))

    def refuse(path: object) -> None:
        raise PermissionError(30, "Read-only file system", str(path))

    monkeypatch.setattr(os, "unlink", refuse)
    assert reaped(intake) == 0
    assert "Read-only file system" in caplog.text
    monkeypatch.undo()
    with intake.database.read() as connection:
        assert read_blob(connection, DIGEST) is not None


def test_a_blob_that_no_record_names_goes_after_a_day(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    stored(intake, queued())
    with intake.database.write() as connection:
        forget_place(connection, DIGEST, intake.store.name)
    assert delete_orphans(intake.database, intake.store) == []
    tomorrow = reaper.time.time() + ORPHAN_GRACE.total_seconds() + 1
    monkeypatch.setattr(reaper.time, "time", lambda: tomorrow)
    assert orphans(intake.database, intake.store) == [DIGEST]
    assert delete_orphans(intake.database, intake.store) == [DIGEST]
    assert files(intake) == []


def test_a_blob_that_is_just_being_recorded_is_no_orphan(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    adopt, found = DirectoryStore.adopt, []

    def adopted(self: DirectoryStore, *arguments: str, **options: bool) -> bool:
        done = adopt(self, *arguments, **options)
        thread = threading.Thread(target=lambda: found.append(delete_orphans(intake.database, intake.store, AT_ONCE)))
        thread.start()
        found.append(thread)
        return done

    monkeypatch.setattr(DirectoryStore, "adopt", adopted)
    assert stored(intake, queued()).status == ACTIVE
    found[0].join()
    assert found[1] == []
    assert intake.store.verify(DIGEST) == ()


def test_old_events_and_tasks_are_forgotten(intake: Intake):
    with intake.database.write() as connection:
        for days in (1, 91):
            record_event(connection, Event(action=f"{days} days old", at=now() - timedelta(days=days)))
            create_task(connection, Task(id=str(days), type="import", expires_at=now() + timedelta(days=90 - days)))
    assert reap(intake.database, {}, LATER) == (0, 1, 1)
    with intake.database.read() as connection:
        assert [event.action for event in list_events(connection)] == ["1 days old"]
        assert [task.id for task in list_tasks(connection)] == ["1"]
