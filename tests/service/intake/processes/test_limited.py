"""Processes with limits end with the service that started them, and take no more than they may."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from tests.waiting import is_running, wait_until

CHILD = """
import os, sys, time
sys.argv[1:] = ["1000000000", "100", "1000", sys.argv[1], "the", "rest"]
from cowherd.service.intake.processes.limited import enter
arguments = enter()
print(os.getpid(), arguments, sep="\\n", flush=True)
time.sleep(600)
"""
PARENT = """
import os, subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1], str(os.getpid())])
"""


def test_who_is_killed_takes_the_process_along():
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    wait_until(lambda: not is_running(child))


def test_a_process_whose_service_is_gone_does_nothing():
    done = subprocess.run([sys.executable, "-c", CHILD, "1"], stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_the_limits_hold_and_the_arguments_are_those_of_the_job():
    with subprocess.Popen([sys.executable, "-c", CHILD, str(os.getpid())], stdout=subprocess.PIPE, text=True) as child:
        said = [child.stdout.readline() for _ in range(2)]
        limits = [
            resource.prlimit(child.pid, one)[0] for one in (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)
        ]
        child.kill()
    assert said == [f"{child.pid}\n", "['the', 'rest']\n"]
    assert limits == [100, 1000, 0]
