"""Images of a service become images of this host."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest

import cowherd
from cowherd.client.connection import Service
from cowherd.client.faults import ContentDiffers, FileDiffers, NoSuchImage
from cowherd.client.pull import pull
from cowherd.client.push import push
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealplace import seal_path
from cowherd.service.records.database import open_database
from tests.service.web.running import Client

DATA = random.Random(5).randbytes(2_000_000)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    path = tmp_path / "there/disk.img"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def pushed(service: Service, disk: Path) -> str:
    return push(service, disk)[0].image_id or ""


def changed(tmp_path: Path, statement: str) -> None:
    """Changes the records of the service."""
    url = f"sqlite:///{tmp_path}/service/data/records.sqlite"
    with contextlib.closing(open_database(url)) as database, database.write() as connection:
        connection.exec_driver_sql(statement)


def left_over(here: Path) -> list[str]:
    return [name for name in os.listdir(here) if name.startswith(".")]


def test_an_image_is_fetched_by_its_id_or_name_and_sealed(service, pushed, here):
    for image, output in ((pushed, "a.img"), ("disk.img", "b.img"), ("disk.img", None)):
        (done,) = pull(service, image, output)
        path = here / (output or "disk.img")
        assert path.read_bytes() == DATA
        assert (Path(done.path).absolute(), done.size, done.fetched) == (path, len(DATA), True)
        assert read_record(seal_path(path)).size == -(-len(DATA) // 512) * 512
    assert left_over(here) == []


def test_a_name_without_suffix_gets_that_of_its_format(client, service, disk, here):
    push(service, disk, name="debian 12")
    assert pull(service, "debian 12")[0].path == "debian 12.img"
    odd = push(service, disk, name='../a,b:"c"')[0].image_id
    assert pull(service, '../a,b:"c"')[0].path == f"{odd}.img"


def test_what_is_there_is_not_fetched_again_and_another_file_stays(service, pushed, here):
    pull(service, pushed)
    assert pull(service, pushed)[0].fetched is False
    other = here / "other"
    other.write_bytes(b"precious")
    with pytest.raises(FileDiffers):
        pull(service, pushed, "other")
    assert other.read_bytes() == b"precious"


def test_a_dry_run_fetches_nothing(service, pushed, here):
    assert pull(service, pushed, dry_run=True)[0].fetched is True
    assert list(here.iterdir()) == []


def test_no_image_or_several_of_a_name_are_told(client, service, disk, pushed, here):
    for name in ("nothing", "a/b", client.create(name="empty")["id"], "empty"):
        with pytest.raises(NoSuchImage, match="no image"):
            pull(service, name)
    twin = client.create(name="disk.img", disk_format="raw", container_format="bare")["id"]
    client.ask("PUT", f"/v2/images/{twin}/file", b"twin", content_type="application/octet-stream")
    with pytest.raises(NoSuchImage, match="2 images") as caught:
        pull(service, "disk.img")
    assert set(caught.value.ids) == {twin, pushed}


def test_content_that_is_not_that_of_the_record_is_not_kept(service, pushed, here, tmp_path):
    changed(tmp_path, "UPDATE images SET os_hash_value = '00'")
    with pytest.raises(ContentDiffers, match="sha512"):
        pull(service, pushed)
    assert list(here.iterdir()) == []


def test_an_interrupted_pull_goes_on_where_it_stopped(service, pushed, here):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(service, pushed, progress=lambda what: interrupt if what.startswith("fetching") else None)
    assert [name for name in os.listdir(here) if not name.startswith(".")] == []
    (unfinished,) = here.iterdir()
    assert unfinished.stat().st_size == 1 << 20
    seen = []
    pull(service, pushed, progress=lambda what: (lambda *told: seen.append(told)) if what.startswith("fetching") else None)
    assert seen == [(len(DATA), len(DATA))]
    assert (here / "disk.img").read_bytes() == DATA
    assert left_over(here) == []


def test_zeros_are_holes(client, service, disk, here):
    os.truncate(disk, 64 << 20)
    push(service, disk)
    pull(service, "disk.img")
    assert (here / "disk.img").stat().st_size == 64 << 20
    assert (here / "disk.img").stat().st_blocks * 512 < 8 << 20


def overlay_at(client: Client, service: Service, disk: Path, tmp_path: Path) -> str:
    """Makes a child of the disk at the service; returns its id."""
    base = push(service, disk)[0].image_id
    cloned = cowherd.clone(disk, disk.with_name("web.qcow2"))
    with cowherd.open(cloned.overlay, writable=True) as overlay:
        overlay.write(0, b"of the overlay")
    content = read_record(seal_path(disk)).content_digest.hex()
    child = client.create(name="web.qcow2", disk_format="qcow2", container_format="ovf")["id"]  # so that it is not looked at
    body = cloned.overlay.read_bytes()
    assert client.ask("PUT", f"/v2/images/{child}/file", body, content_type="application/octet-stream").status == 204
    changed(tmp_path, f"INSERT INTO lineage VALUES ('{child}', '{content}', '{base}', 'binding')")
    return child


def test_an_overlay_comes_with_its_base_and_names_it_as_it_is_called_here(client, service, disk, here, tmp_path):
    child = overlay_at(client, service, disk, tmp_path)
    assert [one.path for one in pull(service, child, dry_run=True)] == ["disk.img", "web.qcow2"]
    done = pull(service, child)
    assert [(one.path, one.fetched) for one in done] == [("disk.img", True), ("web.qcow2", True)]
    disk.rename(disk.with_name("elsewhere"))
    (info, base) = cowherd.chain_info(here / "web.qcow2")
    assert (info.backing_name, info.backing_format, base.filename) == ("disk.img", "raw", str(here / "disk.img"))
    with cowherd.open(here / "web.qcow2") as overlay:
        assert overlay.read(0, 20) == b"of the overlay" + DATA[14:20]
    assert all(row.status.value == "ok" for row in cowherd.verify([here / "web.qcow2"]))


def test_an_overlay_of_other_content_than_the_service_says_is_not_kept(client, service, disk, here, tmp_path):
    child = overlay_at(client, service, disk, tmp_path)
    (here / "base").write_bytes(b"another")
    other = push(service, here / "base")[0].image_id
    changed(tmp_path, f"UPDATE lineage SET base = '{other}'")
    (here / "base").unlink()
    with pytest.raises(ContentDiffers, match="was not made on"):
        pull(service, child)
    assert not (here / "web.qcow2").exists()


def test_a_chain_that_is_pushed_by_its_top_comes_back_as_it_was(client, service, disk, here):
    middle = cowherd.clone(disk, disk.with_name("middle.qcow2")).overlay
    with cowherd.open(middle, writable=True) as overlay:
        overlay.write(0, b"of the middle")
    top = cowherd.clone(middle, disk.with_name("top.qcow2")).overlay
    with cowherd.open(top, writable=True) as overlay:
        overlay.write(100_000, b"of the top")
    sent = push(service, top)
    assert [(one.name, one.sent) for one in sent] == [("disk.img", True), ("middle.qcow2", True), ("top.qcow2", True)]
    assert [one.sent for one in push(service, top)] == [False] * 3
    assert client.get(f"/v2/images/{sent[2].image_id}").json["cowherd_base"] == sent[1].image_id
    assert [one.path for one in pull(service, "top.qcow2")] == ["disk.img", "middle.qcow2", "top.qcow2"]
    assert [one.backing_name for one in cowherd.chain_info(here / "top.qcow2")] == ["middle.qcow2", "disk.img", None]
    assert cowherd.compare(top, here / "top.qcow2").identical
