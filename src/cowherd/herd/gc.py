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
from cowherd.herd.lineage import Lineage, survey
from cowherd.herd.listing import TRASH
from cowherd.herd.sealfile import SHADOW_SUFFIX, SUFFIX, seal_path
from cowherd.herd.trashbox import entries, remains, trash_directories
from cowherd.live.holders import writers
from cowherd.storage.presence import is_there, require_directories
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


class Garbage(NamedTuple):
    """One thing that could go, the bytes that its removal would free, and the command that removes it."""

    sort: Sort
    path: Path
    detail: str
    frees: int
    remedy: tuple[str, ...]


def gc(directories: Sequence[PathName] = ()) -> list[Garbage]:
    """Lists what the herd in `directories` (the current one by default) could do without; changes nothing."""
    require_directories(directories)
    places = [os.path.realpath(directory) for directory in directories or ["."]]
    lineage = survey(places)
    found = [*_leftovers(lineage, places), *_trashed(places), *_orphans(lineage), *_unused_bases(lineage)]
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
        if broken and not broken.unknown and not lineage.has_children(image) and lineage.trashed_from(image) is None:
            detail = "an overlay whose base is gone; 'cowherd doctor' says whether it can be found"
            yield Garbage(Sort.ORPHAN, image.path, detail, image.disk_size, _delete(lineage, image.path))


def _unused_bases(lineage: Lineage) -> Iterator[Garbage]:
    for image in lineage.images.values():
        seal = lineage.seal(image)
        if seal and not lineage.has_children(image) and not lineage.broken(image) and lineage.trashed_from(image) is None:
            shadow = _disk_size(image.path.with_name(image.path.name + SHADOW_SUFFIX))
            freed = max(image.disk_size, shadow) + _disk_size(Path(seal))
            detail = "sealed, and no overlay stands on it here"
            yield Garbage(Sort.UNUSED_BASE, image.path, detail, freed, _delete(lineage, image.path))


def _delete(lineage: Lineage, path: Path) -> tuple[str, ...]:
    places = [word for place in lineage.directories for word in ("--herd", place)]
    return ("cowherd", "delete", os.fspath(path), *places)
