"""`cowherd serve` as a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from tests.documents import check_document
from tests.service.glance.glance import Glance
from tests.service.web.running import Client

SERVE = [sys.executable, "-m", "cowherd.cli.guard.main", "serve"]
OCTETS = {"content_type": "application/octet-stream"}


@pytest.fixture
def serve(tmp_path):
    """Starts `cowherd serve` on data in tmp_path; gives the process and where it says that it listens."""
    started = []

    def start(*words):
        process = subprocess.Popen(
            [*SERVE, "--data", tmp_path / "data", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        said = process.stderr.readline()
        assert said.startswith("cowherd: serving on "), said + process.stderr.read()
        return process, said.removeprefix("cowherd: serving on ").strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def client_of(where):
    return Client(int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)", where)[1]))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_says_where_it_listens_once_it_answers_and_ends_on_a_signal(serve, workers):
    process, where = serve("--listen", "127.0.0.1:0", "--workers", workers)
    assert client_of(where).get("/versions").status == 200
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def test_by_default_it_listens_on_a_socket_of_its_owner(serve, tmp_path):
    _, where = serve()
    path = tmp_path / "data/service.sock"
    assert where == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    connection = http.client.HTTPConnection("localhost")
    with contextlib.closing(connection):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("GET", "/v2/images")
        assert connection.getresponse().status == 200


def test_what_was_uploaded_outlives_a_kill_and_what_was_not_leaves_nothing(serve, tmp_path):
    process, where = serve("--listen", "127.0.0.1:0")
    client = client_of(where)
    whole, part = (client.create(disk_format="raw", container_format="bare") for _ in range(2))
    assert client.ask("PUT", f"/v2/images/{whole['id']}/file", b"content", **OCTETS).status == 204
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        head = f"PUT /v2/images/{part['id']}/file HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
        connection.sendall(head.encode() + b"Content-Length: 99\r\n\r\npart")
        while client.get(f"/v2/images/{part['id']}").json["status"] != "saving":
            time.sleep(0.01)
        process.kill()
        process.wait()
    client = client_of(serve("--listen", "127.0.0.1:0")[1])
    assert client.get(f"/v2/images/{whole['id']}/file").body == b"content"
    assert client.get(f"/v2/images/{part['id']}").json["status"] == "queued"
    assert list((tmp_path / "data/store/incoming").iterdir()) == []
    assert client.ask("PUT", f"/v2/images/{part['id']}/file", b"again", **OCTETS).status == 204


def test_requests_under_way_may_finish_after_the_signal(serve):
    process, where = serve("--listen", "127.0.0.1:0")
    client = client_of(where)
    image = client.create(disk_format="raw", container_format="bare")
    ended = threading.Event()

    def body():
        yield b"first"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        ended.set()
        yield b"second"

    assert client.ask("PUT", f"/v2/images/{image['id']}/file", body(), **OCTETS).status == 204
    assert ended.is_set()
    assert process.wait(10) == 0


def test_a_token_is_printed_once_and_known_from_then_on(serve, tmp_path):
    (tmp_path / "data").mkdir()
    words = [*SERVE, "--data", tmp_path / "data", "--new-token", "--project", "demo", "--role", "member", "--json"]
    token = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)["token"]
    client = client_of(serve("--listen", "127.0.0.1:0", "--auth", "tokens")[1])
    assert client.get("/v2/images", x_auth_token=token).status == 200
    assert client.get("/v2/images").status == 401
    kept = (tmp_path / "data/tokens").read_text()
    assert token not in kept
    assert stat.S_IMODE(os.stat(tmp_path / "data/tokens").st_mode) == 0o600


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--new-token"], 2, "whose token"),
        (["--listen", "0.0.0.0:1"], 2, "everybody"),
        (["--auth", "keystone"], 2, "--keystone"),
        (["--set", "worker=2"], 2, "the nearest one is 'workers'"),
        (["--database", "mysql://x"], 2, "mysql"),
        (["--listen", "203.0.113.7:80", "--auth", "tokens"], 1, "203.0.113.7"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path, words, code, said):
    done = subprocess.run([*SERVE, "--data", tmp_path / "data", *words], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def upkeep(tmp_path, *words):
    done = subprocess.run([*SERVE, "--data", tmp_path / "data", *words, "--json"], capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    check_document("serve", document)
    assert document.pop("schema") == 1
    return done.returncode, document


def test_the_check_and_the_making_of_lost_records(serve, tmp_path):
    client = client_of(serve("--listen", "127.0.0.1:0")[1])
    image = client.create(disk_format="raw", container_format="bare", name="mine")
    assert client.ask("PUT", f"/v2/images/{image['id']}/file", b"content", **OCTETS).status == 204
    code, document = upkeep(tmp_path, "--fsck")
    assert (code, document) == (0, {"findings": [], "left": 0}), document
    (tmp_path / "data/store").rename(tmp_path / "lost")
    code, document = upkeep(tmp_path, "--fsck")
    assert (code, [one["kind"] for one in document["findings"]]) == (4, ["missing"])
    shutil.rmtree(tmp_path / "data/store")
    (tmp_path / "lost").rename(tmp_path / "data/store")
    (blob,) = (path for path in (tmp_path / "data/store/blobs").glob("*/*") if not path.suffix)
    blob.chmod(0o600)
    blob.write_bytes(b"contenx")
    code, document = upkeep(tmp_path, "--fsck", "--repair")
    assert (code, document["left"], document["findings"][0]["kind"]) == (4, 1, "damaged")
    blob.write_bytes(b"content")
    assert upkeep(tmp_path, "--fsck", "--repair")[1]["findings"][0]["repaired"] is True
    assert upkeep(tmp_path, "--rebuild")[0] == 2
    for path in (tmp_path / "data").glob("records.sqlite*"):
        path.rename(f"{path}.lost")
    assert upkeep(tmp_path, "--fsck")[0] == 2
    assert upkeep(tmp_path, "--rebuild") == (0, {"images": 1, "blobs": 1, "problems": []})
    client = client_of(serve("--listen", "127.0.0.1:0")[1])
    assert client.get(f"/v2/images/{image['id']}").json["name"] == "mine"
    assert client.get(f"/v2/images/{image['id']}/file").body == b"content"


def test_repair_without_the_check_is_refused(tmp_path):
    code, document = upkeep(tmp_path, "--repair")
    assert (code, document["error"]["kind"]) == (2, "UsageError")


def test_a_glance_is_adopted_and_served_meanwhile(serve, tmp_path):
    glance = Glance(tmp_path / "glance")
    whole, rotten = glance.image(b"content", name="whole\x1b[2J"), glance.image(b"content")
    glance.path(rotten).unlink()
    client = client_of(serve("--listen", "127.0.0.1:0")[1])
    code, document = upkeep(tmp_path, "--adopt-glance", glance.configuration)
    assert (code, document["problems"], document["dry_run"]) == (4, 1, False)
    assert {one["image"]: one["result"] for one in document["images"]} == {whole: "adopted", rotten: "waiting"}
    assert client.get(f"/v2/images/{whole}/file").body == b"content"
    assert "no file store" in client.get(f"/v2/images/{rotten}").json["cowherd_reason"]
    words = [*SERVE, "--data", tmp_path / "data", "--adopt-glance", glance.configuration, "--dry-run"]
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 4
    assert f"known  {whole}  whole\\x1b[2J" in again.stdout
    assert again.stdout.endswith("1 thing does not fit\nnothing was changed (--dry-run)\n")


def test_a_glance_of_which_all_fits_is_adopted_with_the_exit_code_0(tmp_path):
    Glance(tmp_path / "glance").image(b"content")
    assert upkeep(tmp_path, "--adopt-glance", tmp_path / "glance/glance-api.conf")[0] == 0


@pytest.mark.parametrize("option", ["--dry-run", "--hard-links"])
def test_how_a_glance_is_adopted_is_refused_without_one(tmp_path, option):
    code, document = upkeep(tmp_path, option)
    assert (code, document["error"]["kind"]) == (2, "UsageError")
    assert "--adopt-glance" in document["error"]["message"]


def test_a_glance_that_is_not_there_is_told(tmp_path):
    code, document = upkeep(tmp_path, "--adopt-glance", tmp_path / "none.conf")
    assert (code, document["error"]["kind"]) == (1, "HostFileError")
    assert not (tmp_path / "data").exists()


def test_the_units_run_this_program(tmp_path, cowherd):
    code, out, _ = cowherd("serve", "--install-units", "--unit-dir", tmp_path)
    assert code == 0
    assert "systemctl enable --now cowherd-serve.socket" in out
    assert re.search(r'^ExecStart="/.*" serve \$COWHERD_SERVE_OPTIONS$', (tmp_path / "cowherd-serve.service").read_text(), re.M)
    assert "ListenStream=127.0.0.1:9292" in (tmp_path / "cowherd-serve.socket").read_text()
