"""Follows the names that images store: to their backing files, their data files, and the parts of a base of several files."""

from __future__ import annotations

import os
from operator import attrgetter

from cowherd.errors import BackingFileError, BackingNotFollowed, CowherdError
from cowherd.formats.probe import probe
from cowherd.herd.lineage.scan import Found, Image, Key
from cowherd.image.backing import resolve
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import NOTHING
from cowherd.text import current_directory
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from cowherd.formats.reference import BackingReference
    from cowherd.paths import PathName


class Link(NamedTuple):
    """The base that an overlay finds from one of its names. `target` is the base's key, or None: then `problem` says why.

    `path` is None if the base is no local file. `unknown`: the base may or may not exist; it lies on a network, say, or this user
    may not look there.
    """

    name: Path
    path: Path | None
    target: Key | None
    problem: str | None = None
    unknown: bool = False


class Lead(NamedTuple):
    """A link without the overlay's name. All overlays in one directory that name the same base share one.

    `format` is the base's recorded format. `parts` are the local files of a base that consists of several.
    """

    path: str | None
    target: Key | None
    problem: str | None = None
    unknown: bool = False
    format: str | None = None
    parts: tuple[Key, ...] = ()


Spelling = tuple[str, str, str | None]
"""How an overlay names its base: the overlay's directory, the stored name, and the stored format."""


class FollowedLinks:
    """The links of all images that a scan has found.

    `leads` has a lead for each name of an overlay, `parts` the other files of an image, `recorded` the formats that overlays
    record for a base (each with one overlay that records it), `spelled` one overlay and its lead for each spelling.
    """

    def __init__(self, found: Found):
        """Follows the links, and adds images outside of the scanned directories that they lead to to `found`."""
        self._found = found
        self.leads: dict[Key, tuple[Lead, ...]] = {}
        self.parts: dict[Key, tuple[Key, ...]] = {}
        self.recorded: dict[Key, dict[str, str]] = {}
        self.spelled: dict[Spelling, tuple[str, Lead]] = {}
        self._follow()

    def _follow(self) -> None:
        """Follows the backing file of every image that the scan found, then of every image that a link has added."""
        images = self._found.images
        known: dict[Spelling, tuple[Lead]] = {}
        led_to: list[Key] = []
        # In a fixed order, since among images that record each other as raw the first one decides; the scan's order varies.
        for image in sorted(images.values(), key=attrgetter("filenames")):
            self._follow_one(image.key, known, led_to)
        while led_to:
            key = led_to.pop()
            if len(self.leads.get(key, ())) != len(images[key].filenames):  # a link added it, or another name of it
                self._follow_one(key, known, led_to)

    def _follow_one(self, key: Key, known: dict[Spelling, tuple[Lead]], led_to: list[Key]) -> None:
        image = self._found.images[key]
        if image.data_file is not None:
            self.parts[key] = self._files_named(image, (image.data_file,))
        backing = image.backing
        if backing is None:
            return
        leads: tuple[Lead, ...] = ()
        for name in self._names_to_follow(image):
            spelling = name[: name.rindex("/")], backing.name, backing.format
            one = known.get(spelling)
            if one is None:
                one = known[spelling] = (self._follow_reference(name, backing),)
                self.spelled[spelling] = name, one[0]
                if one[0].target is not None:
                    led_to.append(one[0].target)
                    if self._found.images[key].backing is None:  # the image names itself as its base, and as raw
                        return
            leads = leads + one if leads else one
        self.leads[key] = leads
        if leads[0].parts:
            self.parts[key] = self.parts.get(key, ()) + leads[0].parts

    def _names_to_follow(self, image: Image) -> tuple[str, ...]:
        """Returns the names from which an image's references are resolved: its own, or the former one of a deleted image."""
        deleted_from = self._found.trashed.get(image.key)
        return (deleted_from,) if deleted_from else image.filenames

    def _files_named(self, image: Image, names: tuple[str, ...]) -> tuple[Key, ...]:
        """Returns those of the other files of an image, `names`, that exist.

        QEMU resolves a relative name in its working directory. That is not known here, so two directories are tried: the image's,
        and this process's own.
        """
        home = os.path.dirname(self._names_to_follow(image)[0])
        paths = dict.fromkeys(
            os.path.join(place, name) for name in names if "\0" not in name for place in (home, current_directory())
        )
        found = map(self._add_part, paths)
        return tuple(key for key in found if key is not None and key != image.key)

    def _add_part(self, path: str) -> Key | None:
        image = self._found.add_part(os.path.realpath(path))
        return image.key if image else None

    def _follow_reference(self, name: str, backing: BackingReference) -> Lead:
        path = None
        try:
            reference = resolve(name, backing)
            path = os.path.abspath(reference.name)
            met = self._found.met.get(path)
            if met and reference.format == self._found.images[met].format:
                self._note_format(met, reference.format, name)
                return Lead(path, met, format=reference.format)
            os.stat(path)
            unreadable = len(self._found.unreadable)
            target = self._found.add(path, reference.format or probed_format(path))
        except BackingNotFollowed as error:
            parts = (self._add_part(os.path.abspath(part)) for part in error.files)
            return Lead(path, None, error.problem, True, parts=tuple(key for key in parts if key is not None))
        except OSError as error:
            return Lead(path, None, error.strerror or str(error), error.errno not in NOTHING)
        except ValueError:
            return Lead(path, None, "no file can have this name")
        except BackingFileError as error:
            return Lead(path, None, error.problem)
        except CowherdError as error:
            return Lead(path, None, str(error))
        if target is None:
            hidden = len(self._found.unreadable) > unreadable
            return Lead(path, None, "it can't be read" if hidden else "it is not an image file", hidden)
        if reference.format:
            self._note_format(target.key, reference.format, name)
        if (
            self._found.images[target.key].backing is None and target.key in self.leads
        ):  # an overlay records it as raw, which became known only after its own backing file was followed
            del self.leads[target.key]
        return Lead(path, target.key, format=reference.format)

    def _note_format(self, base: Key, recorded: str, overlay: str) -> None:
        """Remembers the format that an overlay records for its base. If two overlays contradict each other, neither counts."""
        formats = self.recorded.setdefault(base, {})
        if formats.setdefault(recorded, overlay) == overlay and len(formats) > 1:
            self._found.reset_to_own_header(base)


def probed_format(path: PathName) -> str:
    """Returns the format that a file's first bytes show. Raises `HostFileError`."""
    with HostFile.open(path, lock=None) as file:
        return probe(file)
