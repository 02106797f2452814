"""Deleting images so that they can come back: they are renamed into a trash beside them, with their seals.

Each step is a rename, and the record is written first: killed at any point, an image is where it was or in the trash, and whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cowherd.errors import BaseInUse, BaseSealed, HostFileError, ImageInUse, InvalidRequest
from cowherd.herd.condition import condition
from cowherd.herd.faults import AwaitedInTrash
from cowherd.herd.lineage import Lineage, survey, survey_around
from cowherd.herd.listing import TRASH
from cowherd.herd.merging.pending import require_none
from cowherd.herd.requirements import require_readable
from cowherd.herd.seal import record_files, settled
from cowherd.herd.sealfile import SHADOW_SUFFIX, SUFFIX, read_digests, seal_path
from cowherd.herd.status import Status
from cowherd.herd.trashbox import Entry, entries, find_entries, trash_directories, write_entry
from cowherd.live.holders import describe, naming_holders, writers
from cowherd.storage import atomic, protection
from cowherd.storage.durable import make_durable
from cowherd.storage.hostfile import HostFile
from cowherd.storage.identity import FileIdentity
from cowherd.storage.locks import WRITE
from cowherd.storage.presence import is_there
from cowherd.storage.protection import Protection
from cowherd.storage.transfer import give_name, take_name
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.herd.scan import Image

PathName = str | os.PathLike[str]

_PRIVATE = 0o700


class Restored(NamedTuple):
    """An image that is back at `path`. `sealed`: its seal holds again; `base_problem`: why its base can't be followed."""

    path: Path
    sealed: bool
    base_problem: str | None


def trash(
    images: Sequence[PathName], *, force: bool = False, ignore_unreadable: bool = False, herd: Sequence[PathName] = ()
) -> list[Entry]:
    """Moves images, overlays before their bases, into the trash beside each; their seals and shadows go along.

    Raises `BaseSealed` or `BaseInUse` if an overlay that is not among them stands on one, unless `force`, `HerdNotReadable` if
    one may that can't be read, unless `force` or `ignore_unreadable`, and `ImageInUse` if a process has one open; nothing has
    been done then.
    """
    with _doomed(images, force=force, readable=not (force or ignore_unreadable), herd=herd) as (lineage, doomed):
        return [_trash_one(lineage, image) for image in doomed]


def purge(
    images: Sequence[PathName], *, force: bool = False, ignore_unreadable: bool = False, herd: Sequence[PathName] = ()
) -> list[tuple[Path, int]]:
    """Deletes images for good, with their seals and shadows, and returns each with the bytes that its file occupied.

    Raises as `trash`, and `BaseSealed` also for a sealed image that nothing stands on, unless `force`.
    """
    with _doomed(images, force=force, readable=not (force or ignore_unreadable), herd=herd) as (lineage, doomed):
        refuse_awaited(lineage, doomed)
        for image in doomed if not force else ():
            if image.seal:
                raise BaseSealed(image.path, "delete for good")
        for image in doomed:
            path = Path(os.path.realpath(image.path))
            with _mutable(path):
                for name in (path.name, path.name + SUFFIX, path.name + SHADOW_SUFFIX):
                    take_name(path.with_name(name))
    return [(image.path, image.disk_size) for image in doomed]


@contextlib.contextmanager
def _doomed(
    images: Sequence[PathName], *, force: bool, readable: bool, herd: Sequence[PathName]
) -> Iterator[tuple[Lineage, list[Image]]]:
    """Gives the images that `images` name, in the order in which they may go, once it is certain that they may.

    They are locked before anybody looks at who stands on them, and until they are gone: an overlay is made under a lock, too.
    """
    with contextlib.ExitStack() as stack:
        in_use = _locked(images, stack)
        lineage = survey_around(*images, herd=herd)
        doomed = in_order(lineage, images)
        refuse_needed(lineage, doomed, force=force)
        if readable and doomed:
            require_readable(lineage, doomed[0], "delete")
        if in_use:
            raise in_use
        _refuse_writers(doomed)
        yield lineage, doomed


def _locked(images: Sequence[PathName], stack: contextlib.ExitStack) -> ImageInUse | None:
    """Locks images until `stack` ends; returns the error of the first that is in use, which may not be the best reason."""
    files: dict[tuple[int, int], HostFile] = {}
    for name in images:
        file = stack.enter_context(HostFile.open(name, lock=None))
        files.setdefault((file.device, file.inode), file)
    try:
        with naming_holders():
            for file in files.values():
                file.lock(WRITE)
    except ImageInUse as error:
        return error
    return None


