"""Finds a machine's own QMP monitors, from the command line with which it was started.

Source: QEMU's qemu-options.hx (-qmp, -qmp-pretty, -mon, -chardev) and the manual of qemu-storage-daemon (--monitor, --chardev).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cowherd.live.machine.options import is_on, parse
from cowherd.live.machine.paths import local_path

_DIRECT = ("qmp", "qmp-pretty")
_BY_CHARACTER_DEVICE = ("mon", "monitor")
_CONTROL = "control"


def monitors_of(arguments: Sequence[str], directory: Path) -> list[Path]:
    """Returns the Unix sockets on which a process that was started with `arguments` in `directory` listens as a QMP monitor.

    A monitor that connects to another program (a socket without server=on), or that QEMU inherited as a descriptor, has no
    address to connect to.
    """
    devices: dict[str, Path] = {}
    found: list[str | Path] = []
    for option, argument in zip(arguments, (*arguments[1:], ""), strict=True):
        name = option.lstrip("-") if option.startswith("-") else ""
        if name in _DIRECT:
            found += _socket_in_short(argument, directory)
        elif name == "chardev":
            settings = parse(argument, "backend")
            path = settings.get("path")
            if settings.get("backend") == "socket" and isinstance(path, str) and is_on(settings, "server"):
                devices[str(settings.get("id"))] = local_path(path, directory)
        elif name in _BY_CHARACTER_DEVICE:
            settings = parse(argument, "chardev")
            if settings.get("mode", _CONTROL if name == "monitor" else "readline") == _CONTROL:
                found.append(str(settings.get("chardev")))
    known = [one if isinstance(one, Path) else devices.get(one) for one in found]
    return [path for path in dict.fromkeys(known) if path is not None]


def is_of_libvirt(socket: Path) -> bool:
    """Returns whether a socket is a domain's monitor, by the place that libvirt gives them: qemu/domain-1-web/monitor.sock below
    its directory, and in old releases qemu/web.monitor."""
    path = os.path.realpath(socket)
    return "/libvirt/" in path and path.endswith(("/monitor.sock", ".monitor"))


def _socket_in_short(argument: str, directory: Path) -> list[Path]:
    """Returns the socket of `unix:PATH,server=on,wait=off`, which -qmp accepts in place of a character device."""
    if not argument.startswith("unix:"):
        return []
    settings = parse(argument.removeprefix("unix:"), "path")
    path = settings.get("path")
    return [local_path(path, directory)] if isinstance(path, str) and is_on(settings, "server") else []


def arguments_of(process: str) -> list[str]:
    """Returns the arguments of a process, given by its directory in /proc. Raises OSError if they can't be read."""
    with open(f"{process}/cmdline", "rb") as file:
        return [os.fsdecode(word) for word in file.read().rstrip(b"\0").split(b"\0")]
