"""The files that settings other than a disk's name: those of devices, objects, character devices, shares and firmware.

For a setting that is known to name a file, the use of the file decides. Any other value is compared with the files that exist: if
it names one, the setting is not understood.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cowherd.formats.probe import probe
from cowherd.formats.registry import UNRECOGNISED
from cowherd.live.machine import table
from cowherd.live.machine.drive import Drive
from cowherd.live.machine.options import Options, is_on, is_switch
from cowherd.live.machine.paths import local_path
from cowherd.storage.hostfile import HostFile
from cowherd.text import printable

_LISTS = frozenset(("acpitable",))
"""Groups in which a setting names several files, with colons between them."""


@dataclass(frozen=True)
class Settings:
    """Finds files in settings. Relative names start in `directory`; firmware may also lie in the directories of `library`."""

    directory: Path
    library: tuple[str, ...] = ()

    def drives(self, where: str, group: str, settings: Options) -> Iterator[Drive]:
        """Yields the files that the settings of an option name, also those whose use is not known."""
        if group == "global":
            group, settings = "device", _of_global(settings)
        for key, value in settings.items():
            if isinstance(value, str) and value and not is_switch(value):
                yield from self._named(where, group, settings, key, value)

    def _named(self, where: str, group: str, settings: Options, key: str, value: str) -> Iterator[Drive]:
        meaning = table.meaning(group, key)
        if meaning is None:
            yield from self.unknown(where, key, value)
        elif meaning == table.RAM:
            # Also without share=on: discarding memory, as a balloon does, punches holes into a private mapping's file.
            yield Drive(where, self._path(value), "raw", writable=not is_on(settings, "readonly"), plain=self._is_no_file(value))
        elif meaning == table.SHARES:
            yield Drive(where, self._path(value), "raw", writable=_shared_for_writing(group, settings, key))
        elif meaning in (table.READS, table.WRITES):
            for name in value.split(":") if group in _LISTS else [value]:
                writable = _written(meaning, group, settings)
                yield Drive(where, self._path(name, firmware=not writable), "raw", writable=writable, plain=True)

    def unknown(self, where: str, key: str, value: str) -> Iterator[Drive]:
        """Yields the file named `value`, if there is one, as a drive whose use is not known."""
        path = self._path(value)
        if is_disk_file(path):
            yield Drive(where, path, unknown=f"what {printable(key)} does with the file {printable(value)} is not known")

    def _is_no_file(self, name: str) -> bool:
        return not is_disk_file(self._path(name))

    def _path(self, name: str, *, firmware: bool = False) -> Path:
        path = local_path(name, self.directory)
        for place in self.library if firmware and not path.exists() else ():
            other = local_path(name, local_path(place, self.directory))
            if other.exists():
                return other
        return path


def is_disk_file(path: Path) -> bool:
    """Returns whether a path leads to a file or a block device."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False  # it is not there, or this user may not look at it
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def looks_like_image(path: Path) -> bool:
    """Returns whether a file begins like an image, or has a seal beside it."""
    if not is_disk_file(path):
        return False
    with HostFile.open(path, lock=None) as file:
        return probe(file) != UNRECOGNISED or os.path.exists(f"{path}.seal")


def _of_global(settings: Options) -> Options:
    """Returns -global's DRIVER.PROPERTY=VALUE, or driver=, property=, value=, as a device's settings."""
    if "property" in settings:
        return {str(settings["property"]): settings.get("value")}
    return {key.rpartition(".")[2]: value for key, value in settings.items()}


def _written(meaning: str, group: str, settings: Options) -> bool:
    if group == "object" and settings.get("qom-type") == "filter-dump":
        return True
    if group == "icount":
        return settings.get("rr") == "record"
    return meaning == table.WRITES


def _shared_for_writing(group: str, settings: Options, key: str) -> bool:
    if key == "tftp":
        return False
    if group == "device":  # usb-mtp, which is read-only by default
        return settings.get("readonly") in (False, "off", "no", "false", "n")
    return not is_on(settings, "readonly")
