"""The files that a QEMU command line opens: its disks with their nested nodes, and all other options that name a file.

Options are read one after the other, as QEMU reads them, because -set changes an earlier option. An unknown option is never
ignored: the drive then says that it is not understood.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.live.machine import config, table
from cowherd.live.machine.blockdev import Nodes
from cowherd.live.machine.drive import Drive, MachineUnclear
from cowherd.live.machine.options import Options, is_on, names, parse
from cowherd.live.machine.paths import local_path
from cowherd.live.machine.settings import Settings
from cowherd.text import current_directory, printable

if TYPE_CHECKING:
    from cowherd.paths import PathName

_PROGRAMS = (re.compile(r"qemu-system-[\w.-]+|qemu-kvm"), re.compile("kvm"))
"""QEMU's names, the surest first: kvm is also the name of a group, as in `sudo -g kvm qemu-system-x86_64`."""
_BEFORE = names(
    "env sudo doas nice ionice taskset numactl chrt nohup setsid stdbuf timeout time setpriv prlimit runuser setarch linux64 "
    "systemd-inhibit strace ltrace valgrind cgexec schedtool"
)
"""Programs that run another one with the arguments that they were given, in their own directory."""
_CHANGE_DIRECTORY = {"env": ("-C", "--chdir"), "sudo": ("-D", "--chdir")}
_CHANGE_MORE = {
    "env": ("-S", "--split-string"),
    "sudo": ("-R", "--chroot", "-i", "--login", "-s", "--shell"),
    "doas": ("-s",),
    "runuser": ("-", "-l", "--login", "-c", "--command", "-s", "--shell"),
}
"""Options of such programs whose effect can't be followed here: another root, a login's home, a shell."""
DEFAULT_CONFIG = "/etc/qemu/qemu.conf"
"""The file that QEMU reads before all options, unless -no-user-config is among them."""


@dataclass
class _Item:
    """The settings of one option or section: `group` is the option's name, `filename` the argument of -hda and the like."""

    where: str
    group: str
    settings: Options
    filename: str | None = None


@dataclass
class _Found:
    """The options read so far; `drives` are those of options without settings, whose place among `items` holds their index."""

    directory: Path
    items: list[_Item] = field(default_factory=list)
    drives: list[Drive] = field(default_factory=list)
    snapshot: bool = False
    library: list[str] = field(default_factory=list)

    def place(self, drive: Drive) -> None:
        """Adds a finished drive, in its order among the items."""
        self.items.append(_Item(drive.where, "", {"number": len(self.drives)}))
        self.drives.append(drive)


def program_at(words: Sequence[str]) -> int | None:
    """Returns the index of QEMU's program in a command, which may begin with others such as env; None if it is not there."""
    programs = [os.path.basename(word) for word in words]
    return next((at for program in _PROGRAMS for at, name in enumerate(programs) if program.fullmatch(name)), None)


def started_in(words: Sequence[str], directory: PathName = ".") -> tuple[Path, str]:
    """Returns the directory in which the programs before QEMU (`words`) will run it, and why it is not known ("" if it is)."""
    here, program = local_path(".", directory), ""
    rest = iter(words)
    for word in rest:
        name = os.path.basename(word)
        if not program or name in _BEFORE:
            program = name
            if program not in _BEFORE:
                return here, f"{printable(name)} before QEMU may give it another directory, or other arguments"
            continue
        option, equals, value = word.partition("=")
        if option in _CHANGE_DIRECTORY.get(program, ()):
            here = local_path(value if equals else next(rest, ""), here)
        elif option in _CHANGE_MORE.get(program, ()):
            return here, f"what {printable(program)} does with {printable(option)} is not known"
    return here, ""


