"""Resumable uploads by the protocol tus, asked with plain requests and by its public client for Python."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import http.client
import os
import random
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import update

from cowherd.service.intake import resumable
from cowherd.service.records.image import now
from cowherd.service.records.schema import uploads
from cowherd.service.web import uploads as web
from cowherd.stores.incoming import Incoming
from tests.service.web.breaking import Breaking
from tests.service.web.running import Answer, Client, change_records, running
from tests.waiting import wait_until

DATA = random.Random(7).randbytes(3_000_000)
TUS = {"tus_resumable": "1.0.0"}
CHUNK = {**TUS, "content_type": "application/offset+octet-stream"}


def encoded(content: str | bytes) -> str:
    return base64.b64encode(content if isinstance(content, bytes) else content.encode()).decode()


def new_image(client: Client, disk_format: str = "raw") -> str:
    return client.create(disk_format=disk_format, container_format="bare")["id"]


def created(client: Client, image_id: str, length: int = len(DATA), **headers: str) -> Answer:
    metadata = f"filename {encoded('disk.raw')},image_id {encoded(image_id)}"
    given = {**TUS, "upload_length": str(length), "upload_metadata": metadata, **headers}
    return client.ask("POST", web.PATH, **given)


def begun(client: Client, image_id: str, length: int = len(DATA)) -> str:
    """Begins an upload; returns its path."""
    answer = created(client, image_id, length)
    assert answer.status == 201, answer
    return answer.headers["location"].partition(str(client.port))[2]


def appended(client: Client, path: str, offset: int, data: bytes, **headers: str) -> Answer:
    return client.ask("PATCH", path, data, upload_offset=str(offset), **CHUNK, **headers)


def offset_of(client: Client, path: str) -> int:
    answer = client.ask("HEAD", path, **TUS)
    assert answer.status == 200, answer
    return int(answer.headers["upload-offset"])


def break_off(client: Client, path: str, offset: int, part: bytes, **headers: str) -> None:
    """Sends a part of a chunk, and closes the connection."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest("PATCH", path)
        for name, value in {**CHUNK, **headers, "upload_offset": str(offset), "content_length": str(len(DATA) - offset)}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(part)


def content(client: Client, image_id: str) -> bytes:
    assert client.get(f"/v2/images/{image_id}").json["status"] == "active"
    return client.get(f"/v2/images/{image_id}/file").body


def test_an_upload_in_two_requests_makes_the_image_active(client):
    image_id = new_image(client)
    path = begun(client, image_id)
    answer = appended(client, path, 0, DATA[:1_234_567])
    assert (answer.status, answer.headers["upload-offset"], answer.headers["tus-resumable"]) == (204, "1234567", "1.0.0")
    assert "upload-expires" in answer.headers
    assert client.get(f"/v2/images/{image_id}").json["status"] == "uploading"
    assert client.get(f"/v2/images/{image_id}/file").body == b""
    assert appended(client, path, 1_234_567, DATA[1_234_567:]).headers["upload-offset"] == str(len(DATA))
    assert content(client, image_id) == DATA
    image = client.get(f"/v2/images/{image_id}").json
    assert (image["checksum"], image["size"]) == (hashlib.md5(DATA).hexdigest(), len(DATA))


def test_what_there_is_of_the_protocol_is_told(client):
    answer = client.ask("OPTIONS", web.PATH)
    assert answer.status == 204
    assert (answer.headers["tus-version"], answer.headers["tus-max-size"]) == ("1.0.0", str(1 << 40))
    assert set(answer.headers["tus-extension"].split(",")) == {"creation", "checksum", "expiration", "termination"}
    assert "sha1" in answer.headers["tus-checksum-algorithm"].split(",")


@pytest.mark.parametrize("version", ["0.2.2", None])
def test_another_version_of_the_protocol_is_refused(client, version):
    headers = {"tus_resumable": version} if version else {}
    answer = client.ask("POST", web.PATH, upload_length="5", **headers)
    assert (answer.status, answer.headers["tus-version"]) == (412, "1.0.0")


def test_an_upload_tells_where_it_goes_on_and_what_was_said_of_it(client):
    image_id = new_image(client)
    path = begun(client, image_id)
    appended(client, path, 0, DATA[:77])
    answer = client.ask("HEAD", path, **TUS)
    assert (answer.status, answer.headers["upload-offset"], answer.headers["upload-length"]) == (200, "77", str(len(DATA)))
    assert answer.headers["cache-control"] == "no-store"
    assert f"image_id {encoded(image_id)}" in answer.headers["upload-metadata"]


