"""Looking at a herd: from directories or images to the lineage of what lies there."""

from __future__ import annotations

import contextlib
import errno
import os

from cowherd.errors import HostFileError
from cowherd.herd.lineage.book.notes import note_look
from cowherd.herd.lineage.book.query import places_around, places_under, remember
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.links import probed_format
from cowherd.herd.lineage.scan import Found, Image, scan
from cowherd.storage.presence import require_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cowherd.formats.reference import BackingReference
    from cowherd.herd.lineage.book.places import Places
    from cowherd.paths import PathName


def survey_again(lineage: Lineage) -> Lineage:
    """Returns the lineage of the same herd as it is now."""
    return _lineage_of(lineage.places)


def known_again(lineage: Lineage, image: Image) -> Image:
    """Returns an image as a later survey sees it. Raises `HostFileError` if that could not look at it, or it is gone."""
    now = lineage.images.get(image.key)
    if now is None:
        raise HostFileError(image.path, "look at", FileNotFoundError(errno.ENOENT, "it was there a moment ago"))
    return now


def survey(directories: Iterable[PathName], homes: Iterable[PathName] = ()) -> Lineage:
    """Returns the lineage of the herd in `directories`, and in `homes` with the directories right in them.

    Overlays elsewhere count as far as they are known: in herds that were named, and where they were found before. Only what has
    to do with an image in the directories is shown then. Raises `HostFileError` for one of `directories` that is not there.
    """
    directories = tuple(directories)
    require_directories(directories)
    lineage = _lineage_of(places_under(directories, homes))
    lineage.show_only(list(lineage.directories))
    return lineage


def _lineage_of(places: Places) -> Lineage:
    found = scan(places)
    for device in places.devices:
        with contextlib.suppress(HostFileError):  # who needs it says why it can't be opened
            found.add(device, probed_format(device))
            found.devices.append(device)
    lineage = Lineage(found)
    remember(lineage)
    return lineage


def survey_chains(images: Iterable[tuple[Path, str | None]], backing: Mapping[Path, BackingReference | None]) -> Lineage:
    """Returns the lineage of some images and of what lies below them; nothing else is looked at, so it does not take long.

    Each image comes with its format, None to guess. `backing` says of images, by their paths, on what they stand, whatever their
    headers say. What is not an image file is left out. Raises `HostFileError` for what can't be looked at.
    """
    found = Found()
    for path, image_format in images:
        image = found.add(os.fspath(path), image_format or probed_format(path))
        if image and path in backing:
            found.images[image.key] = image._replace(backing=backing[path])
    return Lineage(found)


def survey_around(*paths: PathName, herd: Sequence[PathName] = ()) -> Lineage:
    """Returns the lineage of the herd of `paths`: what stands on these images, and on those in their chains, as far as anybody
    can know.

    The directories of all of these are looked at, and around them (see `lineage.book`), everything under those in `herd` and in
    the herds that were named, and every place in which overlays of them are known to lie. Where a path is a symbolic link, the
    directory it lies in and the one it leads to both count. Raises `HostFileError` for a directory of `herd` that is
    not there.
    """
    require_directories(herd)
    lineage = _lineage_of(places_around(paths, herd))
    note_look(lineage, paths)
    return lineage
