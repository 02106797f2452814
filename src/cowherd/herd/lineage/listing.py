"""What lies in one directory, as scandir and stat tell, without opening any file."""

from __future__ import annotations

import os

from cowherd.errors import HostFileError
from cowherd.herd.records.header import Identity, identity_of
from cowherd.herd.records.ownership import SHADOW_SUFFIX, TRASH, is_unfinished_name
from cowherd.herd.records.sidecars import is_shadow
from cowherd.storage.atomic import TEMPORARY_PREFIX
from cowherd.tuples import NamedTuple

ALL_DEVICES = -2
"""Instead of the number of a device: directories on any count."""

Facts = tuple[Identity, int]
"""What stat(2) says of a file: its identity, and how many blocks of 512 bytes it occupies."""


class Listed(NamedTuple):
    """The regular files and symbolic links to such in a directory, the directories there, and what could not be looked at.

    All are in order of names. `files` holds the facts of each, of a link those of its file; `links` are the names that are links,
    `linked` links to directories. `has_trash`: there is a trash directory. It consists of plain values, so that another process
    can hand it over.
    """

    files: dict[str, Facts]
    links: list[str]
    below: list[str]
    unreadable: list[str]
    linked: list[str]
    has_trash: bool


def list_directory(directory: str, device: int | None) -> Listed:
    """Looks through a directory; of the directories there those on `device` count, none with None. Raises OSError.

    Trash directories, unfinished files and the shadows of seals are left out: no file is for its name alone that of a shadow.
    """
    files: dict[str, Facts] = {}
    links: list[str] = []
    below: list[str] = []
    unreadable: list[str] = []
    linked: list[str] = []
    has_trash = False
    with os.scandir(directory) as entries:
        for entry in entries:
            is_file = entry.is_file(follow_symlinks=False)
            if not is_file and entry.is_dir(follow_symlinks=False):
                if entry.name == TRASH:
                    has_trash = True
                elif device is not None and (device == ALL_DEVICES or _device_of(entry) == device):
                    below.append(entry.name)
            elif is_file or _is_link_to_file(entry, linked):
                name = entry.name
                try:
                    if name.startswith(TEMPORARY_PREFIX) and is_unfinished_name(name):
                        continue
                    if name.endswith(SHADOW_SUFFIX) and is_file and is_shadow(entry.path):
                        continue
                    info = entry.stat()
                except (OSError, HostFileError):
                    unreadable.append(name)
                    continue
                files[name] = identity_of(info), info.st_blocks
                if not is_file:
                    links.append(name)
    ordered = {name: files[name] for name in sorted(files)}
    return Listed(ordered, sorted(links), sorted(below), sorted(unreadable), sorted(linked), has_trash)


def directories_in(directory: str) -> list[str]:
    """Returns the names of the directories in one, and of the links to such, but for the trash. Raises OSError."""
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if not entry.is_file(follow_symlinks=False) and _is_directory(entry))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir() and entry.name != TRASH
    except OSError:
        return False  # a loop of symbolic links


def _device_of(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat(follow_symlinks=False).st_dev
    except OSError:
        return None  # gone since it was listed


def _is_link_to_file(entry: os.DirEntry[str], linked: list[str]) -> bool:
    """Returns whether an entry is a link to a regular file; one to a directory is added to `linked`."""
    try:
        if not entry.is_symlink():
            return False
        if entry.is_dir():
            linked.append(entry.name)
        return entry.is_file()
    except OSError:
        return False  # a loop of symbolic links


class PendingDirectories:
    """What is yet to be looked through: the `paths` of directories, the next one last, and how far below the first each lies."""

    def __init__(self, paths: list[tuple[str, int]], levels: int | None, device: int):
        self.paths, self._levels, self._device = paths, levels, device

    def look(self) -> Listed | None:
        """Returns what is in the next directory, None where that can't be read."""
        directory, level = self.paths[-1]
        try:
            return list_directory(directory, self._device if self._levels is None or level < self._levels else None)
        except OSError:
            return None

    def go_on(self, listed: Listed | None) -> None:
        """Puts what lies below the next directory in its place."""
        directory, level = self.paths.pop()
        self.paths.extend((os.path.join(directory, name), level + 1) for name in (listed.below if listed else ()))