def test_bytes_for_another_place_are_refused(client):
    path = begun(client, new_image(client))
    appended(client, path, 0, DATA[:77])
    for offset in (0, 76, 78):
        assert appended(client, path, offset, b"x").status == 409
    assert offset_of(client, path) == 77


def test_more_bytes_than_were_announced_are_refused_and_what_was_there_stays(client):
    image_id = new_image(client)
    path = begun(client, image_id, 10)
    assert appended(client, path, 0, b"12345").status == 204
    assert appended(client, path, 5, b"123456").status == 413
    assert appended(client, path, 5, iter([b"123456"])).status == 400
    assert offset_of(client, path) == 5
    assert appended(client, path, 5, b"67890").status == 204
    assert content(client, image_id) == b"1234567890"


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"upload_length": "x"}, 400), ({"upload_length": str(2 << 40)}, 413), ({"upload_metadata": "image_id !"}, 400)],
)
def test_a_creation_that_makes_no_sense_is_refused(client, headers, status):
    image_id = new_image(client)
    assert created(client, image_id, **headers).status == status
    assert client.get(f"/v2/images/{image_id}").json["status"] == "queued"


def test_an_upload_needs_an_image_that_waits(client):
    assert created(client, "no-such-image").status == 404
    assert created(client, "").status == 404
    image_id = new_image(client)
    begun(client, image_id)
    assert created(client, image_id).status == 409
    assert created(client, client.create()["id"]).status == 400


def test_chunks_need_their_media_type_and_an_offset(client):
    path = begun(client, new_image(client))
    assert client.ask("PATCH", path, b"x", upload_offset="0", **TUS, content_type="text/plain").status == 415
    assert client.ask("PATCH", path, b"x", **CHUNK).status == 400


def test_an_upload_of_nothing_is_complete_at_once(client):
    image_id = new_image(client)
    path = begun(client, image_id, 0)
    assert content(client, image_id) == b""
    assert offset_of(client, path) == 0


@pytest.mark.parametrize("algorithm", ["sha1", "md5", "sha256", "sha512"])
def test_a_chunk_with_a_wrong_checksum_is_dropped(client, algorithm):
    image_id = new_image(client)
    path = begun(client, image_id)
    wrong, right = (f"{algorithm} {encoded(hashlib.new(algorithm, data).digest())}" for data in (b"other", DATA[100:]))
    appended(client, path, 0, DATA[:100])
    assert appended(client, path, 100, DATA[100:], upload_checksum=wrong).status == 460
    assert offset_of(client, path) == 100
    assert appended(client, path, 100, DATA[100:], upload_checksum=right).status == 204
    assert content(client, image_id) == DATA


@pytest.mark.parametrize("text", ["crc32 AAAA", "sha1 !"])
def test_a_checksum_that_is_none_is_refused(client, text):
    path = begun(client, new_image(client))
    assert appended(client, path, 0, DATA, upload_checksum=text).status == 400
    assert offset_of(client, path) == 0


def test_a_broken_chunk_is_kept_up_to_its_last_byte_but_not_with_a_checksum(client):
    image_id = new_image(client)
    path = begun(client, image_id)
    break_off(client, path, 0, DATA[:1_500_000])
    wait_until(lambda: offset_of(client, path) == 1_500_000)  # it comes to the service a moment later
    checksum = f"sha1 {encoded(hashlib.sha1(DATA[1_500_000:]).digest())}"
    break_off(client, path, 1_500_000, DATA[1_500_000:2_000_000], upload_checksum=checksum)
    time.sleep(0.1)
    assert offset_of(client, path) == 1_500_000
    assert appended(client, path, 1_500_000, DATA[1_500_000:], upload_checksum=checksum).status == 204
    assert content(client, image_id) == DATA


def test_an_upload_goes_on_after_the_service_was_started_anew(tmp_path):
    with running(tmp_path) as client:
        image_id, other = new_image(client), new_image(client)
        path, untouched = begun(client, image_id), begun(client, other)
        appended(client, path, 0, DATA[:2_000_000])
    with running(tmp_path) as client:
        assert offset_of(client, path) == 2_000_000
        assert appended(client, path, 2_000_000, DATA[2_000_000:]).status == 204
        assert content(client, image_id) == DATA
        assert appended(client, untouched, 0, DATA).status == 204
        assert content(client, other) == DATA


def test_an_upload_goes_on_when_its_process_has_forgotten_its_hashes(client, monkeypatch):
    monkeypatch.setattr(resumable, "MOST_IDLE", 1)
    images = [new_image(client) for _ in range(3)]
    paths = [begun(client, image_id) for image_id in images]
    for offset in range(0, len(DATA), 1_000_000):
        for path in paths:
            assert appended(client, path, offset, DATA[offset : offset + 1_000_000]).status == 204
    assert [content(client, image_id) == DATA for image_id in images] == [True] * 3


