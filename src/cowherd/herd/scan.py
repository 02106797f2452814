"""Finding the images of a herd: every qcow2 file under some directories, and raw files that are known to be images.

A raw image has no magic, so a raw file counts only if an overlay names it as its backing file or it has a seal. Only headers are
read, without locks, so that running machines don't matter, and of files that are as they were not even those (see
`cowherd.herd.catalog`). Directories reached through symbolic links and other file systems mounted below are not entered; name
them to include them. Nor are trash directories.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cowherd.formats.layer import BackingReference
from cowherd.herd.binding import Binding
from cowherd.herd.catalog.catalog import Catalog, is_settled
from cowherd.herd.catalog.rows import Row
from cowherd.herd.header import SMALLEST_IMAGE, Content, Head, Identity, Read, identity_of, read_image, read_seal
from cowherd.herd.merging.journal import SUFFIX as JOURNAL_SUFFIX
from cowherd.herd.sealfile import SUFFIX, SealRecord, is_sealed, seal_path
from cowherd.herd.walk import Listing, walk
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import is_there
from cowherd.text import path_order

Key = tuple[int, int]
"""What makes two names the same file: (device, inode)."""

LEVELS_BELOW_HOME = 1
_READERS = 16
_PROCESSES = 8
_CHUNK = 64
_MANY = 4096  # files for which processes are worth their start
_AT_ONCE = 32768  # files that wait to be read


class Image(NamedTuple):
    """An image file of a herd.

    `filenames` are the absolute names that it was found under, real ones before symbolic links; `size` is the virtual size in
    bytes, None where it is unknown, `disk_size` what the file occupies on the host. `problem`: why its header can't be trusted.
    `dirty`: its last writer did not close it; `corrupt`: whoever used it last found its tables broken.
    """

    key: Key
    filenames: tuple[str, ...]
    format: str
    size: int | None
    disk_size: int
    backing: BackingReference | None = None
    binding: Binding | None = None
    problem: str | None = None
    dirty: bool = False
    corrupt: bool = False

    @property
    def names(self) -> tuple[Path, ...]:
        """`filenames` as paths."""
        return tuple(map(Path, self.filenames))

    @property
    def filename(self) -> str:
        """The name that it is called by, as text: in a herd of many thousands a `Path` for each takes longer than all else."""
        return self.filenames[0]

    @property
    def path(self) -> Path:
        """The name that it is called by."""
        return Path(self.filenames[0])

    @property
    def seal(self) -> Path | None:
        """The seal that lies beside one of the names now, or None."""
        return next((seal_path(name) for name in self.filenames if is_sealed(name)), None)

    @property
    def expected_seal(self) -> Path:
        """The seal of an image that had one a moment ago; where it would be if somebody has taken it away since."""
        return self.seal or seal_path(self.path)


_image = Image._make  # half the time of a call with arguments


@dataclass
class Found:
    """The result of a scan of `directories`.

    `directories` says of each how many levels below it belong to it, None for all. `unreadable` are files that could not be
    looked at, `orphans` are images that are gone while their seals are there. `records` are those of the seals that can't have
    changed since without it showing in their identities, `sealed` the files beside which a seal lies, by name, and `strays` the
    images that have names of which `sealed` says nothing. `listed` are the directories looked through, `met` the names of images
    in them, `journals` files in them that are called as merges' journals are. `catalog` is the catalog's file, None if none was
    used.
    """

    directories: Mapping[str, int | None] = field(default_factory=dict)
    images: dict[Key, Image] = field(default_factory=dict)
    unreadable: list[Path] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)
    records: dict[str, tuple[Identity, SealRecord]] = field(default_factory=dict)
    sealed: set[str] = field(default_factory=set)
    strays: set[Key] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    met: dict[str, Key] = field(default_factory=dict)
    journals: list[str] = field(default_factory=list)
    catalog: Path | None = None

    def add(self, path: Path, recorded_format: str | None = None) -> Image | None:
        """Looks at one file and adds it, or its new name, if it is an image; returns the image.

        With `recorded_format` the file is an image of that format because an overlay says so.
        """
        filename = os.fspath(path)
        try:
            info = os.stat(filename)
            image = self.images.get((info.st_dev, info.st_ino))
            if image is None:
                image = _look_at(filename, info, recorded_format)
            elif filename not in image.filenames:
                image = image._replace(filenames=_ordered(*image.filenames, filename))
            if os.path.dirname(filename) not in self.listed or os.path.islink(filename):
                self.strays.add((info.st_dev, info.st_ino))
        except OSError:
            self.unreadable.append(path)
            return None
        if image:
            image = self.images[image.key] = image if recorded_format is None else _as_recorded(image, recorded_format)
        return image

    def take(self, filename: str, key: Key, disk_size: int, head: Head) -> None:
        """Adds a qcow2 image that lies in the directories. Of several names the first one decides how a problem is told."""
        self.met[filename] = key
        image = _image((key, (filename,), "qcow2", head[0], disk_size, *head[1:]))
        known = self.images.setdefault(key, image)
        if known is not image:
            names = _ordered(*known.filenames, filename)
            if names[0] == filename and filename not in known.filenames:
                known = image
            self.images[key] = known._replace(filenames=names)


def scan(directories: Iterable[str | os.PathLike[str]], homes: Iterable[str | os.PathLike[str]] = ()) -> Found:
    """Looks through `directories` with everything under them, and `homes` with the directories right in them and no others.

    Nobody named the homes: they are where some image happens to lie, which may be a directory with millions of files below it.
    """
    places: dict[str, int | None] = {os.path.realpath(home): LEVELS_BELOW_HOME for home in homes}
    places |= {os.path.realpath(directory): None for directory in directories}
    found = Found(places)
    with Catalog() as catalog:
        seals = _Scan(found, catalog).run()
        found.catalog = catalog.path
    for sealed, recorded in seals.items():
        if is_there(sealed):
            found.sealed.add(sealed)
            path = Path(sealed)
            if found.add(path, recorded) is None and found.unreadable[-1:] != [path]:
                found.add(path, "raw")  # it could be looked at, and is no qcow2 image
        else:
            found.orphans.append(Path(sealed))
    return found


class _Missed(NamedTuple):
    """A file of which nothing is known yet; `remembered`: what it holds is worth a row in the catalog."""

    listing: Listing
    name: str
    remembered: bool

    @property
    def path(self) -> str:
        return os.path.join(self.listing.directory, self.name)


class _Scan:
    """One scan: fills in `found`, with the catalog's help."""

    def __init__(self, found: Found, catalog: Catalog):
        self.found, self.catalog = found, catalog
        self.seals: dict[str, str | None] = {}
        self.missed: list[_Missed] = []

    def run(self) -> dict[str, str | None]:
        """Returns the files beside which seals lie, by name, with the format that the seal records, None for none."""
        for place, levels in self.found.directories.items():
            for listing in walk(place, levels, self.found.unreadable):
                self._through(listing, self.catalog.rows(place, listing))
                if len(self.missed) >= _AT_ONCE:
                    self._read_missed()
        self._read_missed()
        return self.seals

    def _through(self, listing: Listing, rows: Mapping[str, Row] | None) -> None:
        take, links = self.found.take, listing.links
        known = rows.get if rows else _nothing_known
        prefix = os.path.join(listing.directory, "")
        self.found.listed.add(listing.directory)
        for name, info in listing.files.items():
            if name.endswith(JOURNAL_SUFFIX):
                self.found.journals.append(prefix + name)
            if info.st_size < SMALLEST_IMAGE and not name.endswith(SUFFIX):
                continue
            row, identity = known(name), identity_of(info)
            if row is None or row[0] != identity:
                self.missed.append(_Missed(listing, name, rows is not None))
            elif isinstance(row[1], Head) and name not in links:
                take(prefix + name, identity[:2], info.st_blocks * 512, row[1])
            else:
                self._met(listing, name, row[1], settled=True)

    def _met(self, listing: Listing, name: str, content: Content, *, settled: bool) -> None:
        path, info = os.path.join(listing.directory, name), listing.files[name]
        if isinstance(content, Head):
            key = info.st_dev, info.st_ino
            self.found.take(path, key, info.st_blocks * 512, content)
            if name in listing.links:
                self.found.strays.add(key)
        elif name.endswith(SUFFIX):
            self.seals[path.removesuffix(SUFFIX)] = content.format if content else None
            if content and settled:
                self.found.records[path] = identity_of(info), content

    def _read_missed(self) -> None:
        missed, self.missed = self.missed, []
        began = time.time_ns()
        for one, result in zip(missed, _read_all([one.path for one in missed]), strict=True):
            if result is None:
                self.found.unreadable.append(Path(one.path))
                result = _NOTHING
            elif one.remembered:
                self.catalog.remember(one.listing.directory, one.name, result, began)
            settled = result.identity is not None and is_settled(result.identity, began)
            self._met(one.listing, one.name, result.content, settled=settled)


