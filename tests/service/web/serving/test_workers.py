"""Several processes on one socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.waiting import is_running, wait_until

PROGRAM = r"""
import os, signal, sys, time
from cowherd.service.web.serving.hangups import Hangups
from cowherd.service.web.serving.workers import Workers

def work(place, tell):
    if mode == "fails":
        raise RuntimeError("broken")
    os.write(1, b"%d %d\n" % (place, os.getpid()) if mode == "places" else b"%d\n" % os.getpid())
    if mode == "deaf":
        time.sleep(0.5)
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))

    def reload():
        os.write(1, b"heard\n")
        tell()

    with Hangups() as hangups, hangups.calling(reload):
        tell()
        while not stopped:
            time.sleep(0.02)

mode = sys.argv[1]
makes_sense = mode != "senseless"
Workers(2, work).run(
    lambda: print("ready", flush=True), lambda: print("asked", flush=True) or makes_sense, lambda: print("reloaded", flush=True)
)
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


def test_a_signal_ends_all_of_them(minder):
    process = minder("well")
    *pids, ready = lines(process, 3)
    assert ready == "ready"
    process.send_signal(signal.SIGTERM)
    assert lines(process, 1) == ["done"]
    assert process.wait(30) == 0
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_one_that_dies_is_replaced_and_said(minder):
    process = minder("well")
    first, second, _ = lines(process, 3)
    os.kill(int(first), signal.SIGKILL)
    [replacement] = lines(process, 1)
    assert replacement not in (first, second)
    assert process.stderr.readline() == f"process {first} of the service ended (signal 9)\n"
    process.send_signal(signal.SIGTERM)
    assert lines(process, 1) == ["done"]


def test_one_that_replaces_another_has_its_place(minder):
    process = minder("places")
    pids = dict(line.split() for line in lines(process, 2))
    assert lines(process, 1) == ["ready"]
    assert pids.keys() == {"0", "1"}
    os.kill(int(pids["0"]), signal.SIGKILL)
    assert lines(process, 1)[0].startswith("0 ")


def test_those_that_die_again_and_again_are_replaced_once_a_second(minder):
    process = minder("well")
    pid, *_ = lines(process, 3)
    began = time.monotonic()
    for _ in range(3):
        os.kill(int(pid), signal.SIGKILL)
        [pid] = lines(process, 1)
    assert time.monotonic() - began >= 2 * 0.9


def test_all_hear_of_a_reload_and_it_is_told_when_all_have_done_it(minder):
    process = minder("well")
    lines(process, 3)
    process.send_signal(signal.SIGHUP)
    assert lines(process, 4) == ["asked", "heard", "heard", "reloaded"]


def test_one_that_does_not_answer_yet_hears_of_a_reload_when_it_does(minder):
    process = minder("deaf")
    lines(process, 2)
    process.send_signal(signal.SIGHUP)
    assert sorted(lines(process, 4)) == ["asked", "heard", "heard", "ready"]


def test_nobody_hears_of_a_reload_that_makes_no_sense(minder):
    process = minder("senseless")
    lines(process, 3)
    process.send_signal(signal.SIGHUP)
    assert lines(process, 1) == ["asked"]
    process.send_signal(signal.SIGTERM)
    assert lines(process, 1) == ["done"]


def test_they_die_with_the_process_that_minds_them(minder):
    process = minder("well")
    *pids, _ = lines(process, 3)
    process.kill()
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_those_that_can_not_start_end_all(minder):
    process = minder("fails")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "ready" not in out
    assert "RuntimeError: broken" in err
    assert "ended before it answered" in err
