"""What a herd could do without: orphans, bases that nothing stands on, leftovers of interrupted work, and the trash.

Only leftovers are ever removed, and only a proven leftover counts as one: by its content and by what it belongs to, not by its
name. A file that only has such a name is listed as `unproven`, for a person to look at.
"""

from __future__ import annotations

import contextlib
import enum
import os
import stat
from pathlib import Path

from cowherd.errors import HostFileError
from cowherd.herd.lineage.awaited import Awaited
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import Pending
from cowherd.herd.lineage.survey import survey
from cowherd.herd.machines.domains import images_without_domain, named_by_domains
from cowherd.herd.records.ownership import SHADOW_SUFFIX, TRASH, WRITE_BITS, is_forgotten, is_proven_seal, is_unfinished_name
from cowherd.herd.records.sealfile import read_record_or_none
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.records.sealrecord import SUFFIX
from cowherd.herd.records.sidecars import is_shadow, shadow_path
from cowherd.herd.records.trashbox import disk_size, entries, is_entry_name, remains, strange_trashes, strays, trash_directories
from cowherd.herd.seals.shadow import shadow_of
from cowherd.live.holders import writers
from cowherd.live.libvirt_records import read_records
from cowherd.paths import path_names
from cowherd.storage import atomic
from cowherd.storage.directory import Directory
from cowherd.storage.presence import is_there, look_up, require_directories
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from cowherd.paths import PathNames


class Sort(enum.StrEnum):
    """Why something could go."""

    LEFTOVER = "leftover"
    UNPROVEN = "unproven"
    LAST_COPY = "last-copy"
    TRASHED = "trashed"
    ORPHAN = "orphan"
    UNUSED_BASE = "unused-base"
    UNNAMED_DISK = "unnamed-disk"