def in_order(lineage: Lineage, paths: Sequence[PathName]) -> list[Image]:
    """Returns the images that `paths` name, each once, those furthest from a root first."""
    images = {image.key: image for image in (lineage.find(os.path.realpath(path)) for path in paths)}
    return sorted(images.values(), key=lambda image: (-len(lineage.chain(image)), image.path))


def refuse_needed(lineage: Lineage, doomed: Sequence[Image], *, force: bool = False) -> None:
    """Raises `BaseSealed` or `BaseInUse` if one of `doomed` is needed by an image that is not among them, and `MergePending`."""
    require_none(lineage, doomed, "delete")
    keys = {image.key for image in doomed}
    for image in doomed if not force else ():
        others = [dependent for dependent in lineage.dependents(image) if dependent.key not in keys]
        needing = [other.filename for other in others if lineage.trashed_from(other) is None]  # the others can be restored, too
        if needing:
            raise BaseSealed(image.path, "delete", needing) if image.seal else BaseInUse(image.path, "delete", needing)


def refuse_awaited(lineage: Lineage, doomed: Sequence[Image]) -> None:
    """Raises `AwaitedInTrash` if a deleted overlay, which may come back, needs one of `doomed`."""
    keys = {image.key for image in doomed}
    for image in doomed:
        waiting = [one.filename for one in lineage.dependents(image) if lineage.trashed_from(one) and one.key not in keys]
        if waiting:
            raise AwaitedInTrash(image.path, waiting)


def require_unused(images: Sequence[Image]) -> None:
    """Raises `ImageInUse` if a process holds image locks on one of them, or has one open for writing without."""
    with naming_holders():
        for image in images:
            HostFile.open(image.path, lock=WRITE).close()
    _refuse_writers(images)


def _refuse_writers(images: Sequence[Image]) -> None:
    for path, found in writers(image.path for image in images).items():
        raise ImageInUse(path, "write", shared=True, holders=[describe(holder) for holder in found])


def _trash_one(lineage: Lineage, image: Image) -> Entry:
    path = Path(os.path.realpath(image.path))
    held = image.seal is not None and condition(lineage, image).status is Status.OK
    needing = tuple(dependent.path for dependent in lineage.children(image))
    now = datetime.now(UTC)
    entry = Entry(path.parent / TRASH, _new_id(now), path, now.isoformat(timespec="microseconds"), needing, None, held)
    _make_directories(entry)
    write_entry(entry)
    with _mutable(path, entry.image):
        for name in (path.name, path.name + SUFFIX, path.name + SHADOW_SUFFIX):
            _rename(path.with_name(name), entry.directory / name)
    entry = entry._replace(identity=settled(entry.image))
    write_entry(entry)
    return entry


def _new_id(now: datetime) -> str:
    return f"{now:%Y%m%d-%H%M%S}-{os.urandom(3).hex()}"


def _make_directories(entry: Entry) -> None:
    try:
        os.makedirs(entry.trash, _PRIVATE, exist_ok=True)
        os.mkdir(entry.directory, _PRIVATE)
    except OSError as error:
        raise HostFileError(entry.directory, "create", error) from error
    atomic.sync_directory(entry.trash)
    atomic.sync_directory(entry.trash.parent)


@contextlib.contextmanager
def _mutable(*places: Path) -> Iterator[None]:
    """Takes the immutable attribute away from a file that changes its place, and gives it back at the last of `places` it is."""
    level = protection.current(places[0])
    if level is Protection.IMMUTABLE:
        protection.unprotect(places[0], os.stat(places[0]).st_mode)
    try:
        yield
    finally:
        there = next((place for place in reversed(places) if is_there(place)), None)
        if there and level is Protection.IMMUTABLE:
            protection.protect(there, level)


