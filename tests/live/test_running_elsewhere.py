"""What runs in other namespaces, under other roots, as a daemon, and of other users."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cowherd.live.kernel_holders import key_of
from cowherd.live.running import look_at_all
from cowherd.live.running_faults import Fault, faults_of
from cowherd.text import counted
from tests.herd.qemu_herd import make_base, make_overlay, noise
from tests.live.machines import QEMU, machine
from tests.live.test_running import MONITORS, look, named
from tests.storage.hosts import as_nobody, require_root, running

pytestmark = pytest.mark.qemu("qemu-system-x86_64")

DISK = ("-drive", "file=a,if=virtio,format=qcow2")


@pytest.fixture
def herd(tmp_path):
    """A base with an overlay."""
    home = tmp_path / "herd"
    home.mkdir()
    make_base(home / "base", noise(1 << 20))
    make_overlay(home / "a", "base")
    return home


def require_namespaces(*options) -> None:
    require_root()
    done = subprocess.run(["unshare", *options, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no namespaces: {done.stderr}")


@MONITORS
def test_a_machine_in_another_mount_namespace_has_its_image_under_another_name(herd, monitor):
    require_namespaces("--mount")
    other = herd.parent / "other"
    other.mkdir()
    script = f'mount --bind "{herd}" "{other}" && cd "{other}" && exec "$0" "$@"'
    with machine(herd, *DISK, monitor=monitor, command=("unshare", "--mount", "sh", "-c", script, *QEMU)):
        seen = look(herd)
    (one,) = seen.all
    assert one.asked == (monitor is not None)
    assert [[layer.name for layer in disk.opened] for disk in one.disks] == [[f"{other}/a", f"{other}/base"]]
    assert faults_of(seen) == []
    assert not (other / "a").exists()


@MONITORS
def test_what_is_replaced_under_a_machine_in_another_mount_namespace_is_told(herd, monitor):
    require_namespaces("--mount")
    other = herd.parent / "other"
    other.mkdir()
    script = f'mount --bind "{herd}" "{other}" && cd "{other}" && exec "$0" "$@"'
    with machine(herd, *DISK, monitor=monitor, command=("unshare", "--mount", "sh", "-c", script, *QEMU)):
        wanted = {key_of(os.stat(herd / "a"))}
        (herd / "new").write_bytes((herd / "base").read_bytes())
        os.rename(herd / "new", herd / "base")
        found = faults_of(look_at_all(wanted))
    assert (Fault.REPLACED, f"{other}/base") in [(one.fault, one.image) for one in found]


@MONITORS
def test_a_machine_in_another_process_id_namespace_is_seen_and_asked(herd, monitor):
    options = ("--pid", "--fork", "--mount-proc", "--kill-child")
    require_namespaces(*options)
    with machine(herd, "-name", "inside", *DISK, monitor=monitor, command=("unshare", *options, *QEMU)):
        seen = look(herd)
    (one,) = seen.all
    assert (one.holder.machine, one.asked) == ("inside", monitor is not None)
    assert [named(disk.opened) for disk in one.disks] == [["a", "base"]]
    assert faults_of(seen) == []


@MONITORS
def test_a_machine_that_changes_its_root_after_its_start_has_its_images_outside(herd, monitor):
    require_root()
    jail = herd.parent / "jail"
    jail.mkdir()
    with machine(herd, *DISK, "-run-with", f"chroot={jail}", monitor=monitor):
        seen = look(herd)
    (one,) = seen.all
    assert one.asked == (monitor is not None)
    assert [[layer.name for layer in disk.opened] for disk in one.disks] == [[f"{herd}/a", f"{herd}/base"]]
    assert faults_of(seen) == []


def test_a_program_with_a_root_of_its_own_names_its_images_from_there(herd):
    require_root()
    code = (
        "import os, sys; os.chroot(sys.argv[1]); os.chdir('/');"
        "a, b = open('/a', 'r+b'), open('/base', 'rb'); print('open', flush=True); sys.stdin.read()"
    )
    with running(sys.executable, "-c", code, herd, until="open") as process:
        seen = look(herd)
    (one,) = seen.all
    assert one.pid == process.pid
    assert [image.path for image in one.images] == [f"{herd}/a", f"{herd}/base"]
    assert [[layer.name for layer in disk.opened] for disk in one.disks] == [["/a", "/base"]]
    assert faults_of(seen) == []


@pytest.fixture
def daemon(herd):
    """A machine that goes to the background, and with that to the root directory, after it has opened what it was given by
    relative names."""
    words = ["-daemonize", "-pidfile", f"{herd}/pid", "-qmp", "unix:monitor,server=on,wait=off"]
    subprocess.run([*QEMU, *DISK, *words], cwd=herd, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    pid = int((herd / "pid").read_text())
    yield pid
    os.kill(pid, 9)


def test_a_daemon_is_asked_and_has_its_images_where_it_was_started(herd, daemon):
    seen = look(herd)
    (one,) = seen.all
    assert (one.pid, one.asked, one.monitors) == (daemon, True, (herd / "monitor",))
    assert [[layer.name for layer in disk.opened] for disk in one.disks] == [[f"{herd}/a", f"{herd}/base"]]
    assert faults_of(seen) == []


def test_what_is_deleted_under_a_daemon_is_told(herd, daemon):
    os.unlink(herd / "a")
    found = faults_of(look(herd))
    assert (Fault.DELETED, f"{herd}/a") in {(one.fault, one.image) for one in found}


def test_who_may_not_look_is_told_how_many_processes_are_hidden(herd):
    with machine(herd, *DISK, monitor="monitor") as process, as_nobody(herd):
        seen = look_at_all()
        found = faults_of(seen)
    assert process.pid not in [one.pid for one in seen.all]
    assert seen.hidden > 0
    assert [one.detail.split(" may not")[0] for one in found if one.fault is Fault.HIDDEN] == [
        counted(seen.hidden, "process", "processes")
    ]


def test_of_two_machines_with_one_monitor_only_the_one_that_answers_is_believed(herd):
    make_overlay(herd / "b", "base")
    with machine(herd, "-name", "first", *DISK, monitor="monitor") as first:
        os.unlink(herd / "monitor")
        with machine(herd, "-name", "second", "-drive", "file=b,if=virtio", monitor="monitor") as second:
            seen = look(herd)
    asked = {one.pid: one.asked for one in seen.all}
    assert asked == {first.pid: False, second.pid: True}
    assert [(one.fault, one.pid) for one in faults_of(seen)] == [(Fault.NOT_ANSWERING, first.pid)]
    assert f"another process (pid {second.pid})" in faults_of(seen)[0].detail
