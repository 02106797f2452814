"""Surveys a herd: from directories or images to the lineage of the images there."""

from __future__ import annotations

import contextlib
import errno
import os

from cowherd.errors import HostFileError
from cowherd.herd.lineage.book.config import herds
from cowherd.herd.lineage.book.notes import note_look
from cowherd.herd.lineage.book.places import Places
from cowherd.herd.lineage.book.query import places_around, places_under, remember
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.links import probed_format
from cowherd.herd.lineage.scan import Found, Image, scan
from cowherd.storage.presence import require_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from cowherd.formats.reference import BackingReference
    from cowherd.paths import PathName
    from cowherd.storage.holding import Holding


def survey_again(lineage: Lineage) -> Lineage:
    """Returns the lineage of the same herd as it is now."""
    return _lineage_of(lineage.places)


def image_now(lineage: Lineage, image: Image) -> Image:
    """Returns an image as a later survey sees it. Raises `HostFileError` if it is gone, or that survey could not read it."""
    now = lineage.images.get(image.key)
    if now is None:
        raise HostFileError(image.path, "look at", FileNotFoundError(errno.ENOENT, "it was there a moment ago"))
    return now


def survey(directories: Iterable[PathName], homes: Iterable[PathName] = ()) -> Lineage:
    """Returns the lineage of the herd in `directories`, and in `homes` and the directories directly in them.

    Overlays elsewhere count as far as they are known: in herds that were named, and in places where they were found before. The
    lineage then shows only images that are related to one in the directories. Raises `HostFileError` if one of `directories` does
    not exist.
    """
    directories = tuple(directories)
    require_directories(directories)
    lineage = _lineage_of(places_under(directories, homes))
    lineage.show_only(list(lineage.directories))
    return lineage


def _lineage_of(places: Places) -> Lineage:
    found = scan(places)
    for device in places.devices:
        with contextlib.suppress(HostFileError):  # a command that needs the device reports why it can't be opened
            found.add(device, probed_format(device))
            found.devices.append(device)
    lineage = Lineage(found)
    remember(lineage)
    return lineage


def survey_own_chain(overlay: PathName, image_format: str | None) -> Lineage:
    """Returns the lineage of an overlay and its chain as they are now, and remembers where the overlay stands.

    For what has just been put on another base, and no other image is asked about: it takes no look through the herd. Raises
    `ConfigUnclear`, `HostFileError`.
    """
    lineage = _chains_of(Found(Places({}, herds=tuple(herds()))), [(os.path.abspath(overlay), image_format)], {})
    remember(lineage)
    return lineage


def survey_chains(images: Iterable[tuple[PathName, str | None]], backing: Mapping[Any, BackingReference | None]) -> Lineage:
    """Returns the lineage of some images and their chains; it reads nothing else, so it does not take long.

    Each image comes with its format, None to guess. `backing` maps paths of images to their backing files, and overrides their
    headers. Files that are no images are left out. Raises `HostFileError` if a file can't be read.
    """
    return _chains_of(Found(), images, backing)


def _chains_of(
    found: Found, images: Iterable[tuple[PathName, str | None]], backing: Mapping[Any, BackingReference | None]
) -> Lineage:
    for path, image_format in images:
        image = found.add(os.fspath(path), image_format or probed_format(path))
        if image and path in backing:
            found.images[image.key] = image._replace(backing=backing[path])
    return Lineage(found)


def survey_around(*paths: PathName, herd: Sequence[PathName] = (), held: Holding | None = None) -> Lineage:
    """Returns the lineage of the herd of `paths`: all known overlays of these images and of the images in their chains.

    It searches the directories of all of these and around them (see `lineage.book`), everything under those in `herd` and in the
    herds that were named, and every place in which overlays of them are known to lie. If a path is a symbolic link, it searches
    both the directory of the link and the one to which it leads. `held` are files that the caller holds, and through which the
    kernel is asked who else has them open. Raises `HostFileError` if a directory of `herd` does not exist.
    """
    require_directories(herd)
    lineage = _lineage_of(places_around(paths, herd, held))
    note_look(lineage, paths)
    return lineage