def test_what_must_not_be_kept_ends_the_upload_and_a_new_one_works(client, tmp_path):
    image_id = new_image(client, "qcow2")
    path = begun(client, image_id)
    first = appended(client, path, 0, DATA[:2_000_000])
    answer = first if first.status != 204 else appended(client, path, 2_000_000, DATA[2_000_000:])
    assert answer.status == 415
    assert b"'format'" in answer.body
    image = client.get(f"/v2/images/{image_id}").json
    assert image["status"] == "queued"
    assert "'format'" in image["cowherd_reason"]
    assert client.ask("HEAD", path, **TUS).status == 404
    assert list((tmp_path / "data/store/incoming").iterdir()) == []
    assert created(client, image_id).status == 201


def test_an_upload_can_be_ended(client, tmp_path):
    image_id = new_image(client)
    path = begun(client, image_id)
    appended(client, path, 0, DATA[:5])
    assert client.ask("DELETE", path, **TUS).status == 204
    assert client.ask("DELETE", path, **TUS).status == 404
    assert appended(client, path, 5, DATA[5:]).status == 404
    assert list((tmp_path / "data/store/incoming").iterdir()) == []
    image = client.get(f"/v2/images/{image_id}").json
    assert (image["status"], image["cowherd_reason"]) == (
        "queued", "The upload was ended by its client. Upload the image again",
    )  # fmt: skip


def test_an_image_that_is_deleted_takes_its_upload_along(client, tmp_path):
    image_id = new_image(client)
    path = begun(client, image_id)
    appended(client, path, 0, DATA[:5])
    assert client.ask("DELETE", f"/v2/images/{image_id}").status == 204
    assert appended(client, path, 5, DATA[5:]).status == 404
    assert list((tmp_path / "data/store/incoming").iterdir()) == []


def test_an_upload_that_waited_too_long_is_gone(client, tmp_path):
    image_id = new_image(client)
    path = begun(client, image_id)
    appended(client, path, 0, DATA[:5])
    change_records(tmp_path, update(uploads).values(expires_at=now() - timedelta(seconds=1)))
    assert appended(client, path, 5, DATA[5:]).status == 410
    assert client.get(f"/v2/images/{image_id}").json["status"] == "queued"
    assert client.ask("HEAD", path, **TUS).status == 404


def test_a_complete_upload_says_so_and_takes_no_more(client):
    image_id = new_image(client)
    path = begun(client, image_id, 5)
    assert appended(client, path, 0, b"12345").status == 204
    assert offset_of(client, path) == 5
    assert appended(client, path, 5, b"").status == 410
    assert client.ask("DELETE", path, **TUS).status == 410
    assert client.ask("HEAD", f"{path}0", **TUS).status == 404
    assert client.ask("HEAD", path.replace(image_id, new_image(client)), **TUS).status == 404


def test_another_method_can_be_named_in_a_header(client):
    image_id = new_image(client)
    path = begun(client, image_id, 5)
    patch = {**CHUNK, "x_http_method_override": "PATCH"}
    assert client.ask("POST", path, b"12345", upload_offset="0", **patch).status == 204
    assert content(client, image_id) == b"12345"
    assert client.ask("POST", path, **TUS).status == 405


def test_a_second_request_waits_for_the_first_and_is_refused_while_that_lasts(client, monkeypatch):
    monkeypatch.setattr(web, "PATIENCE_SECONDS", 0.2)
    image_id = new_image(client)
    path = begun(client, image_id)
    came, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield DATA[:2_000_000]
        came.set()
        assert go_on.wait(30)
        yield DATA[2_000_000:]

    thread = threading.Thread(target=appended, args=(client, path, 0, slowly()))
    thread.start()
    assert came.wait(30)
    wait_until(lambda: client.ask("HEAD", path, **TUS).status == 423)  # the server may have read nothing of the first yet
    assert appended(client, path, 0, b"x").status == 423
    assert client.ask("DELETE", path, **TUS).status == 423
    monkeypatch.setattr(web, "PATIENCE_SECONDS", 10)
    go_on.set()
    assert offset_of(client, path) == len(DATA)
    thread.join()
    assert content(client, image_id) == DATA


