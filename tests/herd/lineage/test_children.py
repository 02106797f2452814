"""Processes that work beside a command: they say nothing when it is stopped, and don't outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cowherd
from tests.waiting import is_running, wait_until

SOURCES = Path(cowherd.__file__).parents[1]
HELPED = """\
import contextlib, sys, time
from multiprocessing import active_children
from cowherd.cli.process import run
from cowherd.herd.lineage import walk as walking
from cowherd.herd.lineage.pool import Pool

def main():
    walking._MANY = 3
    listings = walking.walk(sys.argv[1], None, [])
    for _ in range(3):
        next(listings)  # by now another process looks ahead, and waits for room in its pipe
    assert len(active_children()) == 1
    pool = Pool(len, by_processes=True)
    with contextlib.closing(listings), contextlib.closing(pool):
        assert pool.result(pool.submit("four"), "four") == 4
        print(*(child.pid for child in active_children()), flush=True)
        time.sleep(100)
    return 0

run(main)
"""
PATIENCE_SECONDS = 30


@pytest.fixture
def helped(tmp_path):
    """A command with helpers, in a process group of its own; and their process ids."""
    for number in range(60):
        (tmp_path / f"{number:03}").mkdir()
        for name in range(30):
            (tmp_path / f"{number:03}" / f"{name:0200}").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", HELPED, tmp_path],
        env=os.environ | {"PYTHONPATH": os.fspath(SOURCES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    helpers = [int(word) for word in process.stdout.readline().split()]
    assert len(helpers) > 1
    yield process, helpers
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


def assert_gone(helpers: list[int]) -> None:
    wait_until(lambda: not any(is_running(pid) for pid in helpers), PATIENCE_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_all_of_them_ends_all_in_silence(helped, number):
    process, helpers = helped
    os.killpg(process.pid, number)
    assert process.communicate(timeout=PATIENCE_SECONDS) == (b"", b"")
    assert process.returncode == 128 + number
    assert_gone(helpers)


def test_a_signal_for_one_of_them_is_no_reason_to_end_or_to_say_anything(helped):
    process, helpers = helped
    for pid in helpers:
        os.kill(pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE_SECONDS) == (b"", b"")
    assert process.returncode == 128 + signal.SIGTERM


def test_helpers_end_when_the_command_is_killed(helped):
    process, helpers = helped
    process.kill()
    assert_gone(helpers)
    assert process.communicate(timeout=PATIENCE_SECONDS) == (b"", b"")
