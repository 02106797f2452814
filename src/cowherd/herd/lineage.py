"""The lineage of a herd: which image stands on which.

Images are told apart by (device, inode), never by name: a base reached through a hard link, a symbolic link or another
spelling of its path is one base.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cowherd.errors import BackingFileError, CowherdError, HostFileError
from cowherd.formats.layer import BackingReference
from cowherd.formats.probe import probe
from cowherd.herd.scan import Found, Image, Key, scan
from cowherd.image.backing import resolve
from cowherd.storage.hostfile import HostFile


@dataclass(frozen=True)
class Link:
    """What one name of an overlay leads to: the base's key, or None and why not. `path` is None if it is no local file."""

    name: Path
    path: Path | None
    target: Key | None
    problem: str | None = None


class Lineage:
    """The images of a herd and the links between them.

    `directories` are those of the herd (see `Found`), `images` maps keys to images; `unreadable` are files that could not be
    looked at, and may be overlays too; `orphans` are images that are gone while their seals are there.
    """

    def __init__(self, found: Found):
        self._found = found
        self.directories = found.directories
        self.links: dict[Key, tuple[Link, ...]] = {}
        self._follow()
        self.images = found.images
        self.unreadable, self.orphans = tuple(found.unreadable), tuple(found.orphans)
        self._children: dict[Key, list[Key]] = {}
        for key, links in self.links.items():
            for target in {link.target for link in links if link.target is not None}:
                self._children.setdefault(target, []).append(key)

    def _follow(self) -> None:
        """Resolves the backing file of every image, adding images outside of the directories that it leads to."""
        pending = list(self._found.images)
        while pending:
            key = pending.pop()
            image = self._found.images[key]
            if image.backing is None or key in self.links:
                continue
            self.links[key] = tuple(self._link(image, name) for name in image.names)
            pending.extend(link.target for link in self.links[key] if link.target is not None)
        for key in [key for key in self.links if self._found.images[key].backing is None]:
            del self.links[key]  # it was found to be recorded as raw only after its header had been followed

    def _link(self, image: Image, name: Path) -> Link:
        assert image.backing is not None
        path = None
        try:
            reference = resolve(name, image.backing)
            path = Path(os.path.abspath(reference.name))
            os.stat(path)
            target = self._found.add(path, reference.format or _probed(path))
        except OSError as error:
            return Link(name, path, None, error.strerror or str(error))
        except ValueError:
            return Link(name, path, None, "no file can have this name")
        except HostFileError as error:
            return Link(name, path, None, error.reason)
        except BackingFileError as error:
            return Link(name, path, None, error.problem)
        except CowherdError as error:
            return Link(name, path, None, str(error))
        return Link(name, path, target.key if target else None, None if target else "it is not an image file")

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
        targets = (link.target for link in self.links.get(image.key, ()) if link.target is not None)
        return next((self.images[target] for target in targets), None)

    def broken(self, image: Image) -> Link | None:
        """Returns the link of an overlay whose backing file can't be found under any of its names, or None."""
        links = self.links.get(image.key, ())
        return links[0] if links and all(link.target is None for link in links) else None

    def chain(self, image: Image) -> list[Image]:
        """Returns `image`, its base, that one's base, ...; it ends before an image that it already holds (see `in_loop`)."""
        chain, seen = [image], {image.key}
        while (base := self.parent(chain[-1])) and base.key not in seen:
            chain.append(base)
            seen.add(base.key)
        return chain

    def in_loop(self, image: Image) -> bool:
        """Returns whether the chain of `image` comes back to an image it has passed."""
        return self.parent(self.chain(image)[-1]) is not None

    def children(self, image: Image) -> list[Image]:
        """Returns the overlays that name `image` as their backing file, by path."""
        return sorted((self.images[key] for key in self._children.get(image.key, ())), key=lambda child: child.path)

    def dependents(self, image: Image) -> list[Image]:
        """Returns every overlay whose chain passes through `image`, by path."""
        seen = {image.key}
        pending = [image.key]
        while pending:
            for child in self._children.get(pending.pop(), ()):
                if child not in seen:
                    seen.add(child)
                    pending.append(child)
        return sorted((self.images[key] for key in seen - {image.key}), key=lambda dependent: dependent.path)

    def siblings(self, image: Image) -> list[Image]:
        """Returns the other overlays of the base of `image`, by path."""
        base = self.parent(image)
        return [child for child in self.children(base) if child.key != image.key] if base else []

    def roots(self) -> list[Image]:
        """Returns the images that stand on nothing, and those whose base is not there, by path."""
        return sorted((image for image in self.images.values() if self.parent(image) is None), key=lambda root: root.path)

    def walk(self) -> Iterator[tuple[int, Image]]:
        """Yields (depth, image) for every image, each base before its overlays; images in loops come last, at depth 0."""
        seen: set[Key] = set()
        for root in [*self.roots(), *sorted(self.images.values(), key=lambda image: image.path)]:
            pending = [(0, root)]
            while pending:
                depth, image = pending.pop()
                if image.key not in seen:
                    seen.add(image.key)
                    yield depth, image
                    pending.extend((depth + 1, child) for child in reversed(self.children(image)))


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
            found.images[image.key] = replace(image, backing=backing[path])
    return Lineage(found)


def survey_around(*paths: str | os.PathLike[str], herd: Sequence[str | os.PathLike[str]] = ()) -> Lineage:
    """Returns the lineage of the herd of `paths`: the directories of these images, and those in `herd`.

    Of an image's own directory the directories right in it count, of those in `herd` everything under them.
    Where a path is a symbolic link, the directory it lies in and the one it leads to both count.
    """
    spellings = [spelling for path in paths for spelling in (os.path.abspath(path), os.path.realpath(path))]
    return survey(herd, map(os.path.dirname, spellings))
