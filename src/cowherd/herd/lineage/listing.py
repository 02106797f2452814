"""Lists one directory with scandir and stat, without opening any file."""

from __future__ import annotations

import os

from cowherd.herd.records.header import Identity, identity_of
from cowherd.herd.records.ownership import SHADOW_SUFFIX, TRASH, is_unfinished_name
from cowherd.herd.records.sidecars import is_shadow
from cowherd.storage.atomic import TEMPORARY_PREFIX
from cowherd.tuples import NamedTuple

ALL_DEVICES = -2
"""In place of a device number: directories on any device count."""

Facts = tuple[Identity, int]
"""A file's stat(2): its identity, and the number of blocks of 512 bytes that it occupies."""


class Listed(NamedTuple):
    """The files in a directory, its subdirectories, and the names that could not be looked up, all in order of names.

    `files` holds regular files and symbolic links to such, with their facts (for a link those of its target); `links` are the
    names among these that are links, `linked` the links to directories. `below` are the subdirectories. `has_trash`: there is a
    trash directory. All are plain values, so that another process can send them.
    """

    files: dict[str, Facts]
    links: list[str]
    below: list[str]
    unreadable: list[str]
    linked: list[str]
    has_trash: bool


def list_directory(directory: str, device: int | None) -> Listed:
    """Lists a directory. Subdirectories count if they lie on `device`; with None, none does. Raises OSError.

    It leaves out trash directories, unfinished files, and the shadows of seals (the seal proves a shadow, not the name).
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
                except OSError:
                    unreadable.append(name)
                    continue
                files[name] = identity_of(info), info.st_blocks
                if not is_file:
                    links.append(name)
    ordered = {name: files[name] for name in sorted(files)}
    return Listed(ordered, sorted(links), sorted(below), sorted(unreadable), sorted(linked), has_trash)


def directories_in(directory: str) -> list[str]:
    """Returns the names of subdirectories and of links to directories, without the trash. Raises OSError."""
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
        return None  # it disappeared after the listing


def _is_link_to_file(entry: os.DirEntry[str], linked: list[str]) -> bool:
    """Returns whether an entry is a link to a regular file; adds the name of a link to a directory to `linked`."""
    try:
        if not entry.is_symlink():
            return False
        if entry.is_dir():
            linked.append(entry.name)
        return entry.is_file()
    except OSError:
        return False  # a loop of symbolic links


class PendingDirectories:
    """A stack of directories to list: `paths` holds (path, levels below the first), the next one last."""

    def __init__(self, paths: list[tuple[str, int]], levels: int | None, device: int):
        self.paths, self._levels, self._device = paths, levels, device

    def look(self) -> Listed | None:
        """Lists the next directory, which stays on the stack. Returns None if it can't be read."""
        directory, level = self.paths[-1]
        try:
            return list_directory(directory, self._device if self._levels is None or level < self._levels else None)
        except OSError:
            return None

    def go_on(self, listed: Listed | None) -> None:
        """Replaces the next directory by its subdirectories in `listed`."""
        directory, level = self.paths.pop()
        self.paths.extend((os.path.join(directory, name), level + 1) for name in (listed.below if listed else ()))
