"""Finds the images of a herd: every qcow2 file under some directories, and raw files that are known to be images.

A raw image has no magic, so a raw file counts only if an overlay names it as its backing file or it has a seal. A scan reads only
headers, without locks, so that running machines don't matter; of files that have not changed it does not even read those (see
`cowherd.herd.lineage.catalog`). It does not enter directories behind symbolic links, or other file systems mounted below; name
them to include them. In trash directories only overlays count, which may come back (see `trashed`).

It also looks where overlays were found before, as seals and this host's herd book know (`cowherd.herd.lineage.book`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time
from collections import deque

from cowherd.errors import HostFileError, ImageFormatError, UnsupportedFeature
from cowherd.formats import registry
from cowherd.herd.lineage.book.known import KnownPlaces
from cowherd.herd.lineage.book.memory import Memory
from cowherd.herd.lineage.book.places import Places
from cowherd.herd.lineage.catalog.catalog import Catalog, is_safely_old
from cowherd.herd.lineage.reading import Readers
from cowherd.herd.lineage.trashed import deleted_overlays
from cowherd.herd.lineage.walk import Listing, walk
from cowherd.herd.records.header import SMALLEST_IMAGE, Content, Head, Identity, Read, read_image
from cowherd.herd.records.journal import SUFFIX as JOURNAL_SUFFIX
from cowherd.herd.records.sealplace import find_seal, forget_listing, kept_under, seal_name
from cowherd.herd.records.sealrecord import SUFFIX, SealRecord
from cowherd.paths import as_path
from cowherd.sizes import whole_sectors
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import is_there
from cowherd.text import path_order
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from cowherd.formats.reference import BackingReference
    from cowherd.herd.lineage.book.places import Unseen
    from cowherd.herd.lineage.catalog.rows import Row
    from cowherd.herd.records.binding import Binding

Key = tuple[int, int]
"""Identifies a file under all of its names: (device, inode)."""

_SIZE = 2  # index of the size in an identity
_BATCH = 256  # files that are handed to a reader at once


class Image(NamedTuple):
    """An image file of a herd.

    `filenames` are the absolute names under which it was found, real ones before symbolic links; `size` is the virtual size in
    bytes, None if unknown; `disk_size` is what the file occupies on the host, in bytes. `problem`: why its header can't be
    trusted. `dirty`: its last writer did not close it; `corrupt`: its last user found its tables broken. `data_file` is the
    stored name of the external data file, None if the image itself holds the guest's data.
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
    data_file: str | None = None

    @property
    def names(self) -> tuple[Path, ...]:
        """`filenames` as paths."""
        return tuple(map(as_path, self.filenames))

    @property
    def filename(self) -> str:
        """Its first name, as text: in a herd of many thousands, making a `Path` for each takes longer than all else."""
        return self.filenames[0]

    @property
    def path(self) -> Path:
        """Its first name, by which messages call it."""
        return as_path(self.filenames[0])

    @property
    def seal(self) -> str | None:
        """The seal that the image has now under one of its names, or None."""
        return next((seal for name in self.filenames if (seal := find_seal(name))), None)

    @property
    def expected_seal(self) -> str:
        """The path of the seal of an image that had one a moment ago; the path beside it if the seal has gone since."""
        return self.seal or seal_name(self.filename)


_make_image: Callable[[tuple[Any, ...]], Image] = functools.partial(
    tuple.__new__, Image
)  # takes a third of the time of `Image(...)`


