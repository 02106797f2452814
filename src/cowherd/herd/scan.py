"""Finding the images of a herd: every qcow2 file under some directories, and raw files that are known to be images.

A raw image has no magic, so a raw file counts only if an overlay names it as its backing file or it has a seal. Only headers are
read, without locks, so that running machines don't matter. Directories reached through symbolic links and other file systems
mounted below are not entered; name them to include them. Nor are trash directories.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cowherd.errors import CowherdError
from cowherd.formats.layer import BackingReference
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.layout import MAGIC
from cowherd.herd.binding import Binding, binding_in
from cowherd.herd.sealfile import SHADOW_SUFFIX, SUFFIX, is_sealed, read_record, seal_path
from cowherd.storage.atomic import TEMPORARY_PREFIX
from cowherd.storage.hostfile import HostFile

Key = tuple[int, int]
"""What makes two names the same file: (device, inode)."""

TRASH = ".cowherd-trash"
"""The directory that deleted images wait in; what lies there is no part of a herd."""
LEVELS_BELOW_HOME = 1
_SMALLEST_IMAGE = 72  # bytes of a version 2 header


@dataclass(frozen=True)
class Image:
    """An image file of a herd.

    `names` are the absolute names that it was found under, real ones before symbolic links; `size` is the virtual size in
    bytes, None where it is unknown, `disk_size` what the file occupies on the host. `problem`: why its header can't be trusted.
    `dirty`: its last writer did not close it; `corrupt`: whoever used it last found its tables broken.
    """

    key: Key
    names: tuple[Path, ...]
    format: str
    size: int | None
    disk_size: int
    backing: BackingReference | None = None
    binding: Binding | None = None
    problem: str | None = None
    dirty: bool = False
    corrupt: bool = False

    @property
    def path(self) -> Path:
        """The name that it is called by."""
        return self.names[0]

    @property
    def seal(self) -> Path | None:
        """The seal that lies beside one of the names, or None."""
        return next((seal_path(name) for name in self.names if is_sealed(name)), None)


@dataclass
class Found:
    """The result of a scan of `directories`.

    `directories` says of each how many levels below it belong to it, None for all. `unreadable` are files that could not be
    looked at, `orphans` are images that are gone while their seals are there.
    """

    directories: Mapping[str, int | None] = field(default_factory=dict)
    images: dict[Key, Image] = field(default_factory=dict)
    unreadable: list[Path] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)

    def looks_like_an_image(self, path: str) -> bool:
        """Returns whether a file begins as qcow2 images do: all that is asked of most files, which are none."""
        try:
            return _starts_with_magic(path)
        except OSError:
            self.unreadable.append(Path(path))
            return False

    def add(self, path: Path, recorded_format: str | None = None) -> Image | None:
        """Looks at one file and adds it, or its new name, if it is an image; returns the image.

        With `recorded_format` the file is an image of that format because an overlay says so.
        """
        try:
            info = os.stat(path)
            known = self.images.get((info.st_dev, info.st_ino))
            image = self._with_name(known, path) if known else _look_at(path, info, recorded_format)
        except OSError:
            self.unreadable.append(path)
            return None
        if image:
            self.images[image.key] = image if recorded_format is None else _as_recorded(image, recorded_format)
            return self.images[image.key]
        return None

    @staticmethod
    def _with_name(image: Image, path: Path) -> Image:
        if path in image.names:
            return image
        return replace(image, names=tuple(sorted((*image.names, path), key=lambda name: (name.is_symlink(), name))))


def scan(directories: Iterable[str | os.PathLike[str]], homes: Iterable[str | os.PathLike[str]] = ()) -> Found:
    """Looks through `directories` with everything under them, and `homes` with the directories right in them and no others.

    Nobody named the homes: they are where some image happens to lie, which may be a directory with millions of files below it.
    """
    places: dict[str, int | None] = {os.path.realpath(home): LEVELS_BELOW_HOME for home in homes}
    places |= {os.path.realpath(directory): None for directory in directories}
    found = Found(places)
    seals: list[Path] = []
    for directory, levels in places.items():
        for path in files_under(directory, levels, found.unreadable):
            if path.endswith(SUFFIX):
                seals.append(Path(path))
            elif found.looks_like_an_image(path):
                found.add(Path(path))
    for seal in seals:
        sealed = seal.with_name(seal.name.removesuffix(SUFFIX))
        if os.path.lexists(sealed):
            if found.add(sealed, _sealed_format(seal)) is None:
                found.add(sealed, "raw")
        else:
            found.orphans.append(sealed)
    return found


def _sealed_format(seal: Path) -> str | None:
    try:
        return read_record(seal).format
    except CowherdError:
        return None  # verifying the image reports the damaged seal; without it a file that is not qcow2 can only be raw


def files_under(directory: str, levels: int | None, unreadable: list[Path]) -> Iterator[str]:
    """Yields the names of regular files and of symbolic links to them, without leaving the directory's file system.

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
        try:
            with os.scandir(current) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            unreadable.append(Path(current))
            continue
        for entry in listed:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != TRASH and (levels is None or level < levels) and _device_of(entry) == device:
                    pending.append((entry.path, level + 1))
            elif _is_file(entry) and not _is_no_image(entry):
                yield entry.path


