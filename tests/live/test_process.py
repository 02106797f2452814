"""Who a process is, from what /proc says."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from cowherd.live import process as module
from cowherd.live.holders import Holder
from cowherd.live.owners import unit_of
from cowherd.live.process import Process, SeenProcesses, look_up, suspect
from tests.storage.hosts import running

SLEEPS = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def sleeper():
    """A process that lives until the test ends."""
    with running(sys.executable, "-c", SLEEPS, "a\nb", until="ready") as process:
        yield process


def ended() -> subprocess.Popen:
    """A process that has ended and that nobody has waited for yet."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def test_a_running_process_is_known_by_program_arguments_and_user(sleeper):
    found = look_up(sleeper.pid)
    assert found.command.startswith("python")
    assert found.command_line.endswith(r"sys.stdin.read() a\x0ab")
    assert (found.user, found.gone, found.hint) == (pwd.getpwuid(os.geteuid()).pw_name, False, False)


def test_one_that_has_ended_and_is_not_waited_for_still_has_a_name():
    process = ended()
    assert look_up(process.pid).command == "true"
    process.wait()


def test_one_that_is_gone_is_told_as_gone():
    process = ended()
    process.wait()
    assert look_up(process.pid) is None
    assert SeenProcesses().identify(process.pid) == Process(process.pid, gone=True)
    assert Process(7, gone=True).describe() == "a process (pid 7, gone already)"


def test_one_that_was_seen_before_is_known_after_its_end():
    met = SeenProcesses()
    with running(sys.executable, "-c", SLEEPS, until="ready") as process:
        met.meet(process.pid)
    found = met.identify(process.pid)
    assert found.gone
    assert found.command.startswith("python")
    assert found.command_line.endswith(SLEEPS)


def test_one_that_opens_a_file_as_its_last_act_stays_known():
    met = SeenProcesses()
    process = subprocess.Popen([sys.executable, "-c", SLEEPS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline()
    met.meet(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has waited for it
    met.meet(process.pid)
    found = met.identify(process.pid)
    process.communicate()
    assert found.command_line.endswith(SLEEPS)


def test_a_suspect_is_a_hint(sleeper):
    found = suspect(Holder(sleeper.pid, "python", "python -c", writing=True, locking=False))
    assert found.hint
    assert found.describe().startswith("perhaps python")


@pytest.mark.parametrize(
    ("groups", "unit"),
    [
        ("0::/system.slice/cron.service\n", "cron.service"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", "session-1.scope"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u1.service\n", "run-u1.service"),
        ("12:memory:/x.service\n1:name=systemd:/system.slice/y.service/child\n", "y.service"),
        ("0::/machine.slice/machine-qemu\\x2d3\\x2dweb.scope/libvirt/emulator\n", "machine-qemu\\x2d3\\x2dweb.scope"),
        ("0::/\n", None),
    ],
)
def test_the_unit_is_the_innermost_in_the_control_group(groups, unit):
    assert unit_of(groups) == unit


@pytest.mark.parametrize(
    ("arguments", "unit", "domain"),
    [
        (b"qemu\0-name\0guest=web,debug-threads=on\0-S\0", None, "web"),
        (b"qemu\0-name\0guest=a,,b,debug-threads=on\0", None, "a,b"),
        (b"qemu\0-name\0guest=\x1b[1m\0", None, "\\x1b[1m"),
        (b"qemu\0", "machine-qemu\\x2d3\\x2dweb.scope", "web"),
        (b"qemu\0-name\0mine\0", None, None),
        (b"dd\0-name", None, None),
    ],
)
def test_the_domain_is_the_one_that_libvirt_starts_the_machine_as(arguments, unit, domain):
    assert module._domain_of(arguments, unit) == domain


def test_a_description_names_what_is_known():
    full = Process(7, "qemu", "qemu -S", "libvirt-qemu", "machine-qemu-1-web.scope", "web")
    assert full.describe() == "qemu (pid 7, user libvirt-qemu, domain web)"
    assert Process(7, "dd", user="root", unit="cron.service").describe() == "dd (pid 7, user root, cron.service)"
    assert Process(0).describe() == "a process of another process id namespace"
