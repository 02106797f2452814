"""Requests from a stranger: images that must not be kept, bodies that lie about their length, bombs, names with markup."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
from pathlib import Path

import pytest

from tests.hostile.corpus import Case, corpus
from tests.service.web.images.test_staging import DIRECT, OCTETS, imported
from tests.service.web.running import running
from tests.service.web.serving.serving import read_all

ALL = os.environ.get("COWHERD_CORPUS") == "all"
CASES = [case for number, case in enumerate(corpus()) if ALL or number % 16 == 5]
"""Images of the corpus; all of them if so asked, which takes some minutes."""
PATCH = "application/openstack-images-v2.1-json-patch"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A client of one service for all tests of the module, and where its data are."""
    folder = tmp_path_factory.mktemp("hostile")
    with running(folder) as client:
        yield client, folder / "data"


@pytest.fixture
def client(shared):
    return shared[0]


def queued(client, disk_format="qcow2"):
    return f"/v2/images/{client.create(disk_format=disk_format, container_format='bare')['id']}"


def alive(client):
    """Tells whether the service still answers as it should."""
    return client.get("/v2/images?limit=1").status == 200


# Images


@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
@pytest.mark.parametrize("way", ["put", "import"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_image_of_the_corpus_is_kept_in_no_way(shared, tmp_path: Path, case: Case, way: str, disk_format: str):
    client, data = shared
    if disk_format == "raw" and case.format != "qcow2":
        pytest.skip("as raw bytes it harms nobody")
    path = case.write(tmp_path / "image")
    if path.stat().st_size > 64 << 20:
        pytest.skip("a file with holes, larger than what is sent here")
    content = path.read_bytes()
    before, image = kept(data), queued(client, disk_format)
    if way == "put":
        answer = client.ask("PUT", f"{image}/file", content, **OCTETS)
        refused = answer.status == 415
    else:
        assert client.ask("PUT", f"{image}/stage", content, **OCTETS).status == 204
        refused = imported(client, image, DIRECT)["status"] == "failure"
    document = client.get(image).json
    if refused:
        assert (document["status"], kept(data)) == ("queued", before)
        assert document["cowherd_reason"]
        assert client.get(f"{image}/file").status == 204
        assert client.get(f"{image}/file").body == b""
    else:
        assert is_harmless(case, disk_format), case
    assert client.ask("DELETE", image).status == 204


def is_harmless(case: Case, disk_format: str) -> bool:
    """Tells whether the policy of the service lets an image through: raw bytes that are no image, or a feature that it knows.

    An image that is said to be of another format is harmless where it is said to be of its own.
    """
    return (
        disk_format == "raw"
        or str(case) == "other formats: qcow2 called raw"
        or case.category in ("features", "bitmaps", "snapshots", "extensions")
    )


def kept(data: Path) -> set[str]:
    """Returns the names of all files with bytes that arrived."""
    return {path.name for path in data.rglob("*") if path.is_file() and path.parent.name != "locks" and "sqlite" not in path.name}


# HTTP


def sent(client, *parts: bytes, ends: bool = False) -> bytes:
    """Sends bytes, says that no more will come if it `ends`, and returns all that comes."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        with contextlib.suppress(OSError):  # the service may have closed it after the first of them
            for part in parts:
                connection.sendall(part)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def head(method: str, path: str, *lines: str) -> bytes:
    given = ["Host: x", "Content-Type: application/octet-stream", "Connection: close", *lines]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *given, "", ""]).encode()


def status(answer: bytes) -> int | None:
    return int(answer.split(b" ", 2)[1]) if answer else None


BODIES = {
    "ends in the middle of a chunk": (("Transfer-Encoding: chunked",), b"a\r\n12345"),
    "ends before its last chunk": (("Transfer-Encoding: chunked",), b"5\r\n12345\r\n"),
    "chunk longer than it says": (("Transfer-Encoding: chunked",), b"5\r\n1234567\r\n0\r\n\r\n"),
    "size that is no number": (("Transfer-Encoding: chunked",), b"xyz\r\n12345\r\n0\r\n\r\n"),
    "negative size": (("Transfer-Encoding: chunked",), b"-5\r\n12345\r\n0\r\n\r\n"),
    "size of seventeen digits": (("Transfer-Encoding: chunked",), b"10000000000000005\r\n12345\r\n0\r\n\r\n"),
    "size with a sign": (("Transfer-Encoding: chunked",), b"+5\r\n12345\r\n0\r\n\r\n"),
    "size with 0x": (("Transfer-Encoding: chunked",), b"0x5\r\n12345\r\n0\r\n\r\n"),
    "bare line feeds": (("Transfer-Encoding: chunked",), b"5\n12345\n0\n\n"),
    "length longer than the body": (("Content-Length: 10",), b"12345"),
    "length that is no number": (("Content-Length: five",), b"12345"),
    "negative length": (("Content-Length: -5",), b"12345"),
    "length with a sign": (("Content-Length: +5",), b"12345"),
    "two lengths": (("Content-Length: 5", "Content-Length: 6"), b"123456"),
    "length and chunks": (("Content-Length: 5", "Transfer-Encoding: chunked"), b"5\r\n12345\r\n0\r\n\r\n"),
    "chunks and length": (("Transfer-Encoding: chunked", "Content-Length: 3"), b"0\r\n\r\nGET /v2/images HTTP/1.1\r\n\r\n"),
    "unknown coding": (("Transfer-Encoding: cow",), b"12345"),
    "coding hidden by a tab": (("Transfer-Encoding:\tchunked", "Content-Length: 5"), b"0\r\n\r\n"),
    "coding twice": (("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), b"5\r\n12345\r\n0\r\n\r\n"),
    "space before the colon": (("Content-Length : 5",), b"12345"),
    "folded header": (("X-Folded: a", " Content-Length: 5"), b"12345"),
    "size larger than announced": (("Content-Length: 5", "x-openstack-image-size: 4"), b"12345"),
    "size smaller than announced": (("Content-Length: 5", "x-openstack-image-size: 6"), b"12345"),
    "size in other digits": (("Content-Length: 5", "x-openstack-image-size: \u0665"), b"12345"),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("way", ["file", "stage"])
def test_a_body_that_lies_about_its_length_makes_no_image(client, name, way):
    image = queued(client, "raw")
    lines, body = BODIES[name]
    answer = sent(client, head("PUT", f"{image}/{way}", *lines), body, ends=True)
    assert status(answer) in (None, 400, 409, 411, 413, 415, 501), answer
    assert answer.count(b"HTTP/1.1") <= 1
    assert client.get(f"{image}/file").body == b""
    assert client.get(image).json["status"] in ("queued", "saving", "uploading")
    assert client.ask("DELETE", image).status == 204
    assert alive(client)


@pytest.mark.parametrize("trailer", [b"X: y\r\n", b"Content-Length: 99\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_trailers_change_nothing(client, trailer):
    image = queued(client, "raw")
    answer = sent(
        client, head("PUT", f"{image}/file", "Transfer-Encoding: chunked"), b"5;name=value\r\n12345\r\n0\r\n", trailer, b"\r\n"
    )
    assert status(answer) in (204, 400)
    assert client.get(f"{image}/file").body == (b"12345" if status(answer) == 204 else b"")


def test_what_follows_a_body_is_a_request_of_its_own_and_is_asked_for_its_caller(client):
    image = queued(client, "raw")
    first = head("PUT", f"{image}/file", "Content-Length: 5").replace(b"Connection: close\r\n", b"")
    follower = b"GET /v2/images/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = sent(client, first, b"12345", follower)
    assert [int(part.split(b" ")[1]) for part in answer.split(b"HTTP/1.1")[1:]] == [204, 404]
    assert client.get(f"{image}/file").body == b"12345"


# Documents

DOCUMENTS = {
    "deep list": b"[" * 200_000,
    "deep object": b'{"a":' * 200_000,
    "deep value": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "long key": b'{"' + b"k" * (3 << 20) + b'": "v"}',
    "longer than allowed": b'{"a": "' + b"k" * (10 << 20) + b'"}',
    "not a number": b'{"min_ram": NaN}',
    "infinity": b'{"min_ram": Infinity}',
    "huge number": b'{"min_ram": ' + b"9" * 5000 + b"}",
    "number past 64 bits": b'{"min_disk": 36893488147419103232}',
    "huge exponent": b'{"min_disk": 1e999999}',
    "fraction": b'{"min_disk": 1.5}',
    "lone surrogate": b'{"name": "\\ud800"}',
    "surrogate as a key": b'{"\\udc00": "x"}',
    "NUL": b'{"name": "a\\u0000b"}',
    "no UTF-8": b'{"name": "\xff\xfe"}',
    "other encoding": '{"name": "x"}'.encode("utf-16"),
    "mark before": b'\xef\xbb\xbf{"name": "x"}',
    "comment": b'{"name": "x" /* y */}',
    "text": b'"name"',
    "many tags": b'{"tags": [' + b",".join(b'"%d"' % number for number in range(100_000)) + b"]}",
    "many properties": b"{" + b",".join(b'"p%d": "x"' % number for number in range(100_000)) + b"}",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_is_a_bomb_is_refused(client, name):
    answer = client.ask("POST", "/v2/images", DOCUMENTS[name], content_type="application/json")
    assert answer.status in (400, 413), answer.body[:300]
    assert alive(client)


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("path", ["/v2/metadefs/namespaces", "IMAGE/import", "IMAGE/members", "IMAGE/locations", "/v2/tasks"])
def test_other_resources_refuse_it_as_well(client, path, name):
    image = queued(client)
    answer = client.ask("POST", path.replace("IMAGE", image), DOCUMENTS[name], content_type="application/json")
    assert 400 <= answer.status < 500, answer.body[:300]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_change_refuses_it_as_well(client, name):
    image = queued(client)
    body = b'[{"op": "add", "path": "/x", "value": ' + DOCUMENTS[name] + b"}]"
    for given in (DOCUMENTS[name], body)[: 1 if name == "text" else 2]:
        assert 400 <= client.ask("PATCH", image, given, content_type=PATCH).status < 500


def test_of_a_key_that_comes_twice_the_last_one_counts(client):
    answer = client.ask("POST", "/v2/images", b'{"name": "a", "name": "b"}', content_type="application/json")
    assert (answer.status, answer.json["name"]) == (201, "b")


# Names

NAMES = [
    "a\nb",
    "a\r\nX-Injected: 1",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "/etc/passwd",
    "\u202etxt.exe",
    "a'; DROP TABLE images; --",
    "%s%n{0}",
    "😀" * 60,
]
PATHS = [
    *("/v2/images/NAME", "/v2/images/NAME/file", "/v2/images/NAME/members/NAME", "/v2/images/NAME/tags/NAME"),
    *("/v2/metadefs/namespaces/NAME", "/v2/tasks/NAME", "/v2/schemas/NAME"),
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_is_a_text_and_nothing_else(shared, name):
    client, data = shared
    before = set(data.rglob("*"))
    document = client.create(name=name, disk_format="raw", container_format="bare", hostile=name, tags=[name])
    assert (document["name"], document["hostile"], document["tags"]) == (name, name, [name])
    assert client.patch(document["id"], ("replace", "/name", name + "!")).json["name"] == name + "!"
    wanted = 'in:"' + name + '!"'  # quoted: a colon would end an operator
    found = client.get(f"/v2/images?name={_quoted(wanted)}").json["images"]
    assert document["id"] in [one["id"] for one in found]
    assert client.ask("PUT", f"/v2/images/{document['id']}/file", b"bytes", **OCTETS).status == 204
    answer = client.get(f"/v2/images/{document['id']}/file")
    assert (answer.body, "x-injected" in answer.headers) == (b"bytes", False)
    assert all(data in path.resolve().parents for path in set(data.rglob("*")) - before)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_a_path_with_such_a_name_leads_nowhere(client, path, name, method):
    answer = client.ask(method, path.replace("NAME", _quoted(name)))
    assert 400 <= answer.status < 500
    assert b"<script>" not in answer.body
    assert "x-injected" not in answer.headers


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_what_a_resumable_upload_is_said_to_be_is_a_text_and_nothing_else(shared, name):
    client, data = shared
    image_id = queued(client, "raw").rpartition("/")[2]
    pairs = {"image_id": image_id, "filename": name, "name": name}
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())
    given = {"tus_resumable": "1.0.0", "upload_length": "5"}
    answer = client.ask("POST", "/cowherd/v1/uploads", **given, upload_metadata=metadata)
    assert answer.status == 201
    path = answer.headers["location"].partition(str(client.port))[2]
    assert client.ask("HEAD", path, tus_resumable="1.0.0").headers["upload-metadata"] == metadata
    wrong = f"image_id {base64.b64encode(name.encode()).decode()}"
    assert client.ask("POST", "/cowherd/v1/uploads", **given, upload_metadata=wrong).status == 404
    assert not any("passwd" in path.name for path in data.parent.rglob("*"))


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def test_errors_show_what_was_sent_only_as_text(client):
    answer = client.ask("POST", "/v2/images", {"visibility": "<script>"}, accept="text/html")
    assert answer.status == 400
    assert b"<script>" not in answer.body
    assert json.loads(client.ask("POST", "/v2/images", {"visibility": "<"}, accept="application/json").body)["code"]


HEADERS = (
    *("accept", "accept-encoding", "content-type", "content-md5", "expect", "if-match", "if-none-match", "if-modified-since"),
    *("if-range", "origin", "range", "tus-resumable", "upload-checksum", "upload-length", "upload-metadata", "upload-offset"),
    *("x-auth-token", "x-http-method-override", "x-image-meta-store", "x-openstack-image-size", "x-openstack-request-id"),
    *("x-forwarded-for", "x-forwarded-proto", "transfer-encoding"),
)
VALUES = ("\u00ff", "", ",,,;;;===", "bytes=5-1,9-", "\u00d9\u00a5", "-1", "a" * 5000, "%00", '"', "q=nan", "*/*;q=inf")


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_makes_no_sense_is_no_error_of_the_service(client, header):
    image = queued(client, "raw")
    assert client.ask("PUT", f"{image}/file", b"bytes", **OCTETS).status == 204
    for value in VALUES:
        for method, path in (
            ("GET", "/v2/images"),
            ("GET", f"{image}/file"),
            ("POST", "/cowherd/v1/uploads"),
            ("PUT", f"{image}/file"),
        ):
            given = {"tus_resumable": "1.0.0", **OCTETS, header.replace("-", "_"): value}
            body = b"x" if method == "PUT" and header != "transfer-encoding" else None
            answer = client.ask(method, path, body, **given)
            assert answer.status < 500 or (answer.status, header) == (501, "transfer-encoding"), (method, path, value, answer)
