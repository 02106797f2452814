"""Whether a file is open, as the kernel tells it, and opening files of which somebody else asks that at the same moment."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

import pytest

from cowherd.storage.hostfile import HostFile
from cowherd.storage.leases import open_despite_leases, openings
from tests.storage.hosts import running

OPENS = "import os, sys; os.open(sys.argv[1], getattr(os, sys.argv[2])); print('open', flush=True); sys.stdin.read()"
ASKS = """
import sys, time
from cowherd.storage.leases import openings
print('asking', flush=True)
until = time.monotonic() + 2
while time.monotonic() < until:
    openings(sys.argv[1])
"""
LEASES = """
import fcntl, os, signal, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
signal.signal(signal.SIGIO, lambda *_: (time.sleep(0.3), os._exit(0)))
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('leased', flush=True)
while True: time.sleep(1)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(("mode", "writing"), [("O_RDONLY", False), ("O_RDWR", True), ("O_WRONLY", True)])
def test_another_process_that_has_it_open_is_noticed(file, mode, writing):
    with running(sys.executable, "-c", OPENS, file, mode, until="open"):
        assert openings(file) == (True, writing)
    assert openings(file) == (False, False)


def test_a_process_of_another_process_namespace_is_noticed(file):
    unshared = ["unshare", "--pid", "--fork", "--mount-proc", "--", sys.executable, "-c", OPENS, file, "O_RDWR"]
    if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespaces here")
    with running(*unshared, until="open"):
        assert openings(file) == (True, True)


def test_what_is_not_there_or_is_no_file_gets_no_answer(file, tmp_path):
    assert openings(tmp_path / "nothing") is None
    assert openings(tmp_path) is None or openings(tmp_path) == (False, False)


def test_files_can_be_opened_while_others_ask(file):
    with subprocess.Popen([sys.executable, "-c", ASKS, file], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        while process.poll() is None:
            for _ in range(200):
                HostFile.open(file, writable=True, lock=None).close()


def test_the_one_who_asks_outlives_others_who_open_the_file(file):
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", "import os, sys\nfor _ in range(20000): os.close(os.open(sys.argv[1], os.O_RDWR))", file]
        )
        for _ in range(2)
    ]
    while any(opener.poll() is None for opener in openers):
        openings(file)
    assert [opener.returncode for opener in openers] == [0, 0]


def test_an_open_waits_until_a_lease_is_given_back(file):
    with running(sys.executable, "-c", LEASES, file, until="leased"):
        began = time.monotonic()
        fd = open_despite_leases(file, os.O_RDONLY | os.O_NONBLOCK)
        assert 0.2 < time.monotonic() - began < 20
        assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK
        os.close(fd)
