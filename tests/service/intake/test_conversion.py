"""Imported images are converted: the result is the content, what arrived goes after it, and a failure leaves a queued image."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from cowherd.errors import HostFileError
from cowherd.image.open import open_disk
from cowherd.ops.create import create
from cowherd.service.intake import conversion
from cowherd.service.intake.arriving import Conversion, Intake
from cowherd.service.intake.conversion import Converting, convert_stored
from cowherd.service.intake.faults import Refused, StoreFull, TooLarge
from cowherd.service.intake.processes.converter import CHECK, converted
from cowherd.service.records.faults import ImageNotFound, QuotaExceeded
from cowherd.service.records.image import Image
from cowherd.service.records.images import delete_image
from cowherd.service.records.quotas import Resource
from cowherd.service.records.states import ACTIVE, IMPORTING, QUEUED
from cowherd.storage.hostfile import HostFile
from cowherd.stores.directory import DirectoryStore
from tests.hostile.corpus import SIZE, Case, corpus, seed
from tests.service.intake.test_inspection import hardest
from tests.service.intake.test_staging import found, left, stage
from tests.service.signing import new_key, signed, write_certificate

MIB = 1 << 20

Queued = Callable[..., Image]


@pytest.fixture
def told() -> list[str]:
    """What is told of conversions."""
    return []


@pytest.fixture
def to_raw(intake: Intake, told: list[str]) -> Intake:
    return replace(intake, conversion=Conversion("raw", told.append))


@pytest.fixture
def to_qcow2(intake: Intake, told: list[str]) -> Intake:
    return replace(intake, conversion=Conversion("qcow2", told.append))


@pytest.fixture
def qcow2(tmp_path: Path) -> bytes:
    """An image in qcow2 with some data."""
    return seed().write(tmp_path / "seed").read_bytes()


def shown(path: Path, format: str) -> bytes:
    with open_disk(path, format=format) as disk:
        return bytes(disk.read(0, disk.size))


def imported(intake: Intake, image: Image, data: bytes) -> Image:
    upload = Converting.of_staged(intake, image, stage(intake, image, data))
    assert found(intake, image).status == IMPORTING
    upload.feed_staged()
    return upload.finish()


def requires_nothing_kept(intake: Intake, image: Image, said: str) -> None:
    queued = found(intake, image)
    assert (queued.status, queued.size, queued.blob, queued.disk_format) == (QUEUED, None, None, image.disk_format)
    assert said in (queued.reason or "")
    assert left(intake) == ([], 0)
    assert list(intake.store.digests()) == []


def test_the_record_is_that_of_the_result_and_only_its_bytes_stay(to_raw, queued, qcow2, tmp_path, told):
    image = queued("qcow2")
    done = imported(to_raw, image, qcow2)
    wanted = shown(tmp_path / "seed", "qcow2")
    assert (done.status, done.disk_format, done.size, done.virtual_size) == (ACTIVE, "raw", SIZE, SIZE)
    assert done.blob == blake3(wanted).hexdigest()
    assert to_raw.store.path(done.blob).read_bytes() == wanted
    assert list(to_raw.store.digests()) == [done.blob]
    assert to_raw.store.verify(done.blob) == ()
    assert b'"raw"' in (to_raw.store.read_beside(done.blob, "about") or b"")
    assert left(to_raw) == ([], 0)
    assert told == ["The image is being converted from qcow2 to raw"]


def test_a_raw_disk_becomes_qcow2(to_qcow2, queued):
    data = os.urandom(MIB) + bytes(3 * MIB)
    done = imported(to_qcow2, queued("raw"), data)
    assert (done.disk_format, done.virtual_size) == ("qcow2", len(data))
    assert done.size < 2 * MIB
    assert shown(to_qcow2.store.path(done.blob or ""), "qcow2") == data


def test_an_image_that_is_fetched_is_converted(to_raw, queued, qcow2):
    upload = Converting.begin(to_raw, queued("qcow2"), len(qcow2), status=IMPORTING, kind="import")
    upload.feed(qcow2)
    assert upload.finish().disk_format == "raw"
    assert left(to_raw) == ([], 0)


@pytest.mark.parametrize("form", [("raw", "bare"), ("iso", "bare"), ("ami", "ami"), ("qcow2", "ovf"), ("raw", "compressed")])
def test_what_has_the_format_or_is_no_disk_that_is_read_stays(to_raw, to_qcow2, queued, form, told):
    data = bytes(0x8000) + b"\1CD001\1".ljust(2048, b"\0") if form[0] == "iso" else b"some bytes".ljust(512)
    intake = to_raw if form == ("raw", "bare") else to_qcow2 if form[0] != "qcow2" else to_raw
    done = imported(intake, queued(*form), data)
    assert (done.disk_format, done.size, told) == (form[0], len(data), [])


def test_a_signed_image_stays_as_it_was_signed(to_raw, queued, qcow2, tmp_path, told):
    pytest.importorskip("cryptography")
    key = new_key("ECC_SECP384R1")
    properties = signed(key, write_certificate(tmp_path, key), qcow2, key_type="ECC_SECP384R1")
    image = queued("qcow2", properties=properties)
    done = imported(replace(to_raw, certificates=str(tmp_path)), image, qcow2)
    assert (done.disk_format, done.blob, told) == ("qcow2", blake3(qcow2).hexdigest(), [])


def test_a_disk_that_hides_an_image_of_another_format_is_refused(to_raw, queued, tmp_path, qcow2):
    (tmp_path / "inner").write_bytes(qcow2)
    (tmp_path / "outer").touch()
    assert converted(str(tmp_path / "inner"), "raw", str(tmp_path / "outer"), "qcow2") == {}
    image = queued("qcow2")
    with pytest.raises(Refused) as caught:
        imported(to_raw, image, (tmp_path / "outer").read_bytes())
    assert caught.value.check == "format"
    requires_nothing_kept(to_raw, image, "its content is qcow2")


def test_a_result_that_is_too_large_is_known_before_it_is_made(to_raw, queued, qcow2, told):
    image = queued("qcow2")
    with pytest.raises(TooLarge):
        imported(replace(to_raw, most_bytes=SIZE - 1), image, qcow2)
    requires_nothing_kept(to_raw, image, f"{SIZE} bytes")
    assert told == []


def test_a_result_beyond_the_quota_is_known_before_it_is_made(to_raw, queued, qcow2, told):
    image = queued("qcow2", owner="demo")
    with pytest.raises(QuotaExceeded):
        imported(replace(to_raw, quotas={Resource.BYTES: SIZE - 1}), image, qcow2)
    requires_nothing_kept(to_raw, image, "demo")
    assert told == []
    assert imported(replace(to_raw, quotas={Resource.BYTES: SIZE}), image, qcow2).status == ACTIVE


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (Refused(CHECK, "it is encrypted"), Refused, "it is encrypted"),
        (HostFileError("x", "convert", OSError(errno.ENOSPC, "full")), StoreFull, "no room"),
        (HostFileError("x", "convert", OSError(errno.EIO, "bad")), HostFileError, "bad"),
    ],
)
def test_a_conversion_that_fails_leaves_a_queued_image_that_says_why(to_raw, queued, qcow2, monkeypatch, error, raised, said):
    def fail(source: Path, source_format: str, target: Path, *more: object) -> None:
        target.write_bytes(b"a part")
        raise error

    image = queued("qcow2")
    with monkeypatch.context() as patched:
        patched.setattr(conversion, "convert_stored", fail)
        with pytest.raises(raised):
            imported(to_raw, image, qcow2)
    requires_nothing_kept(to_raw, image, said)
    assert imported(to_raw, image, qcow2).status == ACTIVE


def test_an_image_that_is_deleted_meanwhile_leaves_nothing(to_raw, queued, qcow2):
    image = queued("qcow2")

    def delete(said: str) -> None:
        with to_raw.database.write() as connection:
            delete_image(connection, image.id)

    with pytest.raises(ImageNotFound):
        imported(replace(to_raw, conversion=Conversion("raw", delete)), image, qcow2)
    assert left(to_raw) == ([], 0)
    assert list(to_raw.store.digests()) == []


def test_what_arrived_stays_until_the_result_is_recorded(to_raw, queued, qcow2, monkeypatch):
    image, adopt, at_hand = queued("qcow2"), DirectoryStore.adopt, []

    def look(store: DirectoryStore, temporary: str, digest: str, *, replaces: bool = False) -> bool:
        at_hand.append(sorted(one.size for one in store.incoming()))
        return adopt(store, temporary, digest, replaces=replaces)

    monkeypatch.setattr(DirectoryStore, "adopt", look)
    imported(to_raw, image, qcow2)
    assert at_hand == [sorted([len(qcow2), SIZE])]
    assert left(to_raw) == ([], 0)


def convert_with(tmp_path: Path, format: str = "raw", most: int = 1 << 40, **limits: int) -> None:
    (tmp_path / "result").touch()
    convert_stored(seed().write(tmp_path / "image"), "qcow2", tmp_path / "result", format, SIZE, most, **limits)


@pytest.mark.parametrize(("limits", "problem"), [({"memory": 16 * MIB}, "the check 'limits': ."), ({"seconds": 0}, "too long")])
def test_a_conversion_that_takes_too_much_is_a_refusal(tmp_path, limits, problem):
    with pytest.raises(Refused, match=problem) as caught:
        convert_with(tmp_path, **limits)
    assert caught.value.check == "limits"


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_conversion_writes_no_more_than_it_may(tmp_path, format):
    with pytest.raises(TooLarge):
        convert_with(tmp_path, format, 100_000)
    assert (tmp_path / "result").stat().st_size <= 100_000


def test_a_file_that_the_host_can_not_write_is_no_refusal(tmp_path):
    with pytest.raises(HostFileError) as caught:
        convert_stored(seed().write(tmp_path / "image"), "qcow2", tmp_path / "none/result", "raw", SIZE, 1 << 40)
    assert caught.value.errno == errno.ENOENT


CASES = [case for case in corpus() if case.category != "costly"]


def test_hostile_images_lead_the_conversion_to_no_other_file_and_to_no_crash(tmp_path, monkeypatch):
    opened, opens = set(), HostFile.open.__func__

    def noted(kind: type[HostFile], path: str, **options: object) -> HostFile:
        opened.add(os.fspath(path))
        return opens(kind, path, **options)

    source, target = str(tmp_path / "image"), str(tmp_path / "result")
    refused = 0
    for case in CASES:
        case.write(tmp_path / "image")
        (tmp_path / "result").touch()
        with monkeypatch.context() as patched:
            patched.setattr(HostFile, "open", classmethod(noted))
            answer = converted(source, "qcow2", target, "raw")
        refused += bool(answer)
        assert answer == {} or answer.get("check") == CHECK, (case, answer)
        assert source not in str(answer), case
        os.unlink(target)
    assert opened == {source, target}
    assert 100 < refused < len(CASES)


@pytest.mark.parametrize("case", hardest(), ids=str)
def test_hostile_images_are_refused_before_they_are_converted(to_raw, queued, tmp_path, told, case: Case):
    image = queued(case.format)
    with pytest.raises(Refused):
        imported(to_raw, image, case.write(tmp_path / "image").read_bytes())
    requires_nothing_kept(to_raw, image, "refused")
    assert told == []


def test_a_large_sparse_disk_takes_no_more_room_than_its_data(intake, queued, tmp_path):
    create(tmp_path / "large", 1 << 30, format="qcow2")
    with open_disk(tmp_path / "large", format="qcow2", writable=True) as disk:
        disk.write(900 * MIB, b"data")
    quick = replace(intake, hash_algorithm="sha256", md5=False)
    raw = imported(replace(quick, conversion=Conversion("raw", print)), queued("qcow2"), (tmp_path / "large").read_bytes())
    path = intake.store.path(raw.blob or "")
    assert (raw.size, raw.virtual_size) == (1 << 30, 1 << 30)
    assert path.stat().st_blocks * 512 < MIB
    with HostFile.open(path, lock=None) as file:
        assert (file.next_data(0) or 0) // MIB == 900
        assert file.pread(900 * MIB, 4) == b"data"


def test_an_encrypted_image_can_not_be_converted(tmp_path):
    image = seed()
    image.field("crypt_method", 1)
    (tmp_path / "result").touch()
    answer = converted(str(image.write(tmp_path / "image")), "qcow2", str(tmp_path / "result"), "raw")
    assert answer["check"] == CHECK
    assert "encrypt" in str(answer["detail"])


def test_an_answer_that_makes_no_sense_is_not_believed(tmp_path, monkeypatch):
    liar = tmp_path / "liar"
    liar.write_text("#!/bin/sh\necho nonsense\n")
    liar.chmod(0o755)
    monkeypatch.setattr("cowherd.service.intake.processes.limited.sys.executable", str(liar))
    with pytest.raises(Refused, match="that converted it gave no sensible answer"):
        convert_with(tmp_path)
