"""What a herd could do without: orphans, bases that nothing stands on, leftovers of interrupted work, and the trash."""

from __future__ import annotations

import contextlib
import enum
import os
import re
import stat
import time
from pathlib import Path

from cowherd.errors import HostFileError
from cowherd.herd.domains import images_without_domain, named_by_domains
from cowherd.herd.lineage import Lineage, survey
from cowherd.herd.listing import TRASH
from cowherd.herd.sealfile import SHADOW_SUFFIX, SUFFIX, seal_path
from cowherd.herd.trashbox import entries, remains, trash_directories
from cowherd.live.holders import writers
from cowherd.live.libvirt_records import read_records
from cowherd.storage.presence import is_there
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PathName = str | os.PathLike[str]

SETTLED_SECONDS = 3600
"""A temporary file younger than this may belong to somebody who is at work."""
_TEMPORARY = re.compile(r"\.cowherd-[0-9a-f]{16}")


class Sort(enum.StrEnum):
    """Why something could go."""

    LEFTOVER = "leftover"
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


def gc(directories: Sequence[PathName] = ()) -> list[Garbage]:
    """Lists what the herd in `directories` (the current one by default) could do without; changes nothing."""
    places = [os.path.realpath(directory) for directory in directories or ["."]]
    lineage = survey(places)
    useless = _not_of_domains([*_orphans(lineage), *_unused_bases(lineage)])
    found = [*_leftovers(lineage, places), *_trashed(places), *useless, *_unnamed_disks(lineage)]
    return sorted(found, key=lambda one: (list(Sort).index(one.sort), one.path))


def clean(found: Sequence[Garbage]) -> list[Garbage]:
    """Removes the leftovers among `found`, and nothing else; returns them. Raises `HostFileError`."""
    leftovers = [one for one in found if one.sort is Sort.LEFTOVER]
    for one in leftovers:
        try:
            if one.path.is_dir():
                for name in os.listdir(one.path):
                    (one.path / name).unlink()
                one.path.rmdir()
            else:
                one.path.unlink(missing_ok=True)
        except OSError as error:
            raise HostFileError(one.path, "remove", error) from error
        if one.path.parent.name == TRASH:
            with contextlib.suppress(OSError):  # it is not empty
                one.path.parent.rmdir()
    return leftovers


def _leftovers(lineage: Lineage, places: Sequence[str]) -> Iterator[Garbage]:
    awaited = set(map(os.path.realpath, lineage.named_paths())) if lineage.orphans else set()
    for image in lineage.orphans:
        if os.path.realpath(image) in awaited:
            continue  # it says what the lost base of an overlay held, and so helps to find that
        seal = seal_path(image)
        yield _leftover(seal, "the seal of an image that is gone", ("cowherd", "unseal", os.fspath(image)))
    for path in _temporary_files(places):
        yield _leftover(path, "a file that was never finished", ("rm", "-f", os.fspath(path)))
    for path in _files(places):
        if path.name.endswith(SHADOW_SUFFIX) and not is_there(_sealed_by(path)):
            yield _leftover(path, "the shadow of a seal that is gone", ("rm", "-f", os.fspath(path)))
    for trash in trash_directories(places):
        for path in remains(trash):
            yield _leftover(path, "what an interrupted deletion left", ("rm", "-rf", os.fspath(path)))


def _leftover(path: Path, detail: str, remedy: tuple[str, ...]) -> Garbage:
    return Garbage(Sort.LEFTOVER, path, detail, _disk_size(path), remedy)


def _sealed_by(shadow: Path) -> Path:
    return shadow.with_name(shadow.name.removesuffix(SHADOW_SUFFIX) + SUFFIX)


def _temporary_files(places: Sequence[str]) -> list[Path]:
    """Returns files that only an interrupted cowherd leaves: of its own naming, old, and open for writing by nobody."""
    now = time.time()
    old = [path for path in _files(places) if _TEMPORARY.fullmatch(path.name) and now - _mtime(path) > SETTLED_SECONDS]
    used = writers(old)
    return [path for path in old if path not in used]


def _files(places: Sequence[str]) -> Iterator[Path]:
    """Yields the regular files under `places`; the trash is no part of it."""
    for place in places:
        for directory, names, files in os.walk(place):
            names[:] = sorted(name for name in names if name != TRASH)
            yield from (Path(directory, name) for name in files if _is_regular(Path(directory, name)))


def _is_regular(path: Path) -> bool:
    with contextlib.suppress(OSError):  # gone since it was listed
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def _mtime(path: Path) -> float:
    with contextlib.suppress(OSError):
        return os.lstat(path).st_mtime
    return time.time()


def _disk_size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return os.lstat(path).st_blocks * 512
    return 0


def _trashed(places: Sequence[str]) -> Iterator[Garbage]:
    for trash in trash_directories(places):
        for entry in entries(trash)[0]:
            remedy = ("cowherd", "trash", "empty", os.fspath(trash.parent))
            yield Garbage(Sort.TRASHED, entry.path, f"deleted {entry.deleted[:19]}Z", entry.disk_size, remedy)


def _orphans(lineage: Lineage) -> Iterator[Garbage]:
    for image in lineage.images.values():
        broken = lineage.broken(image)
        if broken and not lineage.has_children(image):
            detail = "an overlay whose base is gone; 'cowherd doctor' says whether it can be found"
            yield Garbage(Sort.ORPHAN, image.path, detail, image.disk_size, _delete(lineage, image.path))


def _unused_bases(lineage: Lineage) -> Iterator[Garbage]:
    for image in lineage.images.values():
        seal = lineage.seal(image)
        if seal and not lineage.has_children(image) and not lineage.broken(image):
            shadow = _disk_size(image.path.with_name(image.path.name + SHADOW_SUFFIX))
            freed = max(image.disk_size, shadow) + _disk_size(Path(seal))
            detail = "sealed, and no overlay stands on it here"
            yield Garbage(Sort.UNUSED_BASE, image.path, detail, freed, _delete(lineage, image.path))


def _not_of_domains(found: Sequence[Garbage]) -> list[Garbage]:
    """Leaves out what a libvirt domain names: also one that is shut off goes on with it."""
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
