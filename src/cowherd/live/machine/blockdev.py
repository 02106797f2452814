"""Follows block nodes as QEMU opens them, without opening anything: from the options of a -drive or -blockdev to their files.

Source: QEMU's bdrv_open_inherit, bdrv_fill_options, bdrv_open_backing_file and bdrv_inherited_options (block.c). A drive with an
unknown driver or option says that it is not understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cowherd.image.backing import has_protocol
from cowherd.live.machine import drivers
from cowherd.live.machine.drive import EMPTY, Below, Drive, MachineUnclear
from cowherd.live.machine.options import Options, below, is_on, parse_json
from cowherd.live.machine.paths import local_path
from cowherd.text import printable

_DEEPEST = 100
_FDSET = "/dev/fdset/"
_NEVER_GUESSED = frozenset(("file", "raw", "data-file", "header", "log"))
"""Children whose bytes QEMU takes as they are, unless the options name a driver."""


@dataclass(frozen=True)
class Source:
    """The files that a block node reads: the first of `drives` holds its content, the others are used beside it.

    `bare` says that its bytes are those of the first file itself, so that a format above is the format of that file. `joined`
    says that its content comes from several of them.
    """

    drives: tuple[Drive, ...]
    bare: bool = False
    joined: bool = False

    @property
    def first(self) -> Drive:
        """The drive with its content."""
        return self.drives[0]

    def changed(self, **facts: Any) -> Source:
        """Returns this source with other facts about its first drive."""
        return replace(self, drives=(replace(self.first, **facts), *self.drives[1:]))


@dataclass(frozen=True)
class Node:
    """A block node to follow. `protocol` says that QEMU guesses no format at its place; `depth` counts the nodes above it."""

    where: str
    options: Options
    writable: bool
    filename: str | None = None
    protocol: bool = False
    depth: int = 0


@dataclass(frozen=True)
class Nodes:
    """The block nodes of a command line that have names; relative names start in `directory`.

    `descriptors` are the files behind sets of descriptors that QEMU inherits, by the sets' numbers.
    """

    named: Mapping[str, Options]
    directory: Path
    descriptors: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    def drives(self, where: str, options: Options, *, writable: bool, filename: str | None = None) -> tuple[Drive, ...]:
        """Returns the images that a tree of block options leads to. Raises `MachineUnclear` if QEMU would not accept it."""
        return _settled(self._open(Node(where, options, writable, filename))).drives

    def _open(self, node: Node) -> Source:
        if node.depth > _DEEPEST:
            raise MachineUnclear("its block nodes go round in a circle, or are nested too deeply", node.where)
        node = _without_json(node)
        driver = node.options.get("driver")
        if driver is None and node.protocol:
            driver = _driver_of(node)
        if driver is not None and not isinstance(driver, str):
            raise MachineUnclear("its driver is no text", node.where)
        if driver is None or driver in drivers.FORMATS:
            return self._format(node, driver)
        if driver in drivers.FILES:
            return self._file(node, driver)
        if driver in drivers.REMOTE:
            name = node.filename or node.options.get("filename") or f"the driver {driver}"
            return Source((Drive(node.where, None, writable=node.writable, remote=printable(str(name))),), bare=True)
        return self._other(node, driver)

    def _other(self, node: Node, driver: str) -> Source:
        if driver == drivers.DIRECTORY:
            return self._directory(node)
        if driver in drivers.FILTERS:
            return self._filter(node, driver)
        if driver == "quorum":
            return self._several(node, driver, _numbered(node.options, "children"))
        if driver == "blkverify":
            return self._several(node, driver, ("test", "raw"))
        return _not_understood(node, f"the block driver {printable(driver)} is not known")

    def _file(self, node: Node, driver: str) -> Source:
        name = node.options.get("filename")
        if node.filename is not None:
            if name is not None:
                raise MachineUnclear("it names a file twice", node.where)
            name = _without_prefix(node.filename)
        if not isinstance(name, str) or not name:
            return Source((Drive(node.where, None, writable=node.writable, remote=EMPTY),), bare=True)
        found = self._named(node, name)
        return _checked(found, node, driver, ())

    def _named(self, node: Node, name: str) -> Source:
        if not name.startswith(_FDSET):
            return Source((Drive(node.where, local_path(name, self.directory), writable=node.writable),), bare=True)
        paths = self.descriptors.get(name.removeprefix(_FDSET), ())
        if not paths:
            passed = Drive(node.where, None, writable=node.writable, remote=f"{printable(name)}, a descriptor that is passed in")
            return Source((passed,), bare=True)
        return Source(tuple(Drive(node.where, path, writable=node.writable) for path in dict.fromkeys(paths)), bare=True)

    def _directory(self, node: Node) -> Source:
        """Returns the directory that the guest sees as a FAT file system: QEMU's `fat:floppy:rw:DIRECTORY`."""
        name, writes = node.options.get("dir"), is_on(node.options, "rw")
        if node.filename is not None:
            words = node.filename.removeprefix("fat:").split(":")
            name, writes = words[-1], writes or "rw" in words[:-1]
        if not isinstance(name, str) or not name:
            return _not_understood(node, "it names no directory")
        return Source((Drive(node.where, local_path(name, self.directory), writable=writes and node.writable),), bare=True)

    def _filter(self, node: Node, driver: str) -> Source:
        key = drivers.FILTERS[driver]
        beside = drivers.WRITTEN_BESIDE.get(driver)
        if driver == "blkdebug" and node.filename is not None:
            node = replace(node, filename=node.filename.removeprefix("blkdebug:").partition(":")[2])
        node = replace(node, protocol=node.protocol or driver in drivers.PROTOCOLS)
        found = self._child(node, key, ("x-image",) if driver == "blkdebug" else ())
        if found is None:
            return Source((Drive(node.where, None, writable=node.writable, remote=EMPTY),))
        if beside:
            written = self._child(replace(node, filename=None, writable=True), beside)
            found = replace(found, drives=found.drives + (_settled(written).drives if written else ()))
        if driver == "replication" and node.options.get("mode") == "secondary":
            return found.changed(unknown="in its secondary mode the driver replication writes to what lies below")
        return _checked(found, node, driver, (key, "x-image", *filter(None, (beside,))))

    def _several(self, node: Node, driver: str, keys: tuple[str, ...]) -> Source:
        """Returns the files of a node that keeps one content in several children."""
        if driver == "blkverify" and node.filename is not None:
            raw, _, image = node.filename.removeprefix("blkverify:").partition(":")
            options = {"x-raw": raw, "x-image": image} | node.options
            node = replace(node, filename=None, options=options)
        others = {"raw": ("x-raw",), "test": ("x-image",)} if driver == "blkverify" else {}
        found = [child for key in keys if (child := self._child(node, key, others.get(key, ())))]
        if not found:
            return _not_understood(node, f"the block driver {driver} has no children")
        all_of_them = Source(tuple(drive for child in found for drive in _settled(child).drives), joined=True)
        return _checked(all_of_them, node, driver, (*keys, "x-raw", "x-image"))

    def _child(self, node: Node, key: str, names: tuple[str, ...] = ()) -> Source | None:
        """Follows a child, None if there is none; `names` are options that give the name of its file."""
        reference, options = node.options.get(key), below(node.options, key)
        given = [node.options[name] for name in names if isinstance(node.options.get(name), str)]
        filename = given[0] if given else node.filename
        if isinstance(reference, str) and (options or filename is not None):
            raise MachineUnclear(f"{key} is a node's name and has options too", node.where)
        if isinstance(reference, str):
            return self._referred(node, reference)
        if not options and filename is None:
            return None
        protocol = key in _NEVER_GUESSED or (key == "image" and node.protocol)
        return self._open(replace(node, options=options, filename=filename, protocol=protocol, depth=node.depth + 1))

    def _referred(self, node: Node, name: str) -> Source:
        if name not in self.named:
            raise MachineUnclear(f"there is no block node {name!a}", node.where)
        return self._open(replace(node, options=self.named[name], filename=None, protocol=False, depth=node.depth + 1))

    def _format(self, node: Node, driver: str | None) -> Source:
        """Returns the files that are read through a format; a `driver` of None leaves QEMU to guess it, as a -drive may."""
        file = self._child(node, "file")
        if file is None:
            empty = Source((Drive(node.where, None, writable=node.writable, remote=EMPTY),))
            return _checked(empty, node, driver, ("backing",))
        beside = [key for key in ("data-file", "header") if self._has(node, key)]
        kept = file
        for key in beside:
            extra = self._child(replace(node, filename=None), key)
            kept = replace(kept, drives=kept.drives + (_settled(extra).drives if extra else ()))
        found = self._read_as(kept, driver)
        found = found.changed(data_named="data-file" in beside)
        if driver == "raw" and node.options.get("offset", 0) not in (0, "0"):
            found = replace(found, bare=False)
        found = self._over(found, node) if driver is None or driver in drivers.WITH_BACKING else found
        return _checked(found, node, driver, ("file", "backing", *beside))

    def _has(self, node: Node, key: str) -> bool:
        return key in node.options or bool(below(node.options, key))

    def _read_as(self, file: Source, driver: str | None) -> Source:
        if file.bare and not file.joined:
            found = file.changed(format=driver)
            return replace(found, bare=driver == "raw")
        if driver in drivers.ALONE or file.first.unknown:
            return file
        what = f"an image of the format {driver}" if driver else "an image of a format to be guessed"
        return file.changed(unknown=f"it reads {what} out of another image, and the names in it are not followed")

    def _over(self, top: Source, node: Node) -> Source:
        """Returns an image's source with the backing files that the options put under it."""
        if "backing" in node.options and node.options["backing"] in (None, ""):
            return top.changed(ends=True)
        reference, options = node.options.get("backing"), below(node.options, "backing")
        if not isinstance(reference, str) and not options:
            return top
        place = replace(node, options=options, filename=None, protocol=False, writable=False, depth=node.depth + 1)
        if isinstance(reference, str):
            return _stack(top, self._referred(place, reference))
        return self._recorded(top, place) if _only_switches(options) else _stack(top, self._open(place))

    def _recorded(self, top: Source, node: Node) -> Source:
        """Returns `top` over the backing file that its header names, with what the options add about that file."""
        driver = node.options.get("driver")
        recorded = Source((Drive(node.where, None, driver, writable=False),))
        here = self._over(recorded, node)
        return top if here == recorded and driver is None else _stack(top, here, recorded=True)


