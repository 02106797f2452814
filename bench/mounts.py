"""Makes the places: a folder on tmpfs, an XFS with reflink in a file there, an ext4 in a file on the machine's disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import BenchmarkFailed
from bench.places import DISK, TMPFS, XFS
from bench.scale import GIB, MIB, Scale, scale

_XFS_SIZE = 24 * GIB
_EXT4_SIZE = 14 * GIB  # what the inputs and both results of the largest job take at full scale, and a little more
_EXT4_LEAST = GIB
_SPARE = GIB  # is left free on the machine's disk
_LEAST_FACTOR = 0.25
_RELEASE_SECONDS = 30
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class PlaceMissing(Exception):
    """A place can't be had on this machine; the message says why."""


@dataclass(frozen=True)
class Roots:
    """Where places are made: `memory` is a folder on tmpfs, `disk` one on the machine's disk."""

    memory: Path
    disk: Path


@contextmanager
def mounted(name: str, roots: Roots, wanted: Scale) -> Iterator[tuple[Path, Scale]]:
    """A new folder on the place `name`, removed afterwards, and the scale that it has room for. Raises `PlaceMissing`."""
    root = roots.disk if name in DISK else roots.memory
    if not os.access(root, os.W_OK):
        raise PlaceMissing(f"{root} is no folder that can be written to")
    with tempfile.TemporaryDirectory(prefix="cowherd-bench-", dir=root) as inside:
        folder = Path(inside)
        if name == TMPFS:
            yield folder, wanted
        elif name == XFS:
            with _xfs(folder) as mount_point:
                yield mount_point, wanted
        else:
            with _ext4(folder, size := fitting(wanted, shutil.disk_usage(folder).free)) as mount_point:
                yield mount_point, size


def default_folder() -> Path:
    """A tmpfs where there is one, or the folder for temporary files."""
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())


def fitting(wanted: Scale, free: int) -> Scale:
    """`wanted`, or half or a quarter of it, if a disk with `free` bytes has no room for more. Raises `PlaceMissing`.

    It is not less than a quarter of the full scale, where chains would become shorter, too.
    """
    size = wanted
    while _ext4_size(size) + _SPARE > free:
        size = scale(size.factor / 2)
        if size.factor < _LEAST_FACTOR:
            needed = _ext4_size(wanted) + _SPARE
            raise PlaceMissing(f"the disk has {free // MIB:,} MiB free of the {needed // MIB:,} MiB that this scale needs")
    return size


def _ext4_size(size: Scale) -> int:
    return max(_EXT4_LEAST, int(_EXT4_SIZE * size.factor))


@contextmanager
def _xfs(folder: Path) -> Iterator[Path]:
    mkfs = _maker("mkfs.xfs", "xfsprogs")
    image = folder / "xfs.img"
    with image.open("wb") as file:
        file.truncate(_XFS_SIZE)
    _do(mkfs, "-q", "-m", "reflink=1", str(image))
    with _mount(folder, "-o", "loop,discard", str(image)) as mount_point:
        yield mount_point


@contextmanager
def _ext4(folder: Path, size: Scale) -> Iterator[Path]:
    """An ext4 whose blocks all lie on the disk already: no run pays for those that the file below it would lack."""
    mkfs = _maker("mkfs.ext4", "e2fsprogs")
    image = folder / "ext4.img"
    blocks = f"count={_ext4_size(size) // (8 * MIB)}"
    _do("dd", "if=/dev/zero", f"of={image}", "bs=8M", blocks, "oflag=direct", "conv=fsync")
    _do(mkfs, "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", str(image))
    with _loop(image) as device, _mount(folder, device) as mount_point:
        yield mount_point


@contextmanager
def _loop(image: Path) -> Iterator[str]:
    """A block device over the file. Its reads and writes go past the page cache, which would hold all data twice."""
    device = _do("losetup", "--find", "--show", "--direct-io=on", str(image)).strip()
    try:
        if Path("/sys/block", Path(device).name, "loop/dio").read_text().strip() != "1":
            raise PlaceMissing(f"{image.parent.parent} lets no loop device read past the page cache (O_DIRECT)")
        yield device
    finally:
        _release("losetup", "--detach", device)


@contextmanager
def _mount(folder: Path, *words: str) -> Iterator[Path]:
    mount_point = folder / "mounted"
    mount_point.mkdir()
    _do("mount", *words, str(mount_point))
    try:
        yield mount_point
    finally:
        _release("umount", str(mount_point))


def mount_again(folder: Path) -> None:
    """Unmounts the place that `folder` is on and mounts it again: nothing of its files is in the page cache then.

    Programs stay there, unlike after a word to /proc/sys/vm/drop_caches. Raises `PlaceMissing`, `BenchmarkFailed`.
    """
    mount_point = next(path for path in (folder, *folder.parents) if path.is_mount())
    device = os.stat(mount_point).st_dev
    described = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/uevent").read_text()
    name = next(line.removeprefix("DEVNAME=") for line in described.splitlines() if line.startswith("DEVNAME="))
    _release("umount", str(mount_point))
    _do("mount", f"/dev/{name}", str(mount_point))


def _release(*words: str) -> None:
    """Gives back what is mounted or attached; waits for programs that an interrupt has just ended.

    Raises `BenchmarkFailed` if one stays.
    """
    deadline = time.monotonic() + _RELEASE_SECONDS
    while (done := _run(*words)).returncode != 0:
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{' '.join(words)} failed: {done.stderr.strip()}")
        time.sleep(0.1)


def _maker(name: str, package: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None or os.geteuid() != 0:
        raise PlaceMissing(f"{name} ({package}) is not installed" if found is None else "only root may mount a file system")
    return found


def _do(*words: str) -> str:
    done = _run(*words)
    if done.returncode != 0:
        raise PlaceMissing(f"{words[0]} failed: {done.stderr.strip()}")
    return done.stdout


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": _PATH})
