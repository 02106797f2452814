"""The service as a process: what it tells systemd, and what it does at SIGHUP."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cowherd.errors import InvalidRequest
from cowherd.service.web.run import check_reach
from cowherd.service.web.settings import read_settings
from tests.service.web.running import Client
from tests.waiting import wait_until


@pytest.fixture
def started(tmp_path):
    """Starts the service with a file of settings and words; returns the process, and a client of it."""
    processes = []

    def start(*words, **environment):
        (tmp_path / "settings.toml").touch()
        argv = [sys.executable, "-m", "cowherd.cli.guard.main", "serve", "--data", str(tmp_path / "data"), "--listen"]
        argv += ["127.0.0.1:0", "--config", str(tmp_path / "settings.toml"), *words]
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
        processes.append(process)
        said = process.stderr.readline()
        return process, Client(int(said.rpartition(":")[2]))

    yield start
    for process in processes:
        process.terminate()
        process.communicate(timeout=40)


@pytest.fixture
def systemd(tmp_path):
    """A socket that the service may tell its state, and the word for its environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        yield heard, str(tmp_path / "notify")


def test_systemd_is_told_of_readiness_of_life_and_of_the_end(started, systemd):
    heard, path = systemd
    process, _ = started(NOTIFY_SOCKET=path, WATCHDOG_USEC="400000")
    assert {heard.recv(100) for _ in range(4)} == {b"READY=1", b"WATCHDOG=1"}
    process.terminate()
    while (said := heard.recv(100)) == b"WATCHDOG=1":
        pass
    assert said == b"STOPPING=1"
    assert process.wait(30) == 0


def children_of(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_systemd_is_told_of_life_only_while_every_process_shows_it(started, systemd):
    heard, path = systemd
    process, _ = started("--workers", "2", NOTIFY_SOCKET=path, WATCHDOG_USEC="2000000")
    while heard.recv(100) != b"WATCHDOG=1":
        pass
    hung = children_of(process)[0]

    def missed(times):
        for _ in range(times):
            while "of the service has shown no life" not in process.stderr.readline():
                pass

    os.kill(hung, signal.SIGSTOP)
    try:
        missed(2)
        heard.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while heard.recv(100):
                pass
        missed(2)
        with pytest.raises(BlockingIOError):
            heard.recv(100)
    finally:
        os.kill(hung, signal.SIGCONT)
    heard.settimeout(30)
    while heard.recv(100) != b"WATCHDOG=1":
        pass


class Settings:
    """The file of settings of a service, which is told to read it again."""

    def __init__(self, path, process, heard):
        self._path, self._process, self._heard = path, process, heard

    def become(self, text):
        """Returns once the service has told systemd that it goes on."""
        self._path.write_text(text)
        self._process.send_signal(signal.SIGHUP)
        assert self._heard.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert self._heard.recv(100) == b"READY=1"


@pytest.fixture
def settled(started, systemd, tmp_path):
    """Starts a service of so many processes; returns its process, a client, and its settings."""

    def start(workers):
        heard, path = systemd
        process, client = started("--workers", str(workers), NOTIFY_SOCKET=path)
        assert heard.recv(100) == b"READY=1"
        return process, client, Settings(tmp_path / "settings.toml", process, heard)

    return start


@pytest.mark.parametrize("workers", [1, 4])
def test_settings_are_read_again_at_sighup_and_senseless_ones_change_nothing(settled, workers):
    process, client, settings = settled(workers)
    for _ in range(2):
        client.create()
    for text, shown in (("limit_param_default = 1", 1), ("limit_param_default = 'x'", 1), ("workers = 5", 2)):
        settings.become(text)
        assert {images(client) for _ in range(8)} == {shown}, text
    process.terminate()
    said = process.stderr.read()
    assert said.count("the settings stay as they are") == said.count("\n") == 1
    assert process.wait(30) == 0


def images(client):
    """Returns how many images a page has."""
    return len(client.get("/v2/images").json["images"])


@pytest.mark.parametrize("workers", [1, 4])
def test_every_connection_gets_its_answer_while_settings_are_read_again(settled, workers):
    process, client, settings = settled(workers)
    for _ in range(3):
        client.create()
    over = threading.Event()
    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask_until, over, client.port, keep) for keep in (False, False, False, False, True, True)]
        try:
            for number in range(10):
                settings.become(f"limit_param_default = {number % 2 + 1}")
                assert {images(client) for _ in range(8)} == {number % 2 + 1}
        finally:
            over.set()
    assert all(one.result() > 0 for one in asking)
    assert process.poll() is None


