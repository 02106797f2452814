"""Several processes on one socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = r"""
import os, signal, sys, time
from cowherd.service.web.serving.workers import Workers

def work(answers):
    if mode == "fails":
        raise RuntimeError("broken")
    os.write(1, b"%d\n" % os.getpid())
    answers()
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    while not stopped:
        time.sleep(0.02)

mode = sys.argv[1]
Workers(2, work).run(lambda: print("ready", flush=True))
print("done", flush=True)
"""


@pytest.fixture
def minder():
    """Starts the program above; ends it, and with it its workers."""
    started = []

    def start(mode):
        started.append(
            subprocess.Popen([sys.executable, "-c", PROGRAM, mode], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lines(process, count):
    return [process.stdout.readline().strip() for _ in range(count)]


def gone(pid):
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_a_signal_ends_all_of_them(minder):
    process = minder("well")
    *pids, ready = lines(process, 3)
    assert ready == "ready"
    process.send_signal(signal.SIGTERM)
    assert lines(process, 1) == ["done"]
    assert process.wait(30) == 0
    assert all(gone(pid) for pid in pids)


def test_one_that_dies_is_replaced(minder):
    process = minder("well")
    first, second, _ = lines(process, 3)
    os.kill(int(first), signal.SIGKILL)
    [replacement] = lines(process, 1)
    assert replacement not in (first, second)
    process.send_signal(signal.SIGTERM)
    assert lines(process, 1) == ["done"]


def test_they_die_with_the_process_that_minds_them(minder):
    process = minder("well")
    *pids, _ = lines(process, 3)
    process.kill()
    assert all(gone(pid) for pid in pids)


def test_those_that_can_not_start_end_all(minder):
    process = minder("fails")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "ready" not in out
    assert "RuntimeError: broken" in err
    assert "ended before it answered" in err
