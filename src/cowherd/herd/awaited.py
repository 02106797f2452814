"""Which overlays wait for an image that is gone: the last copy of what it held is no leftover."""

from __future__ import annotations

import functools
import os

from cowherd.errors import BackingFileError, CowherdError
from cowherd.herd.header import Head, read_image
from cowherd.herd.trashbox import entries, trashes_right_in
from cowherd.image.backing import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from cowherd.herd.binding import Binding
    from cowherd.herd.lineage import Lineage
    from cowherd.herd.scan import Image
    from cowherd.herd.sealfile import SealRecord


class Awaited:
    """What the overlays of a herd wait for, those in its trash too, except for the entries there that are `spared`."""

    def __init__(self, lineage: Lineage, spared: Collection[Path] = ()):
        self._lineage, self._spared = lineage, spared

    def by(self, image: Path, record: SealRecord | None) -> list[Path]:
        """Returns the overlays that wait for `image`: they name it and it is not there, or they are bound to the content or the
        seal that `record` tells of and their base does not have it. Raises `HostFileError`."""
        real = os.path.realpath(image)
        found = [overlay.path for overlay in self._lineage.broken_overlays if self._names(overlay, real)]
        if record is not None:
            found += [overlay.path for overlay in self._bound if _fits(overlay.binding, record) and overlay.path not in found]
        found += [path for path, named, binding in self._trashed if named == real or (record and _fits(binding, record))]
        return found

    def _names(self, overlay: Image, image: str) -> bool:
        return any(link.path is not None and os.path.realpath(link.path) == image for link in self._lineage.links(overlay))

    @functools.cached_property
    def _bound(self) -> list[Image]:
        """The overlays with a binding whose base is not there, or not known to hold what they are bound to."""
        return [image for image in self._lineage.images.values() if image.binding and not self._is_served(image)]

    def _is_served(self, overlay: Image) -> bool:
        base = self._lineage.parent(overlay)
        if base is None or overlay.binding is None:
            return False
        try:
            record = self._lineage.record_of(base)
        except CowherdError:
            return False  # a seal that can't be read vouches for nothing
        return record is not None and record.content_digest == overlay.binding.content_digest

    @functools.cached_property
    def _trashed(self) -> list[tuple[Path, str | None, Binding | None]]:
        """Of each overlay in the trash: where it was, what it names there, and what it is bound to."""
        return list(self._look_through_trash())

    def _look_through_trash(self) -> Iterator[tuple[Path, str | None, Binding | None]]:
        for trash in trashes_right_in(self._lineage.looked_through):
            for entry in entries(trash)[0]:
                head = None if entry.directory in self._spared else _head(entry.image)
                if head is not None and (head.backing or head.binding):
                    yield entry.path, _named_by(head, entry.path), head.binding


def _fits(binding: Binding | None, record: SealRecord) -> bool:
    return binding is not None and (binding.content_digest == record.content_digest or binding.seal_id == record.seal_id)


def _head(image: Path) -> Head | None:
    try:
        content = read_image(os.fspath(image)).content
    except OSError:
        return None  # it is gone since it was listed, or may not be read: nothing is known of it
    return content if isinstance(content, Head) else None


def _named_by(head: Head, place: Path) -> str | None:
    if head.backing is None:
        return None
    try:
        return os.path.realpath(resolve(place, head.backing).name)
    except (BackingFileError, ValueError):
        return None
