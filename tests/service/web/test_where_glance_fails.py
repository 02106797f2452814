"""Ten ways in which OpenStack's Glance 33 was seen to fail, each tried with the service: none of them is left."""

from __future__ import annotations

import concurrent.futures
import http.client
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from cowherd.api import clone
from tests.qemu import Tool
from tests.service.keeping.keeping import flip
from tests.service.web.images.test_data import CONTENT, OCTETS, file_of, put, raw
from tests.service.web.images.test_staging import DIRECT, imported
from tests.service.web.running import Client
from tests.service.web.test_uploads import CHUNK, TUS, begun, break_off, offset_of
from tests.waiting import wait_until

GUEST_CLUSTER = 64 << 10


def stored_files(data: Path) -> list[Path]:
    """Returns the files of the store that hold bytes of images, or may come to."""
    return [path for path in (data / "store").rglob("*") if path.is_file() and path.stat().st_size > GUEST_CLUSTER]


def qcow2(tmp_path: Path, *options: str) -> bytearray:
    path = tmp_path / "made.qcow2"
    Tool("qemu-img")("create", "-f", "qcow2", *options, path, "64M")
    return bytearray(path.read_bytes())


def uploaded(client: Client, content: bytes, disk_format: str = "qcow2"):
    image = client.create(disk_format=disk_format, container_format="bare")
    return image, put(client, image, bytes(content))


def test_1_a_refused_upload_leaves_nothing_and_can_be_tried_again(client, tmp_path):
    image = raw(client)
    refused = put(client, image, bytes(qcow2(tmp_path)))  # which is no raw disk
    assert refused.status == 415
    shown = client.get(f"/v2/images/{image['id']}").json
    assert (shown["status"], shown["checksum"], shown["os_hash_value"], shown["size"]) == ("queued", None, None, None)
    assert client.get(file_of(image)).status == 204  # there is no content
    assert stored_files(tmp_path / "data") == []
    assert put(client, image, CONTENT).status == 204
    assert client.get(file_of(image)).body == CONTENT


def test_2_a_length_is_a_number(client):
    image = raw(client)
    put(client, image, bytes(1000) + bytes(range(24)))
    for path in (file_of(image), f"/v2/images/{image['id']}", "/v2/images"):
        assert client.get(path).headers["content-length"].isdecimal()


def test_3_a_killed_upload_is_queued_again_and_leaves_no_file(tmp_path):
    argv = [sys.executable, "-m", "cowherd.cli.guard.main", "serve", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]

    def start() -> tuple[subprocess.Popen[str], Client]:
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        return process, Client(int(process.stderr.readline().rpartition(":")[2]))

    process, client = start()
    image = raw(client)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def slowly():
            yield CONTENT
            wait_until(lambda: client.get(f"/v2/images/{image['id']}").json["status"] == "saving")
            process.send_signal(signal.SIGKILL)
            process.communicate()
            yield CONTENT

        with pytest.raises((ConnectionError, http.client.HTTPException)):
            pool.submit(put, client, image, slowly()).result()
    process, client = start()
    try:
        assert client.get(f"/v2/images/{image['id']}").json["status"] == "queued"
        assert stored_files(tmp_path / "data") == []
        assert put(client, image, CONTENT).status == 204
    finally:
        process.terminate()
        process.communicate()


def test_4_a_refused_import_says_why_and_leaves_neither_a_state_nor_a_file(client, tmp_path):
    image = raw(client)
    path = f"/v2/images/{image['id']}"
    assert client.ask("PUT", f"{path}/stage", bytes(qcow2(tmp_path)), **OCTETS).status == 204
    task = imported(client, path, DIRECT)
    assert task["status"] == "failure"
    assert "qcow2" in task["message"]
    assert client.get(path).json["status"] == "queued"
    assert stored_files(tmp_path / "data") == []


@pytest.mark.parametrize("way", ["flipped", "cut", "deleted"])
def test_5_what_rotted_is_not_served_as_if_it_had_not(client, tmp_path, way):
    image = raw(client)
    put(client, image, CONTENT)
    digest = blake3(CONTENT).hexdigest()
    blob = tmp_path / "data/store/blobs" / digest[:2] / digest[2:]
    os.chmod(blob, 0o600)
    if way == "flipped":
        flip(blob, 1_000_000)
    elif way == "cut":
        os.truncate(blob, 1_000_000)
    else:
        blob.unlink()
    answer = client.get(file_of(image))
    assert answer.status == 503
    assert answer.body != CONTENT


def test_6_an_interrupted_upload_goes_on_where_it_stopped(client):
    image = client.create(disk_format="raw", container_format="bare")
    data = os.urandom(3_000_000)
    path = begun(client, image["id"], len(data))
    break_off(client, path, 0, data[:1_500_000])
    wait_until(lambda: offset_of(client, path) == 1_500_000)
    answer = client.ask("PATCH", path, data[1_500_000:], upload_offset="1500000", **CHUNK)
    assert answer.status == 204
    assert client.get(file_of(image)).body == data
    assert client.ask("HEAD", path, **TUS).status == 200


def test_7_the_same_bytes_are_stored_once(client, tmp_path):
    first, second = raw(client), raw(client)
    assert [put(client, one, CONTENT).status for one in (first, second)] == [204, 204]
    (blob,) = stored_files(tmp_path / "data")
    assert blob.stat().st_size == len(CONTENT)
    assert client.ask("DELETE", f"/v2/images/{first['id']}").status == 204
    assert client.get(file_of(second)).body == CONTENT


def test_8_an_overlay_is_a_child_whose_base_stays(client, tmp_path):
    (tmp_path / "base.raw").write_bytes(os.urandom(1 << 20))
    clone(tmp_path / "base.raw", tmp_path / "child.qcow2", base_format="raw")
    base = raw(client)
    assert put(client, base, (tmp_path / "base.raw").read_bytes()).status == 204
    child, answer = uploaded(client, (tmp_path / "child.qcow2").read_bytes())
    assert answer.status == 204
    assert client.get(f"/v2/images/{child['id']}").json["cowherd_base"] == base["id"]
    assert client.ask("DELETE", f"/v2/images/{base['id']}").status == 409


def test_9_many_may_create_at_once(client):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda number: client.ask("POST", "/v2/images", {"name": str(number)}).status, range(80)))
    assert statuses == [201] * 80


def test_10_valid_images_are_taken_and_broken_ones_are_not(client, tmp_path):
    _, answer = uploaded(client, qcow2(tmp_path, "-o", "extended_l2=on"))
    assert answer.status == 204
    Tool("qemu-img")("convert", "-f", "raw", "-O", "qcow2", _disk(tmp_path), tmp_path / "full.qcow2")
    full = (tmp_path / "full.qcow2").read_bytes()
    l1_offset = struct.unpack_from(">Q", full, 40)[0]
    broken = {
        "truncated": full[:-200_000],
        "table past the end": full[:40] + struct.pack(">Q", 1 << 40) + full[48:],
        "zeroed L1 table": full[:l1_offset] + bytes(65536) + full[l1_offset + 65536 :],
        "disk of 8 EiB": full[:24] + struct.pack(">Q", 1 << 63) + full[32:],
    }
    for what, content in broken.items():
        image, answer = uploaded(client, content)
        assert answer.status == 415, what
        assert client.get(f"/v2/images/{image['id']}").json["status"] == "queued", what


def _disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(1 << 20))
    return path
