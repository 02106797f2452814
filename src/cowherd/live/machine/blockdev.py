"""QEMU's block options: the text of -drive and -blockdev as nested options, and the images that those lead to.

Both forms end as one tree of options: `file.filename=x` and `{"file": {"filename": "x"}}` are the same. A name in place of
an object refers to another -blockdev's node.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cowherd.image.backing import has_protocol
from cowherd.live.machine.drive import EMPTY, Below, Drive, MachineUnclear
from cowherd.text import has_surrogates, printable

Options = dict[str, Any]

_FILE_DRIVERS = frozenset(("file", "host_device", "host_cdrom"))
_FILTERS = frozenset(("throttle", "copy-on-read", "compress", "preallocate", "blkdebug", "blklogwrites", "copy-before-write"))
"""Drivers that pass on what their child holds, which is called `file`, or with blkdebug `image`."""
_FORMATS = frozenset(
    ("qcow2", "raw", "qcow", "qed", "vmdk", "vdi", "vpc", "vhdx", "luks", "parallels", "bochs", "cloop", "dmg", "snapshot-access")
)
_DEEPEST = 100


def pairs(text: str) -> list[tuple[str, str | None]]:
    """Splits `key=value,flag,...` as QEMU does: two commas stand for one that belongs to the value. A flag's value is None."""
    found = []
    for part in text.replace(",,", "\0").split(","):
        key, equals, value = part.replace("\0", ",").partition("=")
        if key or equals:
            found.append((key, value if equals else None))
    return found


def parsed(text: str, first: str | None = None) -> Options:
    """Returns an argument, JSON or `key=value,...`, as nested options; `first` is the key of a first word that has none."""
    if text.startswith("{"):
        return _object(text)
    nested: Options = {}
    for number, (key, value) in enumerate(pairs(text)):
        if value is None:
            key, value = (first, key) if first and number == 0 else (key, "on")
        put(nested, key, value)
    return nested


def put(nested: Options, key: str, value: object) -> None:
    """Sets `a.b.c` in nested options. What was said of `a` itself, as `file=x` beside `file.locking=off`, is its `filename`."""
    *path, last = key.split(".")
    for name in path:
        below = nested.setdefault(name, {})
        if not isinstance(below, dict):
            below = nested[name] = {"filename": below}
        nested = below
    if isinstance(nested.get(last), dict) and not isinstance(value, dict):
        nested[last].setdefault("filename", value)
    else:
        nested[last] = value


def _object(text: str) -> Options:
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MachineUnclear(f"not valid JSON: {error}", printable(text[:60])) from error
    if not isinstance(options, dict):
        raise MachineUnclear("the JSON is not an object", printable(text[:60]))
    if has_surrogates(json.dumps(options, ensure_ascii=False)):
        raise MachineUnclear("not valid JSON: it holds halves of characters", printable(text[:60]))
    return _nested(options)


def _nested(options: Options) -> Options:
    nested: Options = {}
    for key, value in options.items():
        put(nested, key, _nested(value) if isinstance(value, dict) else value)
    return nested


def is_on(options: Mapping[str, Any], *keys: str) -> bool:
    """Returns whether one of the switches is on, as QEMU writes and as JSON does."""
    return any(options.get(key) in (True, "on", "yes", "true", "y") for key in keys)


@dataclass(frozen=True)
class Nodes:
    """The block nodes of a command line that have names; `directory` is where relative names start."""

    named: Mapping[str, Options]
    directory: Path

    def drive(self, where: str, options: Options, *, writable: bool) -> Drive:
        """Returns the image that a tree of block options leads to. Raises `MachineUnclear`."""
        return self._drive(Drive(where, None, writable=writable), options, 0)

    def _drive(self, drive: Drive, options: Options | str, depth: int) -> Drive:
        if depth > _DEEPEST:
            raise MachineUnclear("its block nodes go round in a circle, or are nested too deeply", drive.where)
        if isinstance(options, str):
            if options not in self.named:
                raise MachineUnclear(f"there is no block node {options!a}", drive.where)
            options = self.named[options]
        driver, child = options.get("driver"), options.get("file", options.get("image"))
        if driver in _FILTERS and child is not None:
            return self._drive(drive, child, depth + 1)
        if driver in _FILE_DRIVERS or (driver is None and child is None and "filename" in options):
            return self._named(drive, options.get("filename"))
        if driver is not None and driver not in _FORMATS:
            return replace(drive, remote=f"the driver {printable(str(driver))}")
        return self._formatted(drive, options, driver, child, depth)

    def _formatted(self, drive: Drive, options: Options, driver: Any, child: Any, depth: int) -> Drive:
        """Returns the drive of a format's node, or of a -drive that leaves the format to be guessed."""
        if child is None:
            return replace(drive, remote=EMPTY)
        found = self._drive(drive, child, depth + 1)
        if found.path is None:
            return found
        if driver is not None:
            found = replace(found, format=str(driver))
        return self._over(found, options["backing"], depth) if "backing" in options else found

    def _over(self, drive: Drive, backing: Any, depth: int) -> Drive:
        """Returns the drive with the backing files that the options put under it."""
        if backing in (None, ""):
            return replace(drive, ends=True)
        if isinstance(backing, dict) and not backing.keys() & {"driver", "file", "filename"}:
            return drive  # only switches for the backing file that the header names
        below = self._drive(Drive(drive.where, None), backing, depth + 1)
        if below.path is None:
            return replace(drive, remote=below.remote)
        return replace(drive, below=(Below(below.path, below.format), *below.below), ends=below.ends)

    def _named(self, drive: Drive, name: Any) -> Drive:
        """Returns the drive of a file name as QEMU reads it: a path, `file:path`, `json:{...}`, or another protocol's."""
        if not isinstance(name, str) or not name:
            return replace(drive, remote=EMPTY)
        if name.startswith("json:"):
            return self._drive(drive, _object(name.removeprefix("json:")), 1)
        for prefix in ("file:", "host_device:", "host_cdrom:"):
            if name.startswith(prefix):
                name = name.removeprefix(prefix)
                break
        else:
            if has_protocol(name):
                return replace(drive, remote=printable(name))
        if name.startswith("/dev/fdset/"):
            return replace(drive, remote=f"{name}, a descriptor that is passed in")
        return replace(drive, path=Path(os.path.abspath(self.directory / name)))
