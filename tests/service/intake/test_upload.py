"""An upload ends with an active image whose bytes are there whole, or with a queued one and no byte of it."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from sqlalchemy import select

import cowherd
from cowherd.errors import CowherdError, HostError, HostFileError
from cowherd.herd.records.status import Status
from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.faults import LengthDiffers, Refused, StoreFull, TooLarge
from cowherd.service.intake.inspection import Rules
from cowherd.service.intake.upload import Upload
from cowherd.service.records.blobs import DAMAGED, WHOLE, read_blob
from cowherd.service.records.database import Database
from cowherd.service.records.faults import DatabaseBusy, ImageNotFound, QuotaExceeded, StatusConflict
from cowherd.service.records.image import Image
from cowherd.service.records.images import change_status, delete_image, read_image
from cowherd.service.records.places import place_of
from cowherd.service.records.quotas import Resource
from cowherd.service.records.schema import blobs, places, uploads
from cowherd.service.records.states import ACTIVE, QUEUED, SAVING
from tests.hostile.corpus import seed
from tests.reliability.calls import CHANGING, interposed

MIB = 1 << 20
DATA = os.urandom(MIB) + bytes(MIB) + os.urandom(100)
DIGEST = blake3(DATA).hexdigest()

Queued = Callable[..., Image]


def upload(intake: Intake, image: Image, data: bytes = DATA, *, length: int | None = None, step: int = 300_000) -> Image:
    under_way = Upload.begin(intake, image, length)
    for begin in range(0, len(data), step):
        under_way.feed(data[begin : begin + step])
    return under_way.finish()


def record_of(intake: Intake, image: Image) -> Image:
    with intake.database.read() as connection:
        return read_image(connection, image.id)


def stored(intake: Intake) -> list[str]:
    return list(intake.store.digests())


def read(intake: Intake, digest: str) -> bytes:
    with os.fdopen(intake.store.open(digest), "rb") as file:
        return file.read()


def is_as_before(intake: Intake, image: Image) -> str | None:
    """Requires that nothing is left of an upload but a reason in the image's record, which is returned."""
    found = record_of(intake, image)
    same = msgspec.structs.replace(found, version=image.version, updated_at=image.updated_at, reason=image.reason)
    assert same == image
    assert list(intake.store.incoming()) == []
    assert stored(intake) == []
    with intake.database.read() as connection:
        for table in (uploads, blobs, places):
            assert connection.execute(select(table)).all() == []
    return found.reason


def sound_qcow2(tmp_path: Path) -> bytes:
    return seed().write(tmp_path / "seed").read_bytes()


def test_what_was_uploaded_is_an_active_image_with_its_digests_and_sizes(intake: Intake, queued: Queued):
    image = queued(name="a name", owner="someone", properties={"key": "value"}, tags=("b", "a"))
    done = upload(intake, image, length=len(DATA))
    assert done == record_of(intake, image)
    assert (done.status, done.size, done.virtual_size, done.reason) == (ACTIVE, len(DATA), len(DATA), None)
    assert (done.checksum, done.os_hash_algo) == (hashlib.md5(DATA).hexdigest(), "sha512")
    assert (done.os_hash_value, done.blob, done.stores) == (hashlib.sha512(DATA).hexdigest(), DIGEST, ("main",))
    assert (done.name, done.properties, done.tags) == ("a name", {"key": "value"}, ("a", "b"))
    assert read(intake, DIGEST) == DATA
    assert intake.store.incoming() == []


def test_beside_the_blob_lie_its_seal_its_sums_and_what_it_is(intake: Intake, queued: Queued):
    done = upload(intake, queued(name="a name"))
    assert intake.store.verify(DIGEST) == ()
    assert intake.store.sums(DIGEST) is not None
    (checked,) = cowherd.verify([intake.store.path(DIGEST)], full=True)
    assert (checked.status, checked.sealed) == (Status.OK, True)
    about = json.loads(intake.store.read_beside(DIGEST, "about") or b"")
    with intake.database.read() as connection:
        blob = read_blob(connection, DIGEST)
    assert blob is not None
    assert about["blob"]["content_digest"] == blob.content_digest is not None
    assert about["images"][done.id]["name"] == "a name"
    assert about["images"][done.id]["os_hash_value"] == done.os_hash_value


