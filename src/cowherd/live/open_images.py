"""The images that a process has open, from /proc: descriptors lead to the files themselves, even if their names are gone.

Source: proc_pid_fd(5), proc_pid_fdinfo(5). /proc/locks is no help: QEMU's locks belong to open files and name no process there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Container
from dataclasses import dataclass, replace

from cowherd.formats.qcow2.layout import MAGIC
from cowherd.live.gone import LAST_STREAM, former_path
from cowherd.live.holders import PROC, descriptors, flags_and_locks
from cowherd.live.kernel_holders import FILE, Key

_NO_DISKS = ("/dev/", "/memfd:", "/proc/", "/sys/")


@dataclass(frozen=True)
class OpenImage:
    """An image that a process has open. `path` is the kernel's name for it now; `writing` says that a descriptor can write,
    `locking` that one holds image locks. `descriptor` leads to it whatever its name; `gone` says that it has no name any more.
    """

    path: str
    key: Key
    writing: bool
    locking: bool
    descriptor: str
    gone: bool = False

    @property
    def is_qcow2(self) -> bool:
        """Whether it begins as a qcow2 image; False if this user may not read it."""
        with contextlib.suppress(OSError):
            fd = os.open(self.descriptor, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return os.pread(fd, len(MAGIC), 0) == MAGIC
            finally:
                os.close(fd)
        return False


def open_images(pid: int, wanted: Container[Key], *, is_machine: bool) -> list[OpenImage]:
    """Returns the images that a process has open, each once, by path.

    Images are files in `wanted`, files that are locked as QEMU locks images, and qcow2 images; for a machine also raw files that
    it can write to, and block devices. Raises `PermissionError` if this user may not look into the process.
    """
    found: dict[Key, OpenImage] = {}
    for name, key in descriptors(pid):
        place = f"{PROC}/{pid}/fd/{name}"
        with contextlib.suppress(OSError):  # closed meanwhile, or the process has ended
            writing, locking = flags_and_locks(f"{PROC}/{pid}/fdinfo/{name}")
            known = found.get(key)
            if known:
                found[key] = replace(known, writing=known.writing or writing, locking=known.locking or locking)
                continue
            image = _opened(place, key, writing=writing, locking=locking)
            is_disk = is_machine and (key[0] != FILE or writing) and int(name) > LAST_STREAM
            if key in wanted or locking or (_may_be_disk(place, key) and (is_disk or image.is_qcow2)):
                found[key] = image
    return sorted(found.values(), key=lambda image: image.path)


def _opened(place: str, key: Key, *, writing: bool, locking: bool) -> OpenImage:
    path = os.readlink(place)
    former = former_path(path, os.stat(place))
    return OpenImage(former or path, key, writing, locking, place, former is not None)


def _may_be_disk(place: str, key: Key) -> bool:
    """Returns whether an open file can hold a disk: it is no pipe, no character device, and no memory without a name."""
    if key[0] != FILE:
        return True
    info = os.stat(place)
    return stat.S_ISREG(info.st_mode) and info.st_size > 0 and not os.readlink(place).startswith(_NO_DISKS)