class Found:
    """The result of a scan of `directories`.

    `directories` maps each to the number of levels below it that belong to the herd, None for all. `unreadable` are files that
    could not be read, `orphans` images that are gone while their seals exist. `records` holds the records of seals whose identity
    would show a later change. `sealed` are the files with a seal beside them, by name; `kept` maps other files to seals that lie
    elsewhere; `strays` are the images with names that `sealed` does not cover. `listed` are the directories that were listed;
    `met` maps the names of images in them to keys; `journals` are the files in them with names of journals; `devices` are block
    devices that were named. `catalog` is the catalog's file, None if none was used.

    `trashed` maps the images in a trash to their former paths. `unseen` are places in which overlays are known to lie and that
    can't be read now; `passed_over` are the paths around the named images that were left out: they can't be read, or there are
    too many.
    """

    def __init__(self, places: Places | None = None):
        self.places = places or Places({})
        self.directories = self.places.directories
        self.images: dict[Key, Image] = {}
        self.unreadable: list[Path] = []
        self.orphans: list[Path] = []
        self.records: dict[str, tuple[Identity, SealRecord]] = {}
        self.sealed: set[str] = set()
        self.kept: dict[str, str] = {}
        self.strays: set[Key] = set()
        self.listed: set[str] = set()
        self.met: dict[str, Key] = {}
        self.journals: list[str] = []
        self.devices: list[str] = []
        self.catalog: Path | None = None
        self.trashes: list[str] = []
        self.trashed: dict[Key, str] = {}
        self.unseen: list[Unseen] = []
        self.passed_over: list[str] = []

    @functools.cached_property
    def memory(self) -> Memory:
        """What this host's herd book knew of places with overlays at the first use of this property."""
        return Memory()

    def add(self, filename: str, recorded_format: str | None = None) -> Image | None:
        """Reads one file and adds it, or a new name of it, if it is an image. Returns the image, or None.

        With `recorded_format` the file is an image of that format, because an overlay or a seal says so.
        """
        try:
            info = os.stat(filename)
            image = self.images.get((info.st_dev, info.st_ino))
            if image is None:
                image = _look_at(filename, info, recorded_format)
            elif filename not in image.filenames:
                image = image._replace(filenames=_ordered(*image.filenames, filename))
            if os.path.dirname(filename) not in self.listed or os.path.islink(filename) or stat.S_ISBLK(info.st_mode):
                self.strays.add((info.st_dev, info.st_ino))
        except HostFileError:
            raise
        except OSError:
            self.unreadable.append(as_path(filename))
            return None
        if image:
            image = self.images[image.key] = image if recorded_format is None else _as_recorded(image, recorded_format)
        return image

    def add_part(self, filename: str) -> Image | None:
        """Adds a file that another image names as a part of itself, without opening it. Returns the image, None for no file."""
        try:
            info = os.stat(filename)
        except (OSError, ValueError):
            return None
        known = self.images.get((info.st_dev, info.st_ino))
        if known is None and stat.S_ISREG(info.st_mode):
            size = whole_sectors(info.st_size)
            known = Image((info.st_dev, info.st_ino), (filename,), registry.RAW.name, size, info.st_blocks * 512)
            self.images[known.key] = known
            self.strays.add(known.key)
        return known

    def add_trashed(self) -> None:
        """Adds the overlays in the trash directories that were met, except those that are just being restored."""
        for filename, path in deleted_overlays(self.trashes):
            info = os.lstat(filename)
            image = None if (info.st_dev, info.st_ino) in self.images else self.add(filename)
            if image:
                self.trashed[image.key] = path

    def add_used_by_machine(self, filename: str) -> None:
        """Adds a file that a machine uses or will use, if its own header says that it is an image."""
        unreadable = len(self.unreadable)
        try:
            info = os.stat(filename)
            self.add(
                filename,
                registry.OVERLAY if stat.S_ISBLK(info.st_mode) and isinstance(read_image(filename).content, Head) else None,
            )
        except FileNotFoundError:
            return  # a disk that is gone depends on no base
        except (OSError, ValueError):
            self.passed_over.append(filename)
        self.passed_over += map(os.fspath, self.unreadable[unreadable:])
        del self.unreadable[unreadable:]

    def reset_to_own_header(self, key: Key) -> None:
        """Describes an image by its own header again, because overlays record different formats for it."""
        image = self.images[key]
        problem = "overlays record its format in more than one way"
        with contextlib.suppress(OSError):  # an image that can't be read stays as it is recorded
            again = _look_at(image.filename, os.stat(image.filename), None)
            self.images[key] = (again or image)._replace(filenames=image.filenames, problem=problem)

    def add_listed(self, filename: str, key: Key, disk_size: int, head: Head) -> None:
        """Adds a qcow2 image in the directories. If it has several names, its problem is worded for the first one."""
        self.met[filename] = key
        size, backing, binding, problem, dirty, corrupt, data_file = head
        image = _make_image(
            (key, (filename,), registry.OVERLAY, size, disk_size, backing, binding, problem, dirty, corrupt, data_file)
        )
        known = self.images.setdefault(key, image)
        if known is not image:
            names = _ordered(*known.filenames, filename)
            if names[0] == filename and filename not in known.filenames:
                known = image
            self.images[key] = known._replace(filenames=names)


