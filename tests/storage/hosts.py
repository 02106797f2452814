"""What tests of host files need from the machine: mounted file systems, block devices, other programs, other users."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


def require_root() -> None:
    """Skips the running test without root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


def run(*command: str | Path) -> str:
    """Runs a program that has to succeed, and returns what it printed."""
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, timeout=60).stdout


@contextlib.contextmanager
def loop_device(file: Path, *options: str) -> Iterator[Path]:
    """Makes `file` a block device; skips where that is not permitted."""
    require_root()
    done = subprocess.run(["losetup", "-f", "--show", *options, str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        run("losetup", "-d", device)


@contextlib.contextmanager
def mounted(image: Path, directory: Path) -> Iterator[Path]:
    """Mounts a file system image; skips where that is not permitted."""
    require_root()
    directory.mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(directory)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"can't mount: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        run("umount", directory)


@contextlib.contextmanager
def reflink_file_system(scratch: Path) -> Iterator[Path]:
    """A directory on a file system that can share blocks between files; skips where none can be made."""
    if shutil.which("mkfs.btrfs"):
        make, size = ["mkfs.btrfs", "-q"], 128 << 20
    elif shutil.which("mkfs.xfs"):
        make, size = ["mkfs.xfs", "-q"], 320 << 20
    else:
        pytest.skip("neither mkfs.btrfs nor mkfs.xfs is installed")
    image = scratch / "reflink.img"
    image.touch()
    os.truncate(image, size)
    run(*make, image)
    with mounted(image, scratch / "reflink") as directory:
        yield directory


@contextlib.contextmanager
def as_nobody(directory: Path) -> Iterator[None]:
    """Goes on as an unprivileged user whose working directory is `directory`."""
    require_root()
    before = Path.cwd()
    directory.chmod(0o777)
    os.chdir(directory)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.chdir(before)


@contextlib.contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that every user reaches, as the directories of tests are not."""
    with tempfile.TemporaryDirectory(prefix="cowherd-public-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextlib.contextmanager
def running(*command: str | Path, until: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs beside the test, once it has printed `until`; it ends when its standard input does."""
    process = subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdin
    assert process.stdout
    try:
        printed = b""
        while until.encode() not in printed:
            got = os.read(process.stdout.fileno(), 4096)
            assert got, f"{command} ended: {printed!r}"
            printed += got
        yield process
    finally:
        process.stdin.close()
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def locked_bytes(pid: int, path: Path) -> set[int]:
    """The bytes of `path` that a process holds open-file-description locks on."""
    found: set[int] = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.path.samestat(descriptor.stat(), path.stat()):
                info = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text()
                for first, last in re.findall(r"OFDLCK .* (\d+) (\d+)$", info, re.MULTILINE):
                    found |= set(range(int(first), int(last) + 1))
    return found
