"""Images of this host become images of a service."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
from pathlib import Path

import pytest

import cowherd
from cowherd.client import sending
from cowherd.client.connection import Service
from cowherd.client.faults import ContentDiffers, ServiceRefused, ServiceUnreachable
from cowherd.client.push import push
from cowherd.client.sending import Note, send_resumably
from cowherd.storage.hostfile import HostFile
from tests.service.web.breaking import Breaking
from tests.service.web.running import Client

DATA = random.Random(3).randbytes(2_000_000)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(DATA)
    return path


def notes(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "state").rglob("pushes/*"))


def content(client: Client, image_id: str) -> bytes:
    return client.get(f"/v2/images/{image_id}/file").body


def test_a_raw_image_is_sent(client, service, disk, tmp_path):
    (done,) = push(service, disk, name="my disk", visibility="private")
    image = client.get(f"/v2/images/{done.image_id}").json
    assert (image["name"], image["disk_format"], image["visibility"], image["status"]) == ("my disk", "raw", "private", "active")
    assert content(client, done.image_id) == DATA
    assert (done.path, done.size, done.sent) == (str(disk), len(DATA), True)
    assert notes(tmp_path) == []


def test_a_qcow2_image_is_called_as_its_file(client, service, tmp_path):
    cowherd.create(tmp_path / "small.qcow2", 1 << 20)
    (done,) = push(service, tmp_path / "small.qcow2")
    image = client.get(f"/v2/images/{done.image_id}").json
    assert (image["name"], image["disk_format"], image["virtual_size"]) == ("small.qcow2", "qcow2", 1 << 20)


def test_what_the_service_has_is_not_sent_again_but_under_another_name(client, service, disk):
    (first,) = push(service, disk)
    (again,) = push(service, disk)
    assert (again.image_id, again.sent) == (first.image_id, False)
    (named,) = push(service, disk, name="other")
    assert named.sent
    assert named.image_id != first.image_id
    assert len(client.get("/v2/images").json["images"]) == 2


def test_what_the_service_has_lost_is_sent_again_and_makes_the_first_image_whole(client, service, disk, tmp_path):
    (first,) = push(service, disk)
    shutil.rmtree(tmp_path / "service/data/store/blobs")
    (tmp_path / "service/data/store/blobs").mkdir()
    assert client.get(f"/v2/images/{first.image_id}/file").status == 503
    (again,) = push(service, disk)
    assert again.sent
    assert again.image_id != first.image_id
    assert content(client, first.image_id) == DATA


def test_a_dry_run_sends_nothing_and_tells_the_base_first(client, service, disk, tmp_path):
    cowherd.create(tmp_path / "top.qcow2", backing="disk.img", backing_format="raw")
    base, top = push(service, tmp_path / "top.qcow2", dry_run=True)
    assert (base.path, base.sent, base.image_id) == (str(disk), True, None)
    assert (top.name, top.sent) == ("top.qcow2", True)
    push(service, disk)
    assert push(service, tmp_path / "top.qcow2", dry_run=True)[0].sent is False
    assert len(client.get("/v2/images").json["images"]) == 1


def test_an_overlay_without_a_binding_is_refused_and_leaves_only_its_base(client, service, disk, tmp_path):
    cowherd.create(tmp_path / "top.qcow2", backing="disk.img", backing_format="raw")
    with pytest.raises(ServiceRefused, match="backing-file"):
        push(service, tmp_path / "top.qcow2")
    assert [image["name"] for image in client.get("/v2/images").json["images"]] == ["disk.img"]
    assert notes(tmp_path) == []


def test_a_push_comes_through_broken_connections(client, disk, monkeypatch):
    monkeypatch.setattr(sending.time, "sleep", lambda _: None)
    with contextlib.closing(Breaking(client.port, 12, 150_000, seed=1)) as proxy:
        (done,) = push(Service(f"http://127.0.0.1:{proxy.port}"), disk)
        assert proxy.left == 0
    assert content(client, done.image_id) == DATA


def test_an_interrupted_push_goes_on_where_it_stopped(client, service, disk, tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(service, disk, progress=lambda what: interrupt if what.startswith("sending") else None)
    assert len(notes(tmp_path)) == 1
    seen = []
    (done,) = push(service, disk, progress=lambda what: (lambda *told: seen.append(told)) if what.startswith("sending") else None)
    assert seen[0][0] > 1 << 20
    assert content(client, done.image_id) == DATA
    assert len(client.get("/v2/images").json["images"]) == 1
    assert notes(tmp_path) == []


def test_a_push_that_the_service_forgot_begins_anew(client, service, disk, tmp_path):
    digest = hashlib.sha512(DATA).hexdigest()
    gone = client.create(disk_format="raw", container_format="bare")["id"]
    Note(service.address, "disk.img", digest).write(sending.Under(gone, f"{sending.UPLOADS}/{gone}/0"))
    (done,) = push(service, disk)
    assert done.image_id != gone
    assert content(client, done.image_id) == DATA
    assert notes(tmp_path) == []


def test_a_note_that_makes_no_sense_is_no_note(service, disk, tmp_path):
    note = Note(service.address, "disk.img", hashlib.sha512(DATA).hexdigest())
    note.write(sending.Under("image", "upload"))
    notes(tmp_path)[0].write_text("nonsense")
    assert note.read() is None
    assert push(service, disk)[0].sent


def test_a_file_that_changes_while_it_is_sent_is_not_kept(client, service, disk):
    def change(done: int, total: int) -> None:
        with open(disk, "r+b") as file:
            file.write(b"changed")

    with pytest.raises(ContentDiffers, match="changed while it was sent"):
        push(service, disk, progress=lambda what: change if what.startswith("reading") else None)
    assert client.get("/v2/images").json["images"] == []


def test_content_of_another_format_is_refused_with_the_reason(client, service, disk):
    with pytest.raises(ServiceRefused, match="'format'"):
        push(service, disk, format="iso")
    assert client.get("/v2/images").json["images"] == []


def test_a_service_without_resumable_uploads_gets_all_at_once(client, service, disk, monkeypatch):
    monkeypatch.setattr(sending, "UPLOADS", "/v1/nothing")
    (done,) = push(service, disk)
    assert content(client, done.image_id) == DATA
    with pytest.raises(ServiceRefused, match="'format'"):
        push(service, disk, name="disc", format="iso")
    assert [image["name"] for image in client.get("/v2/images").json["images"]] == ["disk.img"]


def test_a_service_that_stays_away_is_given_up(disk):
    pauses = []
    with HostFile.open(disk) as file, pytest.raises(ServiceUnreachable):
        send_resumably(Service("http://127.0.0.1:1"), "/upload", file, pause=pauses.append)
    assert len(pauses) == sending.RETRIES