def scan(places: Places) -> Found:
    """Scans `places`, and the places in which overlays of the images there are known to lie."""
    found = Found(places)
    forget_listing()
    with Catalog() as catalog:
        seals = _Scan(found, catalog).run()
        found.catalog = catalog.path
    for filename in places.files:
        found.add_used_by_machine(filename)
    found.add_trashed()
    for sealed, recorded in sorted(seals.items()):  # in a fixed order, whatever the catalog knew
        if is_there(sealed):
            found.sealed.add(sealed)
            unreadable = len(found.unreadable)
            if found.add(sealed, recorded) is None and len(found.unreadable) == unreadable:
                found.add(sealed, registry.RAW.name)  # it can be read, and is no qcow2 image
        else:
            found.orphans.append(as_path(sealed))
    for image, seal, recorded in kept_under(found.listed):
        if image not in found.sealed and (found.add(image, recorded) or found.add(image, registry.RAW.name)):
            found.kept[image] = seal
    return found


class _Missed(NamedTuple):
    """Files of a directory that the catalog does not know; `remembered`: what they hold goes into the catalog."""

    listing: Listing
    names: list[str]
    remembered: bool


class _Scan:
    """One scan: fills in `found`, with the catalog's help."""

    def __init__(self, found: Found, catalog: Catalog):
        self.found, self.catalog = found, catalog
        self.known = KnownPlaces(found.memory)
        self.seals: dict[str, str | None] = {}
        self.batch: list[_Missed] = []
        self.handed_over: deque[list[_Missed]] = deque()
        self.batched = 0
        self.began = time.time_ns()

    def run(self) -> dict[str, str | None]:
        """Returns the files beside which seals lie, by name, with the format in the seal; None if the seal is damaged."""
        found, places = self.found, self.found.places
        with Readers() as readers:
            for place, levels in [*places.directories.items(), *((herd, None) for herd in self.known.herds(places.herds))]:
                self._look_through(readers, place, walk(place, levels, found.unreadable))
            for pool in places.pools:
                self._look_through(readers, pool, walk(pool, 0, []))
            if places.around:
                self._look_around(readers, places.around)
            self._finish(readers)
            while known := self.known.unlisted(found.listed):  # images there may in turn have overlays elsewhere
                for one in known:
                    self._look_through(readers, one.directory, walk(one.directory, int(one.below), found.unreadable))
                self._finish(readers)
        found.unseen += self.known.unseen
        return self.seals

    def _look_around(self, readers: Readers, directories: Sequence[str]) -> None:
        from cowherd.herd.lineage.book.surroundings import Budget, look_around

        budget, found = Budget(), self.found
        for listing in look_around(directories, found.listed, found.passed_over, budget):
            self._take(readers, listing.directory, listing)
        found.passed_over += budget.cut

    def _look_through(self, readers: Readers, place: str, listings: Iterable[Listing]) -> None:
        for listing in listings:
            if listing.directory not in self.found.listed:
                self._take(readers, place, listing)

    def _take(self, readers: Readers, place: str, listing: Listing) -> None:
        rows = self.catalog.rows(place, listing)
        missed = self._take_known(listing, rows)
        for first in range(0, len(missed), _BATCH):
            self._add_to_batch(readers, _Missed(listing, missed[first : first + _BATCH], rows is not None))
        for results in readers.overdue():
            self._learn(self.handed_over.popleft(), results)

    def _finish(self, readers: Readers) -> None:
        """Reads all files that were met and not read yet."""
        self._hand_over(readers)
        for results in readers.rest():
            self._learn(self.handed_over.popleft(), results)

    def _add_to_batch(self, readers: Readers, missed: _Missed) -> None:
        self.batch.append(missed)
        self.batched += len(missed.names)
        if self.batched >= _BATCH:
            self._hand_over(readers)

    def _hand_over(self, readers: Readers) -> None:
        batch, self.batch, self.batched = self.batch, [], 0
        self.handed_over.append(batch)
        readers.add([(_prefix(missed.listing), missed.names) for missed in batch])

    def _take_known(self, listing: Listing, rows: Mapping[str, Row] | None) -> list[str]:
        """Adds the files of a directory that the catalog knows, and returns the names of those that must be read."""
        take, links = self.found.add_listed, listing.links
        known = rows.get if rows else _nothing_known
        prefix = _prefix(listing)
        missed = []
        self.found.listed.add(listing.directory)
        if listing.has_trash:
            self.found.trashes.append(listing.directory)
        self.found.journals.extend(prefix + name for name in listing.files if name.endswith(JOURNAL_SUFFIX))
        for name, (identity, blocks) in listing.files.items():
            row = known(name)
            if row is None or row[0] != identity:
                if identity[_SIZE] >= SMALLEST_IMAGE or name.endswith(SUFFIX):
                    missed.append(name)
            elif isinstance(row[1], Head) and name not in links:
                take(prefix + name, identity[:2], blocks * 512, row[1])
            else:
                self._take_content(listing, name, row[1], safely_old=True)
        return missed

    def _learn(self, batch: list[_Missed], results: Iterable[Read | None]) -> None:
        found = iter(results)
        for listing, names, remembered in batch:
            rows: dict[str, Row] = {}
            for name, result in zip(names, found, strict=False):
                if result is None:
                    self.found.unreadable.append(as_path(listing.directory, name))
                    result = _NOTHING
                safely_old = result.identity is not None and is_safely_old(result.identity, self.began)
                if result.identity and safely_old:
                    rows[name] = result.identity, result.content
                self._take_content(listing, name, result.content, safely_old=safely_old)
            if remembered:
                self.catalog.remember(listing.directory, rows)

    def _take_content(self, listing: Listing, name: str, content: Content, *, safely_old: bool) -> None:
        if content is None:  # neither an image nor a seal
            return
        path, (identity, blocks) = _prefix(listing) + name, listing.files[name]
        if isinstance(content, Head):
            key = identity[:2]
            self.found.add_listed(path, key, blocks * 512, content)
            if name in listing.links:
                self.found.strays.add(key)
        elif name.endswith(SUFFIX):
            record = content if isinstance(content, SealRecord) else None
            self.seals[path.removesuffix(SUFFIX)] = record.format if record else None
            if record and record.places:
                self.known.add_sealed(path.removesuffix(SUFFIX), record.places)
            if record and safely_old:
                self.found.records[path] = identity, record