def _rename(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        return  # it has no seal, or no shadow
    except OSError as error:
        raise HostFileError(source, "move to the trash", error) from error
    atomic.sync_directory(target.parent)
    atomic.sync_directory(source.parent)


def trashed(directories: Sequence[PathName] = ()) -> list[Entry]:
    """Returns what lies in the trash of `directories` (the current one by default) and of all under them, the oldest first."""
    found = [entry for trash in trash_directories(directories or ["."]) for entry in entries(trash)[0]]
    return sorted(found, key=lambda entry: (entry.deleted, entry.id))


def restore(name: PathName, *, herd: Sequence[PathName] = ()) -> Restored:
    """Puts a deleted image back where it was: `name` is its entry's id, or its path from before (the newest of that path).

    The seal comes back too, and holds if it did and the file was not touched in the trash. Raises `InvalidRequest` if no such
    image is in a trash, `HostFileError` if something else has its place.
    """
    found = find_entries([], name) or find_entries(list(trash_directories(herd or ["."])), name)
    if not found:
        raise InvalidRequest(f"there is no {printable(name)} in the trash; 'cowherd trash list' shows what is")
    entry = found[-1]
    untouched = entry.identity is not None and FileIdentity.of(entry.image) == entry.identity
    with _mutable(entry.image, entry.path):
        if is_there(entry.path) and not os.path.samestat(os.lstat(entry.path), os.lstat(entry.image)):
            raise HostFileError(entry.path, "restore", FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))
        _make_earlier_run_durable(entry)
        _restore_seal(entry)
        give_name(entry.image, entry.path)
        take_name(entry.image)
    _remove(entry)
    return _settle(entry, untouched=untouched, herd=herd)


def _make_earlier_run_durable(entry: Entry) -> None:
    """The same command was killed: what has its place again stays there, and its name in the trash goes."""
    places = [entry.path.with_name(entry.path.name + suffix) for suffix in ("", SUFFIX, SHADOW_SUFFIX)]
    make_durable(*(place for place in places if is_there(place)))


def _restore_seal(entry: Entry) -> None:
    for suffix in (SUFFIX, SHADOW_SUFFIX):
        left, place = entry.image.with_name(entry.image.name + suffix), entry.path.with_name(entry.path.name + suffix)
        if is_there(left) and not is_there(place):
            give_name(left, place)


def _settle(entry: Entry, *, untouched: bool, herd: Sequence[PathName]) -> Restored:
    """Makes the seal of a file that nobody touched in the trash know it where it is now."""
    lineage = survey_around(entry.path, herd=herd)
    image = lineage.find(entry.path)
    sealed = entry.sealed and untouched and is_there(seal_path(entry.path))
    if sealed:
        record_files(lineage, image, *read_digests(seal_path(entry.path)))
    broken = lineage.broken(image)
    problem = f"{printable(broken.path or broken.name)}: {broken.problem}" if broken else None
    return Restored(entry.path, sealed, problem)


def empty_trash(
    directories: Sequence[PathName] = (), *, older_than_days: float = 0, force: bool = False, dry_run: bool = False
) -> list[tuple[Entry, int]]:
    """Removes for good what lies in the trash of `directories` and of all under them, and returns each with the bytes it freed.

    Only what was deleted at least `older_than_days` ago. Raises `BaseInUse`, with nothing removed, if an overlay there names one
    as its base, unless `force`. `dry_run` only tells.
    """
    before = (datetime.now(UTC) - timedelta(days=older_than_days)).isoformat(timespec="microseconds")
    doomed = [entry for entry in trashed(directories) if older_than_days <= 0 or entry.deleted <= before]
    if not force:
        _refuse_awaited(doomed, directories or ["."])
    freed = [(entry, entry.disk_size) for entry in doomed]
    for entry in doomed if not dry_run else ():
        with _mutable(entry.image):
            take_name(entry.image)
        _remove(entry)
    return freed


def _refuse_awaited(doomed: Sequence[Entry], directories: Sequence[PathName]) -> None:
    lineage = survey(directories)
    going = {entry.image for entry in doomed}
    waiting: dict[Path, list[Path]] = {}
    for image in lineage.images.values():
        broken = lineage.broken(image)
        if broken and broken.path and image.path not in going:
            waiting.setdefault(Path(os.path.realpath(broken.path)), []).append(image.path)
    for entry in doomed:
        if entry.path in waiting:
            raise BaseInUse(entry.path, "remove from the trash", waiting[entry.path])


def _remove(entry: Entry) -> None:
    """Removes what is left of an entry, its record last: what has none is not taken for remains of a deletion."""
    import shutil

    try:
        for path in entry.directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        atomic.sync_directory(entry.directory)
        entry.directory.rmdir()
    except OSError as error:
        raise HostFileError(entry.directory, "remove", error) from error
    atomic.sync_directory(entry.trash)
    take_name(entry.record)
    with contextlib.suppress(OSError):  # it is not empty
        entry.trash.rmdir()
