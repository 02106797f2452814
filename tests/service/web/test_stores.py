"""The content of images in several stores."""

from __future__ import annotations

import pytest

from tests.service.web.running import running

OCTETS = {"content_type": "application/octet-stream"}


@pytest.fixture
def client(tmp_path):
    """A client of a service with two stores."""
    with running(tmp_path, f"stores=one={tmp_path}/one,two={tmp_path}/two") as client:
        yield client


def uploaded(client, store):
    image = client.create(disk_format="raw", container_format="bare")
    path = f"/v2/images/{image['id']}"
    assert client.ask("PUT", f"{path}/file", b"content", x_image_meta_store=store, **OCTETS).status == 204
    return path


def test_where_the_content_lies_is_told_without_the_hosts_names(client, tmp_path):
    path = uploaded(client, "two")
    document = client.get(path).json
    assert document["stores"] == "two"
    assert document["direct_url"] == document["locations"][0]["url"]
    assert document["locations"][0]["metadata"] == {"store": "two"}
    assert str(tmp_path) not in str(document)


def test_content_is_deleted_from_a_store_if_another_one_has_it(client):
    path = uploaded(client, "one")
    image_id = path.rpartition("/")[2]
    assert client.ask("DELETE", f"/v2/stores/two/{image_id}").status == 404
    assert client.ask("DELETE", f"/v2/stores/three/{image_id}").status == 409
    assert client.ask("DELETE", f"/v2/stores/one/{image_id}").status == 403
    uploaded(client, "two")  # the same content: both images have it in both stores
    assert client.get(path).json["stores"] == "one,two"
    assert client.ask("DELETE", f"/v2/stores/one/{image_id}").status == 204
    assert client.get(path).json["stores"] == "two"
    assert client.get(f"{path}/file").body == b"content"
    assert client.ask("DELETE", f"/v2/stores/two/{image_id}").status == 403


def test_an_image_without_content_is_in_no_store(client):
    assert client.ask("DELETE", f"/v2/stores/one/{client.create()['id']}").status == 409


def test_stores_are_shown_with_where_they_are_to_administrators(client, tmp_path):
    shown = client.get("/v2/info/stores").json["stores"]
    assert [(one["id"], one.get("default")) for one in shown] == [("one", "true"), ("two", None)]
    detail = client.get("/v2/info/stores/detail").json["stores"]
    assert [one["properties"]["data_dir"] for one in detail] == [f"{tmp_path}/one", f"{tmp_path}/two"]