_NOTHING = Read(None, None)


def _nothing_known(_name: str) -> Row | None:
    return None


def _read_all(paths: list[str]) -> Iterator[Read | None]:
    """Reads files, many at once so that a disk can answer in the order that suits it; None stands for one that can't be read.

    Very many are read by processes: threads would wait for the interpreter's lock longer than for the disk. Only where nothing
    else runs in this process, since a fork would copy another thread's locks.
    """
    if len(paths) <= _CHUNK:
        yield from map(_read_or_none, paths)
        return
    from threading import active_count

    chunks = [paths[first : first + _CHUNK] for first in range(0, len(paths), _CHUNK)]
    if len(paths) < _MANY or active_count() > 1:
        yield from _read_by_threads(chunks)
        return
    from multiprocessing import get_context

    with get_context("fork").Pool(_PROCESSES) as pool:
        for results in pool.imap(_read_chunk, chunks):
            yield from results


def _read_by_threads(chunks: list[list[str]]) -> Iterator[Read | None]:
    from cowherd.herd.workers import share_out

    results: list[list[Read | None]] = [[]] * len(chunks)

    def read(number: int) -> int:
        results[number] = _read_chunk(chunks[number])
        return len(chunks[number])

    share_out(iter(range(len(chunks))), read, sum(map(len, chunks)), threads=min(_READERS, len(chunks)))
    for result in results:
        yield from result