def test_a_qcow2_is_sealed_by_what_a_guest_sees(intake: Intake, queued: Queued, tmp_path: Path):
    data = sound_qcow2(tmp_path)
    done = upload(intake, queued("qcow2"), data)
    assert (done.size, done.virtual_size) == (len(data), 2 * MIB)
    (checked,) = cowherd.verify([intake.store.path(done.blob or "")], full=True)
    assert (checked.status, checked.sealed) == (Status.OK, True)


@pytest.mark.parametrize(("disk_format", "container"), [("ami", "ami"), ("qcow2", "ovf"), ("iso", "bare")])
def test_what_has_no_content_digest_has_no_seal(intake: Intake, queued: Queued, disk_format: str, container: str):
    data = bytes(0x8001) + b"CD001" + bytes(5000)
    done = upload(intake, queued(disk_format, container), data)
    assert done.status == ACTIVE
    assert intake.store.read_beside(done.blob or "", "seal") is None
    assert intake.store.sums(done.blob or "") is not None


def test_an_upload_without_bytes_is_an_empty_image(intake: Intake, queued: Queued):
    done = upload(intake, queued(), b"", length=0)
    assert (done.status, done.size, done.virtual_size, done.blob) == (ACTIVE, 0, None, blake3(b"").hexdigest())


def test_other_digests_are_made_if_so_configured(intake: Intake, queued: Queued):
    done = upload(replace(intake, hash_algorithm="sha256", md5=False), queued())
    assert (done.checksum, done.os_hash_algo, done.os_hash_value) == (None, "sha256", hashlib.sha256(DATA).hexdigest())
    again = upload(intake, queued())
    assert (again.checksum, again.os_hash_algo) == (hashlib.md5(DATA).hexdigest(), "sha512")
    with intake.database.read() as connection:
        blob = read_blob(connection, DIGEST)
    assert blob is not None
    assert (blob.md5, blob.sha256, blob.sha512) == (again.checksum, done.os_hash_value, again.os_hash_value)


def test_the_same_bytes_twice_are_one_blob_that_names_both_images(intake: Intake, queued: Queued):
    first, second = upload(intake, queued()), upload(intake, queued(name="again"))
    assert first.blob == second.blob == DIGEST
    assert stored(intake) == [DIGEST]
    assert set(json.loads(intake.store.read_beside(DIGEST, "about") or b"")["images"]) == {first.id, second.id}


def test_the_same_bytes_heal_a_blob_that_is_known_as_damaged_or_gone(intake: Intake, queued: Queued):
    upload(intake, queued())
    path = intake.store.path(DIGEST)
    path.chmod(0o640)
    with path.open("r+b") as file:
        file.write(b"?")
    with intake.database.write() as connection:
        connection.execute(places.update().values(state=DAMAGED))
    upload(intake, queued())
    assert read(intake, DIGEST) == DATA
    with intake.database.read() as connection:
        assert place_of(connection, DIGEST, "main").state == WHOLE
    intake.store.remove(DIGEST)
    upload(intake, queued())
    assert (read(intake, DIGEST), intake.store.verify(DIGEST)) == (DATA, ())


def test_a_refusal_leaves_nothing_but_its_reason_and_the_retry_works(intake: Intake, queued: Queued, tmp_path: Path):
    image = queued("qcow2", name="a name", properties={"key": "value"})
    hostile = seed()
    hostile.backing(b"/etc/passwd")
    with pytest.raises(Refused) as caught:
        upload(intake, image, hostile.write(tmp_path / "hostile").read_bytes())
    assert caught.value.check == "backing-file"
    assert is_as_before(intake, image) == str(caught.value)
    done = upload(intake, image, sound_qcow2(tmp_path))
    assert (done.status, done.reason) == (ACTIVE, None)


def test_what_only_the_stored_file_shows_is_refused_too(intake: Intake, queued: Queued, tmp_path: Path):
    image, hostile = queued("qcow2"), seed()
    hostile.word(hostile["L2"], 0x7FFF0000)
    with pytest.raises(Refused):
        upload(intake, image, hostile.write(tmp_path / "hostile").read_bytes())
    assert "mapping" in (is_as_before(intake, image) or "")


