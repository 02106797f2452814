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


class Listing(NamedTuple):
    """A directory (without symbolic links in its path) with its regular files and symbolic links to such, in order of names.

    `files` holds stat(2) of each, of a link that of its file; `links` are the names that are links.
    """

    directory: str
    files: dict[str, os.stat_result]
    links: set[str]


def files_under(directory: str, levels: int | None, unreadable: list[Path]) -> Iterator[str]:
    """Yields the paths of what `walk` finds."""
    for listing in walk(directory, levels, unreadable):
        yield from (os.path.join(listing.directory, name) for name in listing.files)


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
        files: dict[str, os.stat_result] = {}
        links: set[str] = set()
        try:
            below = _listed(current, files, links, unreadable)
        except OSError:
            unreadable.append(Path(current))
            continue
        if levels is None or level < levels:
            pending.extend((entry.path, level + 1) for entry in below if _device_of(entry) == device)
        yield Listing(current, {name: files[name] for name in sorted(files)}, links)


def _listed(directory: str, files: dict[str, os.stat_result], links: set[str], unreadable: list[Path]) -> list[os.DirEntry[str]]:
    """Fills in the files of a directory and which of them are links, and returns the directories in it, by name."""
    below = []
    with os.scandir(directory) as entries:
        for entry in entries:
            is_file = entry.is_file(follow_symlinks=False)
            if not is_file and entry.is_dir(follow_symlinks=False):
                below.append(entry)
            elif is_file or _is_link_to_file(entry):
                name = entry.name
                if name.startswith(TEMPORARY_PREFIX) or (name.endswith(SHADOW_SUFFIX) and _is_shadow(entry.path)):
                    continue
                try:
                    files[name] = entry.stat()
                except OSError:
                    unreadable.append(Path(entry.path))
                    continue
                if not is_file:
                    links.add(name)
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
