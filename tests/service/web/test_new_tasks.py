"""Tasks that administrators ask for: images that are made of what is downloaded."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from cowherd.service.records.faults import DatabaseUnavailable
from cowherd.service.tasks import runner
from tests.service.web.images.test_members import clients as clients  # noqa: PLC0414  # a fixture
from tests.service.web.images.test_web_download import CONTENT
from tests.service.web.images.test_web_download import client as client  # noqa: PLC0414  # a fixture
from tests.service.web.images.test_web_download import web as web  # noqa: PLC0414  # a fixture
from tests.service.web.running import Client, running
from tests.service.web.webserver import answering
from tests.waiting import wait_until

PROPERTIES = {"name": "new", "disk_format": "raw", "container_format": "bare", "tags": ["a"], "min_ram": 5, "os_distro": "b"}
UUID = "36d4b546-64a2-4bb9-bdd0-ba676aa48f2c"


def wanted(url, properties=PROPERTIES, **more):
    given = {"import_from": url, "import_from_format": "raw", "image_properties": properties}
    return {"type": "import", "input": {**given, **more}}


def begun(client, document):
    """Asks for a task; returns what is told of it at once."""
    answer = client.ask("POST", "/v2/tasks", document)
    assert answer.status == 201, answer
    assert answer.headers["location"] == f"http://127.0.0.1:{client.port}/v2/tasks/{answer.json['id']}"
    return answer.json


def ended(client, task):
    """Waits for the end of a task; returns what is told of it then."""
    path = f"/v2/tasks/{task['id']}"
    wait_until(lambda: client.get(path).json["status"] in ("success", "failure"))
    return client.get(path).json


def actions(directory: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(directory / "data/records.sqlite")) as records:
        return [action for (action,) in records.execute("SELECT action FROM events ORDER BY id")]


def test_an_image_is_made_of_what_is_downloaded(client, web, tmp_path):
    document = wanted(f"http://{web}/image")
    task = begun(client, document)
    assert (task["status"], task["type"], task["input"]) == ("pending", "import", document["input"])
    assert (task["message"], task["result"]) == ("", None)
    assert "expires_at" not in task
    task = ended(client, task)
    assert (task["status"], task["message"]) == ("success", "")
    assert task["expires_at"] > task["created_at"]
    path = f"/v2/images/{task['result']['image_id']}"
    image = client.get(path).json
    assert {name: image[name] for name in PROPERTIES} == PROPERTIES
    assert (image["status"], image["size"]) == ("active", len(CONTENT))
    assert client.get(f"{path}/file").body == CONTENT
    assert [one["id"] for one in client.get(f"{path}/tasks").json["tasks"]] == [task["id"]]
    assert actions(tmp_path) == ["image.create", "image.import", "image.active"]


def test_the_formats_of_the_source_are_those_of_an_image_that_states_none(client, web):
    task = ended(client, begun(client, wanted(f"http://{web}/image", {})))
    image = client.get(f"/v2/images/{task['result']['image_id']}").json
    assert (image["disk_format"], image["container_format"]) == ("raw", "bare")


@pytest.mark.parametrize(
    ("path", "properties", "said"),
    [
        ("/none", PROPERTIES, "answered 404"),
        ("/short", PROPERTIES, "missing at its end"),
        ("/inside", PROPERTIES, "filtering"),
        ("/image", {**PROPERTIES, "disk_format": "qcow2"}, "'format'"),
        ("/image", {**PROPERTIES, "protected": True, "disk_format": "qcow2"}, "'format'"),
    ],
)
def test_a_download_that_fails_says_why_and_its_image_goes(client, web, tmp_path, path, properties, said):
    task = ended(client, begun(client, wanted(f"http://{web}{path}", properties)))
    assert task["status"] == "failure"
    assert said in task["message"]
    assert task["result"] is None
    assert client.get("/v2/images").json["images"] == []
    assert list((tmp_path / "data/store/incoming").iterdir()) == []
    assert actions(tmp_path) == ["image.create", "image.import", "image.failed", "image.delete"]
    assert said in client.get("/cowherd/").body.decode().replace("&#x27;", "'").replace("&#39;", "'")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "http://169.254.169.254/x", "file:///etc/passwd", "ftp://x/y", "", 7, None]
)
def test_an_address_that_may_not_be_asked_is_refused_at_once(client, url):
    assert client.ask("POST", "/v2/tasks", wanted(url)).status == 400
    assert client.get("/v2/tasks").json["tasks"] == []
    assert client.get("/v2/images").json["images"] == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"type": "import"},
        {"input": {}},
        {"type": "import", "input": {}},
        {"type": "import", "input": None},
        {"type": "import", "input": "x"},
        {"type": "standalone", "input": {}},
        {"type": "nothing", "input": {}},
        {"type": 7, "input": {}},
        {"type": "location_import", "input": {}, "more": "x"},
    ],
)
def test_a_task_that_makes_no_sense_is_refused(client, document):
    assert client.ask("POST", "/v2/tasks", document).status == 400
    assert client.get("/v2/tasks").json["tasks"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_properties": None}, "'image_properties' is a JSON object"),
        ({"image_properties": {"disk_format": "nothing"}}, "disk_format"),
        ({"image_properties": {"status": "active"}}, "read-only"),
        ({"image_properties": {"os_glance_x": "y"}}, "reserved"),
        ({"image_properties": {"min_ram": "much"}}, "min_ram"),
        ({"image_properties": {"disk_format": None}}, "'disk_format' needs to be set"),
        ({"image_properties": {str(number): "" for number in range(200)}}, "properties"),
        ({"image_properties": {}, "import_from_format": 7}, "disk_format"),
    ],
)
def test_an_image_that_can_not_be_made_is_a_task_that_failed(client, web, change, said):
    document = wanted(f"http://{web}/image", **change)
    assert begun(client, document)["status"] == "pending"
    (task,) = client.get("/v2/tasks").json["tasks"]
    task = client.get(task["self"]).json
    assert (task["status"], task["input"]) == ("failure", document["input"])
    assert said in task["message"]
    assert "expires_at" in task
    assert client.get("/v2/images").json["images"] == []


@pytest.mark.parametrize("field", ["import_from_format", "image_properties"])
def test_an_input_that_lacks_a_field_is_a_task_that_failed(client, web, field):
    document = wanted(f"http://{web}/image")
    del document["input"][field]
    assert ended(client, begun(client, document))["message"] == f"Input does not contain '{field}' field"


def test_an_image_whose_id_is_taken_is_a_task_that_failed(client, web):
    client.create(id=UUID)
    task = ended(client, begun(client, wanted(f"http://{web}/image", {**PROPERTIES, "id": UUID})))
    assert task["status"] == "failure"
    assert UUID in task["message"]
    assert client.get(f"/v2/images/{UUID}").json["status"] == "queued"


def test_an_image_beyond_the_quota_is_a_task_that_failed(tmp_path, web):
    with running(tmp_path, f"import_allowed={web}", "quotas=two:images=0") as client:
        task = ended(client, begun(client, wanted(f"http://{web}/image", {**PROPERTIES, "owner": "two"})))
        assert (task["status"], client.get("/v2/images").json["images"]) == ("failure", [])


@pytest.mark.parametrize("kind", ["api_image_import", "location_import"])
@pytest.mark.parametrize("given", [{}, {"image_id": UUID, "import_req": "x"}, {"image_id": 7, "backend": ["default"]}])
def test_tasks_of_other_types_fail(client, kind, given):
    image = client.create(id=UUID, disk_format="raw", container_format="bare")
    task = begun(client, {"type": kind, "input": given, "status": "success"})
    assert (task["status"], task.get("image_id")) == ("pending", UUID if given.get("image_id") == UUID else None)
    task = ended(client, task)
    assert (task["status"], task["result"]) == ("failure", None)
    assert "POST /v2/images/{id}/" in task["message"]
    assert client.get(f"/v2/images/{UUID}").json == image
    assert client.get("/cowherd/").status == 200


def test_only_administrators_ask_for_tasks(clients):
    document = wanted("http://127.0.0.1:1/x")
    assert [clients[who].ask("POST", "/v2/tasks", document).status for who in ("owner", "reader", "nobody")] == [403, 403, 401]
    assert clients["admin"].ask("POST", "/v2/tasks", document).status == 400


def test_a_task_is_of_the_project_that_asked(clients):
    admin = clients["admin"]
    task = ended(admin, begun(admin, {"type": "import", "input": {"import_from": "https://a.invalid/x"}}))
    assert (task["status"], task["owner"]) == ("failure", "office")


def test_the_image_may_be_of_another_project(client, web):
    task = ended(client, begun(client, wanted(f"http://{web}/image", {**PROPERTIES, "owner": "two"})))
    assert client.get(f"/v2/images/{task['result']['image_id']}").json["owner"] == "two"


def test_an_image_that_was_deleted_meanwhile_is_told_and_stays_so(client, web, monkeypatch):
    held = threading.Event()
    take = runner.Runner._take
    monkeypatch.setattr(runner.Runner, "_take", lambda self: take(self) if held.is_set() else None)
    task = begun(client, wanted(f"http://{web}/image"))
    assert client.ask("DELETE", f"/v2/images/{task['image_id']}").status == 204
    held.set()
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    begun(client, wanted(f"http://{web}/image"))  # which wakes who does tasks
    task = ended(client, task)
    assert task["status"] == "failure"
    assert task["image_id"] in task["message"]


def test_an_import_that_was_cut_off_after_its_image_became_active_succeeds(tmp_path, web, monkeypatch):
    def cut_off(*_, **__):
        raise DatabaseUnavailable("gone")

    with running(tmp_path, f"import_allowed={web}") as client, monkeypatch.context() as patch:
        patch.setattr(runner, "finish_task", cut_off)  # as if its process had been killed
        task = begun(client, wanted(f"http://{web}/image"))
        wait_until(lambda: client.get(f"/v2/images/{task['image_id']}").json["status"] == "active")
    lapse(tmp_path)
    with running(tmp_path, f"import_allowed={web}") as client:
        assert ended(client, task)["result"] == {"image_id": task["image_id"]}


def lapse(directory: Path) -> None:
    """Has all leases of tasks run out, instead of a minute of waiting."""
    with contextlib.closing(sqlite3.connect(directory / "data/records.sqlite")) as records, records:
        records.execute("UPDATE tasks SET leased_until = created_at")


@pytest.fixture
def halting():
    """A web server that stops in the middle of its first answer, until it is told to end; gives its address and an event."""
    asked, over = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            half = len(CONTENT) // 2
            self.wfile.write(CONTENT[:half])
            if not asked.is_set():
                asked.set()
                over.wait(60)
                return
            self.wfile.write(CONTENT[half:])

    with answering(Handler) as server:
        yield f"127.0.0.1:{server.server_port}", asked
        over.set()


@contextlib.contextmanager
def serving(data: Path, allowed: str):
    """Runs the service in a process of its own; gives that and a client of it."""
    argv = [sys.executable, "-m", "cowherd.cli.guard.main", "serve", "--data", str(data), "--listen", "127.0.0.1:0"]
    argv += ["--import-allowed", allowed]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, Client(int(process.stderr.readline().rpartition(":")[2]))
        finally:
            process.kill()


def test_killed_in_the_middle_the_service_downloads_again_when_it_starts(tmp_path, halting):
    address, asked = halting
    with serving(tmp_path / "data", address) as (process, client):
        task = begun(client, wanted(f"http://{address}/image"))
        assert asked.wait(30)
        path = f"/v2/images/{task['image_id']}"
        wait_until(lambda: client.get(path).json["status"] == "importing")
        process.kill()
        process.wait()
    lapse(tmp_path)
    with serving(tmp_path / "data", address) as (_, client):
        task = ended(client, task)
        assert task["status"] == "success", task["message"]
        assert client.get(f"{path}/file").body == CONTENT
        assert list((tmp_path / "data/store/incoming").iterdir()) == []