def test_formats_need_not_match_if_so_configured(intake: Intake, queued: Queued):
    loose = replace(intake, rules=Rules(match_format=False))
    done = upload(loose, queued("qcow2"))
    assert (done.status, done.disk_format, done.virtual_size) == (ACTIVE, "qcow2", None)
    assert intake.store.read_beside(DIGEST, "seal") is None


@pytest.mark.parametrize("announced", [len(DATA) - 1, len(DATA) + 1])
def test_another_length_than_announced_is_an_error(intake: Intake, queued: Queued, announced: int):
    image = queued()
    with pytest.raises(LengthDiffers) as caught:
        upload(intake, image, length=announced)
    assert caught.value.announced == announced
    assert "announced" in (is_as_before(intake, image) or "")


def test_what_is_too_large_is_known_before_a_byte_is_read_or_as_soon_as_it_shows(intake: Intake, queued: Queued):
    image, small = queued(), replace(intake, most_bytes=MIB)
    with pytest.raises(TooLarge):
        Upload.begin(small, image, MIB + 1)
    assert "Upload a smaller one" in (is_as_before(intake, image) or "")
    with pytest.raises(TooLarge):
        upload(small, image)
    is_as_before(intake, image)


def test_what_does_not_fit_into_the_store_is_known_before_a_byte_is_read(intake: Intake, queued: Queued):
    image = queued()
    with pytest.raises(StoreFull) as caught:
        Upload.begin(intake, image, 1 << 39)
    assert caught.value.needed == 1 << 39
    assert is_as_before(intake, image) == str(caught.value)


def test_only_a_queued_image_takes_an_upload_and_one_at_a_time(intake: Intake, queued: Queued):
    image = queued()
    under_way = Upload.begin(intake, image)
    assert record_of(intake, image).status == SAVING
    with pytest.raises(StatusConflict):
        Upload.begin(intake, image)
    under_way.feed(DATA)
    assert under_way.finish().status == ACTIVE
    with pytest.raises(StatusConflict):
        Upload.begin(intake, image)
    assert intake.store.incoming() == []


def test_a_client_that_goes_away_leaves_the_image_queued(intake: Intake, queued: Queued):
    image, threads = queued(), threading.active_count()
    under_way = Upload.begin(intake, image)
    under_way.feed(DATA)
    assert intake.store.is_held(under_way.record.temporary or "")
    under_way.abandon("The client closed the connection")
    under_way.abandon("twice")
    assert is_as_before(intake, image) == "The client closed the connection"
    assert threading.active_count() == threads


def test_an_image_deleted_meanwhile_stays_deleted_and_its_bytes_go(intake: Intake, queued: Queued):
    image = queued()
    under_way = Upload.begin(intake, image)
    under_way.feed(DATA)
    with intake.database.write() as connection:
        delete_image(connection, image.id)
    with pytest.raises(ImageNotFound):
        under_way.finish()
    with pytest.raises(ImageNotFound):
        record_of(intake, image)
    assert (stored(intake), intake.store.incoming()) == ([], [])


def test_an_image_that_was_queued_again_meanwhile_does_not_become_active(intake: Intake, queued: Queued):
    image = queued()
    under_way = Upload.begin(intake, image)
    under_way.feed(DATA)
    with intake.database.write() as connection:
        change_status(connection, image.id, {SAVING}, QUEUED, reason="The service was started again")
    with pytest.raises(StatusConflict):
        under_way.finish()
    assert is_as_before(intake, image) == "The service was started again"


def test_bytes_that_another_image_has_stay_when_an_upload_of_them_fails(intake: Intake, queued: Queued):
    first, image = upload(intake, queued()), queued()
    under_way = Upload.begin(intake, image)
    under_way.feed(DATA)
    with intake.database.write() as connection:
        delete_image(connection, image.id)
    with pytest.raises(ImageNotFound):
        under_way.finish()
    assert (record_of(intake, first), read(intake, DIGEST)) == (first, DATA)


