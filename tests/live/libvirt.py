"""A real libvirtd of the test's own: it sees other directories in the places of the system's, and touches nothing of those.

It runs in a mount namespace, where scratch directories lie over /etc/libvirt, /var/lib/libvirt and so on; so the paths are the
ones that this libvirtd was built with. QEMU runs as root with a group of its own, so that libvirt has to give it the images.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import qemu
from tests.storage.hosts import require_root

START_SECONDS = 60
GROUP = 64999
PLACES = {
    "etc": "/etc/libvirt",
    "var": "/var/lib/libvirt",
    "run": "/run/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
USERS = {
    "passwd": f"root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:{GROUP}:{GROUP}::/:/bin/false\n",
    "group": f"root:x:0:\nlibvirt-qemu:x:{GROUP}:\nkvm:x:{GROUP + 1}:\n",
}
"""Users that libvirt asks for by their names, and would have made when it was installed as a service."""
CONFIGURATION = {
    "libvirtd.conf": 'auth_unix_rw = "none"\nlog_outputs = "3:stderr"\n',
    "qemu.conf": f'user = "+0"\ngroup = "+{GROUP}"\nsecurity_driver = "none"\nstdio_handler = "file"\nnamespaces = []\n',
}
DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<devices><emulator>{emulator}</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk>
<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"""


class Libvirt:
    """The daemon at `uri`, and virsh to talk to it. `root` is a root directory with what it sees as /etc/libvirt."""

    def __init__(self, scratch: Path, process: subprocess.Popen[bytes]):
        self.scratch, self.process = scratch, process
        self.root = scratch / "root"
        self.uri = f"qemu+unix:///system?socket={scratch}/run/libvirt-sock"

    def virsh(self, *words: str | Path, code: int = 0) -> str:
        """Returns what virsh prints, on both its outputs."""
        command = ["virsh", "-c", self.uri, *map(str, words)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, f"virsh {words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def define(self, name: str, disk: Path) -> None:
        """Defines a machine with one disk."""
        file = self.scratch / f"{name}.xml"
        file.write_text(DOMAIN.format(name=name, disk=disk, emulator=shutil.which("qemu-system-x86_64")))
        self.virsh("define", file)

    def running(self) -> list[str]:
        """The names of the machines that run."""
        return self.virsh("list", "--name").split()

    def reload(self) -> None:
        """Does what `systemctl reload libvirtd` does, and waits for it."""
        self.process.send_signal(signal.SIGHUP)
        time.sleep(1)  # nothing tells when it has read its hooks again; on a busy machine it takes a while
        self.virsh("list")


def require() -> None:
    """Skips the running test where no libvirtd can be run; in CI a missing one fails it."""
    require_root()
    qemu.require("qemu-system-x86_64", "libvirtd", "virsh", "unshare")


@contextlib.contextmanager
def libvirtd(scratch: Path) -> Iterator[Libvirt]:
    """Runs a libvirtd whose directories lie in `scratch`."""
    _prepare(scratch)
    with (scratch / "daemon.log").open("wb") as log:
        command = ["unshare", "--mount", "--propagation", "private", "--uts", "sh", "-ec", _script(scratch)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    daemon = Libvirt(scratch, process)
    try:
        _await(daemon)
        yield daemon
        for name in daemon.running():
            daemon.virsh("destroy", name)
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def _prepare(scratch: Path) -> None:
    for name in PLACES:
        (scratch / name).mkdir()
    (scratch / "root/etc").mkdir(parents=True)
    (scratch / "root/etc/libvirt").symlink_to(scratch / "etc")
    for name, text in CONFIGURATION.items():
        (scratch / "etc" / name).write_text(text)
    with (scratch / "etc/libvirtd.conf").open("a") as file:
        file.write(f'host_uuid = "{uuid.uuid4()}"\n')  # a host of its own, to which machines can be migrated
    (scratch / "bin").mkdir()
    for program in ("qemu-system-x86_64", "qemu-img"):
        found = shutil.which(program)
        assert found
        (scratch / "bin" / program).symlink_to(found)  # each other emulator in its PATH would cost it a second to look at
    (scratch / "nothing").touch()
    for file, entries in USERS.items():
        (scratch / file).write_text(entries)


def _script(scratch: Path) -> str:
    quoted = shlex.quote(str(scratch))
    lines = [f"hostname {shlex.quote(scratch.name)}", f"mkdir -p {' '.join(PLACES.values())}"]
    lines += [f"mount --bind {quoted}/{name} {place}" for name, place in PLACES.items()]
    lines += [f"mount --bind {quoted}/{name} /etc/{name}" for name in USERS]
    # A /dev/kvm that can't be opened: else libvirt probes with and without it.
    lines.append(f"[ ! -e /dev/kvm ] || {{ mount --bind {quoted}/nothing /dev/kvm; mount -o remount,bind,ro /dev/kvm; }}")
    daemon = shutil.which("libvirtd")
    lines.append(f"PATH={quoted}/bin exec {daemon} -p {quoted}/run/libvirtd.pid")
    return "\n".join(lines)


def _await(daemon: Libvirt) -> None:
    until = time.monotonic() + START_SECONDS
    while not (daemon.scratch / "run/libvirt-sock").exists():
        if daemon.process.poll() is not None or time.monotonic() > until:
            log = (daemon.scratch / "daemon.log").read_text(errors="replace")
            if "unshare" in log or "permission denied" in log.lower():
                pytest.skip(f"no mount namespace here: {log}")
            pytest.fail(f"libvirtd did not start: {log}")
        time.sleep(0.02)
