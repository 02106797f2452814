"""Repairing links after somebody moved files by hand: a lost base is found again by its content, whatever it is called now.

An overlay's binding, or the seal that was left where its base lay, says which content it stood on. Candidates are read and
their content digests compared, the likeliest first, unless a seal that holds says it already. Only names are rewritten.

A seal that was left follows its base: it is written beside the base before a name leads there, and is removed from its old place
once no overlay needs it there. So an interrupted run can be done again.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.errors import BackingFileError, CowherdError, HostFileError, ImageInUse, preview
from cowherd.formats import registry
from cowherd.herd.lineage.backing_names import breaks_when_moved, reference_for
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.links import Link
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import left_out_of
from cowherd.herd.lineage.survey import image_now, survey_again, survey_around
from cowherd.herd.lineage.walk import files_under
from cowherd.herd.records.ownership import believed, is_seal
from cowherd.herd.records.sealfile import read_digests, read_record_or_none
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.herd.records.status import Status
from cowherd.herd.seals.adopt import recorded_format
from cowherd.herd.seals.held import Held, held_content
from cowherd.herd.seals.naming import write_reference
from cowherd.herd.seals.quick_check import condition, of_file, record_of, record_or_none
from cowherd.herd.seals.recorded_files import record_files
from cowherd.herd.seals.seal import refresh
from cowherd.herd.seals.shadow import keep_shadow
from cowherd.paths import path_names
from cowherd.storage.durable import make_durable, make_durable_if_recent
from cowherd.storage.presence import is_there, parted
from cowherd.storage.transfer import take_name
from cowherd.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from cowherd.formats.reference import BackingReference
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.paths import PathNames
    from cowherd.progress import Progress


class BaseNotFound(CowherdError):
    """The base of an overlay was not found. Attributes: `overlay`, `wanted` (digest, None if unknown), `tried`."""

    exit_code = 4

    def __init__(self, overlay: Path, wanted: bytes | None, tried: Sequence[Path] = ()):
        self.overlay, self.wanted, self.tried = overlay, wanted, tuple(tried)

    def __str__(self) -> str:
        if self.wanted is None:
            return f"{printable(self.overlay)}: nothing says what its base held, so that it can't be found by its content"
        looked = f" (read {preview(self.tried)})" if self.tried else ""
        return (
            f"{printable(self.overlay)}: no image here holds what it was made on, content {self.wanted.hex()[:16]}{looked}; "
            f"name more directories with --herd"
        )


@dataclass(frozen=True)
class Relinked:
    """One overlay whose backing name was examined: `base` is the file that the name leads to now, `name` how it is written.

    `by_content`: the base was lost, and was found by its content. `problem`: why nothing was done.
    """

    overlay: Path
    base: Path | None = None
    name: str | None = None
    by_content: bool = False
    problem: CowherdError | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd move --repair --json` prints them."""
        return {
            "overlay": os.fspath(self.overlay),
            "base": os.fspath(self.base) if self.base else None,
            "name": self.name,
            "by_content": self.by_content,
            "problem": str(self.problem) if self.problem else None,
        }


def relink(
    images: PathNames,
    *,
    dry_run: bool = False,
    herd: PathNames = (),
    progress: Progress | None = None,
) -> list[Relinked]:
    """Repairs the backing names of overlays: it finds lost bases by their content, and rewrites names that lead to the base only
    from one place as `clone` would write them. A directory among `images` means the overlays in it.

    Returns the overlays that needed something. `problem` says what went wrong with one, or with a file that can't be read and
    may be an overlay.
    """
    images, herd = path_names(images), path_names(herd)
    directories, named = parted(images)
    lineage = survey_around(*named, herd=[*herd, *directories])
    meant = {lineage.find(path).key for path in named}
    roots = [Path(os.path.realpath(directory)) for directory in directories]
    meant |= {key for key, image in lineage.images.items() if any(image.path.is_relative_to(root) for root in roots)}
    search, done = _Search(progress), []
    for image in [image for _, image, _ in lineage.walk() if image.key in meant]:
        one = _repair(lineage, image, search, dry_run=dry_run)
        done += [one] if one else []
        if one and one.base and not dry_run:
            lineage = survey_again(lineage)
    if not dry_run:
        _take_left_seals(lineage, meant)
    return done + [Relinked(path, problem=_unreadable(path)) for path in left_out_of(lineage)]


