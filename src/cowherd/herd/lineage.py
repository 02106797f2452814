"""The lineage of a herd: which image stands on which.

Images are told apart by (device, inode), never by name: a base reached through a hard link, a symbolic link or another
spelling of its path is one base.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cowherd.errors import BackingFileError, CowherdError, HostFileError
from cowherd.formats.layer import BackingReference
from cowherd.formats.probe import probe
from cowherd.herd.faults import HerdNotReadable
from cowherd.herd.header import identity_of
from cowherd.herd.scan import Found, Image, Key, scan
from cowherd.herd.sealfile import SUFFIX, SealRecord, read_record
from cowherd.image.backing import resolve
from cowherd.storage.hostfile import HostFile
from cowherd.text import path_order


@dataclass(frozen=True)
class Link:
    """What one name of an overlay leads to: the base's key, or None and why not. `path` is None if it is no local file."""

    name: Path
    path: Path | None
    target: Key | None
    problem: str | None = None


class Lead(NamedTuple):
    """A link without the name that it starts from: what all overlays in one directory share that name the same base."""

    path: str | None
    target: Key | None
    problem: str | None = None


class Lineage:
    """The images of a herd and the links between them.

    `directories` are those of the herd (see `Found`), `images` maps keys to images; `unreadable` are files that could not be
    looked at, and may be overlays too; `orphans` are images that are gone while their seals are there. `catalog` is the file of
    the catalog that was used, if one was.
    """

    def __init__(self, found: Found):
        self._found = found
        self.directories = found.directories
        self._leads: dict[Key, tuple[Lead, ...]] = {}
        self._follow()
        self.images = found.images
        self.unreadable, self.orphans, self.catalog = tuple(found.unreadable), tuple(found.orphans), found.catalog
        self._parents: dict[Key, Key] = {}
        self._children: dict[Key, list[Key]] = {}
        for key in sorted(self._leads, key=self._order):
            leads = self._leads[key]
            targets = [lead.target for lead in leads if lead.target is not None]
            if targets:
                self._parents[key] = targets[0]
            for target in targets if len(targets) == 1 else dict.fromkeys(targets):
                self._children.setdefault(target, []).append(key)
        self._seals: dict[Key, Path | None] = {}

    def _order(self, key: Key) -> str:
        return path_order(self._found.images[key].filenames[0])

    def _follow(self) -> None:
        """Resolves the backing file of every image, adding images outside of the directories that it leads to."""
        images = self._found.images
        known: dict[tuple[str, str, str | None], Lead] = {}
        pending = list(images)
        while pending:
            key = pending.pop()
            image = images[key]
            backing = image.backing
            if backing is None or key in self._leads:
                continue
            leads = []
            for name in image.filenames:
                spelling = name[: name.rindex("/")], backing.name, backing.format
                lead = known.get(spelling)
                if lead is None:
                    lead = known[spelling] = self._lead(name, backing)
                    if lead.target is not None:
                        pending.append(lead.target)
                leads.append(lead)
            self._leads[key] = tuple(leads)
        for key in [key for key in self._leads if images[key].backing is None]:
            del self._leads[key]  # it was found to be recorded as raw only after its header had been followed

    def _lead(self, name: str, backing: BackingReference) -> Lead:
        path = None
        try:
            reference = resolve(name, backing)
            path = os.path.abspath(reference.name)
            met = self._found.met.get(path)
            if met and reference.format == self._found.images[met].format:
                return Lead(path, met)
            os.stat(path)
            target = self._found.add(Path(path), reference.format or _probed(Path(path)))
        except OSError as error:
            return Lead(path, None, error.strerror or str(error))
        except ValueError:
            return Lead(path, None, "no file can have this name")
        except HostFileError as error:
            return Lead(path, None, error.reason)
        except BackingFileError as error:
            return Lead(path, None, error.problem)
        except CowherdError as error:
            return Lead(path, None, str(error))
        return Lead(path, target.key if target else None, None if target else "it is not an image file")

    def links(self, image: Image) -> tuple[Link, ...]:
        """Returns where each name of an overlay leads, in the order of its names; nothing for an image without a backing file."""
        leads = self._leads.get(image.key, ())
        pairs = zip(image.names, leads, strict=True) if leads else ()
        return tuple(Link(name, Path(lead.path) if lead.path else None, lead.target, lead.problem) for name, lead in pairs)

    def leads_astray(self, image: Image) -> bool:
        """Whether an overlay that has a base does not find it under every one of its names."""
        leads = self._leads[image.key]
        return len(leads) > 1 and any(lead.target != self._parents[image.key] for lead in leads)

    def named_paths(self) -> set[str]:
        """Returns the paths that overlays name as their bases."""
        return {lead.path for leads in self._leads.values() for lead in leads if lead.path}

    def was_listed(self, directory: str) -> bool:
        """Whether a directory, by a path without symbolic links, was looked through."""
        return directory in self._found.listed

    def real_directory(self, image: Image) -> str | None:
        """Returns the directory in which an image's file lies, without symbolic links; None where that would have to be asked."""
        return None if image.key in self._found.strays else os.path.dirname(image.filename)

    @property
    def journals(self) -> Sequence[str]:
        """The files that have names of journals, in directories that were looked through, as they were then."""
        return self._found.journals

    @property
    def strays(self) -> list[Image]:
        """The images that were met by names outside of the directories, or by symbolic links."""
        return [self.images[key] for key in self._found.strays if key in self.images]

    def seal(self, image: Image) -> Path | None:
        """Returns the seal that lay beside one of an image's names when the herd was looked at, or None."""
        if image.key in self._found.strays:
            if image.key not in self._seals:
                self._seals[image.key] = image.seal
            return self._seals[image.key]
        sealed = self._found.sealed
        return next((Path(name + SUFFIX) for name in image.filenames if name in sealed), None) if sealed else None

    def record_of(self, image: Image) -> SealRecord | None:
        """Returns the record of the seal beside `image` as it is now, or None where there was no seal.

        Raises `ImageFormatError` where the seal is damaged, `HostFileError` where it can't be read.
        """
        path = self.seal(image)
        if path is None:
            return None
        remembered = self._found.records.get(os.fspath(path))
        if remembered:
            with contextlib.suppress(OSError):  # it is gone, which reading it tells
                if identity_of(os.stat(path)) == remembered[0]:
                    return remembered[1]
        return read_record(path)

    def known(self, path: str | os.PathLike[str]) -> Image | None:
        """Returns the image that `path` names, or None where the scan met no such image."""
        try:
            info = os.stat(path)
        except OSError:
            return None
        return self.images.get((info.st_dev, info.st_ino))

    def find(self, path: str | os.PathLike[str], image_format: str | None = None) -> Image:
        """Returns the image that `path` names; `image_format` is its format if the herd does not record it, None guesses.

        Raises `HostFileError` if there is none.
        """
        try:
            os.stat(path)
        except OSError as error:
            raise HostFileError(path, "open", error) from error
        return self.known(path) or self._adopt(Path(os.path.abspath(path)), image_format)

    def _adopt(self, path: Path, image_format: str | None) -> Image:
        """Adds a file that the scan could not know to be an image: a raw one that is named for the first time."""
        image = self._found.add(path, image_format or _probed(path))
        if image is None:
            raise HostFileError(path, "open", OSError(0, "not a regular file or block device that can be read"))
        return image

    def parent(self, image: Image) -> Image | None:
        """Returns the base of `image`, or None if it has none or it can't be found."""
        key = self._parents.get(image.key)
        return None if key is None else self.images[key]

    def broken(self, image: Image) -> Link | None:
        """Returns the link of an overlay whose backing file can't be found under any of its names, or None."""
        if image.key in self._parents or image.key not in self._leads:
            return None
        return self.links(image)[0]

    def chain(self, image: Image) -> list[Image]:
        """Returns `image`, its base, that one's base, ...; it ends before an image that it already holds (see `in_loop`)."""
        chain, seen = [image], {image.key}
        while (base := self.parent(chain[-1])) and base.key not in seen:
            chain.append(base)
            seen.add(base.key)
        return chain

    def in_loop(self, image: Image) -> bool:
        """Returns whether the chain of `image` comes back to an image it has passed."""
        return image.key in self._parents and image.key not in self._depths

    def length(self, image: Image) -> int:
        """Returns how many images `chain` has."""
        depth = self._depths.get(image.key)
        return len(self.chain(image)) if depth is None else depth + 1

    @functools.cached_property
    def _depths(self) -> dict[Key, int]:
        """How many images lie below each one whose chain ends."""
        depths: dict[Key, int] = {}
        level = [key for key in self.images if key not in self._parents]
        for depth in range(len(self.images)):
            depths |= dict.fromkeys(level, depth)
            level = [child for key in level for child in self._children.get(key, ()) if self._parents[child] == key]
            if not level:
                break
        return depths

    def has_children(self, image: Image) -> bool:
        """Whether an overlay names `image` as its backing file."""
        return image.key in self._children

    def children(self, image: Image) -> list[Image]:
        """Returns the overlays that name `image` as their backing file, by path."""
        return [self.images[key] for key in self._children.get(image.key, ())]

    def dependents(self, image: Image) -> list[Image]:
        """Returns every overlay whose chain passes through `image`, by path."""
        return [self.images[key] for key in sorted(self._dependents(image.key), key=self._order)]

    def _dependents(self, key: Key) -> set[Key]:
        seen = {key}
        pending = [key]
        while pending:
            for child in self._children.get(pending.pop(), ()):
                if child not in seen:
                    seen.add(child)
                    pending.append(child)
        return seen - {key}

    def count_dependents(self, image: Image) -> int:
        """Returns how many overlays `dependents` would return."""
        if self._counts is None:
            return len(self._dependents(image.key))
        return self._counts.get(image.key, 0)

    @functools.cached_property
    def _counts(self) -> dict[Key, int] | None:
        """How many dependents each image has that has any; None where an overlay has several bases, or a chain is a loop."""
        if len(self._depths) < len(self.images) or sum(map(len, self._children.values())) > len(self._parents):
            return None
        counts: dict[Key, int] = {}
        for key in reversed(self._depths):  # the deepest come first
            base = self._parents.get(key)
            if base is not None:
                counts[base] = counts.get(base, 0) + counts.get(key, 0) + 1
        return counts

    def siblings(self, image: Image) -> list[Image]:
        """Returns the other overlays of the base of `image`, by path."""
        base = self.parent(image)
        return [child for child in self.children(base) if child.key != image.key] if base else []

    def roots(self) -> list[Image]:
        """Returns the images that stand on nothing, and those whose base is not there, by path."""
        return [self.images[key] for key in sorted((key for key in self.images if key not in self._parents), key=self._order)]

    def walk(self) -> Iterator[tuple[int, Image]]:
        """Yields (depth, image) for every image, each base before its overlays; images in loops come last, at depth 0."""
        images, children = self.images, self._children
        seen: set[Key] = set()
        roots = [root.key for root in self.roots()]
        looped = sorted((key for key in images if key not in self._depths), key=self._order)
        for root in [*roots, *looped]:
            pending = [(0, root)]
            while pending:
                depth, key = pending.pop()
                if key not in seen:
                    seen.add(key)
                    yield depth, images[key]
                    pending.extend((depth + 1, child) for child in reversed(children.get(key, ())))