def raising(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_a_failing_disk_leaves_what_was_durable(client, monkeypatch):
    image_id = new_image(client)
    path = begun(client, image_id)
    appended(client, path, 0, DATA[:5])
    with monkeypatch.context() as patch:
        patch.setattr(Incoming, "append", lambda self, block: raising(errno.ENOSPC))
        assert appended(client, path, 5, DATA[5:]).status == 413
    assert offset_of(client, path) == 5
    assert appended(client, path, 5, DATA[5:]).status == 204
    assert content(client, image_id) == DATA


def test_an_end_that_fails_can_be_asked_for_again(client, monkeypatch):
    image_id = new_image(client)
    path = begun(client, image_id)
    with monkeypatch.context() as patch:
        patch.setattr("cowherd.service.intake.upload.adopt", lambda *_: raising(errno.EIO))
        assert appended(client, path, 0, DATA).status == 503
    assert offset_of(client, path) == len(DATA)
    assert appended(client, path, len(DATA), b"").status == 204
    assert content(client, image_id) == DATA


def test_an_upload_comes_through_fifty_broken_connections(client):
    image_id = new_image(client)
    path = begun(client, image_id)
    with contextlib.closing(Breaking(client.port, 50, 80_000, seed=1)) as proxy:
        through, offset = Client(proxy.port), 0
        while offset < len(DATA):
            with contextlib.suppress(OSError, http.client.HTTPException):
                appended(through, path, offset, DATA[offset:])
            offset = offset_of(client, path)
        assert proxy.left == 0
    assert content(client, image_id) == DATA


ARABIC_FIVE, ARABIC_ONE = (one.encode().decode("latin-1") for one in ("\u0665", "\u0661"))
NUMBERS = [
    "",
    "-1",
    "+5",
    "5.0",
    "0x5",
    "1e3",
    " ",
    "5 5",
    "5,5",
    "5\u00b2",
    ARABIC_FIVE,
    "9" * 19,
    "9" * 400,
]


@pytest.mark.parametrize("number", NUMBERS, ids=range(len(NUMBERS)))
def test_an_offset_that_is_no_number_moves_nothing(client, number):
    path = begun(client, new_image(client), 10)
    assert appended(client, path, 0, b"12345").status == 204
    answer = client.ask("PATCH", path, b"67890", upload_offset=number, **CHUNK)
    assert answer.status in (400, 409, 413), answer
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert offset_of(client, path) == 5


@pytest.mark.parametrize("number", NUMBERS, ids=range(len(NUMBERS)))
def test_a_length_that_is_no_number_begins_nothing(client, number):
    image_id = new_image(client)
    assert created(client, image_id, upload_length=number).status in (400, 413)
    assert client.get(f"/v2/images/{image_id}").json["status"] == "queued"


@pytest.mark.parametrize(
    "headers",
    [
        {"upload_defer_length": "1"},
        {"upload_defer_length": "0"},
        {"upload_concat": "partial"},
        {"upload_concat": "final;/cowherd/v1/uploads/a/b /cowherd/v1/uploads/c/d"},
    ],
    ids=["deferred", "deferred wrongly", "partial", "final"],
)
def test_what_belongs_to_extensions_that_there_are_not_begins_nothing(client, headers):
    image_id = new_image(client)
    answer = created(client, image_id, **headers)
    assert (answer.status, answer.headers["tus-resumable"]) == (400, "1.0.0")
    assert client.get(f"/v2/images/{image_id}").json["status"] == "queued"


@pytest.mark.parametrize("version", ["", "0.2.2", "1.0", "1.0.0, 2.0.0", "2.0.0", f"{ARABIC_ONE}.0.0", "v1.0.0"])
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_other_versions_are_refused_everywhere_and_the_upload_stays(client, method, version):
    path = begun(client, new_image(client), 10)
    body = b"12345" if method == "PATCH" else None
    answer = client.ask(method, path, body, **{**CHUNK, "tus_resumable": version}, upload_offset="0")
    assert (answer.status, answer.headers["tus-version"]) == (412, "1.0.0")
    assert offset_of(client, path) == 0


@pytest.mark.parametrize(
    "metadata",
    [
        "image_id",
        "image_id ",
        "image_id =",
        ",",
        "image_id \u00ff",
        "image_id " + "A" * 40_000,
        "image_id AA==,image_id !",
        " ,, ",
    ],
    ids=range(8),
)
def test_metadata_that_name_no_image_begin_nothing(client, metadata):
    answer = client.ask("POST", web.PATH, upload_length="5", upload_metadata=metadata, **TUS)
    assert answer.status in (400, 404), answer


def test_a_checksum_of_another_length_is_no_checksum(client):
    path = begun(client, new_image(client))
    for digest in ("", "AAAA", "\u00ff", encoded(b"x" * 1000)):
        assert appended(client, path, 0, DATA, upload_checksum=f"sha1 {digest}").status in (400, 460)
    assert offset_of(client, path) == 0
