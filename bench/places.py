"""Where the benchmark's files lie: on tmpfs, and on an XFS with reflink in a file there, mounted where root allows."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.job import TMPFS, XFS

_XFS_SIZE = 24 << 30
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class PlaceMissing(Exception):
    """A place can't be had on this machine; the message says why."""


@contextmanager
def place(name: str, folder: Path) -> Iterator[Path]:
    """A new folder on the place `name`, removed afterwards. Raises `PlaceMissing`."""
    with tempfile.TemporaryDirectory(prefix="cowherd-bench-", dir=folder) as inside:
        if name == TMPFS:
            yield Path(inside)
        else:
            assert name == XFS
            with _mounted(Path(inside)) as mount_point:
                yield mount_point


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    image, mount_point = folder / "xfs.img", folder / "mounted"
    mkfs = shutil.which("mkfs.xfs", path=_PATH)
    if mkfs is None or os.geteuid() != 0:
        raise PlaceMissing("mkfs.xfs (xfsprogs) is not installed" if mkfs is None else "only root may mount a file system")
    mount_point.mkdir()
    with image.open("wb") as file:
        file.truncate(_XFS_SIZE)
    _do(mkfs, "-q", "-m", "reflink=1", str(image))
    _do("mount", "-o", "loop,discard", str(image), str(mount_point))
    try:
        yield mount_point
    finally:
        _do("umount", str(mount_point))


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": _PATH})
    if done.returncode != 0:
        raise PlaceMissing(f"{words[0]} failed: {done.stderr.strip()}")


def default_folder() -> Path:
    """A tmpfs where there is one, or the folder for temporary files."""
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
