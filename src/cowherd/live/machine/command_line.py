"""The images that a QEMU command line opens: -drive, -blockdev, -hda and its kin, -readconfig, and a plain file name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cowherd.errors import HostFileError
from cowherd.live.machine.blockdev import Nodes, Options, is_on, parsed, put
from cowherd.live.machine.drive import Drive, MachineUnclear
from cowherd.text import current_directory, printable

_PROGRAMS = (re.compile(r"qemu-system-[\w.-]+|qemu-kvm"), re.compile("kvm"))
"""QEMU's names, the surest first: kvm is a group's name too, as in `sudo -g kvm qemu-system-x86_64`."""
_FILE_OPTIONS = frozenset(("hda", "hdb", "hdc", "hdd", "fda", "fdb", "mtdblock", "sd", "pflash", "cdrom"))
_WITHOUT_ARGUMENT = re.compile(
    r"h|help|version|snapshot|S|s|nographic|daemonize|enable-kvm|no-reboot|no-shutdown|no-user-config|nodefaults|"
    r"mem-prealloc|only-migratable|preconfig|usb|full-screen|win2k-hack|no-fd-bootchk|xen-attach|"
    r"xen-domid-restrict|enable-sync-profile|perfmap|jitdump|semihosting|old-param|singlestep|no-acpi|no-hpet|"
    r"no-quit|no-frame|alt-grab|ctrl-grab|curses|sdl|portrait|localtime|no-kvm|no-kvm-irqchip|no-kvm-pit|"
    r"rtc-td-hack|tdf"
)
"""QEMU's options that take no argument, those of older versions too; what follows any other option belongs to it."""
_MAX_CONFIG = 1 << 20
_SECTION = re.compile(r'\[\s*([\w-]+)(?:\s+"([^"]*)")?\s*\]')
_SETTING = re.compile(r'([\w.-]+)\s*=\s*"([^"]*)"')


@dataclass
class _Found:
    """The block options of a command line, each with how it was written: -drive's and its kin's, and -blockdev's."""

    drives: list[tuple[str, Options]] = field(default_factory=list)
    nodes: list[tuple[str, Options]] = field(default_factory=list)
    snapshot: bool = False


def program_at(words: Sequence[str]) -> int | None:
    """Returns where QEMU's program stands in a command, which may begin with others such as env; None if it is not there."""
    names = [os.path.basename(word) for word in words]
    return next((at for program in _PROGRAMS for at, name in enumerate(names) if program.fullmatch(name)), None)


def drives_of(arguments: Sequence[str], directory: str | os.PathLike[str] = ".") -> tuple[Drive, ...]:
    """Returns the images that QEMU, run in `directory` with `arguments` (without the program), will open, in their order.

    What is reached over a network, or is no file, has a `remote` and no path.
    Raises `MachineUnclear` where QEMU would not understand it either, `HostFileError` for a -readconfig that can't be read.
    """
    found = _Found()
    for option, argument in _options(arguments):
        _collect(found, option, argument, Path(directory))
    named = {str(options["node-name"]): options for _, options in found.nodes if "node-name" in options}
    nodes = Nodes(named, Path(os.path.abspath(directory) if current_directory() else directory))
    drives = [nodes.drive(where, options, writable=_writable(options, found.snapshot)) for where, options in found.drives]
    used = _used(found)
    for where, options in found.nodes:
        if options.get("node-name") not in used:
            drives.append(nodes.drive(where, options, writable=not is_on(options, "read-only")))
    return tuple(drives)


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (option without its dashes, argument), and ("hda", name) for a file that stands alone."""
    words = iter(arguments)
    for word in words:
        if not word.startswith("-") or word == "-":
            yield "hda", word
        elif _WITHOUT_ARGUMENT.fullmatch(option := word.removeprefix("-").removeprefix("-")):
            yield option, ""
        else:
            yield option, next(words, "")


def _collect(found: _Found, option: str, argument: str, directory: Path) -> None:
    where = f"-{option} {printable(argument)}"
    if option == "snapshot":
        found.snapshot = True
    elif option in _FILE_OPTIONS:
        found.drives.append((where, {"file": {"filename": argument}, "media": "cdrom" if option == "cdrom" else "disk"}))
    elif option == "drive":
        found.drives.append((where, _renamed(parsed(argument))))
    elif option == "blockdev":
        found.nodes.append((where, parsed(argument, "driver")))
    elif option == "readconfig":
        read = _config(directory / argument)
        found.drives += [(f"{where} drive {printable(name)}", _renamed(options)) for name, options in read]


def _renamed(options: Options) -> Options:
    """Returns -drive's options as those of a block node: `format` is its driver, and `file` a file's name and no node's."""
    renamed = options | {"driver": options["format"]} if "format" in options else dict(options)
    if isinstance(renamed.get("file"), str):
        renamed["file"] = {"filename": renamed["file"]}
    return renamed


def _writable(options: Options, snapshot: bool) -> bool:
    if is_on(options, "read-only", "readonly") or options.get("media") == "cdrom":
        return False
    return not (is_on(options, "snapshot") or (snapshot and "snapshot" not in options))


def _used(found: _Found) -> set[object]:
    """Returns the names of nodes that are a part of another node."""
    used: set[object] = set()
    pending: list[object] = [value for _, options in (*found.nodes, *found.drives) for value in _children(options)]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += _children(value)
        else:
            used.add(value)
    return used


def _children(options: Options) -> list[object]:
    return [options[key] for key in ("file", "backing", "data-file", "target") if isinstance(options.get(key), dict | str)]


def _config(path: Path) -> Iterator[tuple[str, Options]]:
    """Yields the name and the options of each drive in a file as -readconfig reads it."""
    options: Options | None = None
    name = ""
    for number, line in enumerate(_lines(path), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        section, setting = _SECTION.fullmatch(line), _SETTING.fullmatch(line)
        if section:
            if options is not None:
                yield name, options
            options = {} if section[1] == "drive" else None
            name = section[2] or ""
        elif setting is None:
            raise MachineUnclear("neither a section nor a setting", f"{printable(path)}, line {number}")
        elif options is not None:
            put(options, setting[1], setting[2])
    if options is not None:
        yield name, options


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return os.fsdecode(file.read(_MAX_CONFIG)).splitlines()
    except OSError as error:
        raise HostFileError(path, "read", error) from error
