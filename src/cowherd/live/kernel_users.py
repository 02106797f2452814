"""Finds what the kernel itself has open on this host: loop devices, network block devices, and devices made of other devices.

For a list of all users. `kernel_holders` answers whether given files are used, from the same readings. Source: the kernel's
drivers/block/nbd.c (pid), loop(4).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cowherd.live.gone import DELETED
from cowherd.live.kernel_holders import (
    BLOCK,
    BLOCK_DEVICE,
    FILE,
    DeviceUsers,
    Key,
    Loop,
    block_devices,
    key_of,
    loops,
    named_files,
    number_of,
)


@dataclass(frozen=True)
class KernelUser:
    """A device of the kernel's, or another use. `name` is such as "loop7", "" for a use without a device.

    `uses` says what stands on the device, or what the use is; these texts are escaped for printing.
    `path` is the kernel's name of the image, `key` its file, None if unknown; `writing` says that it may write to it, `gone` that
    the image has no name any more. `pid` is the process that serves the device: its images are that process's.
    """

    name: str
    path: str
    key: Key | None
    writing: bool
    uses: tuple[str, ...] = ()
    gone: bool = False
    pid: int | None = None

    @property
    def is_misnamed(self) -> bool:
        """Whether another file has the name by now, so far as this user can tell."""
        if self.key is None or self.gone or self.key[0] != FILE:
            return False
        try:
            return key_of(os.stat(self.path)) != self.key
        except (OSError, ValueError):  # it has the name in another mount namespace, or may not be looked at
            return False


def kernel_users(names: Mapping[Key, str]) -> list[KernelUser]:
    """Returns the loop devices and the network block devices that are in use, and the kernel's other uses of images.

    `names` are the images that processes have open: a mount, or a device on top of one, counts for those only.
    """
    users = DeviceUsers()
    found = [_of_loop(loop, users) for loop in loops()]
    found += _network_devices(users)
    for key, path in names.items():
        uses = tuple(users.of(key[1])) if key[0] == BLOCK_DEVICE else ()
        found += [KernelUser(os.path.basename(path), path, key, writing=True, uses=uses)] if uses else []
    found += [KernelUser("", names[key], key, use.writing, (use.what,)) for key, use in named_files() if key in names]
    return found


def _of_loop(loop: Loop, users: DeviceUsers) -> KernelUser:
    gone = loop.path.endswith(DELETED) and not os.path.lexists(loop.path)
    path = loop.path.removesuffix(DELETED) if gone else loop.path
    return KernelUser(loop.name, path, loop.key, loop.writing, tuple(users.of(loop.device)), gone)


def _network_devices(users: DeviceUsers) -> Iterator[KernelUser]:
    """Yields the network block devices that are connected: for such a device the kernel tells the process that serves it."""
    for name in block_devices("nbd"):
        try:
            with open(f"{BLOCK}/{name}/pid", "rb") as file:
                pid = int(file.read())
            with open(f"{BLOCK}/{name}/ro", "rb") as file:
                writing = file.read().strip() != b"1"
        except (OSError, ValueError):  # it is not connected
            continue
        device = number_of(name)
        yield KernelUser(name, "", None, writing, tuple(users.of(device)) if device is not None else (), pid=pid)
