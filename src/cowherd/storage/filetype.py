"""Decides which files of the host may be images at all: regular ones that lie on a disk or in memory, and block devices.

A device is written to and read like a file, but its name belongs to the host: see `refuse_device_node`.
"""

from __future__ import annotations

import errno
import os
import stat

from cowherd.errors import CowherdError, HostFileError
from cowherd.text import printable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.paths import PathName

_OF_THE_KERNEL = frozenset(
    (
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "efivarfs",
        "fusectl",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "resctrl",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "sysfs",
        "tracefs",
    )
)
"""File systems whose files are interfaces of the kernel: writing to /proc/sysrq-trigger or /proc/self/mem stores nothing."""


class DeviceNode(CowherdError):
    """A command would move, remove or replace a name that leads to a device. Attributes: `path`, `action`, `instead`."""

    def __init__(self, path: PathName, action: str, instead: str = ""):
        self.path, self.action, self.instead = os.fspath(path), action, instead

    def __str__(self) -> str:
        instead = f"; {self.instead}" if self.instead else ""
        return (
            f"refusing to {self.action} {shown(self.path)}: it leads to a device, whose name is how the whole host finds it"
            f"{instead}"
        )


def is_device(path: PathName, *, follow: bool = True) -> bool:
    """Returns whether a name is a device's node, or leads to one unless `follow` is False; False if it can't be looked at."""
    try:
        mode = (os.stat if follow else os.lstat)(path).st_mode
    except (OSError, ValueError):  # the next call on the name says what is wrong with it
        return False
    return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)


def refuse_device_node(path: PathName, action: str, instead: str = "", *, follow: bool = True) -> None:
    """Raises `DeviceNode` if a name leads to a device: only the host creates, removes, moves or protects such a name.

    Commands call it before they begin. Code that renames or removes files calls it again, for the name itself (`follow=False`).
    """
    if is_device(path, follow=follow):
        raise DeviceNode(path, action, instead)


def refuse_other_than_images(path: str, action: str) -> None:
    """Refuses a file that can't be an image before it is opened: opening a pipe or a character device can have effects.

    The name may lead elsewhere by the time it is opened, so the open file must be checked again. Raises `HostFileError`.
    """
    try:
        info = os.stat(path)
    except OSError:  # open() says better what is wrong with the name
        return
    check_type(path, info, action)


def check_type(path: str, info: os.stat_result, action: str) -> None:
    """Raises `HostFileError` if `info`, the stat(2) result of `path`, is not that of a file that may be an image."""
    if stat.S_ISBLK(info.st_mode):
        return
    if stat.S_ISREG(info.st_mode):
        if _may_be_of_the_kernel(info) and _file_system(info.st_dev) in _OF_THE_KERNEL:
            raise HostFileError(path, action, OSError(errno.EINVAL, "it is a file of the kernel's, which no image can be"))
        return
    if stat.S_ISDIR(info.st_mode):
        # QEMU's words for opening one; creating one fails with the kernel's.
        name = printable(path)
        text = os.strerror(errno.EISDIR) if action == "create" else f"'file' driver requires '{name}' to be a regular file"
        raise HostFileError(path, action, OSError(errno.EISDIR, text))
    raise HostFileError(path, action, OSError(errno.EINVAL, "not a regular file or block device"))


def _may_be_of_the_kernel(info: os.stat_result) -> bool:
    """Returns whether a file occupies nothing, on a file system without a device, as the kernel's files do.

    Few other files do, so that the table of mounts, which may be long, is rarely read.
    """
    return info.st_blocks == 0 and os.major(info.st_dev) == 0


def _file_system(device: int) -> str | None:
    """Returns the type of the file system with that number, None if it is not in the table of mounts, or that can't be read."""
    from cowherd.storage.mounts import mounts  # few files make the question worth it

    try:
        return next((mount.type for mount in mounts() if mount.device == device), None)
    except OSError:
        return None
