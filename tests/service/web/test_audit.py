"""Who changed what is recorded with the change."""

from __future__ import annotations

import contextlib

from cowherd.service.records.database import open_database
from cowherd.service.records.events import list_events
from tests.service.web.images.test_members import clients as clients  # noqa: PLC0414  # a fixture

OCTETS = {"content_type": "application/octet-stream"}


def test_every_change_is_noted_with_who_did_it(clients, tmp_path):
    owner = clients["owner"]
    image = owner.create(name="a", disk_format="raw", container_format="bare")
    path = f"/v2/images/{image['id']}"
    assert owner.ask("PUT", f"{path}/file", b"content", **OCTETS).status == 204
    owner.patch(image["id"], ("replace", "/name", "b"), ("add", "/word", "w"))
    owner.ask("PUT", f"{path}/tags/t")
    owner.ask("DELETE", f"{path}/tags/t")
    owner.ask("POST", f"{path}/members", {"member": "two"})
    clients["other"].ask("PUT", f"{path}/members/two", {"status": "accepted"})
    owner.ask("DELETE", f"{path}/members/two")
    owner.ask("POST", f"{path}/actions/deactivate")
    owner.ask("POST", f"{path}/actions/reactivate")
    assert owner.ask("DELETE", path, x_openstack_request_id="last").status == 204
    with (
        contextlib.closing(open_database(f"sqlite:///{tmp_path}/data/records.sqlite")) as database,
        database.read() as connection,
    ):
        events = list_events(connection, image_id=image["id"])
    assert [(one.action, one.user_id) for one in reversed(events)] == [
        ("image.create", "owner"),
        ("image.active", None),
        ("image.update", "owner"),
        ("image.tag", "owner"),
        ("image.untag", "owner"),
        ("member.add", "owner"),
        ("member.answer", "other"),
        ("member.remove", "owner"),
        ("image.deactivate", "owner"),
        ("image.reactivate", "owner"),
        ("image.delete", "owner"),
    ]
    assert events[0].request_id == "req-last"
    assert events[-3].detail == {"changed": ["name", "word"]}


def test_what_is_refused_changes_nothing_and_is_not_noted(clients, tmp_path):
    image = clients["owner"].create(protected=True)
    assert clients["owner"].ask("DELETE", f"/v2/images/{image['id']}").status == 403
    with (
        contextlib.closing(open_database(f"sqlite:///{tmp_path}/data/records.sqlite")) as database,
        database.read() as connection,
    ):
        assert [one.action for one in list_events(connection, image_id=image["id"])] == ["image.create"]