def _only_switches(options: Options) -> bool:
    """Returns whether the options of a backing file do not name its file, so that the header's name counts."""
    driver = options.get("driver")
    return (driver is None or driver in drivers.FORMATS) and all(
        key.startswith("backing.") or key == "backing" or _is_switch(driver, key, value) for key, value in options.items()
    )


def _is_switch(driver: str | None, key: str, value: object) -> bool:
    inner = key.removeprefix("file.")
    if inner == key:
        return drivers.names_nothing(driver, key)
    if inner == "driver":
        return value in drivers.FILES
    return inner != "filename" and drivers.names_nothing("file", inner)


def _stack(top: Source, base: Source, *, recorded: bool = False) -> Source:
    """Returns `top` over `base`, which replaces the backing file that its header names."""
    base = _settled(base)
    under, extra = base.first, tuple(replace(drive, writable=False) for drive in base.drives[1:])
    found = replace(top, drives=top.drives + extra)
    if under.unknown or base.joined:
        found = found if under.path is None else replace(found, drives=(*found.drives, replace(under, unknown="")))
        return found.changed(unknown=under.unknown or "its backing file is made of several")
    if under.path is None and not recorded:
        return found.changed(ends=True, below_remote=under.remote)
    here = Below(under.path, under.format)
    return found.changed(below=(here, *under.below), ends=under.ends, below_remote=under.below_remote)


