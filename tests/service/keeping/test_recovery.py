"""What is put right at the start: uploads that nobody continues, and files that nobody needs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from sqlalchemy import update

from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.resumable import Sessions, begin_resumable
from cowherd.service.intake.staging import Staging
from cowherd.service.intake.upload import IMPORT, Upload
from cowherd.service.keeping.recovery import EXPIRED, GONE, REASON, recover
from cowherd.service.records.database import open_database
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import change_status, delete_image, read_image
from cowherd.service.records.schema import uploads
from cowherd.service.records.states import ACTIVE, IMPORTING, QUEUED, SAVING, UPLOADING
from cowherd.stores.directory import DirectoryStore

DATA = b"some bytes" * 1000

Queued = Callable[..., Image]


def found(intake: Intake, image: Image) -> Image:
    with intake.database.read() as connection:
        return read_image(connection, image.id)


def stores_of(intake: Intake) -> dict[str, DirectoryStore]:
    return {intake.store.name: intake.store}


def killed_in(intake: Intake, work: Callable[[Intake], object]) -> None:
    """Does some work in another process, which is killed when it is done."""
    url = intake.database.engine.url
    intake.database.close()
    child = os.fork()
    if not child:
        try:
            work(Intake(open_database(str(url)), intake.store))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def begin(intake: Intake, image: Image) -> Upload:
    upload = Upload.begin(intake, image)
    upload.feed(DATA)
    return upload


def stage(intake: Intake, image: Image) -> Staging:
    staging = Staging.begin(intake, image)
    staging.feed(DATA)
    return staging


def test_an_upload_whose_process_was_killed_is_over_and_its_image_queued(intake: Intake, queued: Queued):
    image = queued()
    killed_in(intake, lambda there: begin(there, image))
    assert found(intake, image).status == SAVING
    assert recover(intake.database, stores_of(intake)).images == (image.id,)
    assert (found(intake, image).status, found(intake, image).reason) == (QUEUED, REASON)
    assert intake.store.incoming() == []
    assert begin(intake, image).finish().status == ACTIVE


def test_an_upload_that_is_alive_is_left_alone(intake: Intake, queued: Queued):
    image, other = queued(), queued()
    upload, staging = begin(intake, image), stage(intake, other)
    assert recover(intake.database, stores_of(intake)) == ((), 0)
    assert upload.finish().status == ACTIVE
    staging.finish()
    assert found(intake, other).status == UPLOADING


def test_what_was_staged_waits_but_half_of_it_does_not(intake: Intake, queued: Queued):
    whole, half = queued(), queued()
    record = stage(intake, whole).finish()
    killed_in(intake, lambda there: stage(there, half))
    assert recover(intake.database, stores_of(intake)) == ((half.id,), 1)
    assert (found(intake, whole).status, found(intake, half).status) == (UPLOADING, QUEUED)
    upload = Upload.of_staged(intake, whole, record)
    upload.feed_staged()
    assert upload.finish().status == ACTIVE


def test_no_bytes_that_were_staged_wait_as_others_do(intake: Intake, queued: Queued):
    whole, half = queued(), queued()
    record = Staging.begin(intake, whole).finish()
    killed_in(intake, lambda there: Staging.begin(there, half, 0))
    assert recover(intake.database, stores_of(intake)) == ((half.id,), 1)
    assert (found(intake, whole).status, found(intake, half).reason) == (UPLOADING, REASON)
    killed_in(intake, lambda there: Upload.of_staged(there, whole, record))
    assert found(intake, whole).status == IMPORTING
    assert recover(intake.database, stores_of(intake)) == ((), 0)
    assert found(intake, whole).status == UPLOADING
    upload = Upload.of_staged(intake, whole, record)
    upload.feed_staged()
    assert (upload.finish().status, found(intake, whole).size) == (ACTIVE, 0)


@pytest.mark.parametrize("data", [DATA, b""])
@pytest.mark.parametrize("importing", [False, True])
def test_an_image_whose_staged_bytes_are_gone_is_queued_and_says_so(intake: Intake, queued: Queued, data: bytes, importing: bool):
    image = queued()
    staging = Staging.begin(intake, image)
    staging.feed(data)
    record = staging.finish()
    if importing:
        killed_in(intake, lambda there: Upload.of_staged(there, image, record))
    intake.store.discard(record.temporary or "")
    assert recover(intake.database, stores_of(intake)) == ((image.id,), 0)
    assert (found(intake, image).status, found(intake, image).reason, found(intake, image).size) == (QUEUED, GONE, None)
    assert begin(intake, image).finish().status == ACTIVE


def test_what_was_staged_does_not_wait_for_ever(intake: Intake, queued: Queued):
    image = queued()
    stage(intake, image).finish()
    with intake.database.write() as connection:
        connection.execute(update(uploads).values(expires_at=now()))
    assert recover(intake.database, stores_of(intake)) == ((image.id,), 1)
    assert (found(intake, image).status, found(intake, image).reason) == (QUEUED, EXPIRED)
    assert intake.store.incoming() == []


def test_a_resumable_upload_waits_from_its_first_byte_on(intake: Intake, queued: Queued):
    image, other = queued(), queued()
    records = [begin_resumable(intake, image, len(DATA), {}), begin_resumable(intake, other, len(DATA), {})]

    def half(there: Intake) -> None:
        session = Sessions().take(there, image, records[0], 0)
        session.append(DATA[:5000])
        session.keep(whole=False)
        session.append(DATA[5000:])

    killed_in(intake, half)
    assert recover(intake.database, stores_of(intake)) == ((), 0)
    for one, record, offset in ((image, records[0], 5000), (other, records[1], 0)):
        assert found(intake, one).status == UPLOADING
        session = Sessions().take(intake, one, record, offset)
        session.append(DATA[offset:])
        session.keep(whole=True)
        assert session.finish().status == ACTIVE
        assert intake.store.path(blake3(DATA).hexdigest()).read_bytes() == DATA


@pytest.mark.parametrize("stored_before", [False, True])
def test_a_resumable_upload_that_was_killed_when_its_bytes_were_a_blob_already_goes_on(
    intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch, stored_before: bool
):
    image = queued()
    if stored_before:
        begin(intake, queued()).finish()
    record = begin_resumable(intake, image, len(DATA), {})

    def whole(there: Intake) -> None:
        session = Sessions().take(there, image, record, 0)
        session.append(DATA)
        session.keep(whole=True)
        session.finish()

    with monkeypatch.context() as patch:
        patch.setattr("cowherd.service.intake.adoption._record", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        killed_in(intake, whole)
    assert len(intake.store.incoming()) == stored_before
    assert recover(intake.database, stores_of(intake)) == ((), 0)
    assert found(intake, image).status == UPLOADING
    assert len(list(intake.store.digests())) == stored_before
    assert Sessions().take(intake, image, record, len(DATA)).finish().status == ACTIVE
    assert intake.store.incoming() == []
    assert [path.suffix for path in sorted(intake.store.path(blake3(DATA).hexdigest()).parent.iterdir())] == [
        "", ".about", ".seal", ".sums",
    ]  # fmt: skip


@pytest.mark.parametrize("stored_before", [False, True])
@pytest.mark.parametrize("killed", ["upload.Upload.finish", "adoption._record"])
def test_an_import_whose_process_was_killed_has_what_was_staged_and_is_done_again(
    intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch, killed: str, stored_before: bool
):
    image = queued()
    if stored_before:
        begin(intake, queued()).finish()
    record = stage(intake, image).finish()

    def imports(there: Intake) -> Image:
        upload = Upload.of_staged(there, image, record)
        upload.feed_staged()
        return upload.finish()

    with monkeypatch.context() as patch:
        patch.setattr(f"cowherd.service.intake.{killed}", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        killed_in(intake, imports)
    assert found(intake, image).status == IMPORTING
    assert recover(intake.database, stores_of(intake)) == ((), 0)
    assert found(intake, image).status == UPLOADING
    assert imports(intake).status == ACTIVE
    assert recover(intake.database, stores_of(intake)) == ((), 0)


def test_an_import_that_fetched_its_bytes_and_was_killed_is_over(intake: Intake, queued: Queued):
    image = queued()
    killed_in(intake, lambda there: Upload.begin(there, image, status=IMPORTING, kind=IMPORT).feed(DATA))
    assert recover(intake.database, stores_of(intake)) == ((image.id,), 1)
    assert (found(intake, image).status, intake.store.incoming()) == (QUEUED, [])


def test_an_image_that_waits_for_bytes_which_nobody_brings_is_queued(intake: Intake, queued: Queued):
    image = queued()
    with intake.database.write() as connection:
        change_status(connection, image.id, {QUEUED}, IMPORTING)
    assert recover(intake.database, stores_of(intake)) == ((image.id,), 0)
    assert (found(intake, image).status, found(intake, image).reason) == (QUEUED, REASON)


def test_a_file_that_belongs_to_nothing_goes(intake: Intake, queued: Queued):
    killed_in(intake, lambda there: there.store.begin())
    image = queued()
    killed_in(intake, lambda there: begin(there, image))
    with intake.database.write() as connection:
        delete_image(connection, image.id)
    assert recover(intake.database, stores_of(intake)) == ((), 2)
    assert intake.store.incoming() == []


def test_an_upload_into_a_store_that_is_gone_is_over(intake: Intake, queued: Queued):
    image = queued()
    killed_in(intake, lambda there: begin(there, image))
    assert recover(intake.database, {}).images == (image.id,)
    assert found(intake, image).status == QUEUED


def test_an_upload_between_its_rename_and_its_record_is_waited_for(
    intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Another process starts just when the file is a blob already and no record names it."""
    image, said = queued(), os.pipe()
    upload = begin(intake, image)
    adopt = DirectoryStore.adopt

    def adopted(self: DirectoryStore, *arguments: str, **options: bool) -> bool:
        done = adopt(self, *arguments, **options)
        child = os.fork()
        if not child:
            os.close(said[0])
            database = open_database(str(intake.database.engine.url))
            os.write(said[1], repr(recover(database, stores_of(intake))).encode())
            os._exit(0)
        return done

    monkeypatch.setattr(DirectoryStore, "adopt", adopted)
    assert upload.finish().status == ACTIVE
    os.close(said[1])
    with os.fdopen(said[0]) as answer:
        assert answer.read() == "Recovered(images=(), files=0)"
    os.wait()
    assert found(intake, image).status == ACTIVE


def test_a_record_that_names_no_image_of_an_upload_any_more_just_goes(intake: Intake, queued: Queued):
    image = queued()
    killed_in(intake, lambda there: begin(there, image))
    with intake.database.write() as connection:
        connection.exec_driver_sql("UPDATE images SET status = 'active'")
        connection.execute(update(uploads).values(temporary=None))
    assert recover(intake.database, stores_of(intake)) == ((), 1)
    assert found(intake, image).status == ACTIVE
