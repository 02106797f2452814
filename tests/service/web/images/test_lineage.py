"""Overlays: taken in with a binding to what the caller may see, shown with what they stand on, which can't be deleted then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from blake3 import blake3

from cowherd.api import clone
from cowherd.image.open import open_disk
from cowherd.service.web.settings import read_settings
from cowherd.service.web.upkeep import fsck, rebuild_records
from tests.qemu import Tool
from tests.service.keeping.keeping import flip
from tests.service.web.images.test_data import OCTETS, file_of
from tests.service.web.images.test_members import clients as clients  # noqa: PLC0414  # a fixture
from tests.service.web.running import Answer, Client, running
from tests.waiting import wait_until

MIB = 1 << 20


class Disks(NamedTuple):
    """The bytes of a raw base, of an overlay bound to it, of one bound to that, and of an overlay without a binding."""

    base: bytes
    child: bytes
    grandchild: bytes
    loose: bytes


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    base, child, grandchild, loose = (tmp_path / name for name in ("base.raw", "child.qcow2", "grandchild.qcow2", "loose.qcow2"))
    base.write_bytes(os.urandom(MIB))
    clone(base, child, base_format="raw")
    with open_disk(child, writable=True) as disk:
        disk.write(0, b"written by the child")
    clone(child, grandchild)
    Tool("qemu-img")("create", "-f", "qcow2", "-b", base, "-F", "raw", loose)
    return Disks(*(path.read_bytes() for path in (base, child, grandchild, loose)))


def put(client: Client, data: bytes, disk_format: str = "qcow2", **more: Any) -> tuple[dict[str, Any], Answer]:
    """Makes an image and uploads its content; returns its document, and the answer to the upload."""
    image = client.create(disk_format=disk_format, container_format="bare", **more)
    answer = client.ask("PUT", file_of(image), data, accept="application/json", **OCTETS)
    return client.get(f"/v2/images/{image['id']}").json, answer


def put_chain(client: Client, disks: Disks, **more: Any) -> list[str]:
    """Uploads base, child and grandchild; returns their ids."""
    found = []
    for data, form in ((disks.base, "raw"), (disks.child, "qcow2"), (disks.grandchild, "qcow2")):
        image, answer = put(client, data, form, **more)
        assert answer.status == 204, answer
        found.append(image["id"])
    return found


def lineage(client: Client, image_id: str) -> dict[str, Any]:
    return client.get(f"/cowherd/v1/images/{image_id}/lineage").json


def ids(found: list[dict[str, Any]]) -> list[str | None]:
    return [one.get("id") for one in found]


def test_an_overlay_stands_on_the_image_with_the_content_that_it_is_bound_to(client, disks):
    base, child, grandchild = put_chain(client, disks)
    shown = client.get(f"/v2/images/{child}").json
    assert (shown["status"], shown["cowherd_base"]) == ("active", base)
    assert shown["cowherd_content"] == lineage(client, base)["content"]
    assert "cowherd_base" not in client.get(f"/v2/images/{base}").json
    assert client.get(f"/v2/images/{child}/file").body == disks.child
    found = lineage(client, grandchild)
    assert ids(found["ancestors"]) == [child, base]
    assert (found["children"], found["siblings"]) == ([], [])
    assert ids(lineage(client, child)["children"]) == [grandchild]
    sibling, _ = put(client, disks.child)
    assert ids(lineage(client, child)["siblings"]) == [sibling["id"]]


def test_an_overlay_that_shows_what_its_base_shows_is_no_base_of_itself(client, disks):
    """The last overlay holds nothing of its own: it has the content that it is bound to."""
    _, child, grandchild = put_chain(client, disks)
    found = lineage(client, grandchild)
    assert found["content"] == found["ancestors"][0]["content"] == lineage(client, child)["content"]
    assert found["children"] == []
    again, answer = put(client, disks.grandchild)
    assert (answer.status, again["cowherd_base"]) == (204, child)
    for image_id in (grandchild, again["id"], child):
        assert client.ask("DELETE", f"/v2/images/{image_id}").status == 204


def test_lineage_is_known_again_after_the_records_were_lost_and_a_seal_is_made_again(tmp_path, disks):
    with running(tmp_path) as client:
        base, child, grandchild = put_chain(client, disks)
        shown = client.get(f"/v2/images/{child}").json
    for path in (tmp_path / "data").glob("records.sqlite*"):
        path.unlink()
    for path in (tmp_path / "data/store/blobs").glob("*/*.seal"):
        path.unlink()
    settings = read_settings(None, (), {"data": str(tmp_path / "data")})
    assert rebuild_records(settings)[:2] == (3, 3)
    assert sorted(one.kind for one in fsck(settings, repair=True) if one.repaired) == ["seal"] * 3
    assert fsck(settings, repair=False) == []
    with running(tmp_path) as client:
        assert ids(lineage(client, grandchild)["ancestors"]) == [child, base]
        assert client.get(f"/v2/images/{child}").json["cowherd_content"] == shown["cowherd_content"]
        assert client.ask("DELETE", f"/v2/images/{base}").status == 409


@pytest.mark.parametrize("step", ["whole", "chunked"])
def test_an_overlay_without_a_binding_is_refused_as_ever(client, disks, step):
    put(client, disks.base, "raw")
    data = disks.loose if step == "whole" else iter([disks.loose[:1000], disks.loose[1000:]])
    image, answer = put(client, data)
    assert answer.status == 415
    assert "backing-file" in answer.json["message"]
    assert image["status"] == "queued"


def test_an_overlay_whose_base_is_not_there_is_refused_and_taken_once_it_is(client, disks):
    image, answer = put(client, disks.child)
    assert answer.status == 415
    assert "upload it first" in answer.json["message"]
    assert (image["status"], "upload it first" in image["cowherd_reason"]) == ("queued", True)
    put(client, disks.base, "raw")
    assert client.ask("PUT", file_of(image), disks.child, **OCTETS).status == 204


def test_what_it_is_nobody_may_set(client, disks):
    base, child, _ = put_chain(client, disks)
    for operation in ("add", "replace"):
        for name in ("cowherd_base", "cowherd_content"):
            assert client.patch(child, (operation, f"/{name}", base)).status == 403


def test_what_others_stand_on_can_not_be_deleted(client, disks):
    base, child, grandchild = put_chain(client, disks)
    for image_id, above in ((base, child), (child, grandchild)):
        answer = client.ask("DELETE", f"/v2/images/{image_id}", accept="application/json")
        assert answer.status == 409
        assert f"image {above} stands on it" in answer.json["message"]
    for image_id in (grandchild, child, base):
        assert client.ask("DELETE", f"/v2/images/{image_id}").status == 204


def test_another_image_of_the_same_content_stands_in(client, disks):
    base, child, _ = put_chain(client, disks)
    twin, _ = put(client, disks.base, "raw")
    assert client.ask("DELETE", f"/v2/images/{base}").status == 204
    assert client.get(f"/v2/images/{child}").json["cowherd_base"] == twin["id"]
    assert client.ask("DELETE", f"/v2/images/{twin['id']}").status == 409


def test_a_child_is_not_more_visible_than_its_base(client, disks):
    base, _ = put(client, disks.base, "raw", visibility="private")
    image, answer = put(client, disks.child, visibility="public")
    assert (answer.status, image["status"]) == (409, "queued")
    assert base["id"] in answer.json["message"]
    assert client.patch(image["id"], ("replace", "/visibility", "private")).status == 200
    assert client.ask("PUT", file_of(image), disks.child, **OCTETS).status == 204
    assert client.patch(image["id"], ("replace", "/visibility", "public")).status == 409
    assert client.patch(base["id"], ("replace", "/visibility", "public")).status == 200
    assert client.patch(image["id"], ("replace", "/visibility", "public")).status == 200
    assert client.patch(base["id"], ("replace", "/visibility", "private")).status == 409
    assert client.get(f"/v2/images/{base['id']}").json["visibility"] == "public"


def test_nobody_stands_on_what_they_may_not_see_nor_learns_of_it(clients, disks):
    owner, other = clients["owner"], clients["other"]
    base, answer = put(owner, disks.base, "raw", visibility="shared")
    assert answer.status == 204
    _, answer = put(other, disks.child)
    assert answer.status == 415
    owner.ask("POST", f"/v2/images/{base['id']}/members", {"member": "two"})
    child, answer = put(other, disks.child)
    assert answer.status == 204
    answer = owner.ask("DELETE", f"/v2/images/{base['id']}", accept="application/json")
    assert answer.status == 409
    assert "1 that you may not see" in answer.json["message"]
    assert child["id"] not in answer.json["message"]
    assert lineage(owner, base["id"])["hidden"] == {"children": 1, "siblings": 0}
    assert other.get(f"/cowherd/v1/images/{base['id']}/lineage").status == 200


def test_an_image_is_made_that_stands_on_nothing(client, disks):
    base, child, grandchild = put_chain(client, disks, name="a")
    answer = client.ask("POST", f"/cowherd/v1/images/{grandchild}/standalone")
    assert answer.status == 202
    path = answer.headers["location"]
    wait_until(lambda: client.get(path).json["status"] == "active")
    made = client.get(path).json
    assert (made["status"], made["disk_format"], made["name"], made["visibility"]) == ("active", "raw", "a", "private")
    written = b"written by the child"
    assert client.get(f"{path}/file").body == written + disks.base[len(written) :]
    assert "cowherd_base" not in made
    for image_id in (grandchild, child, base):
        assert client.ask("DELETE", f"/v2/images/{image_id}").status == 204
    queued = client.create(disk_format="raw", container_format="bare")
    assert client.ask("POST", f"/cowherd/v1/images/{queued['id']}/standalone").status == 409


def test_an_image_of_what_can_not_be_read_says_why_it_waits(client, disks, tmp_path):
    _, child, _ = put_chain(client, disks)
    digest = blake3(disks.base).hexdigest()
    (tmp_path / "data/store/blobs" / digest[:2] / digest[2:]).unlink()
    path = client.ask("POST", f"/cowherd/v1/images/{child}/standalone").headers["location"]
    wait_until(lambda: client.get(f"{path}/tasks").json["tasks"][0]["status"] == "failure")
    made = client.get(path).json
    assert (made["status"], made["cowherd_reason"]) == ("queued", client.get(f"{path}/tasks").json["tasks"][0]["message"])


def test_no_image_is_made_of_what_has_rotted(client, disks, tmp_path):
    _, child, _ = put_chain(client, disks)
    digest = blake3(disks.base).hexdigest()
    flip(tmp_path / "data/store/blobs" / digest[:2] / digest[2:], MIB // 2)
    path = client.ask("POST", f"/cowherd/v1/images/{child}/standalone").headers["location"]
    wait_until(lambda: client.get(f"{path}/tasks").json["tasks"][0]["status"] == "failure")
    (task,) = client.get(f"{path}/tasks").json["tasks"]
    assert "is not what it was" in task["message"]
    made = client.get(path).json
    assert (made["status"], made["cowherd_reason"]) == ("queued", task["message"])
