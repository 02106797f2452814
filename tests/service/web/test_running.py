"""The service as a process: what it tells systemd, and what it does at SIGHUP."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys

import pytest

from cowherd.errors import InvalidRequest
from cowherd.service.web.run import check_reach
from cowherd.service.web.settings import read_settings
from tests.service.web.running import Client


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
        process.communicate(timeout=20)


def test_systemd_is_told_of_readiness_of_life_and_of_the_end(started, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        process, _ = started(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000")
        assert {systemd.recv(100) for _ in range(4)} == {b"READY=1", b"WATCHDOG=1"}
        process.terminate()
        while (said := systemd.recv(100)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1"
        assert process.wait(20) == 0


@pytest.mark.parametrize("workers", ["1"])
def test_settings_are_read_again_at_sighup_and_senseless_ones_change_nothing(started, tmp_path, workers):
    process, client = started("--workers", workers)
    for _ in range(2):
        client.create()
    for text, shown in (("limit_param_default = 1", 1), ("limit_param_default = 'x'", 1), ("workers = 5", 2)):
        (tmp_path / "settings.toml").write_text(text)
        process.send_signal(signal.SIGHUP)
        if "'x'" in text:
            for _ in range(int(workers)):
                assert "the settings stay as they are" in process.stderr.readline()
        assert shows(client, shown), text
    process.terminate()
    assert process.wait(20) == 0


def shows(client, count):
    """Tells whether there comes a time when all of some pages in a row have so many images."""
    return any({images(client) for _ in range(8)} == {count} for _ in range(200))


def images(client):
    """Returns how many images a page has. A connection that had asked nothing yet at the signal is closed, and tried again."""
    try:
        return len(client.get("/v2/images").json["images"])
    except (ConnectionError, http.client.RemoteDisconnected):
        return images(client)


def test_an_address_that_others_reach_needs_known_callers():
    with socket.socket() as bound:
        bound.bind(("0.0.0.0", 0))
        with pytest.raises(InvalidRequest, match="everybody"):
            check_reach(bound, read_settings(None, [], {"data": "/d"}))
        check_reach(bound, read_settings(None, ["auth=tokens"], {"data": "/d"}))