_NOTHING = Read(None, None)


def _nothing_known(_name: str) -> Row | None:
    return None


def _prefix(listing: Listing) -> str:
    """Returns the directory with its slash, as it stands before the names of its files."""
    return os.path.join(listing.directory, "")


def _ordered(*names: str) -> tuple[str, ...]:
    """Returns the names of one file without repetition, real ones before symbolic links."""
    return tuple(sorted(set(names), key=lambda name: (os.path.islink(name), path_order(name))))


def _look_at(filename: str, info: os.stat_result, recorded_format: str | None) -> Image | None:
    if not (stat.S_ISREG(info.st_mode) or (recorded_format and stat.S_ISBLK(info.st_mode))):
        return None
    key, disk_size = (info.st_dev, info.st_ino), info.st_blocks * 512
    content = read_image(filename).content if info.st_size >= SMALLEST_IMAGE or stat.S_ISBLK(info.st_mode) else None
    if isinstance(content, Head):
        return Image(key, (filename,), registry.OVERLAY, content.size, disk_size, *content[1:])
    if recorded_format is None:
        return None
    if recorded_format == registry.OVERLAY:
        problem = f"it is not a {recorded_format} image, as it should be"
        return Image(key, (filename,), recorded_format, None, disk_size, problem=problem)
    try:
        size = _size_as(recorded_format, filename)
    except (ImageFormatError, UnsupportedFeature) as error:
        return Image(key, (filename,), recorded_format, None, disk_size, problem=str(error))
    return Image(key, (filename,), recorded_format, size, disk_size)


def _size_as(recorded_format: str, filename: str) -> int | None:
    """Returns the virtual size of a file as an image of a format, None for one that is not read here."""
    format = registry.named(recorded_format)
    if not format.is_known:
        return None
    with HostFile.open(filename, lock=None) as file:
        return format.facts(file).virtual_size


def _as_recorded(image: Image, recorded: str) -> Image:
    """Returns the image as raw if an overlay records it so: a guest can write a qcow2 header into a raw disk."""
    if recorded == image.format or not registry.named(recorded).verbatim:
        return image
    problem = "an overlay records it as raw, but it begins like a qcow2 image"
    size = _size_as(recorded, image.filename)
    return image._replace(format=recorded, size=size, backing=None, binding=None, problem=problem)