def _read_chunk(paths: list[str]) -> list[Read | None]:
    return list(map(_read_or_none, paths))


def _read_or_none(path: str) -> Read | None:
    try:
        return read_seal(path) if path.endswith(SUFFIX) else read_image(path)
    except OSError:
        return None


def _ordered(*names: str) -> tuple[str, ...]:
    """Returns names of one file without repetition, real ones before symbolic links."""
    return tuple(sorted(set(names), key=lambda name: (os.path.islink(name), path_order(name))))


def _look_at(filename: str, info: os.stat_result, recorded_format: str | None) -> Image | None:
    if not (stat.S_ISREG(info.st_mode) or (recorded_format and stat.S_ISBLK(info.st_mode))):
        return None
    key, disk_size = (info.st_dev, info.st_ino), info.st_blocks * 512
    content = read_image(filename).content if info.st_size >= SMALLEST_IMAGE or stat.S_ISBLK(info.st_mode) else None
    if isinstance(content, Head):
        return Image(key, (filename,), "qcow2", content.size, disk_size, *content[1:])
    if recorded_format is None:
        return None
    if recorded_format == "qcow2":
        return Image(key, (filename,), "qcow2", None, disk_size, problem="it is not a qcow2 image, as it should be")
    return Image(key, (filename,), recorded_format, _raw_size(filename, recorded_format), disk_size)


def _raw_size(filename: str, recorded_format: str) -> int | None:
    if recorded_format != "raw":
        return None
    with HostFile.open(filename, lock=None) as file:
        return -(-file.size() // 512) * 512


def _as_recorded(image: Image, recorded: str) -> Image:
    """The format that the owner recorded counts, not the one that a guest's bytes may have been made to look like."""
    if recorded == image.format or recorded != "raw":
        return image
    problem = "an overlay records it as raw, but it begins like a qcow2 image"
    size = _raw_size(image.filename, "raw")
    return image._replace(format="raw", size=size, backing=None, binding=None, problem=problem)