def test_a_busy_database_at_the_start_changes_nothing(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    image = queued()

    def busy(*_: object) -> None:
        raise DatabaseBusy("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", busy)
        with pytest.raises(DatabaseBusy):
            Upload.begin(intake, image)
    assert record_of(intake, image) == image
    assert intake.store.incoming() == []


def test_a_transaction_that_fails_at_the_end_leaves_no_blob(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    image = queued()

    def busy(*_: object, **__: object) -> None:
        raise DatabaseBusy("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr("cowherd.service.intake.adoption.record_place", busy)
        with pytest.raises(DatabaseBusy):
            upload(intake, image)
    assert "database is locked" in (is_as_before(intake, image) or "")
    assert upload(intake, image).status == ACTIVE


class Failing:
    """Lets the `place`-th call fail that changes something in the store, on whichever thread it is made, and counts them."""

    def __init__(self, intake: Intake, place: int, code: int):
        self._root, self._place, self._code = str(intake.store.directory), place, code
        self._lock, self.calls = threading.Lock(), 0

    def __call__(
        self, name: str, call: Callable[..., object], arguments: tuple[object, ...], options: dict[str, object]
    ) -> object:
        if name in CHANGING and self._is_in_store(arguments[0]):
            with self._lock:
                self.calls += 1
                fails = self.calls == self._place
            if fails:
                raise OSError(self._code, os.strerror(self._code))
        return call(*arguments, **options)

    def _is_in_store(self, target: object) -> bool:
        name = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)  # type: ignore[call-overload]
        return str(name).startswith(self._root)


def outcome_of(intake: Intake, image: Image, data: bytes, failing: Failing) -> Image | CowherdError:
    """Uploads an image while a call fails, and returns its record or the error."""
    with interposed(failing):
        try:
            return upload(intake, image, data)
        except (StoreFull, HostFileError, HostError) as error:
            return error


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_wherever_the_store_fails_the_image_is_queued_without_a_trace_or_active(intake: Intake, queued: Queued, code: int):
    expected = StoreFull if code == errno.ENOSPC else (HostFileError, HostError)
    for place in itertools.count(1):
        image, failing, data = queued(), Failing(intake, place, code), DATA + str(place).encode()
        found = outcome_of(intake, image, data, failing)
        if isinstance(found, Image):  # no call failed, or one that need not succeed, as giving a seal to the group of its image
            assert (found.status, read(intake, found.blob or "")) == (ACTIVE, data)
            intake.store.remove(found.blob or "")
        else:
            assert isinstance(found, expected)
            assert is_as_before(intake, image) in (str(found), None)
        with intake.database.write() as connection:
            delete_image(connection, image.id)
            connection.execute(blobs.delete())
        if failing.calls < place:
            break
    assert place > 20


def test_a_quota_holds_before_a_byte_is_read_and_for_what_is_not_announced(intake: Intake, queued: Queued):
    image, bounded = queued(owner="someone"), replace(intake, quotas={Resource.BYTES: len(DATA) - 1})
    with pytest.raises(QuotaExceeded):
        Upload.begin(bounded, image, len(DATA))
    assert "have its quota raised" in (is_as_before(intake, image) or "")
    with pytest.raises(QuotaExceeded) as caught:
        upload(bounded, image)
    assert is_as_before(intake, image) == str(caught.value)
    enough = replace(intake, quotas={Resource.BYTES: len(DATA)})
    assert upload(enough, image).status == ACTIVE


def test_two_uploads_together_do_not_overshoot_a_quota(intake: Intake, queued: Queued):
    bounded = replace(intake, quotas={Resource.BYTES: 2 * len(DATA) - 1})
    first, second = queued(owner="someone"), queued(owner="someone")
    one = Upload.begin(bounded, first, len(DATA))
    with pytest.raises(QuotaExceeded):
        Upload.begin(bounded, second, len(DATA))
    other = Upload.begin(bounded, second)
    other.feed(DATA[:MIB])
    with pytest.raises(QuotaExceeded):
        other.feed(DATA[MIB:])
    one.feed(DATA)
    assert one.finish().status == ACTIVE
    assert record_of(intake, second).status == QUEUED


def test_a_quota_of_uploads_at_once_holds(intake: Intake, queued: Queued):
    bounded = replace(intake, quotas={Resource.UPLOADS: 1})
    one = Upload.begin(bounded, queued(owner="someone"))
    with pytest.raises(QuotaExceeded):
        Upload.begin(bounded, queued(owner="someone"))
    Upload.begin(bounded, queued(owner="another")).abandon("enough")
    one.abandon("enough")
    Upload.begin(bounded, queued(owner="someone")).abandon("enough")