def _device_of(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat(follow_symlinks=False).st_dev
    except OSError:
        return None  # gone since it was listed


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False  # a loop of symbolic links


def _is_no_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith(TEMPORARY_PREFIX) or _is_shadow(entry.path)


def _is_shadow(path: str) -> bool:
    return path.endswith(SHADOW_SUFFIX) and os.path.lexists(path.removesuffix(SHADOW_SUFFIX) + SUFFIX)


def _look_at(path: Path, info: os.stat_result, recorded_format: str | None) -> Image | None:
    if not (stat.S_ISREG(info.st_mode) or (recorded_format and stat.S_ISBLK(info.st_mode))):
        return None
    key, disk_size = (info.st_dev, info.st_ino), info.st_blocks * 512
    if (info.st_size >= _SMALLEST_IMAGE or stat.S_ISBLK(info.st_mode)) and _starts_with_magic(path):
        return _qcow2(path, key, disk_size)
    if recorded_format is None:
        return None
    if recorded_format == "qcow2":
        return Image(key, (path,), "qcow2", None, disk_size, problem="it is not a qcow2 image, as it should be")
    return Image(key, (path,), recorded_format, _raw_size(path, recorded_format), disk_size)


def _starts_with_magic(path: str | Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.pread(fd, len(MAGIC), 0) == MAGIC
    finally:
        os.close(fd)


def _qcow2(path: Path, key: Key, disk_size: int) -> Image:
    try:
        with HostFile.open(path, lock=None) as file:
            header = read_header(file)
        backing = header.backing if header.backing_name else None
        image = Image(key, (path,), "qcow2", header.size, disk_size, backing, dirty=header.dirty, corrupt=header.corrupt)
    except CowherdError as error:
        return Image(key, (path,), "qcow2", None, disk_size, problem=str(error))
    try:
        return replace(image, binding=binding_in(header, path))
    except CowherdError as error:
        return replace(image, problem=str(error))


def _raw_size(path: Path, recorded_format: str) -> int | None:
    if recorded_format != "raw":
        return None
    with HostFile.open(path, lock=None) as file:
        return -(-file.size() // 512) * 512


def _as_recorded(image: Image, recorded: str) -> Image:
    """The format that the owner recorded counts, not the one that a guest's bytes may have been made to look like."""
    if recorded == image.format or recorded != "raw":
        return image
    problem = "an overlay records it as raw, but it begins like a qcow2 image"
    return replace(image, format="raw", size=_raw_size(image.path, "raw"), backing=None, binding=None, problem=problem)
