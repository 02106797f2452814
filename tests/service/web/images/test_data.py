"""The content of images: taken in, given out, and kept from those who may not have it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import socket

import pytest
from blake3 import blake3

from cowherd.service.web import call as call_module
from tests.service.web.running import running
from tests.service.web.serving.serving import read_all
from tests.waiting import wait_until

CONTENT = os.urandom(2_500_000)
OCTETS = {"content_type": "application/octet-stream"}


def put(client, image, content, **headers):
    return client.ask("PUT", f"/v2/images/{image['id']}/file", content, **{**OCTETS, **headers})


def raw(client, **properties):
    return client.create(disk_format="raw", container_format="bare", **properties)


@pytest.fixture
def image(client):
    """An active image with `CONTENT`."""
    made = raw(client)
    assert put(client, made, CONTENT).status == 204
    return client.get(f"/v2/images/{made['id']}").json


def file_of(image):
    return f"/v2/images/{image['id']}/file"


def test_an_image_is_active_with_its_hashes_once_its_content_came(image):
    assert (image["status"], image["size"], image["virtual_size"]) == ("active", len(CONTENT), len(CONTENT))
    assert image["checksum"] == hashlib.md5(CONTENT).hexdigest()
    assert (image["os_hash_algo"], image["os_hash_value"]) == ("sha512", hashlib.sha512(CONTENT).hexdigest())
    assert image["stores"] == "default"


def test_a_body_whose_length_nobody_states_is_taken(client):
    image = raw(client)
    assert put(client, image, iter([CONTENT[:1000], CONTENT[1000:]])).status == 204
    assert client.get(file_of(image)).body == CONTENT


def test_the_content_comes_back_with_what_tells_what_it_is(client, image):
    answer = client.get(file_of(image))
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-md5"] == image["checksum"]
    assert answer.headers["etag"] == f'"{blake3(CONTENT).hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-digest"] == f"sha-512=:{base64.b64encode(hashlib.sha512(CONTENT).digest()).decode()}:"
    assert answer.headers["last-modified"].endswith(" GMT")


def test_head_says_the_same_without_the_content(client, image):
    whole, head = client.get(file_of(image)), client.ask("HEAD", file_of(image))
    assert (head.status, head.body) == (200, b"")
    for name in ("content-length", "etag", "content-digest", "last-modified", "content-type"):
        assert head.headers[name] == whole.headers[name]


def test_a_range_costs_what_it_sends(client, image):
    answer = client.get(file_of(image), range="bytes=1000000-1000009")
    assert (answer.status, answer.body) == (206, CONTENT[1_000_000:1_000_010])
    assert answer.headers["content-range"] == f"bytes 1000000-1000009/{len(CONTENT)}"
    assert answer.headers["content-md5"] == image["checksum"]
    assert "content-digest" not in answer.headers
    assert client.get(file_of(image), range="bytes=99999999-").status == 416
    assert client.get(file_of(image), range="bytes=0-1,3-4").status == 400


def test_what_the_client_has_is_not_sent_again(client, image):
    headers = client.get(file_of(image)).headers
    for name, value, status in (
        ("if_none_match", headers["etag"], 304),
        ("if_none_match", f'"other", W/{headers["etag"]}', 304),
        ("if_none_match", "*", 304),
        ("if_none_match", '"other"', 200),
        ("if_modified_since", headers["last-modified"], 304),
        ("if_modified_since", "Sat, 01 Jan 2000 00:00:00 GMT", 200),
        ("if_modified_since", "yesterday", 200),
    ):
        answer = client.get(file_of(image), **{name: value})
        assert answer.status == status, value
        assert answer.headers["etag"] == headers["etag"]


def test_a_range_of_another_content_than_this_is_no_range(client, image):
    etag = client.get(file_of(image)).headers["etag"]
    assert client.get(file_of(image), range="bytes=0-1", if_range=etag).status == 206
    assert client.get(file_of(image), range="bytes=0-1", if_range='"other"').body == CONTENT


def test_an_image_without_content_has_none_to_give(client):
    answer = client.get(file_of(raw(client)))
    assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize("properties", [{}, {"disk_format": "raw"}, {"container_format": "bare"}])
def test_the_formats_come_before_the_content(client, properties):
    image = client.create(**properties)
    assert put(client, image, b"x").status == 400
    assert client.get(f"/v2/images/{image['id']}").json["status"] == "queued"


def test_content_comes_once(client, image):
    assert put(client, image, b"other").status == 409
    assert client.get(file_of(image)).body == CONTENT


@pytest.mark.parametrize("kind", ["text/plain", ""])
def test_content_is_sent_as_bytes(client, kind):
    assert put(client, raw(client), b"x", content_type=kind).status == 415


def test_a_size_that_is_none_is_refused(client):
    assert put(client, raw(client), b"x", x_openstack_image_size="much").status == 400


def test_what_is_refused_is_told_with_the_check_and_the_retry_works(client):
    image = client.create(disk_format="qcow2", container_format="bare")
    answer = put(client, image, CONTENT, accept="application/json")
    assert answer.status == 415
    assert "'format'" in answer.json["message"]
    after = client.get(f"/v2/images/{image['id']}").json
    reason = after.pop("cowherd_reason")
    assert "'format'" in reason
    assert {name for name in after if after[name] != image[name]} <= {"updated_at"}
    assert client.get(file_of(image)).status == 204
    client.patch(image["id"], ("replace", "/disk_format", "raw"))
    assert put(client, image, CONTENT).status == 204


def test_fewer_bytes_than_announced_are_refused(client):
    image = raw(client)
    assert put(client, image, b"abc", x_openstack_image_size="4").status == 400
    assert client.get(f"/v2/images/{image['id']}").json["status"] == "queued"


def test_too_much_is_refused_before_a_byte_is_read(tmp_path):
    with running(tmp_path, "image_size_cap=1000") as client:
        image = raw(client)
        head = (
            f"PUT {file_of(image)} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 1001\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
            connection.sendall(head.encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 413")
        assert put(client, image, iter([b"x" * 600, b"x" * 600])).status == 413
        assert client.get(f"/v2/images/{image['id']}").json["status"] == "queued"
        assert put(client, image, b"x" * 1000).status == 204


def test_a_client_that_goes_away_leaves_a_queued_image_that_says_so(client):
    image = raw(client)
    head = f"PUT {file_of(image)} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        connection.sendall(head.encode() + b"x" * 10)
        wait_for(client, image, "saving")
    after = wait_for(client, image, "queued")
    assert "went away" in after["cowherd_reason"]


def wait_for(client, image, status):
    path = f"/v2/images/{image['id']}"
    wait_until(lambda: client.get(path).json["status"] == status)
    return client.get(path).json


def test_a_client_that_sends_nothing_more_is_told_so(client, monkeypatch):
    monkeypatch.setattr(call_module, "SILENCE_SECONDS", 0.3)
    image = raw(client)
    head = f"PUT {file_of(image)} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        connection.sendall(head.encode() + b"x" * 10)
        assert read_all(connection).startswith(b"HTTP/1.1 408")
    assert "sent nothing more" in client.get(f"/v2/images/{image['id']}").json["cowherd_reason"]


def test_an_image_that_is_deleted_meanwhile_is_gone(client):
    image = raw(client)

    def body():
        yield b"x" * 10
        wait_for(client, image, "saving")
        assert client.ask("DELETE", f"/v2/images/{image['id']}").status == 204
        yield b"y" * 10

    assert put(client, image, body()).status == 410
    assert client.get(f"/v2/images/{image['id']}").status == 404


def test_a_store_is_chosen_by_a_header(tmp_path):
    stores = f"stores=one={tmp_path}/one,two={tmp_path}/two"
    with running(tmp_path, stores) as client:
        image = raw(client)
        assert put(client, image, CONTENT, x_image_meta_store="three").status == 400
        assert put(client, image, CONTENT, x_image_meta_store="two").status == 204
        assert client.get(f"/v2/images/{image['id']}").json["stores"] == "two"
        assert client.get(file_of(image) + "?prefer=one,two").body == CONTENT
        assert client.get(file_of(image) + "?prefer=three").body == CONTENT


def test_content_that_is_lost_or_cut_is_never_given_out(client, image, tmp_path):
    digest = blake3(CONTENT).hexdigest()
    blob = tmp_path / "data/store/blobs" / digest[:2] / digest[2:]
    blob.chmod(0o600)
    blob.write_bytes(CONTENT[:-1])
    assert client.get(file_of(image)).status == 503
    blob.unlink()
    assert client.get(file_of(image)).status == 503
    assert client.ask("HEAD", file_of(image)).status == 503


def test_taken_out_of_use_and_back(client, image):
    path = f"/v2/images/{image['id']}"
    for _ in range(2):
        assert client.ask("POST", f"{path}/actions/deactivate").status == 204
        assert client.get(path).json["status"] == "deactivated"
    assert client.patch(image["id"], ("replace", "/disk_format", "iso")).status == 403
    for _ in range(2):
        assert client.ask("POST", f"{path}/actions/reactivate").status == 204
    assert client.get(file_of(image)).body == CONTENT


def blob_of(tmp_path, image):
    digest = blake3(CONTENT).hexdigest()
    return tmp_path / "data" / "store" / "blobs" / digest[:2] / digest[2:]


def rot(path):
    path.chmod(0o640)
    with path.open("r+b") as file:
        file.seek(1_500_000)
        file.write(b"rotten")


@pytest.mark.parametrize("verify_reads", ["changed", "always"])
def test_content_that_rots_is_never_given_out(tmp_path, verify_reads):
    with running(tmp_path, f"verify_reads={verify_reads}") as client:
        image = raw(client)
        assert put(client, image, CONTENT).status == 204
        assert client.get(file_of(image)).body == CONTENT
        assert client.get(file_of(image), range="bytes=1048570-1048580").body == CONTENT[1_048_570:1_048_581]
        rot(blob_of(tmp_path, image))
        answer = client.get(file_of(image), range="bytes=1500000-1500009", accept="application/json")
        assert answer.status == 503
        assert "1048576-2097151" in answer.json["message"]
        assert client.get(file_of(image)).status == 503
        assert "1048576-2097151" in client.get(f"/v2/images/{image['id']}").json["cowherd_reason"]
        blob_of(tmp_path, image).unlink()
        assert client.get(file_of(image)).status == 503


def test_a_download_ends_where_the_rot_begins(tmp_path):
    with running(tmp_path, "verify_reads=always") as client:
        image = raw(client)
        assert put(client, image, CONTENT).status == 204
        rot(blob_of(tmp_path, image))
        with pytest.raises(http.client.IncompleteRead) as cut:
            client.get(file_of(image))
        assert cut.value.partial == CONTENT[:1_048_576]
