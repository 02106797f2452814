"""`cowherd push`, `pull` and `images`, against a service."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.service.web.breaking import Breaking
from tests.service.web.running import running
from tests.waiting import wait_until

DATA = random.Random(9).randbytes(3_000_000)
COWHERD = [sys.executable, "-m", "cowherd.cli.guard.main"]


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A service that the commands know, and a disk beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COWHERD_STATE", str(tmp_path / "state"))
    (tmp_path / "disk.img").write_bytes(DATA)
    with running(tmp_path / "service") as client:
        monkeypatch.setenv("COWHERD_SERVICE", f"http://127.0.0.1:{client.port}")
        yield client


def test_an_image_goes_to_the_service_and_comes_back(cowherd, client, tmp_path):
    code, out, err = cowherd("push", "disk.img", "--name", "a disk")
    (image,) = client.get("/v2/images").json["images"]
    assert (code, out, err) == (0, f"disk.img: sent, 2.86 MiB, image {image['id']} 'a disk'\n", "")
    assert cowherd("push", "disk.img")[1] == f"disk.img: the service has it, as image {image['id']}\n"
    assert cowherd("pull", "a disk", "-o", "copy.img", "--dry-run")[1].startswith("copy.img: 2.86 MiB to be fetched; nothing")
    assert cowherd("pull", "a disk", "-o", "copy.img")[1] == "copy.img: fetched, 2.86 MiB, sealed\n"
    assert (tmp_path / "copy.img").read_bytes() == DATA
    assert cowherd("pull", "a disk", "-o", "copy.img")[1] == f"copy.img: it is there, as image {image['id']} is\n"


def test_the_images_are_listed(cowherd, as_json, client):
    assert cowherd("images")[1] == "no images\n"
    image = client.create(name="one\nline", disk_format="raw", container_format="bare", visibility="private")
    head, row = cowherd("images")[1].splitlines()
    assert head.split() == ["ID", "NAME", "STATUS", "FORMAT", "SIZE", "VISIBILITY", "BASE"]
    assert row.split() == [image["id"], "one\\x0aline", "queued", "raw", "private"]
    code, document = as_json("images")
    assert (code, document["images"][0]["id"]) == (0, image["id"])


def test_a_document_says_the_same(as_json, client):
    code, document = as_json("push", "disk.img", "--dry-run")
    assert (code, document["done"]) == (0, False)
    told = {"path": "disk.img", "name": "disk.img", "image_id": None, "size": len(DATA), "sent": True}
    assert document["images"] == [told]
    as_json("push", "disk.img")
    code, document = as_json("pull", "disk.img", "-o", "copy.img")
    assert (code, document["done"], document["images"][0]["fetched"]) == (0, True, True)


def test_another_file_in_the_way_is_not_touched(cowherd, client, tmp_path):
    cowherd("push", "disk.img")
    (tmp_path / "copy.img").write_bytes(b"precious")
    code, _, err = cowherd("pull", "disk.img", "-o", "copy.img")
    assert code == 1
    assert "copy.img is there already" in err
    assert (tmp_path / "copy.img").read_bytes() == b"precious"


def test_without_a_service_the_usage_is_told(cowherd, monkeypatch, tmp_path):
    monkeypatch.delenv("COWHERD_SERVICE", raising=False)
    code, _, err = cowherd("images")
    assert code == 2
    assert "--to URL" in err


def test_a_push_that_was_ended_by_a_signal_goes_on(cowherd, client, tmp_path):
    proxy = Breaking(client.port, 0, 1, seed=1)
    proxy.pace_bytes = 500_000
    to = ["--to", f"http://127.0.0.1:{proxy.port}"]
    with subprocess.Popen([*COWHERD, "push", "disk.img", *to], stderr=subprocess.PIPE, text=True) as process:
        while proxy.passed < 1_500_000 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    proxy.cut()
    assert (process.returncode, err.count("Traceback")) == (128 + signal.SIGINT, 0)
    upload = json.loads(next((tmp_path / "state/pushes").iterdir()).read_text())["upload"]
    wait_until(lambda: int(client.ask("HEAD", upload, tus_resumable="1.0.0").headers["upload-offset"]) >= 1_000_000)
    before, proxy.pace_bytes = proxy.passed, None
    assert cowherd("push", "disk.img", *to)[0] == 0
    assert proxy.passed - before < 2_000_000 + 100_000  # and what is no content
    proxy.close()
    (image,) = client.get("/v2/images").json["images"]
    assert client.get(f"/v2/images/{image['id']}/file").body == DATA
    assert os.listdir(tmp_path / "state/pushes") == []


def test_what_was_known_of_a_push_is_forgotten_once_the_service_has_the_image(cowherd, client, tmp_path):
    """As after a push that was ended when all had been sent, before the answer came."""
    proxy = Breaking(client.port, 0, 1, seed=1)
    proxy.pace_bytes = 1_000_000
    to = ["--to", f"http://127.0.0.1:{proxy.port}"]
    with subprocess.Popen([*COWHERD, "push", "disk.img", *to]) as process:
        wait_until(lambda: proxy.passed > 100_000)
        process.kill()
    (note,) = (tmp_path / "state/pushes").iterdir()
    assert cowherd("push", "disk.img", "--to", f"http://127.0.0.1:{client.port}")[0] == 0
    assert cowherd("push", "disk.img", *to, "--dry-run")[0] == 0
    assert note.exists()
    assert cowherd("push", "disk.img", *to)[0] == 0
    assert not note.exists()
    proxy.close()


def serving(folder, port):
    """Starts the service as a process; it answers when this returns."""
    words = ["serve", "--data", folder, "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen([*COWHERD, *words], stderr=subprocess.PIPE, text=True)
    assert "serving" in process.stderr.readline()
    return process


def test_a_push_outlives_a_kill_of_the_service(cowherd, tmp_path, monkeypatch):
    monkeypatch.setenv("COWHERD_STATE", str(tmp_path / "state"))
    (tmp_path / "disk.img").write_bytes(DATA)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    proxy = Breaking(port, 0, 1, seed=1)
    proxy.pace_bytes = 4_000_000
    with serving(tmp_path / "data", port) as service:
        to = ["--to", f"http://127.0.0.1:{proxy.port}"]
        with subprocess.Popen([*COWHERD, "push", tmp_path / "disk.img", *to], stdout=subprocess.PIPE, text=True) as push:
            while proxy.passed < 1_200_000 and push.poll() is None:
                time.sleep(0.01)
            service.kill()
            service.communicate()
            with serving(tmp_path / "data", port) as again:
                out, _ = push.communicate(timeout=30)
                assert (push.returncode, out.split(": sent, ")[0]) == (0, str(tmp_path / "disk.img"))
                cowherd("pull", "disk.img", "-o", tmp_path / "copy.img", "--to", f"127.0.0.1:{port}")
                again.terminate()
                again.communicate()
    proxy.close()
    assert (tmp_path / "copy.img").read_bytes() == DATA