def drives_of(arguments: Sequence[str], directory: PathName = ".", *, user_config: bool = True) -> tuple[Drive, ...]:
    """Returns the files that QEMU, run in `directory` with `arguments` (without the program), will open, in their order.

    A disk that is reached over a network, or is no file, has a `remote` and no path; `unknown` says what is not understood.
    With `user_config`, the host's own configuration of QEMU counts, unless the arguments say otherwise.
    Raises `MachineUnclear` if QEMU would not understand it either, `HostFileError` for a -readconfig that can't be read.
    """
    found = _Found(Path(os.path.abspath(directory) if current_directory() else directory))
    read = list(_options(arguments))
    if user_config and os.path.exists(DEFAULT_CONFIG) and not any(option == "no-user-config" for option, _ in read):
        _read_config(found, DEFAULT_CONFIG, DEFAULT_CONFIG)
    for option, argument in read:
        _collect(found, option, argument)
    return tuple(_drives(found))


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (option without its dashes, argument), and ("hda", name) for a file name without an option."""
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            yield "hda", word
            continue
        option = word.removeprefix("-").removeprefix("-")
        option = table.ALIASES.get(option, option)
        yield option, "" if option in table.WITHOUT_ARGUMENT else next(words, "")


def _collect(found: _Found, option: str, argument: str) -> None:
    where = f"-{option} {printable(argument)}".rstrip()
    if option in table.DRIVES:
        settings: Options = {"media": table.DRIVES[option]}
        found.items.append(_Item(where, "drive", settings, argument))
    elif option in table.GROUPS:
        found.items.append(_Item(where, option, parse(argument, table.GROUPS[option])))
    elif option in table.NAME_NOTHING:
        if option == "L":
            found.library.append(argument)
    else:
        _collect_other(found, option, argument, where)


def _collect_other(found: _Found, option: str, argument: str, where: str) -> None:
    if option == "snapshot":
        found.snapshot = True
    elif option == "set":
        _set(found, where, argument)
    elif option == "readconfig":
        _read_config(found, where, argument)
    elif option in table.READ:
        found.items.append(_Item(where, "machine", {"kernel": argument}))
    elif option in table.WRITTEN:
        found.items.append(_Item(where, "chardev", {"path": argument}))
    elif option in table.MEMORY:
        found.items.append(_Item(where, "object", {"mem-path": argument}))
    elif option in table.CHARACTERS:
        found.items.append(_Item(where, "chardev", _character(argument)))
    elif option == "incoming":
        _incoming(found, where, argument)
    elif option == "semihosting":
        found.items.append(_Item(where, "semihosting-config", {}))
    elif option == "usbdevice" and ":" not in argument:
        return
    else:
        found.place(Drive(where, None, unknown="the option is not known, and may name a file"))


def _character(argument: str) -> Options:
    """Returns a character device in the short form: `file:PATH`, `pipe:PATH`, or a device's path; `mon:` may come first."""
    name = argument.removeprefix("mon:")
    for prefix in ("file:", "pipe:"):
        if name.startswith(prefix):
            return {"path": name.removeprefix(prefix)}
    return {"path": name} if name.startswith("/") else {}


def _incoming(found: _Found, where: str, argument: str) -> None:
    if argument.startswith("{"):
        channel = parse(argument)
        names = [value for key, value in channel.items() if key.rpartition(".")[2] == "filename" and isinstance(value, str)]
    else:
        names = [argument.removeprefix("file:").partition(",offset=")[0]] if argument.startswith("file:") else []
    for name in names:
        found.items.append(_Item(where, "fw_cfg", {"file": name}))
    if argument.startswith("exec:"):
        found.place(Drive(where, None, writable=False, remote="what a command says"))


def _set(found: _Found, where: str, argument: str) -> None:
    """Changes an earlier item, as -set does; if there is no such item, the setting becomes an item of its own."""
    name, equals, value = argument.partition("=")
    group, _, rest = name.partition(".")
    identity, _, key = rest.partition(".")
    if not (equals and key):
        raise MachineUnclear("GROUP.ID.KEY=VALUE is expected", where)
    group = table.SECTIONS.get(group, group)
    for item in found.items:
        if item.group == group and item.settings.get("id") == identity:
            item.settings[key] = value
            item.where = f"{item.where} {where}"
            return
    if group in table.GROUPS:
        found.items.append(_Item(where, group, {key: value}))
    elif group not in table.SECTIONS_THAT_NAME_NOTHING:
        found.place(Drive(where, None, unknown="what it sets is not known, and may name a file"))


