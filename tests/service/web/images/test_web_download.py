"""Content that the service fetches itself."""

from __future__ import annotations

import contextlib
import sqlite3
from http.server import BaseHTTPRequestHandler

import pytest
from sqlalchemy import update

from cowherd.service.records.faults import DatabaseUnavailable
from cowherd.service.records.image import now
from cowherd.service.records.schema import tasks
from cowherd.service.tasks import imports, runner
from tests.service.web.images.test_staging import ended, imported
from tests.service.web.running import change_records, running
from tests.service.web.webserver import answering
from tests.waiting import wait_until

CONTENT = bytes(range(256)) * 10_000


@pytest.fixture
def web():
    """A web server on loopback; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            port = self.server.server_port
            targets = {
                "/moved": "/image",
                "/inside": "http://localhost:1/secret",
                "/round": "/round",
                "/named": f"http://127.0.0.1:{port}/image",
            }
            if self.path in targets:
                self.send_response(302)
                self.send_header("Location", targets[self.path])
                self.end_headers()
            elif self.path in ("/image", "/short"):
                self.send_response(200)
                self.send_header("Content-Length", str(len(CONTENT) + (self.path == "/short")))
                self.end_headers()
                self.wfile.write(CONTENT)
            else:
                self.send_error(404)

    with answering(Handler) as server:
        yield f"127.0.0.1:{server.server_port}"


@pytest.fixture
def client(tmp_path, web):
    """A client of a service that may fetch from that server."""
    with running(tmp_path, f"import_allowed={web}") as client:
        yield client


def queued(client):
    return f"/v2/images/{client.create(disk_format='raw', container_format='bare')['id']}"


def wanted(uri):
    return {"method": {"name": "web-download", "uri": uri}}


@pytest.mark.parametrize("path", ["/image", "/moved", "/named"])
def test_what_a_server_gives_becomes_the_content(client, web, path):
    image = queued(client)
    assert imported(client, image, wanted(f"http://{web}{path}"))["status"] == "success"
    assert client.get(f"{image}/file").body == CONTENT


def test_a_download_that_was_cut_off_after_the_image_became_active_is_done(tmp_path, web, monkeypatch):
    def cut_off(*_, **__):
        raise DatabaseUnavailable("gone")

    with running(tmp_path, f"import_allowed={web}") as client, monkeypatch.context() as patch:
        image = queued(client)
        patch.setattr(imports.Imports, "_copy", cut_off)
        patch.setattr(runner, "finish_task", cut_off)  # as if its process had been killed
        assert client.ask("POST", f"{image}/import", wanted(f"http://{web}/image")).status == 202
        wait_until(lambda: client.get(image).json["status"] == "active" and "os_glance_import_task" not in client.get(image).json)
    change_records(tmp_path, update(tasks).values(leased_until=now()))
    with running(tmp_path, f"import_allowed={web}") as client:
        assert ended(client, image)["status"] == "success"
        assert client.get(image).json["os_glance_failed_import"] == ""


def test_what_breaks_off_is_told_once(client, web):
    image = queued(client)
    imported(client, image, wanted(f"http://{web}/short"))
    assert client.get("/cowherd/").body.count(b"missing at its end") == 2  # of the image, and of the task


@pytest.mark.parametrize(
    ("path", "said"),
    [("/none", "answered 404"), ("/round", "redirects"), ("/short", "missing at its end"), ("/inside", "filtering")],
)
def test_what_can_not_be_fetched_leaves_a_queued_image_that_says_why(client, web, tmp_path, path, said):
    image = queued(client)
    task = imported(client, image, wanted(f"http://{web}{path}"))
    assert task["status"] == "failure"
    assert said in task["message"]
    document = client.get(image).json
    assert document["status"] == "queued"
    assert said in document["cowherd_reason"]
    assert (document["os_glance_importing_to_stores"], document["os_glance_failed_import"]) == ("", "default")
    assert list((tmp_path / "data/store/incoming").iterdir()) == []


@pytest.mark.parametrize("uri", [None, 7, "", "file:///etc/passwd", "http://127.0.0.1:1/x", "http://169.254.169.254/latest"])
def test_an_address_that_may_not_be_asked_is_refused_at_once(client, uri):
    image = queued(client)
    assert client.ask("POST", f"{image}/import", wanted(uri)).status == 400
    assert client.get(image).json["status"] == "queued"


def remote(image_id, region="north"):
    return {"method": {"name": "glance-download", "glance_image_id": image_id, "glance_region": region}}


@pytest.fixture
def regions(tmp_path):
    """Clients of two services, of which the second one knows the first one as the region north."""
    with running(tmp_path / "north") as north, running(tmp_path, f"regions=north=http://127.0.0.1:{north.port}") as south:
        north.headers["x-auth-token"] = south.headers["x-auth-token"] = "t"
        yield north, south


def test_an_image_of_another_region_comes_with_its_formats_and_what_a_machine_needs(regions, tmp_path):
    north, south = regions
    source = north.create(disk_format="raw", container_format="bare", hw_cpu_cores="5", os_distro="rhel", speed="88mph")
    north.ask("PUT", f"/v2/images/{source['id']}/file", CONTENT, content_type="application/octet-stream")
    image = f"/v2/images/{south.create(disk_format='iso', container_format='ovf', hw_cpu_cores='1')['id']}"
    assert imported(south, image, remote(source["id"]))["status"] == "success"
    record = south.get(image).json
    assert (record["disk_format"], record["container_format"], record["hw_cpu_cores"]) == ("raw", "bare", "5")
    assert record["os_distro"] == "rhel"
    assert "speed" not in record
    assert south.get(f"{image}/file").body == CONTENT
    with contextlib.closing(sqlite3.connect(tmp_path / "data/records.sqlite")) as database:
        assert database.execute("select progress from tasks").fetchall() == [("{}",)]


@pytest.mark.parametrize(("region", "said"), [("north", "answered 404"), ("nowhere", "No image service is known")])
def test_an_image_of_another_region_that_is_not_there_is_told(regions, region, said):
    image = queued(regions[1])
    task = imported(regions[1], image, remote("36d4b546-64a2-4bb9-bdd0-ba676aa48f2c", region))
    assert task["status"] == "failure"
    assert said in task["message"]
    assert regions[1].get(image).json["status"] == "queued"


@pytest.mark.parametrize("document", [remote("foo"), remote(None), remote("36d4b546-64a2-4bb9-bdd0-ba676aa48f2c", 7)])
def test_an_image_of_another_region_that_can_be_none_is_refused(client, document):
    assert client.ask("POST", f"{queued(client)}/import", document).status == 400


def test_a_server_that_is_not_there_is_told(tmp_path):
    with running(tmp_path, "import_allowed=127.0.0.1:1") as client:
        image = queued(client)
        assert "refused" in imported(client, image, wanted("http://127.0.0.1:1/x"))["message"]
        assert client.get(image).json["status"] == "queued"
