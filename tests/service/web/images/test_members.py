"""Images shared with projects, and what callers of several projects may do: the callers are known by tokens."""

from __future__ import annotations

import pytest

from cowherd.service.web.callers import add_token
from tests.service.web.running import Client, running


@pytest.fixture
def clients(tmp_path):
    """Clients of one service: an administrator's, and those of two projects."""
    (tmp_path / "data").mkdir()
    tokens = {
        name: add_token(str(tmp_path / "data/tokens"), name, project, (role,))
        for name, project, role in (
            ("admin", "office", "admin"),
            ("owner", "one", "member"),
            ("reader", "one", "reader"),
            ("other", "two", "member"),
            ("stranger", "three", "of-no-use"),
        )
    }
    with running(tmp_path, "auth=tokens", "image_member_quota=2") as client:
        yield {name: Client(client.port, {"X-Auth-Token": token}) for name, token in tokens.items()} | {"nobody": client}


@pytest.fixture
def shared(clients):
    """The path of an image of the owner's, shared with the other's project."""
    image = clients["owner"].create(name="a")
    path = f"/v2/images/{image['id']}"
    assert clients["other"].get(path).status == 404
    assert clients["owner"].ask("POST", f"{path}/members", {"member": "two"}).json["status"] == "pending"
    return path


def listed(client, query=""):
    return [image["name"] for image in client.get(f"/v2/images{query}").json["images"]]


def test_who_has_no_token_is_told_so(clients):
    answer = clients["nobody"].get("/v2/images")
    assert answer.status == 401
    assert "www-authenticate" in answer.headers
    assert clients["nobody"].get("/v2/images", x_auth_token="guess").status == 401
    assert clients["nobody"].get("/versions").status == 200


def test_who_has_no_role_for_images_lists_none(clients):
    assert clients["stranger"].get("/v2/images").status == 403
    assert clients["reader"].get("/v2/images").status == 200


def test_a_shared_image_is_listed_once_its_member_accepts(clients, shared):
    other = clients["other"]
    assert other.get(shared).status == 200
    assert (listed(other), listed(other, "?member_status=pending")) == ([], ["a"])
    assert other.ask("PUT", f"{shared}/members/two", {"status": "accepted"}).json["status"] == "accepted"
    assert listed(other) == ["a"]
    assert other.ask("PUT", f"{shared}/members/two", {"status": "rejected"}).status == 200
    assert listed(other) == []
    assert clients["owner"].ask("DELETE", f"{shared}/members/two").status == 204
    assert other.get(shared).status == 404


def test_only_the_member_answers_and_only_the_owner_shares(clients, shared):
    for name, status in (("owner", 403), ("reader", 403), ("nobody", 401), ("admin", 200), ("other", 200)):
        assert clients[name].ask("PUT", f"{shared}/members/two", {"status": "accepted"}).status == status, name
    for name, status in (("other", 403), ("reader", 403), ("owner", 200), ("admin", 413)):
        assert clients[name].ask("POST", f"{shared}/members", {"member": f"of-{name}"}).status == status, name
    assert clients["other"].ask("DELETE", f"{shared}/members/two").status == 403


def test_a_member_sees_only_itself_among_the_members(clients, shared):
    clients["owner"].ask("POST", f"{shared}/members", {"member": "three"})
    seen = {
        name: [one["member_id"] for one in clients[name].get(f"{shared}/members").json["members"]] for name in ("owner", "other")
    }
    assert seen == {"owner": ["two", "three"], "other": ["two"]}
    assert clients["other"].get(f"{shared}/members/two").json["member_id"] == "two"
    assert clients["other"].get(f"{shared}/members/three").status == 404
    assert clients["owner"].get(f"{shared}/members/four").status == 404


@pytest.mark.parametrize(
    ("document", "status"),
    [({"member": "two"}, 409), ({"member": ""}, 400), ({"member": 7}, 400), ({}, 400), ([], 400), ({"member": "x" * 256}, 400)],
)
def test_a_member_is_a_project_that_is_none_yet(clients, shared, document, status):
    assert clients["owner"].ask("POST", f"{shared}/members", document).status == status


def test_only_shared_images_have_members(clients, shared):
    clients["owner"].patch(shared.rpartition("/")[2], ("replace", "/visibility", "private"))
    assert clients["owner"].get(f"{shared}/members").status == 403
    assert clients["owner"].get(f"{shared}/members/two").status == 404
    assert clients["owner"].ask("POST", f"{shared}/members", {"member": "three"}).status == 403
    assert clients["other"].get(shared).status == 404


def test_a_new_image_belongs_to_the_callers_project(clients):
    assert clients["owner"].create()["owner"] == "one"
    assert clients["owner"].ask("POST", "/v2/images", {"owner": "two"}).status == 403
    assert clients["admin"].ask("POST", "/v2/images", {"owner": "two"}).status == 201
    assert clients["reader"].ask("POST", "/v2/images", {}).status == 403
    assert clients["owner"].ask("POST", "/v2/images", {"visibility": "public"}).status == 403


def test_the_reason_of_a_failure_is_told_to_the_owner_only(clients):
    image = clients["owner"].create(disk_format="qcow2", container_format="bare", visibility="community")
    path = f"/v2/images/{image['id']}"
    assert clients["owner"].ask("PUT", f"{path}/file", b"no qcow2", content_type="application/octet-stream").status == 415
    assert "cowherd_reason" in clients["owner"].get(path).json
    assert "cowherd_reason" not in clients["other"].get(path).json


def test_a_deactivated_image_is_given_to_administrators_only(clients):
    image = clients["owner"].create(disk_format="raw", container_format="bare")
    path = f"/v2/images/{image['id']}"
    assert clients["owner"].ask("PUT", f"{path}/file", b"content", content_type="application/octet-stream").status == 204
    assert clients["owner"].ask("POST", f"{path}/actions/deactivate").status == 204
    assert clients["owner"].get(f"{path}/file").status == 403
    assert clients["admin"].get(f"{path}/file").body == b"content"


def test_what_administrators_see_is_theirs(clients):
    for path in ("/v2/info/stores/detail", "/v2/cache"):
        assert (clients["admin"].get(path).status, clients["owner"].get(path).status) == (200, 403)
    assert [one["id"] for one in clients["owner"].get("/v2/info/stores").json["stores"]] == ["default"]
    assert clients["owner"].get("/v2/info/usage").json == {"usage": {}}
    assert "glance-direct" in clients["owner"].get("/v2/info/import").json["import-methods"]["value"]


def test_the_addresses_of_a_content_are_shown_to_administrators(clients):
    image = clients["owner"].create(disk_format="raw", container_format="bare")
    path = f"/v2/images/{image['id']}"
    assert clients["owner"].ask("PUT", f"{path}/file", b"content", content_type="application/octet-stream").status == 204
    assert [one["metadata"] for one in clients["admin"].get(f"{path}/locations").json] == [{"store": "default"}]
    assert clients["owner"].get(f"{path}/locations").status == 403
    assert clients["other"].get(f"{path}/locations").status == 404