def _unreadable(path: Path) -> CowherdError:
    """What is wrong with a file that may be an overlay, or a directory that may hold some."""
    return HostFileError(path, "look into", OSError(errno.EIO, "it can't be read, and an overlay in need of repair may be there"))


def _repair(lineage: Lineage, overlay: Image, search: _Search, *, dry_run: bool) -> Relinked | None:
    if overlay.backing is None:
        return None
    try:
        overlay = image_now(lineage, overlay)
        require_none(lineage, [overlay], "rewrite the base of")
        link = lineage.broken(overlay)
        if link and link.unknown:  # what can't be seen from here is not gone: nothing else takes its place
            raise BackingFileError(overlay.path, os.fspath(link.name), link.problem or "it can't be looked at from here")
        base = _base_by_name(lineage, overlay, search)
        by_content = base is None
        base = base or search.base_of(lineage, overlay)
        reference = reference_for(overlay, base.path, base.format if by_content else recorded_format(overlay))
        if not by_content and not _changes(lineage, overlay, base, reference):
            if not dry_run:
                make_durable_if_recent(overlay.path)  # a killed run may have repaired it in memory only
            return None
        if not dry_run:
            if by_content:
                _bring_seal(lineage, lineage.links(overlay)[0], base, search)
            _write(lineage, overlay, reference)
        return Relinked(overlay.path, base.path, reference.name, by_content)
    except CowherdError as error:
        return Relinked(overlay.path, problem=error)


def _changes(lineage: Lineage, overlay: Image, base: Image, reference: BackingReference) -> bool:
    """Whether a sound link must be rewritten, because it leads to the base only from one place."""
    lost = any(link.target != base.key for link in lineage.links(overlay))
    return overlay.backing != reference and (lost or breaks_when_moved(overlay, base))


def _base_by_name(lineage: Lineage, overlay: Image, search: _Search) -> Image | None:
    """Returns the base that the overlay's name leads to, None if that is not there or is known to be another.

    The base of a bound overlay is read if no seal says what it holds.
    """
    base = lineage.parent(overlay)
    if base is None or lineage.in_loop(overlay):
        return None
    if overlay.binding is None:
        return base
    record = record_or_none(base)  # a damaged seal says nothing for or against its image
    wanted = overlay.binding.content_digest
    fits = record.content_digest == wanted if record else search.holds(lineage, base, wanted)
    return base if fits else None


def _write(lineage: Lineage, overlay: Image, reference: BackingReference) -> None:
    """Rewrites the name; the overlay's seal still holds if it fitted the overlay's own file, because what is below fits too."""
    record = record_of(overlay)
    held = record is not None and of_file(overlay.path, record.identity).status.holds
    write_reference(overlay, reference)
    if held and overlay.seal:
        after = survey_again(lineage)
        record_files(after, image_now(after, overlay), *read_digests(overlay.expected_seal))


def _bring_seal(lineage: Lineage, link: Link, base: Image, search: _Search) -> None:
    """Gives a base that was found by content its seal again: the one left at its old place, or its own, updated to the move."""
    left = seal_path(link.path) if link.path else None
    held = search.held.get(base.key)
    if base.seal is None and left is not None and is_seal(left) and not is_there(link.path or left):
        record, digests = read_digests(left)
        record = believed(record, os.stat(base.path), left)
        record_files(lineage, base, keep_shadow(record, None), digests)
    elif base.seal and held and condition(lineage, base).status is not Status.OK:
        refresh(lineage, base, held)


