"""Finds overlays that wait for an image that is gone: the last copy of its content must not be removed as a leftover."""

from __future__ import annotations

import functools
import os

from cowherd.errors import BackingFileError, CowherdError, ImageFormatError
from cowherd.herd.records.header import Head, read_image
from cowherd.herd.records.ownership import is_seal
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.trashbox import entries, trashes_right_in
from cowherd.image.backing import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.herd.records.binding import Binding
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.paths import PathName


def awaited_record(seal: PathName) -> SealRecord | None:
    """Returns what the seal of an image that is gone, or is to go, says that overlays may wait for.

    None where none is there, or a damaged one: then only the image's name can be waited for. Raises `HostFileError`.
    """
    try:
        return read_record(seal) if is_seal(seal) else None
    except ImageFormatError:
        return None


class Awaited:
    """The images that the overlays of a herd wait for. Overlays in its trash count, except for the entries in `spared`."""

    def __init__(self, lineage: Lineage, spared: Collection[Path] = ()):
        self._lineage, self._spared = lineage, spared

    def by(self, image: Path, record: SealRecord | None) -> list[Path]:
        """Returns the overlays that wait for `image`. Either they name it and it is missing; or they are bound to the content or
        the seal in `record`, and their base does not hold that content. Raises `HostFileError`."""
        real = os.path.realpath(image)
        found = list(self._named.get(real, ()))
        if record is not None:
            found += [overlay.path for overlay in self._bound if _is_bound(overlay.binding, record) and overlay.path not in found]
        found += [path for path, named, binding in self._trashed if named == real or (record and _is_bound(binding, record))]
        return found

    @functools.cached_property
    def _named(self) -> dict[str, list[Path]]:
        """The overlays whose base is missing, by the paths at which they expect it."""
        real: dict[Path, str] = {}
        found: dict[str, list[Path]] = {}
        for overlay in self._lineage.broken_overlays:
            named = {link.path for link in self._lineage.links(overlay) if link.path is not None}
            for path in named:
                if path not in real:
                    real[path] = os.path.realpath(path)
                found.setdefault(real[path], []).append(overlay.path)
        return found

    @functools.cached_property
    def _bound(self) -> list[Image]:
        """The overlays with a binding whose base is missing, or not known to hold the content that they are bound to."""
        held: dict[Key, bytes | None] = {}
        found = []
        for image in self._lineage.images.values():
            if self._lineage.trashed_from(image):
                continue  # `_trashed` has these
            base = self._lineage.parent(image) if image.binding else None
            if base is not None and base.key not in held:
                held[base.key] = self._content_of(base)
            if image.binding and (base is None or held[base.key] != image.binding.content_digest):
                found.append(image)
        return found

    def _content_of(self, base: Image) -> bytes | None:
        try:
            record = self._lineage.record_of(base)
        except CowherdError:
            return None  # a seal that can't be read vouches for nothing
        return record.content_digest if record else None

    @functools.cached_property
    def _trashed(self) -> list[tuple[Path, str | None, Binding | None]]:
        """For each overlay in the trash: its former path, the base that it names from there, and its binding."""
        return list(self._look_through_trash())

    def _look_through_trash(self) -> Iterator[tuple[Path, str | None, Binding | None]]:
        for trash in trashes_right_in(self._lineage.listed):
            for entry in entries(trash)[0]:
                head = None if entry.directory in self._spared else _read_head(entry.image)
                if head is not None and (head.backing or head.binding):
                    yield entry.path, _base_named_by(head, entry.path), head.binding


def _is_bound(binding: Binding | None, record: SealRecord) -> bool:
    return binding is not None and (binding.content_digest == record.content_digest or binding.seal_id == record.seal_id)


def _read_head(image: Path) -> Head | None:
    try:
        content = read_image(os.fspath(image)).content
    except OSError:
        return None  # it disappeared after the listing, or this user may not read it: nothing is known of it
    return content if isinstance(content, Head) else None


def _base_named_by(head: Head, place: Path) -> str | None:
    if head.backing is None:
        return None
    try:
        return os.path.realpath(resolve(place, head.backing).name)
    except (BackingFileError, ValueError):
        return None
