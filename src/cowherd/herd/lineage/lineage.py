"""The lineage of a herd: which image has which base.

(device, inode) identifies an image, never its name: a base that overlays name through a hard link, a symbolic link or another
spelling of its path is one base.
"""

from __future__ import annotations

import contextlib
import functools
import os

from cowherd.errors import HostFileError
from cowherd.herd.lineage.links import FollowedLinks, Link, probed_format
from cowherd.herd.lineage.scan import Found, Image, Key
from cowherd.herd.records.header import identity_of
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealrecord import SUFFIX, SealRecord
from cowherd.paths import as_path
from cowherd.storage.presence import look_up
from cowherd.text import path_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cowherd.herd.lineage.book.memory import Memory
    from cowherd.paths import PathName


_NOBODY = -1  # instead of the number of an image
_ENDLESS = -1  # instead of the depth of an image in a loop


class Lineage:
    """The images of a herd and the links between them.

    `directories` are those of the herd (see `Found`), `images` maps keys to images; `unreadable` are files that could not be
    read, and may be overlays too; `orphans` are images that are gone while their seals exist. `unseen` are places where overlays
    are known to lie and that can't be read now, `passed_over` the paths that were left out around images. `catalog` is the file
    of the catalog that was used, None if none was.
    """

    def __init__(self, found: Found):
        self._found = found
        self.directories = found.directories
        self.places = found.places
        self.unseen, self.passed_over = tuple(found.unseen), tuple(found.passed_over)
        followed = FollowedLinks(found)
        self._leads, self._parts = followed.leads, followed.parts
        self._recorded, self._spelled = followed.recorded, followed.spelled
        self.images = found.images
        self.unreadable, self.orphans, self.catalog = tuple(found.unreadable), tuple(found.orphans), found.catalog
        self._seals: dict[Key, str | None] = {}
        self._ordered = _by_path(found.images.values())
        self._numbers = {image.key: number for number, image in enumerate(self._ordered)}
        self._parents = [_NOBODY] * len(self._ordered)
        self._children: dict[int, list[int]] = {}
        self._needed_by: dict[int, list[int]] = {}
        self._last_dependents: tuple[int, set[int]] = _NOBODY, set()
        self._hidden = frozenset(self._numbers[key] for key in found.trashed if key in self._numbers)
        self._number_links()

    def _number_links(self) -> None:
        """Fills in the base and the overlays of each image. Images have numbers in the order of their paths."""
        numbers, parents, children, leads_of = self._numbers, self._parents, self._children, self._leads.get
        for number, image in enumerate(self._ordered):
            for lead in leads_of(image.key, ()):
                if lead.target is not None:
                    base = numbers[lead.target]
                    if parents[number] == _NOBODY:
                        parents[number] = base
                    overlays = children.setdefault(base, [])
                    if not overlays or overlays[-1] != number:
                        overlays.append(number)
        for key, parts in self._parts.items():
            for part in parts:
                self._needed_by.setdefault(numbers[part], []).append(numbers[key])

    def links(self, image: Image) -> tuple[Link, ...]:
        """Returns the link of each name of an overlay, in the order of its names; none for an image without a backing file."""
        leads = self._leads.get(image.key, ())
        pairs = zip(image.names, leads, strict=True) if leads else ()
        return tuple(
            Link(name, as_path(lead.path) if lead.path else None, lead.target, lead.problem, lead.unknown) for name, lead in pairs
        )

    def recorded_formats(self, base: Image) -> dict[str, str]:
        """Returns the formats that overlays record for `base`, each with one overlay that records it."""
        return self._recorded.get(base.key, {})

    @functools.cached_property
    def disputed(self) -> list[Image]:
        """The images that overlays record in more than one format, by path."""
        doubtful = (self.images[key] for key, formats in self._recorded.items() if len(formats) > 1)
        return sorted(filter(self._is_shown, doubtful), key=_path_order_of)

    def trashed_from(self, image: Image) -> str | None:
        """Returns the former path of an image that lies in the trash; None for every other image."""
        return self._found.trashed.get(image.key)

    def is_unknown(self, image: Image) -> bool:
        """Returns whether an overlay's base can't be reached from here, so that it may or may not exist."""
        broken = self.broken(image)
        return broken is not None and broken.unknown

    def parts(self, image: Image) -> list[Image]:
        """Returns the other files of an image: its data file, and parts of a base whose reference cowherd does not follow."""
        return [self.images[key] for key in self._parts.get(image.key, ())]

    def made_of(self, image: Image) -> list[Image]:
        """Returns the images of which `image` is a part, by path."""
        return [self._ordered[number] for number in self._needed_by.get(self._numbers.get(image.key, _NOBODY), ())]

    def leads_astray(self, image: Image) -> bool:
        """Returns whether an overlay that has a base does not find it from every one of its own names."""
        leads = self._leads[image.key]
        if len(leads) == 1:
            return False
        base = self.parent(image)
        return base is not None and any(lead.target != base.key for lead in leads)

    def named_paths(self) -> set[str]:
        """Returns the paths that overlays name as their bases."""
        return {lead.path for leads in self._leads.values() for lead in leads if lead.path}

    @functools.cached_property
    def apart(self) -> list[tuple[str, str, str]]:
        """The directories that hold overlays, each as (directory, base of an overlay in it, that overlay), without symlinks."""
        directories = functools.cache(os.path.realpath)  # directories are few, and each is resolved once
        found = []
        for overlay, lead in self._spelled.values():
            if lead.target is not None and lead.path is not None:
                real = self._resolve(overlay, directories)
                found.append((os.path.dirname(real), self._resolve(lead.path, directories), real))
        return found

    def _resolve(self, path: str, directories: Callable[[str], str]) -> str:
        """Returns a path without symbolic links; `directories` resolves the directory in which a file lies."""
        key = self._found.met.get(path)
        if key is not None and key not in self._found.strays:
            return path  # the scan met it in a directory that it listed, and it is no link
        home, name = os.path.split(path)
        if name in ("", ".", ".."):
            return os.path.realpath(path)
        inside = os.path.join(directories(os.fspath(home)), name)
        return os.path.realpath(inside) if os.path.islink(inside) else inside

    @property
    def memory(self) -> Memory:
        """What this host's herd book knew of places with overlays when the herd was scanned."""
        return self._found.memory

    @property
    def listed(self) -> set[str]:
        """The directories that were listed, as paths without symbolic links."""
        return self._found.listed

    def was_listed(self, directory: str) -> bool:
        """Returns whether a directory, given by a path without symbolic links, was listed."""
        return directory in self._found.listed

    def real_directory(self, image: Image) -> str | None:
        """Returns the directory in which an image's file lies, without symbolic links; None if only the host could tell."""
        return None if image.key in self._found.strays else os.path.dirname(image.filename)

    @property
    def devices(self) -> Sequence[str]:
        """The block devices that were named as images of the herd."""
        return self._found.devices

    @property
    def journals(self) -> Sequence[str]:
        """The files with names of journals in the directories that were listed, as they were then."""
        return self._found.journals

    @property
    def strays(self) -> list[Image]:
        """The images that the scan met by names outside of the directories, or through symbolic links."""
        return [self.images[key] for key in self._found.strays if key in self.images]

    def seal(self, image: Image) -> str | None:
        """Returns the seal that an image had, under one of its names, when the herd was scanned, or None."""
        kept = self._found.kept
        if not self._found.sealed and not self._found.strays and not kept:
            return None
        if image.key in self._found.strays:
            if image.key not in self._seals:
                self._seals[image.key] = image.seal
            return self._seals[image.key]
        sealed = self._found.sealed
        beside = next((name + SUFFIX for name in image.filenames if name in sealed), None) if sealed else None
        return beside or (next((kept[name] for name in image.filenames if name in kept), None) if kept else None)

    def place_of_seal(self, image: Image) -> str:
        """Returns the path of the seal of an image; if it has none, the path beside the image."""
        if image.key in self._found.strays:
            return image.expected_seal
        return self.seal(image) or image.filename + SUFFIX

    def record_of(self, image: Image) -> SealRecord | None:
        """Returns the record of the seal beside `image` as it is now, or None where there was no seal.

        Raises `ImageFormatError` where the seal is damaged, `HostFileError` where it can't be read.
        """
        path = self.seal(image)
        if path is None:
            return None
        remembered = self._found.records.get(path)
        if remembered:
            with contextlib.suppress(OSError):  # if it is gone, `read_record` raises
                if identity_of(os.stat(path)) == remembered[0]:
                    return remembered[1]
        return read_record(path)

    def known(self, path: PathName) -> Image | None:
        """Returns the image that `path` names, or None if the scan met no such image.

        Raises `HostFileError` if the host fails: a file that it can't look up may exist.
        """
        info = look_up(path)
        return self.images.get((info.st_dev, info.st_ino)) if info else None

    def find(self, path: PathName, image_format: str | None = None) -> Image:
        """Returns the image that `path` names; `image_format` is its format if the herd does not record it, None to guess.

        Raises `HostFileError` if there is no such file, or it is no image.
        """
        try:
            os.stat(path)
        except OSError as error:
            raise HostFileError(path, "open", error) from error
        return self.known(path) or self._adopt(os.path.abspath(path), image_format)

    def _adopt(self, path: str, image_format: str | None) -> Image:
        """Adds a file that the scan could not recognise as an image: a raw one that no overlay and no seal names."""
        image = self._found.add(path, image_format or probed_format(path))
        if image is None:
            raise HostFileError(path, "open", OSError(0, "not a regular file or block device that can be read"))
        return image

    def parent(self, image: Image) -> Image | None:
        """Returns the base of `image`, or None if it has none or it can't be found."""
        number = self._numbers.get(image.key)
        if number is None:
            return None
        base = self._parents[number]
        return None if base == _NOBODY else self._ordered[base]

    def broken(self, image: Image) -> Link | None:
        """Returns the link of an overlay whose backing file can't be found under any of its names, or None."""
        if image.key not in self._leads or self.parent(image):
            return None
        return self.links(image)[0]

    @functools.cached_property
    def broken_overlays(self) -> list[Image]:
        """The overlays whose backing file can't be found (see `broken`), by path."""
        pairs = zip(self._ordered, self._parents, strict=True)
        return [image for image, base in pairs if base == _NOBODY and self._is_shown(image) and self.broken(image)]

    def show_only(self, places: Sequence[str]) -> None:
        """Hides the images that are neither at or under one of `places` nor share a chain with one that is.

        `dependents` and `children` still return them.
        """
        inside, exact = tuple(f"{place.rstrip('/')}/" for place in places), frozenset(places)
        if all(f"{directory}/".startswith(inside) for directory in self.listed):
            return
        mine = [image for image in self._ordered if any(name.startswith(inside) or name in exact for name in image.filenames)]
        related = {one.key for image in mine for one in (*self.chain(image), *self.dependents(image))}
        self._hidden |= {number for number, image in enumerate(self._ordered) if image.key not in related}

    @property
    def shown(self) -> list[Image]:
        """The images that are not hidden: neither deleted, nor unrelated to the places of `show_only`; by path."""
        return [image for image in self._ordered if self._is_shown(image)] if self._hidden else self._ordered

    def _is_shown(self, image: Image) -> bool:
        return not self._hidden or self._numbers[image.key] not in self._hidden

    @functools.cached_property
    def overlays(self) -> list[tuple[Image, Image]]:
        """The images whose base was found, each with its base, by path."""
        images, parents = self._ordered, self._parents
        pairs = zip(images, parents, strict=True)
        return [(image, images[base]) for image, base in pairs if base != _NOBODY and self._is_shown(image)]

    @functools.cached_property
    def bases(self) -> list[Image]:
        """The images that are the base of an overlay, by path."""
        return [self._ordered[number] for number in sorted(self._children) if number not in self._hidden]

    def chain(self, image: Image) -> list[Image]:
        """Returns `image`, its base, that one's base, and so on; it ends before an image that it already holds (`in_loop`)."""
        chain, seen = [image], {image.key}
        while (base := self.parent(chain[-1])) and base.key not in seen:
            chain.append(base)
            seen.add(base.key)
        return chain

    def in_loop(self, image: Image) -> bool:
        """Returns whether the chain of `image` comes back to an image in it."""
        number = self._numbers.get(image.key)
        return number is not None and self._depths[number] == _ENDLESS

    @functools.cached_property
    def looped(self) -> list[Image]:
        """The images for which `in_loop` is true, by path."""
        return [
            self._ordered[number] for number, depth in enumerate(self._depths) if depth == _ENDLESS and number not in self._hidden
        ]

    def deep(self, length: int) -> list[Image]:
        """Returns the images whose chains have more than `length` images."""
        levels = self._levels[length:]
        return [self._ordered[number] for level in levels for number in level if number not in self._hidden] + [
            image for image in self.looped if self.length(image) > length
        ]

    def length(self, image: Image) -> int:
        """Returns the number of images in `chain`."""
        number = self._numbers.get(image.key)
        depth = _ENDLESS if number is None else self._depths[number]
        return len(self.chain(image)) if depth == _ENDLESS else depth + 1

    @functools.cached_property
    def _levels(self) -> list[list[int]]:
        """The images whose chains end (in no loop), grouped by how many images lie below them."""
        parents, children = self._parents, self._children
        levels = [[number for number, base in enumerate(parents) if base == _NOBODY]]
        while levels[-1]:
            levels.append([child for number in levels[-1] for child in children.get(number, ()) if parents[child] == number])
        return levels

    @functools.cached_property
    def _depths(self) -> list[int]:
        """How many images lie below each; `_ENDLESS` for those in a loop."""
        depths = [_ENDLESS] * len(self._ordered)
        for depth, level in enumerate(self._levels):
            for number in level:
                depths[number] = depth
        return depths

    def has_children(self, image: Image) -> bool:
        """Returns whether an overlay names `image` as its backing file, or `image` is a part of another image."""
        return bool(self._children_of(image) or self.made_of(image))

    def children(self, image: Image) -> list[Image]:
        """Returns the overlays that name `image` as their backing file, by path."""
        return [self._ordered[number] for number in self._children_of(image)]

    def _children_of(self, image: Image) -> Sequence[int]:
        return self._children.get(self._numbers.get(image.key, _NOBODY), ())

    def dependents(self, image: Image) -> list[Image]:
        """Returns every overlay whose chain passes through `image`, or of which it is a part, by path; deleted ones too."""
        number = self._numbers.get(image.key)
        return [] if number is None else [self._ordered[found] for found in sorted(self._dependents(number))]

    def _dependents(self, number: int) -> set[int]:
        if self._last_dependents[0] == number:  # a command asks for the dependents of one image several times
            return self._last_dependents[1]
        seen = {number}
        pending = [number]
        while pending:
            one = pending.pop()
            for child in (*self._children.get(one, ()), *self._needed_by.get(one, ())):
                if child not in seen:
                    seen.add(child)
                    pending.append(child)
        seen.remove(number)
        self._last_dependents = number, seen
        return seen

    def count_dependents(self, image: Image) -> int:
        """Returns how many overlays `dependents` would return."""
        number = self._numbers.get(image.key)
        if number is None:
            return 0
        return len(self._dependents(number)) if self._counts is None else self._counts[number]

    @functools.cached_property
    def _counts(self) -> list[int] | None:
        """How many dependents each image has; None if an overlay has several bases or a chain is a loop: adding fails there."""
        images = len(self._ordered)
        if self._needed_by:
            return None
        if sum(map(len, self._levels)) < images or sum(map(len, self._children.values())) > images - len(self._levels[0]):
            return None
        counts = [0] * images
        for level in reversed(self._levels[1:]):
            for number in level:
                counts[self._parents[number]] += counts[number] + 1
        return counts

    def siblings(self, image: Image) -> list[Image]:
        """Returns the other overlays of the base of `image`, by path."""
        base = self.parent(image)
        return [child for child in self.children(base) if child.key != image.key] if base else []

    def roots(self) -> list[Image]:
        """Returns the images without a backing file, and those whose base is missing, by path."""
        return [self._ordered[number] for number in self._levels[0]]

    def walk(self) -> Iterator[tuple[int, Image, Image | None]]:
        """Yields (depth, image, its base) for every image, each base before its overlays; those in loops last, at depth 0."""
        images, parents, children = self._ordered, self._parents, self._children
        seen = bytearray(len(images))
        looped = [number for number, depth in enumerate(self._depths) if depth == _ENDLESS]
        for root in [*self._levels[0], *looped]:
            pending = [(0, root)]
            while pending:
                depth, number = pending.pop()
                if not seen[number] and number not in self._hidden:
                    seen[number] = True
                    base = parents[number]
                    yield depth, images[number], None if base == _NOBODY else images[base]
                    if number in children:
                        pending += [(depth + 1, child) for child in reversed(children[number])]


def _path_order_of(image: Image) -> str:
    return path_order(image.filenames[0])


def _by_path(images: Iterable[Image]) -> list[Image]:
    found = list(images)
    names = [path_order(image.filenames[0]) for image in found]
    return [found[place] for place in sorted(range(len(found)), key=names.__getitem__)]
