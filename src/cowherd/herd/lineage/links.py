"""Where the names lead that images store: to their backing files, their data files, and the parts of what is more than a file."""

from __future__ import annotations

import os
from operator import attrgetter

from cowherd.errors import BackingFileError, BackingNotFollowed, CowherdError, HostFileError
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
    """What one name of an overlay leads to: the base's key, or None and why not. `path` is None if it is no local file.

    `unknown`: whether the base is there can't be told from here; it lies on a network, say, or may not be looked at.
    """

    name: Path
    path: Path | None
    target: Key | None
    problem: str | None = None
    unknown: bool = False


class Lead(NamedTuple):
    """A link without the name that it starts from: what all overlays in one directory share that name the same base.

    `format` is the base's as recorded. `parts` are local files that the base is made of, where it is more than a file.
    """

    path: str | None
    target: Key | None
    problem: str | None = None
    unknown: bool = False
    format: str | None = None
    parts: tuple[Key, ...] = ()


Spelling = tuple[str, str, str | None]
"""What overlays share that name a base alike: their directory, the name and the format that they record."""


class FollowedLinks:
    """The links of all images that a scan has found, with the images outside of its directories that they lead to.

    `leads` says where each name of an overlay leads, `parts` of which other files an image is made, `recorded` as what overlays
    record the format of a base (each format with one that does), `spelled` gives one overlay and its lead for each spelling.
    """

    def __init__(self, found: Found):
        """Follows them, which adds to `found`."""
        self._found = found
        self.leads: dict[Key, tuple[Lead, ...]] = {}
        self.parts: dict[Key, tuple[Key, ...]] = {}
        self.recorded: dict[Key, dict[str, str]] = {}
        self.spelled: dict[Spelling, tuple[str, Lead]] = {}
        self._follow()

    def _follow(self) -> None:
        """Resolves the backing file of every image, adding images outside of the directories that it leads to."""
        images = self._found.images
        known: dict[Spelling, tuple[Lead]] = {}
        led_to: list[Key] = []
        # Always in one order: of images that record each other as raw, the first decides. The scan's order is that of its luck.
        for image in sorted(images.values(), key=attrgetter("filenames")):
            self._follow_one(image.key, known, led_to)
        while led_to:
            key = led_to.pop()
            if len(self.leads.get(key, ())) != len(images[key].filenames):  # it was not there before, or not by all of its names
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
                one = known[spelling] = (self._lead(name, backing),)
                self.spelled[spelling] = name, one[0]
                if one[0].target is not None:
                    led_to.append(one[0].target)
                    if self._found.images[key].backing is None:  # it has found itself, recorded as raw
                        return
            leads = leads + one if leads else one
        self.leads[key] = leads
        if leads[0].parts:
            self.parts[key] = self.parts.get(key, ()) + leads[0].parts

    def _names_to_follow(self, image: Image) -> tuple[str, ...]:
        """Returns the names from which an image's own references start: of a deleted one, the one that it had."""
        deleted_from = self._found.trashed.get(image.key)
        return (deleted_from,) if deleted_from else image.filenames

    def _files_named(self, image: Image, names: tuple[str, ...]) -> tuple[Key, ...]:
        """Returns the files that an image is made of beside its own, of those of `names` that are there.

        QEMU looks for a relative one where it runs, which is where the image lies, or else where whoever asks is.
        """
        home = os.path.dirname(self._names_to_follow(image)[0])
        paths = dict.fromkeys(
            os.path.join(place, name) for name in names if "\0" not in name for place in (home, current_directory())
        )
        found = map(self._part, paths)
        return tuple(key for key in found if key is not None and key != image.key)

    def _part(self, path: str) -> Key | None:
        image = self._found.add_part(os.path.realpath(path))
        return image.key if image else None

    def _lead(self, name: str, backing: BackingReference) -> Lead:
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
            parts = (self._part(os.path.abspath(part)) for part in error.files)
            return Lead(path, None, error.problem, True, parts=tuple(key for key in parts if key is not None))
        except OSError as error:
            return Lead(path, None, error.strerror or str(error), error.errno not in NOTHING)
        except ValueError:
            return Lead(path, None, "no file can have this name")
        except HostFileError as error:
            return Lead(path, None, error.reason, error.errno not in NOTHING)
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
        ):  # it is found to be recorded as raw after its header was followed
            del self.leads[target.key]
            self._was_misled = True
        return Lead(path, target.key, format=reference.format)

    def _note_format(self, base: Key, recorded: str, overlay: str) -> None:
        """Remembers as what an overlay records its base. Of two that contradict each other neither is believed."""
        formats = self.recorded.setdefault(base, {})
        if formats.setdefault(recorded, overlay) == overlay and len(formats) > 1:
            self._found.doubt(base)


def probed_format(path: PathName) -> str:
    """Returns the format that a file's first bytes say. Raises `HostFileError`."""
    with HostFile.open(path, lock=None) as file:
        return probe(file)
