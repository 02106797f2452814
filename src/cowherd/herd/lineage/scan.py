"""Finding the images of a herd: every qcow2 file under some directories, and raw files that are known to be images.

A raw image has no magic, so a raw file counts only if an overlay names it as its backing file or it has a seal. Only headers are
read, without locks, so that running machines don't matter, and of files that are as they were not even those (see
`cowherd.herd.lineage.catalog`). Directories reached through symbolic links and other file systems mounted below are not entered;
name them to include them. Of trash directories only the overlays count that may come back (see `trashed`).

Where overlays were found before, by what seals and this host's memory know, is looked at too (`cowherd.herd.lineage.book`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time
from collections import deque

from cowherd.herd.lineage.book.known import KnownPlaces
from cowherd.herd.lineage.book.memory import Memory
from cowherd.herd.lineage.book.places import Places
from cowherd.herd.lineage.catalog.catalog import Catalog, is_safely_old
from cowherd.herd.lineage.reading import Readers
from cowherd.herd.lineage.trashed import deleted_overlays
from cowherd.herd.lineage.walk import Listing, walk
from cowherd.herd.records.header import SMALLEST_IMAGE, Content, Head, Identity, Read, read_image
from cowherd.herd.records.journal import SUFFIX as JOURNAL_SUFFIX
from cowherd.herd.records.sealplace import find_seal, kept_under, look_again, seal_name
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
"""What makes two names the same file: (device, inode)."""

_SIZE = 2  # of an identity
_BATCH = 256  # files that are read in one go


class Image(NamedTuple):
    """An image file of a herd.

    `filenames` are the absolute names that it was found under, real ones before symbolic links; `size` is the virtual size in
    bytes, None where it is unknown, `disk_size` what the file occupies on the host. `problem`: why its header can't be trusted.
    `dirty`: its last writer did not close it; `corrupt`: whoever used it last found its tables broken. `data_file` names, as
    stored, the file that the guest's data lies in, None where that is the image itself.
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
        """The name that it is called by, as text: in a herd of many thousands a `Path` for each takes longer than all else."""
        return self.filenames[0]

    @property
    def path(self) -> Path:
        """The name that it is called by."""
        return as_path(self.filenames[0])

    @property
    def seal(self) -> str | None:
        """The seal that the image has now, by one of its names, or None."""
        return next((seal for name in self.filenames if (seal := find_seal(name))), None)

    @property
    def expected_seal(self) -> str:
        """The seal of an image that had one a moment ago; where it would be if somebody has taken it away since."""
        return self.seal or seal_name(self.filename)


_image: Callable[[tuple[Any, ...]], Image] = functools.partial(
    tuple.__new__, Image
)  # a third of the time of a call with arguments


class Found:
    """The result of a scan of `directories`.

    `directories` says of each how many levels below it belong to it, None for all. `unreadable` are files that could not be
    looked at, `orphans` are images that are gone while their seals are there. `records` are those of the seals that can't have
    changed since without it showing in their identities, `sealed` the files beside which a seal lies, by name, `kept` the seals
    of others, which lie elsewhere, and `strays` the images that have names of which `sealed` says nothing. `listed` are the
    directories looked through, `met` the names of images in them, `journals` files in them that are called as merges' journals
    are, `devices` block devices that were named. `catalog` is the catalog's file, None if none was used.

    `trashed` are the images that lie in a trash, each with the path that it had. `unseen` are places in which overlays are known
    to lie and nobody can look; `passed_over` what was left out around the images that were named: it could not be looked at, or
    there was too much.
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
        """What this host remembered of places with overlays when this was first asked."""
        return Memory()

    def add(self, filename: str, recorded_format: str | None = None) -> Image | None:
        """Looks at one file and adds it, or its new name, if it is an image; returns the image.

        With `recorded_format` the file is an image of that format because an overlay says so.
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
        except OSError:
            self.unreadable.append(as_path(filename))
            return None
        if image:
            image = self.images[image.key] = image if recorded_format is None else _as_recorded(image, recorded_format)
        return image

    def add_part(self, filename: str) -> Image | None:
        """Adds a file that another image names as a part of itself; it is not opened. Returns the image, None for no file."""
        try:
            info = os.stat(filename)
        except (OSError, ValueError):
            return None
        known = self.images.get((info.st_dev, info.st_ino))
        if known is None and stat.S_ISREG(info.st_mode):
            size = whole_sectors(info.st_size)
            known = Image((info.st_dev, info.st_ino), (filename,), "raw", size, info.st_blocks * 512)
            self.images[known.key] = known
            self.strays.add(known.key)
        return known

    def add_trashed(self) -> None:
        """Adds the overlays in the trash directories that were met, but for those that are on their way back."""
        for filename, path in deleted_overlays(self.trashes):
            info = os.lstat(filename)
            image = None if (info.st_dev, info.st_ino) in self.images else self.add(filename)
            if image:
                self.trashed[image.key] = path

    def consider(self, filename: str) -> None:
        """Adds a file that may be an overlay, since a machine has it or is to have it; what it is, it says itself."""
        unreadable = len(self.unreadable)
        try:
            info = os.stat(filename)
            self.add(filename, "qcow2" if stat.S_ISBLK(info.st_mode) and isinstance(read_image(filename).content, Head) else None)
        except FileNotFoundError:
            return  # a disk that is gone stands on nothing
        except (OSError, ValueError):
            self.passed_over.append(filename)
        self.passed_over += map(os.fspath, self.unreadable[unreadable:])
        del self.unreadable[unreadable:]

    def doubt(self, key: Key) -> None:
        """Goes back to what an image's own header says, because overlays record its format in two ways."""
        image = self.images[key]
        problem = "overlays record its format in more than one way"
        with contextlib.suppress(OSError):  # what can't be read stays as it is recorded
            again = _look_at(image.filename, os.stat(image.filename), None)
            self.images[key] = (again or image)._replace(filenames=image.filenames, problem=problem)

    def take(self, filename: str, key: Key, disk_size: int, head: Head) -> None:
        """Adds a qcow2 image that lies in the directories. Of several names the first one decides how a problem is told."""
        self.met[filename] = key
        size, backing, binding, problem, dirty, corrupt, data_file = head
        image = _image((key, (filename,), "qcow2", size, disk_size, backing, binding, problem, dirty, corrupt, data_file))
        known = self.images.setdefault(key, image)
        if known is not image:
            names = _ordered(*known.filenames, filename)
            if names[0] == filename and filename not in known.filenames:
                known = image
            self.images[key] = known._replace(filenames=names)


