"""Imports that are converted, as clients see them; and the service killed in the midst of one."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cowherd.service.intake import conversion
from cowherd.service.intake.faults import Refused
from tests.hostile.corpus import SIZE, seed
from tests.service.web.images.test_locations import site as site  # noqa: PLC0414  # a fixture
from tests.service.web.images.test_staging import DIRECT, OCTETS, ended, imported, staged
from tests.service.web.running import Client, running
from tests.waiting import wait_until


@pytest.fixture
def qcow2(tmp_path):
    return seed().write(tmp_path / "seed").read_bytes()


@pytest.fixture
def client(tmp_path, site):
    """A client of a service with two stores, which converts what is imported to raw disks."""
    stores = f"stores=one={tmp_path}/one,two={tmp_path}/two"
    with running(tmp_path, "import_convert=raw", stores, f"import_allowed={site.url.split('/')[2]}") as client:
        yield client


def test_what_is_staged_is_converted_and_goes_to_all_stores(client, qcow2):
    path = staged(client, qcow2, "qcow2")
    assert imported(client, path, {**DIRECT, "all_stores": True})["status"] == "success"
    image = client.get(path).json
    assert (image["status"], image["disk_format"], image["container_format"]) == ("active", "raw", "bare")
    assert (image["size"], image["virtual_size"], image["stores"]) == (SIZE, SIZE, "one,two")
    content = client.get(f"{path}/file")
    assert (len(content.body), content.headers["content-md5"]) == (SIZE, image["checksum"])


def test_what_is_fetched_is_converted(client, site, qcow2):
    site.content = qcow2
    path = f"/v2/images/{client.create(disk_format='qcow2', container_format='bare')['id']}"
    assert imported(client, path, {"method": {"name": "web-download", "uri": site.url}})["status"] == "success"
    assert client.get(path).json["disk_format"] == "raw"


def test_what_is_uploaded_is_not_converted(client, qcow2):
    path = f"/v2/images/{client.create(disk_format='qcow2', container_format='bare')['id']}"
    assert client.ask("PUT", f"{path}/file", qcow2, **OCTETS).status == 204
    assert client.get(f"{path}/file").body == qcow2


def test_the_task_tells_that_it_converts_and_why_it_failed(client, qcow2, monkeypatch, tmp_path):
    begun, over = threading.Event(), threading.Event()

    def fail(*arguments):
        begun.set()
        assert over.wait(30)
        raise Refused("conversion", "it is encrypted")

    monkeypatch.setattr(conversion, "convert_stored", fail)
    path = staged(client, qcow2, "qcow2")
    assert client.ask("POST", f"{path}/import", DIRECT).status == 202
    try:
        assert begun.wait(30)
        task = client.get(f"{path}/tasks").json["tasks"][0]
        assert client.get(f"/v2/tasks/{task['id']}").json["message"] == task["message"]
        assert client.get(path).json["status"] == "importing"
    finally:
        over.set()
    assert (task["status"], task["message"]) == ("processing", "The image is being converted from qcow2 to raw")
    task, image = ended(client, path), client.get(path).json
    assert task["status"] == "failure"
    assert "it is encrypted" in task["message"]
    assert (image["status"], image["disk_format"], image["os_glance_failed_import"]) == ("queued", "qcow2", "one")
    assert "it is encrypted" in image["cowherd_reason"]
    assert [*(tmp_path / "one/incoming").iterdir(), *(tmp_path / "one/blobs").iterdir()] == []


@contextlib.contextmanager
def serving(data: Path):
    """Runs the service in a process of its own; gives that and a client of it."""
    argv = [sys.executable, "-m", "cowherd.cli.guard.main", "serve", "--data", str(data), "--listen", "127.0.0.1:0"]
    with subprocess.Popen([*argv, "--import-convert", "raw"], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, Client(int(process.stderr.readline().rpartition(":")[2]))
        finally:
            process.kill()


def converters(parent: int) -> list[int]:
    """Returns the processes that convert images for the service `parent`; none once they have ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended since
            named = (entry / "cmdline").read_bytes().split(b"\0")
            if b"cowherd.service.intake.processes.converter" in named and str(parent).encode() in named:
                found.append(int(entry.name))
    return found


def test_killed_while_it_converts_the_service_converts_again_when_it_starts(tmp_path, qcow2):
    data = tmp_path / "data"
    with serving(data) as (service, client):
        path = staged(client, qcow2, "qcow2")
        assert client.ask("POST", f"{path}/import", DIRECT).status == 202
        wait_until(lambda: converters(service.pid))
        (converter,) = converters(service.pid)
        os.kill(converter, signal.SIGSTOP)  # so that it is still at it when the service is killed
        assert client.get(path).json["status"] == "importing"
        service.kill()
        service.wait()
        with contextlib.suppress(ProcessLookupError):  # it has died with the service, unless it had only begun to start
            os.kill(converter, signal.SIGCONT)
        wait_until(lambda: not converters(service.pid))
    with contextlib.closing(sqlite3.connect(data / "records.sqlite")) as records, records:
        records.execute("UPDATE tasks SET leased_until = created_at")  # instead of a minute of waiting for the lease to lapse
    with serving(data) as (_, client):
        task = ended(client, path)
        assert task["status"] == "success", task["message"]  # from what was staged
        assert list((data / "store/incoming").iterdir()) == []
        assert client.get(path).json["disk_format"] == "raw"
