"""What is refused before a byte of it comes: the image says why, and so do the events and the page."""

from __future__ import annotations

import base64
import contextlib
from http.server import BaseHTTPRequestHandler

import pytest

from cowherd.service.records.database import open_database
from cowherd.service.records.failures import list_failures
from cowherd.service.web.callers import add_token
from cowherd.stores.directory import DirectoryStore
from tests.service.web.images.test_staging import imported
from tests.service.web.running import running
from tests.service.web.webserver import answering

CONTENT = b"eleven byte"
OCTETS = {"content_type": "application/octet-stream"}


@pytest.fixture
def web():
    """A web server on loopback that has the content; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

    with answering(Handler) as server:
        yield f"127.0.0.1:{server.server_port}"


def put(client, image, web):
    return client.ask("PUT", f"{image}/file", CONTENT, **OCTETS).status


def put_announced(client, image, web):
    return client.ask("PUT", f"{image}/file", iter([CONTENT]), **OCTETS, x_openstack_image_size=str(len(CONTENT))).status


def stage(client, image, web):
    return client.ask("PUT", f"{image}/stage", CONTENT, **OCTETS).status


def create_resumable(client, image, web):
    metadata = "image_id " + base64.b64encode(image.rpartition("/")[2].encode()).decode()
    headers = {"tus_resumable": "1.0.0", "upload_length": str(len(CONTENT)), "upload_metadata": metadata}
    return client.ask("POST", "/cowherd/v1/uploads", **headers).status


def download(client, image, web):
    task = imported(client, image, {"method": {"name": "web-download", "uri": f"http://{web}/image"}})
    assert client.get(image).json["cowherd_reason"] == task["message"]
    return 413 if task["status"] == "failure" else 204


def failures(directory):
    with (
        contextlib.closing(open_database(f"sqlite:///{directory}/data/records.sqlite")) as database,
        database.read() as connection,
    ):
        return [(event.image_id, event.project, event.detail["reason"]) for event in list_failures(connection, limit=9)]


@pytest.mark.parametrize("bring", [put, put_announced, stage, create_resumable, download])
@pytest.mark.parametrize(
    ("setting", "free", "said"),
    [
        ("image_size_cap=10", 1 << 30, "Upload a smaller one"),
        ("quotas=bytes=10", 1 << 30, "Delete images or end uploads"),
        ("md5=true", 10, "Delete images, or name another store"),
    ],
)
def test_what_is_refused_before_it_begins_is_told_wherever_failures_are(tmp_path, web, monkeypatch, bring, setting, free, said):
    monkeypatch.setattr(DirectoryStore, "free_bytes", lambda _: free)
    (tmp_path / "data").mkdir()
    token = add_token(str(tmp_path / "data/tokens"), "somebody", "demo", ("member",))
    with running(tmp_path, "auth=tokens", f"import_allowed={web}", setting) as client:
        client.headers["x-auth-token"] = token
        image = f"/v2/images/{client.create(disk_format='raw', container_format='bare')['id']}"
        assert bring(client, image, web) == 413
        record = client.get(image).json
        assert (record["status"], record["size"]) == ("queued", None)
        assert said in record["cowherd_reason"]
        assert failures(tmp_path) == [(record["id"], "demo", record["cowherd_reason"])]
        basic = base64.b64encode(f":{token}".encode()).decode()
        assert said.encode() in client.get("/cowherd/", authorization=f"Basic {basic}").body


def test_the_upload_of_another_is_not_blamed_for_what_was_refused(tmp_path, monkeypatch):
    with running(tmp_path) as client:
        image = f"/v2/images/{client.create(disk_format='raw', container_format='bare')['id']}"
        assert stage(client, image, None) == 204
        monkeypatch.setattr(DirectoryStore, "free_bytes", lambda _: 10)
        assert put(client, image, None) == 413
        record = client.get(image).json
        assert (record["status"], record["size"]) == ("uploading", len(CONTENT))
        assert "cowherd_reason" not in record
        assert failures(tmp_path) == []