def _take_left_seals(lineage: Lineage, meant: set[Key]) -> None:
    """Removes seals that were left at the old places of bases of the images `meant`, once the bases have them beside them."""
    needed = {link.path for overlay in lineage.broken_overlays if (link := lineage.broken(overlay))}
    bases = {base.key: base for key in meant if key in lineage.images and (base := lineage.parent(lineage.images[key]))}
    brought = {_what_it_says(record): base for base in bases.values() if (record := record_or_none(base))}
    for gone in lineage.orphans:
        left = seal_path(gone)
        record = read_record_or_none(left) if gone not in needed else None
        if record and (base := brought.get(_what_it_says(record))) and not is_there(gone):
            make_durable(base.path, base.expected_seal)  # a killed run may have put it there in memory only
            take_name(left)


def _what_it_says(record: SealRecord) -> tuple[bytes, int, bytes]:
    return record.seal_id, record.generation, record.content_digest


class _Search:
    """Looks for content among the images and files of a herd, and remembers what it has read."""

    def __init__(self, progress: Progress | None):
        self.progress = progress
        self.held: dict[Key, Held] = {}

    def base_of(self, lineage: Lineage, overlay: Image) -> Image:
        """Returns the image that `overlay` was made on. Raises `BaseNotFound`."""
        link = lineage.links(overlay)[0]
        left = _seal_left(link)
        wanted = overlay.binding.content_digest if overlay.binding else left.content_digest if left else None
        if wanted is None:
            raise BaseNotFound(overlay.path, None)
        tried = []
        for candidate in _candidates(lineage, overlay, link, left, wanted):
            if self.holds(lineage, candidate, wanted):
                return candidate
            tried.append(candidate.path)
        raise BaseNotFound(overlay.path, wanted, tried)

    def holds(self, lineage: Lineage, image: Image, wanted: bytes) -> bool:
        """Returns whether an image has the content `wanted`, as a seal that holds says, or else after reading the image."""
        with contextlib.suppress(CowherdError):  # a damaged seal: its content is read
            record = record_of(image)
            if record and condition(lineage, image).status is Status.OK:
                return record.content_digest == wanted
        if image.key not in self.held:
            try:
                with held_content(lineage, image, self.progress) as held:
                    self.held[image.key] = held
            except ImageInUse:
                raise
            except CowherdError:
                return False  # what can't be read is not what was lost
        return self.held[image.key].content.content_digest == wanted


def _seal_left(link: Link) -> SealRecord | None:
    """Returns the record of the seal that lies where a lost base lay."""
    return read_record_or_none(seal_path(link.path)) if link.path and not is_there(link.path) else None


def _candidates(lineage: Lineage, overlay: Image, link: Link, left: SealRecord | None, wanted: bytes) -> Iterator[Image]:
    """Yields candidates for the lost base, the likeliest first: sealed with that content, the same file, the same file name."""
    above = {image.key for image in (overlay, *lineage.dependents(overlay))}
    size = left.size if left else None
    images = [image for image in lineage.images.values() if image.key not in above and size in (None, image.size)]
    yield from sorted(images, key=lambda image: (*_unlikeliness(image, link, left, wanted), image.path))
    chosen = recorded_format(overlay) or (left.format if left else None)
    # A raw file is known as an image only if an overlay names it, and the name in this overlay is wrong.
    if chosen is not None and registry.named(chosen).verbatim:
        yield from _raw_files(lineage, link, size)


def _unlikeliness(image: Image, link: Link, left: SealRecord | None, wanted: bytes) -> tuple[bool, bool, bool]:
    sealed = record_or_none(image)  # a damaged seal does not recommend its image
    return (
        sealed is None or sealed.content_digest != wanted,
        left is None or image.key[1] != left.identity.inode,
        link.path is None or image.path.name != link.path.name,
    )


def _raw_files(lineage: Lineage, link: Link, size: int | None) -> Iterator[Image]:
    known = {name for image in lineage.images.values() for name in image.names}
    for directory, levels in lineage.directories.items():
        for name in map(Path, files_under(directory, levels, [])):
            fits = name.stat().st_size == size if size is not None else link.path is not None and name.name == link.path.name
            if fits and name not in known:
                yield lineage.find(name, registry.RAW.name)