def scan(places: Places) -> Found:
    """Looks through `places`, and where overlays of the images there are known to lie."""
    found = Found(places)
    look_again()
    with Catalog() as catalog:
        seals = _Scan(found, catalog).run()
        found.catalog = catalog.path
    for filename in places.files:
        found.consider(filename)
    found.add_trashed()
    for sealed, recorded in sorted(seals.items()):  # in one order, whatever the catalog knew
        if is_there(sealed):
            found.sealed.add(sealed)
            unreadable = len(found.unreadable)
            if found.add(sealed, recorded) is None and len(found.unreadable) == unreadable:
                found.add(sealed, "raw")  # it could be looked at, and is no qcow2 image
        else:
            found.orphans.append(as_path(sealed))
    for image, seal, recorded in kept_under(found.listed):
        if image not in found.sealed and (found.add(image, recorded) or found.add(image, "raw")):
            found.kept[image] = seal
    return found


class _Missed(NamedTuple):
    """Files of a directory of which nothing is known yet; `remembered`: what they hold is worth rows in the catalog."""

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
        """Returns the files beside which seals lie, by name, with the format that the seal records, None for none."""
        found, places = self.found, self.found.places
        with Readers() as readers:
            for place, levels in [*places.directories.items(), *((herd, None) for herd in self.known.herds(places.herds))]:
                self._look_through(readers, place, walk(place, levels, found.unreadable))
            for pool in places.pools:
                self._look_through(readers, pool, walk(pool, 0, []))
            if places.around:
                self._look_around(readers, places.around)
            self._finish(readers)
            while known := self.known.unlisted(found.listed):  # what lies there may have overlays elsewhere, in its turn
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
        missed = self._through(listing, rows)
        for first in range(0, len(missed), _BATCH):
            self._put(readers, _Missed(listing, missed[first : first + _BATCH], rows is not None))
        for results in readers.overdue():
            self._learn(self.handed_over.popleft(), results)

    def _finish(self, readers: Readers) -> None:
        """Has all that was met read."""
        self._hand_over(readers)
        for results in readers.rest():
            self._learn(self.handed_over.popleft(), results)

    def _put(self, readers: Readers, missed: _Missed) -> None:
        self.batch.append(missed)
        self.batched += len(missed.names)
        if self.batched >= _BATCH:
            self._hand_over(readers)

    def _hand_over(self, readers: Readers) -> None:
        batch, self.batch, self.batched = self.batch, [], 0
        self.handed_over.append(batch)
        readers.add([(_prefix(missed.listing), missed.names) for missed in batch])

    def _through(self, listing: Listing, rows: Mapping[str, Row] | None) -> list[str]:
        """Takes what is known of a directory's files, and returns the names of the others."""
        take, links = self.found.take, listing.links
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
                self._met(listing, name, row[1], safely_old=True)
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
                self._met(listing, name, result.content, safely_old=safely_old)
            if remembered:
                self.catalog.remember(listing.directory, rows)

    def _met(self, listing: Listing, name: str, content: Content, *, safely_old: bool) -> None:
        if content is None:  # what has a seal's name and is none is a file as any other
            return
        path, (identity, blocks) = _prefix(listing) + name, listing.files[name]
        if isinstance(content, Head):
            key = identity[:2]
            self.found.take(path, key, blocks * 512, content)
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
    """What stands before the names of a directory's files."""
    return os.path.join(listing.directory, "")


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
        return whole_sectors(file.size())


def _as_recorded(image: Image, recorded: str) -> Image:
    """The format that the owner recorded counts, not the one that a guest's bytes may have been made to look like."""
    if recorded == image.format or recorded != "raw":
        return image
    problem = "an overlay records it as raw, but it begins like a qcow2 image"
    size = _raw_size(image.filename, "raw")
    return image._replace(format="raw", size=size, backing=None, binding=None, problem=problem)