def require_readable(lineage: Lineage, base: Image, action: str) -> None:
    """Raises `HerdNotReadable` if there may be dependents that nobody knows of, which something is about to leave out."""
    left_out = [path for path in lineage.unreadable if os.path.lexists(path)]
    if left_out:
        raise HerdNotReadable(base.path, action, left_out)


def survey_again(lineage: Lineage) -> Lineage:
    """Returns the lineage of the same herd as it is now."""
    homes = [directory for directory, levels in lineage.directories.items() if levels is not None]
    return survey([directory for directory, levels in lineage.directories.items() if levels is None], homes)


def _probed(path: Path) -> str:
    with HostFile.open(path, lock=None) as file:
        return probe(file)


def survey(directories: Iterable[str | os.PathLike[str]], homes: Iterable[str | os.PathLike[str]] = ()) -> Lineage:
    """Returns the lineage of the herd in `directories`."""
    return Lineage(scan(directories, homes))


def survey_chains(images: Iterable[tuple[Path, str | None]], backing: Mapping[Path, BackingReference | None]) -> Lineage:
    """Returns the lineage of some images and of what lies below them; nothing else is looked at, so it does not take long.

    Each image comes with its format, None to guess. `backing` says of images, by their paths, on what they stand, whatever their
    headers say. What is not an image file is left out. Raises `HostFileError` for what can't be looked at.
    """
    found = Found()
    for path, image_format in images:
        image = found.add(path, image_format or _probed(path))
        if image and path in backing:
            found.images[image.key] = image._replace(backing=backing[path])
    return Lineage(found)


def survey_around(*paths: str | os.PathLike[str], herd: Sequence[str | os.PathLike[str]] = ()) -> Lineage:
    """Returns the lineage of the herd of `paths`: the directories of these images, and those in `herd`.

    Of an image's own directory the directories right in it count, of those in `herd` everything under them.
    Where a path is a symbolic link, the directory it lies in and the one it leads to both count.
    """
    spellings = [spelling for path in paths for spelling in (os.path.abspath(path), os.path.realpath(path))]
    return survey(herd, map(os.path.dirname, spellings))
