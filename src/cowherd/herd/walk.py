"""Looking through directories: which files lie there, and what the host says of each, without opening any."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cowherd.herd.sealfile import SHADOW_SUFFIX, SUFFIX
from cowherd.storage.atomic import TEMPORARY_PREFIX

TRASH = ".cowherd-trash"
"""The directory that deleted images wait in; what lies there is no part of a herd."""


class File(NamedTuple):
    """A regular file, or a symbolic link to one: its name in its directory, and stat(2) of the file."""

    name: str
    info: os.stat_result
    is_link: bool


_file = File._make


class Listing(NamedTuple):
    """A directory (without symbolic links in its path) with its files, by name."""

    directory: str
    files: list[File]


def files_under(directory: str, levels: int | None, unreadable: list[Path]) -> Iterator[str]:
    """Yields the paths of what `walk` finds."""
    for listing in walk(directory, levels, unreadable):
        yield from (os.path.join(listing.directory, file.name) for file in listing.files)


def walk(directory: str, levels: int | None, unreadable: list[Path]) -> Iterator[Listing]:
    """Yields directory after directory, without leaving the file system of the first; trash directories are no part of it.

    Directories more than `levels` below are not entered, where that is a number. What can't be read is added to `unreadable`.
    """
    pending = [(directory, 0)]
    try:
        device = os.stat(directory).st_dev
    except OSError:
        unreadable.append(Path(directory))
        return
    while pending:
        current, level = pending.pop()
        files: list[File] = []
        try:
            below = _listed(current, files, unreadable)
        except OSError:
            unreadable.append(Path(current))
            continue
        if levels is None or level < levels:
            pending.extend((entry.path, level + 1) for entry in below if _device_of(entry) == device)
        files.sort()
        yield Listing(current, files)


def _listed(directory: str, files: list[File], unreadable: list[Path]) -> list[os.DirEntry[str]]:
    """Fills in the files of a directory, and returns the directories in it, by name."""
    below = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                below.append(entry)
            elif entry.is_file(follow_symlinks=False) or _is_link_to_file(entry):
                name = entry.name
                if name.startswith(TEMPORARY_PREFIX) or (name.endswith(SHADOW_SUFFIX) and _is_shadow(entry.path)):
                    continue
                try:
                    files.append(_file((name, entry.stat(), entry.is_symlink())))
                except OSError:
                    unreadable.append(Path(entry.path))
    return sorted((entry for entry in below if entry.name != TRASH), key=lambda entry: entry.name)


def _device_of(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat(follow_symlinks=False).st_dev
    except OSError:
        return None  # gone since it was listed


def _is_link_to_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and entry.is_file()
    except OSError:
        return False  # a loop of symbolic links


def _is_shadow(path: str) -> bool:
    return os.path.lexists(path.removesuffix(SHADOW_SUFFIX) + SUFFIX)
