"""A small Linux in QEMU, without hardware virtualisation: what it does with a disk is what a real guest does.

Debian's kernel and busybox come from scripts/fetch-guest. It is booted once, up to where it would look for its disks; its
state is kept, and every machine of the tests goes on from there, with other disks: a second, where booting takes several.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import lzma
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import qemu
from tests.qmp import connected

GUEST = Path(os.environ.get("COWHERD_GUEST", Path(__file__).parents[2] / ".venv" / "guest"))
DISKS = 6
"""A machine has so many, whether there is something in them or not; the first one holds what it is to do."""
TIMEOUT_SECONDS = 150
_READY, _BEGIN, _DONE = "guest ready", "guest begins", "guest done"
_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo {_READY}
read go
for module in $(cat /modules/order); do insmod /modules/$module; done
tr -d '\\0' < /dev/vda > /script
echo {_BEGIN}
sh -e /script && echo {_DONE}
poweroff -f
"""


class Linux:
    """The kernel and the state of a machine that waits for its disks."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.initramfs, self.state = directory / "initramfs", directory / "state"

    def boot(self) -> None:
        """Boots a machine up to where it waits, and keeps its state."""
        self.initramfs.write_bytes(gzip.compress(_archive(_files()), 1))
        with self._machine([], "boot") as process:
            talk = connected(self.directory / "boot", process)
            assert process.stdout
            lines = iter(process.stdout.readline, b"")
            assert any(_READY in line.decode(errors="replace") for line in lines), "the kernel did not come up"
            talk("stop")
            talk("migrate", uri=f"file:{self.state}.new")
            while talk("query-migrate").get("status") != "completed":
                assert talk("query-migrate").get("status") != "failed"
            talk("quit")
            talk.close()
        os.rename(f"{self.state}.new", self.state)

    def run(self, script: str, *disks: Path, keep: bool = True) -> list[str]:
        """Lets a machine run `script`, in which `disks` are /dev/vdb and so on, and returns the lines that it printed.

        With `keep` False no disk is changed. Fails the test if a command of the script fails.
        """
        job = self.directory / f"job-{os.getpid()}"
        job.write_bytes(script.encode().ljust(-(-len(script) // 512) * 512, b"\0"))
        drives = [f"file={job},format=raw", *(f"file={disk},format=qcow2,snapshot={'off' if keep else 'on'}" for disk in disks)]
        process = self._machine(drives, job.name + ".qmp", "-incoming", f"file:{self.state}")
        try:
            talk = connected(self.directory / (job.name + ".qmp"), process)
            while talk("query-status")["status"] == "inmigrate":
                time.sleep(0.01)
            talk("cont")
            talk.close()
            printed, errors = process.communicate(b"\n", timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()
            process.communicate()
        lines = printed.decode(errors="replace").replace("\r", "").splitlines()
        assert _DONE in lines, f"the guest failed: {lines} {errors.decode(errors='replace')}"
        return lines[lines.index(_BEGIN) + 1 : lines.index(_DONE)]

    def _machine(self, drives: Sequence[str], monitor: str, *more: str) -> subprocess.Popen[bytes]:
        command = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "128"]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]
        command += ["-kernel", str(GUEST / "vmlinuz"), "-initrd", str(self.initramfs)]
        command += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"]
        command += ["-qmp", f"unix:{self.directory / monitor},server,nowait", *more]
        for number in range(DISKS):
            drive = drives[number] if number < len(drives) else "driver=null-co,read-zeroes=on"
            command += ["-drive", f"if=none,id=d{number},cache=unsafe,{drive}", "-device", f"virtio-blk-pci,drive=d{number}"]
        (self.directory / monitor).unlink(missing_ok=True)
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def require() -> None:
    """Skips the running test where there is no kernel to boot; in CI, where one must be, fails it."""
    qemu.require("qemu-io", "qemu-system-x86_64", "mke2fs")
    if not (GUEST / "complete").exists():
        reason = f"no kernel in {GUEST}; 'make guest' fetches one on Debian"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Makes `directory`, and lets only one of the processes that test at the same time into the block."""
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def booted(directory: Path) -> Linux:
    """Returns a Linux that was booted in `directory`, by this process or by another that tests at the same time."""
    linux = Linux(directory)
    with one_at_a_time(directory):
        if not linux.state.exists():
            linux.boot()
    return linux


def _files() -> Iterator[tuple[str, int, bytes]]:
    """Yields the initramfs's files: name, mode, content."""
    for name in ("bin", "proc", "sys", "dev", "mnt", "modules"):
        yield name, stat.S_IFDIR | 0o755, b""
    yield "bin/busybox", stat.S_IFREG | 0o755, (GUEST / "busybox").read_bytes()
    yield "init", stat.S_IFREG | 0o755, _INIT.encode()
    modules = {path.name.split(".")[0]: _unpacked(path) for path in sorted((GUEST / "modules").iterdir())}
    for name, data in modules.items():
        yield f"modules/{name}", stat.S_IFREG | 0o644, data
    yield "modules/order", stat.S_IFREG | 0o644, "\n".join(_in_order(modules)).encode()


def _unpacked(module: Path) -> bytes:
    return lzma.decompress(module.read_bytes()) if module.suffix == ".xz" else module.read_bytes()


def _in_order(modules: dict[str, bytes]) -> list[str]:
    """Returns the modules' names, each after those that it says it depends on."""
    order: list[str] = []
    while len(order) < len(modules):
        ready = [name for name, data in modules.items() if name not in order and _needs(data, modules) <= set(order)]
        assert ready, "modules that need each other"
        order += ready
    return order


def _needs(module: bytes, known: dict[str, bytes]) -> set[str]:
    found = re.search(rb"depends=([\w,-]*)\0", module)
    return {name for name in (found[1].decode().split(",") if found else ()) if name in known}


def _archive(files: Iterator[tuple[str, int, bytes]]) -> bytes:
    """Returns a cpio archive as the kernel unpacks it ("newc": Documentation/driver-api/early-userspace/buffer-format.rst)."""
    archive = b""
    for number, (name, mode, data) in enumerate([*files, ("TRAILER!!!", 0, b"")], start=1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        archive += _padded(b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0") + _padded(data)
    return archive


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // 4) * 4, b"\0")