class Garbage(NamedTuple):
    """One thing that could go, the bytes that its removal would free, and the command that removes it."""

    sort: Sort
    path: Path
    detail: str
    frees: int
    remedy: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd gc --json` prints them, but for what became of it."""
        return {
            "kind": self.sort.value,
            "path": os.fspath(self.path),
            "detail": self.detail,
            "frees": self.frees,
            "remedy": list(self.remedy),
        }


def gc(directories: PathNames = ()) -> list[Garbage]:
    """Lists what the herd in `directories` (the current one by default) could do without; changes nothing."""
    directories = path_names(directories)
    require_directories(directories)
    places = [os.path.realpath(directory) for directory in directories or ["."]]
    lineage = survey(places)
    useless = _not_of_domains([*_orphans(lineage), *_unused_bases(lineage)])
    found = [
        *_lost_images(lineage),
        *_unfinished(lineage, places),
        *_lost_shadows(lineage, places),
        *_in_trash(places),
        *useless,
        *_unnamed_disks(lineage),
    ]
    return sorted(found, key=lambda one: (list(Sort).index(one.sort), one.path))


def clean(found: Sequence[Garbage]) -> list[Garbage]:
    """Removes the leftovers among `found`, and nothing else; returns them. Each must still be one. Raises `HostFileError`."""
    removed = []
    for one in found:
        if one.sort is Sort.LEFTOVER and _is_still_leftover(one.path):
            _remove(one.path)
            removed.append(one)
    for trash in {one.path.parent for one in removed if one.path.parent.name == TRASH}:
        with contextlib.suppress(OSError):  # it is not empty
            os.rmdir(trash)
    return removed


def _is_still_leftover(path: Path) -> bool:
    """Whether the leftover is still there, and nothing else has its name. What needs it was checked when it was found."""
    if path.name == TRASH:
        return not os.listdir(path)
    if path.parent.name == TRASH:
        return path in remains(path.parent) or (is_entry_name(path.name) and not is_there(path))
    if is_unfinished_name(path.name):
        return is_forgotten(path)
    return is_proven_seal(path) and not is_there(os.fspath(path).removesuffix(SUFFIX))


def _remove(path: Path) -> None:
    """Removes a file, or a directory of the trash with the names in it; the files of these also have names beside the trash."""
    with Directory.open(path.parent) as place:
        info = place.look_up(path.name)
        try:
            if info is not None and stat.S_ISDIR(info.st_mode):
                with place.below(path.name) as below:
                    for name in below.names():
                        os.unlink(below.held(name))
                os.rmdir(place.held(path.name))
            elif info is not None:
                os.unlink(place.held(path.name))
        except HostFileError:
            raise
        except OSError as error:
            raise HostFileError(path, "remove", error) from error
        atomic.sync_directory(place.held())


def _lost_images(lineage: Lineage) -> Iterator[Garbage]:
    """Yields the seals of images that are gone, except a seal that helps to find content which an overlay waits for."""
    awaited = Awaited(lineage)
    for image in lineage.orphans:
        seal, record = seal_path(image), read_record_or_none(seal_path(image))
        if awaited.by(image, record):
            continue
        remedy = ("cowherd", "unseal", os.fspath(image))
        shadow = shadow_of(image, record)
        if shadow is not None:
            detail = f"the image is gone; its shadow {printable(shadow.name)} holds what it held, and nothing here waits for that"
            yield Garbage(Sort.LAST_COPY, seal, detail, disk_size(seal) + disk_size(shadow), remedy)
        elif is_proven_seal(seal):
            yield _leftover(seal, "the seal of an image that is gone", remedy)


def _unfinished(lineage: Lineage, places: Sequence[str]) -> Iterator[Garbage]:
    """Yields files that only an interrupted cowherd leaves: named by cowherd, old, opened by no writer and needed by nobody."""
    named = [path for path in _files(places) if is_unfinished_name(path.name)]
    if not named:
        return
    needed = set(map(os.path.realpath, lineage.named_paths()))
    needed |= {os.fspath(seen.entry.temporary) for seen in Pending(lineage).journals if seen.entry and seen.entry.temporary}
    used = writers(named)
    for path in named:
        if is_forgotten(path) and path not in used and os.fspath(path) not in needed:
            yield _leftover(path, "a file that was never finished", ("rm", "-f", os.fspath(path)))


def _lost_shadows(lineage: Lineage, places: Sequence[str]) -> Iterator[Garbage]:
    """Yields files that have a shadow's name, can't be written to, as shadows can't, and belong to no seal."""
    for path in _files(places):
        if path.name.endswith(SHADOW_SUFFIX) and not _is_in_use(lineage, path) and not is_shadow(path):
            detail = "called as a shadow, and no seal tells of it: it may be the last copy of something; look at it"
            yield Garbage(Sort.UNPROVEN, path, detail, disk_size(path), ("cowherd", "inspect", os.fspath(path)))


def _is_in_use(lineage: Lineage, path: Path) -> bool:
    """Whether a file is a disk, or a base: it may be written to, it stands on another image, or others stand on it."""
    info, image = look_up(path, follow=False), lineage.known(path)
    if info is None or info.st_mode & WRITE_BITS:
        return True
    return image is not None and (image.backing is not None or lineage.has_children(image) or lineage.seal(image) is not None)


def _in_trash(places: Sequence[str]) -> Iterator[Garbage]:
    yield from _trashed(places)
    for trash in trash_directories(places):
        for path in remains(trash):
            yield _leftover(path, "what an interrupted deletion left", ("rm", "-rf", os.fspath(path)))
        for path in strays(trash):
            yield _strange(path, "in the trash, and no deleted image: nothing touches it")
    for path in strange_trashes(places):
        yield _strange(path, "called as a trash, and no directory: nothing follows it")


def _strange(path: Path, detail: str) -> Garbage:
    return Garbage(Sort.UNPROVEN, path, detail, disk_size(path), ("ls", "-ld", os.fspath(path)))


def _leftover(path: Path, detail: str, remedy: tuple[str, ...]) -> Garbage:
    return Garbage(Sort.LEFTOVER, path, detail, disk_size(path), remedy)


def _files(places: Sequence[str]) -> Iterator[Path]:
    """Yields the regular files under `places`, except those in the trash."""
    for place in places:
        for directory, names, files in os.walk(place):
            names[:] = sorted(name for name in names if name != TRASH)
            yield from (Path(directory, name) for name in files if _is_regular(Path(directory, name)))


def _is_regular(path: Path) -> bool:
    with contextlib.suppress(OSError):  # gone since it was listed
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def _trashed(places: Sequence[str]) -> Iterator[Garbage]:
    for trash in trash_directories(places):
        for entry in entries(trash)[0]:
            remedy = ("cowherd", "trash", "empty", os.fspath(trash.parent))
            yield Garbage(Sort.TRASHED, entry.path, f"deleted {entry.deleted[:19]}Z", entry.disk_size, remedy)


def _orphans(lineage: Lineage) -> Iterator[Garbage]:
    for image in lineage.shown:
        broken = lineage.broken(image)
        if broken and not broken.unknown and not lineage.has_children(image):
            detail = "an overlay whose base is gone; 'cowherd doctor' says whether it can be found"
            yield Garbage(Sort.ORPHAN, image.path, detail, image.disk_size, _delete(lineage, image.path))


def _unused_bases(lineage: Lineage) -> Iterator[Garbage]:
    for image in lineage.shown:
        seal = lineage.seal(image)
        if seal and not lineage.has_children(image) and not lineage.broken(image):
            name = shadow_path(image.path)
            shadow = disk_size(name) if is_shadow(name) else 0
            freed = max(image.disk_size, shadow) + disk_size(Path(seal))
            detail = "sealed, and no overlay stands on it here"
            yield Garbage(Sort.UNUSED_BASE, image.path, detail, freed, _delete(lineage, image.path))


def _not_of_domains(found: Sequence[Garbage]) -> list[Garbage]:
    """Leaves out what libvirt domains name: a domain that is shut off needs its disks too."""
    named = {path for path, _ in named_by_domains(one.path for one in found)}
    return [one for one in found if os.fspath(one.path) not in named]


def _unnamed_disks(lineage: Lineage) -> Iterator[Garbage]:
    for image in images_without_domain(lineage, read_records().domains):
        if not lineage.broken(image):
            detail = "no libvirt domain names it, while domains have other disks in its directory"
            yield Garbage(Sort.UNNAMED_DISK, image.path, detail, image.disk_size, _delete(lineage, image.path))


def _delete(lineage: Lineage, path: Path) -> tuple[str, ...]:
    places = [word for place in lineage.directories for word in ("--herd", place)]
    return ("cowherd", "delete", os.fspath(path), *places)