def _read_config(found: _Found, where: str, name: str) -> None:
    for section, identity, settings in config.sections(local_path(name, found.directory)):
        group = table.SECTIONS.get(section, section)
        here = f"{where} {printable(section)} {printable(identity)}".rstrip()
        if group in table.GROUPS:
            found.items.append(_Item(here, group, settings | ({"id": identity} if identity else {})))
        elif section not in table.SECTIONS_THAT_NAME_NOTHING:
            found.place(Drive(here, None, unknown="the section is not known, and may name a file"))


def _drives(found: _Found) -> Iterator[Drive]:
    nodes = Nodes(_named(found.items), found.directory, _descriptors(found.items))
    settings = Settings(found.directory, tuple(found.library))
    used, attached = _used(found.items), _attached(found.items)
    for item in found.items:
        if item.group == "":
            yield found.drives[item.settings["number"]]
        elif item.group == "drive":
            yield from _of_drive(nodes, item, found.snapshot)
        elif item.group == "blockdev":
            name = item.settings.get("node-name")
            if name not in used or name in attached:
                yield from nodes.drives(item.where, item.settings, writable=not is_on(item.settings, "read-only"))
        elif item.group == "semihosting-config":
            yield Drive(item.where, None, remote="files that the guest opens by itself, by semihosting")
        elif item.group != "add-fd":
            yield from settings.drives(item.where, item.group, item.settings)


def _of_drive(nodes: Nodes, item: _Item, snapshot: bool) -> tuple[Drive, ...]:
    """Returns the files that a -drive opens: its `file` is a file's name and not a node's, its `format` the node's driver."""
    settings = item.settings
    options = {
        key: value
        for key, value in settings.items()
        if key not in table.OF_A_DRIVE and not key.startswith(table.OF_A_DRIVE_BEGIN) and key != "file"
    }
    # `parse` has read a flag such as "nosnapshot" in both of its meanings.
    options = {key: value for key, value in options.items() if key.removeprefix("no") not in table.OF_A_DRIVE}
    if "format" in settings:
        options.setdefault("driver", settings["format"])
    name = item.filename if item.filename is not None else settings.get("file")
    return nodes.drives(item.where, options, writable=_writable(settings, snapshot), filename=name or None)


def _writable(settings: Options, snapshot: bool) -> bool:
    if is_on(settings, "read-only", "readonly") or settings.get("media") == "cdrom":
        return False
    return not (is_on(settings, "snapshot") or (snapshot and "snapshot" not in settings))


def _named(items: Sequence[_Item]) -> dict[str, Options]:
    blockdevs = (item.settings for item in items if item.group == "blockdev")
    return {settings["node-name"]: settings for settings in blockdevs if isinstance(settings.get("node-name"), str)}


def _used(items: Sequence[_Item]) -> set[object]:
    """Returns the names of nodes that are a part of another node."""
    of_nodes = [item.settings for item in items if item.group in ("blockdev", "drive")]
    children = ("file", "image", "backing", "data-file", "header", "target", "log", "raw", "test")
    return {
        value
        for settings in of_nodes
        for key, value in settings.items()
        if key.rpartition(".")[2] in children or key.rpartition(".")[0].endswith("children")
    }


def _attached(items: Sequence[_Item]) -> set[object]:
    """Returns the names of nodes that a device, or the machine itself, uses: -machine pflash0=NODE."""
    owners = [item.settings for item in items if item.group in ("device", "machine", "global")]
    return {value for settings in owners for key, value in settings.items() if key not in ("id", "driver", "type")}


def _descriptors(items: Sequence[_Item]) -> dict[str, tuple[Path, ...]]:
    """Returns the files behind each set of -add-fd: QEMU inherits the descriptors that are open in this process."""
    found: dict[str, tuple[Path, ...]] = {}
    for item in items:
        number = item.settings.get("fd")
        if item.group == "add-fd" and str(number).isdecimal():
            path = Path(os.path.realpath(f"/proc/self/fd/{number}"))
            if path.exists():
                name = str(item.settings.get("set"))
                found[name] = (*found.get(name, ()), path)
    return found