def ask_until(over, port, keep):
    """Asks again and again until `over`, on a new connection each time unless `keep`; returns how often. Raises if one fails."""
    count = 0
    while not over.is_set():
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            assert is_answered(connection)
            count += 1
            while keep and not over.is_set():
                try:
                    assert is_answered(connection)
                except ConnectionError:  # between two requests a server may close, as after seconds in which nothing was asked
                    break
                count += 1
    return count


def is_answered(connection):
    connection.request("GET", "/v2/images")
    answer = connection.getresponse()
    return answer.status == 200 and bool(answer.read())


@pytest.mark.parametrize("workers", [1, 2])
def test_an_upload_goes_on_while_settings_are_read_again(settled, workers):
    _, client, settings = settled(workers)
    image = client.create(disk_format="raw", container_format="bare")["id"]

    def body():
        yield b"one half"
        settings.become("image_size_cap = 10")
        yield b"the other half"

    answer = client.ask("PUT", f"/v2/images/{image}/file", body(), content_type="application/octet-stream")
    assert answer.status == 204
    assert client.get(f"/v2/images/{image}/file").body == b"one halfthe other half"
    other = client.create(disk_format="raw", container_format="bare")["id"]
    assert client.ask("PUT", f"/v2/images/{other}/file", b"x" * 11, content_type="application/octet-stream").status == 413


def test_stores_are_kept_by_new_settings_too(settled, tmp_path):
    _, client, settings = settled(1)
    image = client.create(disk_format="raw", container_format="bare")["id"]
    client.ask("PUT", f"/v2/images/{image}/file", b"content", content_type="application/octet-stream")
    client.ask("DELETE", f"/v2/images/{image}")
    blobs = tmp_path / "data/store/blobs"
    assert any(path.is_file() for path in blobs.rglob("*"))
    settings.become("reap_after = 0")
    wait_until(lambda: not any(path.is_file() for path in blobs.rglob("*")))


def test_what_all_processes_counted_is_told_by_each_also_after_one_died(settled):
    pytest.importorskip("prometheus_client")
    process, client, _ = settled(2)
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    for number in range(1, 7):
        assert client.get("/v2/images").status == 200
        wait_until(lambda number=number: lists_counted(client) == number)  # a request is counted right after its answer
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
        assert f"process {pid} of the service ended (signal 9)" in process.stderr.readline()
    assert lists_counted(client) == 6


def lists_counted(client):
    found = re.search(r'^cowherd_requests_total\{kind="list",status="2xx"\} (\S+)$', client.get("/metrics").body.decode(), re.M)
    return found and float(found[1])


def test_settings_by_which_everybody_could_come_in_are_refused_at_sighup_too(started, systemd, tmp_path):
    heard, path = systemd
    (tmp_path / "settings.toml").write_text("auth = 'tokens'")
    process, client = started("--listen", "0.0.0.0:0", NOTIFY_SOCKET=path)
    assert heard.recv(100) == b"READY=1"
    Settings(tmp_path / "settings.toml", process, heard).become("auth = 'none'")
    assert "the settings stay as they are: everybody" in process.stderr.readline()
    assert client.get("/v2/images").status == 401


def test_no_process_of_the_service_holds_numpy_before_somebody_needs_it():
    program = "import sys, cowherd.service.web.run; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_address_that_others_reach_needs_known_callers():
    with socket.socket() as bound:
        bound.bind(("0.0.0.0", 0))
        with pytest.raises(InvalidRequest, match="everybody"):
            check_reach(bound, read_settings(None, [], {"data": "/d"}))
        check_reach(bound, read_settings(None, ["auth=tokens"], {"data": "/d"}))
