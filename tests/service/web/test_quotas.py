"""What projects may have, as the settings say."""

from __future__ import annotations

import pytest

from cowherd.errors import InvalidRequest
from cowherd.service.web.callers import add_token
from cowherd.service.web.settings import quotas_of, read_settings
from tests.service.web.running import running

OCTETS = {"content_type": "application/octet-stream"}


@pytest.fixture
def client(tmp_path):
    """A client of the project demo, which may have 2 images and, as all projects, 10 bytes."""
    (tmp_path / "data").mkdir()
    token = add_token(str(tmp_path / "data/tokens"), "somebody", "demo", ("member",))
    with running(tmp_path, "auth=tokens", "quotas=bytes=10,images=1,demo:images=2") as client:
        client.headers["x-auth-token"] = token
        yield client


def raw(client):
    return client.create(disk_format="raw", container_format="bare")["id"]


def test_a_project_may_have_as_many_images_as_is_said_of_it(client):
    kept = [raw(client), raw(client)]
    assert client.ask("POST", "/v2/images", {"name": "third"}).status == 413
    client.ask("DELETE", f"/v2/images/{kept[0]}")
    raw(client)


def test_a_project_may_have_as_many_bytes_as_all_may(client):
    first, second = (f"/v2/images/{raw(client)}/file" for _ in range(2))
    assert client.ask("PUT", first, b"x" * 7, **OCTETS).status == 204
    assert client.ask("PUT", second, b"y" * 4, **OCTETS).status == 413
    assert client.ask("PUT", second, b"y" * 3, **OCTETS).status == 204


def test_what_is_staged_counts_once(client):
    image = f"/v2/images/{raw(client)}"
    assert client.ask("PUT", f"{image}/stage", b"x" * 6, **OCTETS).status == 204
    assert client.get(image).json["size"] == 6
    assert client.ask("PUT", f"/v2/images/{raw(client)}/file", b"y" * 4, **OCTETS).status == 204


def test_quotas_are_read_with_units():
    settings = read_settings(None, ["quotas=bytes=1G,a:b:uploads=3"], {"data": "/d"})
    assert quotas_of(settings) == {(None, "bytes"): 1 << 30, ("a:b", "uploads"): 3}


@pytest.mark.parametrize("entry", ["bytes", "bytes=x", "disks=3", "demo:=3", "=3"])
def test_a_quota_that_makes_no_sense_is_refused(entry):
    with pytest.raises(InvalidRequest, match="quota"):
        read_settings(None, [f"quotas={entry}"], {"data": "/d"})