def _settled(source: Source) -> Source:
    """Returns a source that has no format above it: a bare file is raw, as QEMU guesses nothing about its bytes."""
    if not source.bare:
        return source
    return replace(source, drives=tuple(replace(drive, format=drive.format or "raw") for drive in source.drives))


def _without_json(node: Node) -> Node:
    """Replaces a file name `json:{...}` by its options; options beside it win over those in it."""
    if node.filename is None or not node.filename.startswith("json:"):
        return node
    return replace(node, filename=None, options=parse_json(node.filename.removeprefix("json:")) | node.options)


def _driver_of(node: Node) -> str | None:
    """Returns the driver that a file's name implies, None if there is no name; only -drive's `file` has prefixes."""
    if node.filename is None:
        return "file" if "filename" in node.options else None
    if not has_protocol(node.filename):
        return "file"
    prefix = node.filename.split(":", 1)[0]
    return drivers.PREFIXES.get(prefix, f"of {prefix}:")


def _without_prefix(name: str) -> str:
    for prefix in ("file:", "host_device:", "host_cdrom:"):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _numbered(options: Options, key: str) -> tuple[str, ...]:
    numbers = {name.split(".")[1] for name in options if name.startswith(f"{key}.")}
    return tuple(f"{key}.{number}" for number in sorted(numbers, key=lambda text: (len(text), text)))


def _checked(found: Source, node: Node, driver: str | None, children: tuple[str, ...]) -> Source:
    """Returns `found`, marked as not understood if an option of the node is neither a child's nor known to name nothing."""
    for key in node.options:
        if not drivers.names_nothing(driver, key) and not any(key == child or key.startswith(f"{child}.") for child in children):
            said = f"the option {printable(key)} of {f'the block driver {driver}' if driver else 'a drive'} is not known"
            return found.changed(unknown=found.first.unknown or said)
    return found


def _not_understood(node: Node, why: str) -> Source:
    return Source((Drive(node.where, None, writable=node.writable, unknown=why),))
