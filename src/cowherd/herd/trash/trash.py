"""Deleting images so that they can come back: they are renamed into a trash beside them, with their seals.

Each step is a rename, and the record is written first: after a kill at any point an image is whole, at its old place or in the
trash. Directories are held open meanwhile: a user who may write in one could replace any name there by a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cowherd.errors import BaseInUse, BaseSealed, HostFileError, InvalidRequest
from cowherd.herd.lineage.awaited import Awaited, awaited_record
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.survey import survey, survey_around
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.ownership import TRASH, is_seal, is_vouched_for, require_name_free
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.records.sealplace import forget_listing, is_kept, seal_path
from cowherd.herd.records.sealrecord import SUFFIX
from cowherd.herd.records.sidecars import is_immutable_by_others, require_liftable, sidecars
from cowherd.herd.records.trashbox import (
    Entry,
    entries,
    find_entries,
    is_trusted,
    open_trash,
    strange_trashes,
    strays,
    trash_directories,
    write_entry,
)
from cowherd.herd.seals.quick_check import condition
from cowherd.herd.seals.recorded_files import record_files
from cowherd.herd.trash.checks import checked_for_deletion, make_others_durable, refuse_awaited
from cowherd.paths import path_names
from cowherd.storage import atomic, protection
from cowherd.storage.directory import Directory
from cowherd.storage.durable import make_durable
from cowherd.storage.identity import FileIdentity
from cowherd.storage.presence import is_there, require_directories
from cowherd.storage.ticks import identity_after_tick
from cowherd.storage.transfer import take_name
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName, PathNames


_MOST_DAYS = 100_000
_NO_LINKS = atomic.NO_HARD_LINKS


class Restored(NamedTuple):
    """An image that is back at `path`. `sealed`: its seal holds again; `base_problem`: why its base can't be followed."""

    path: Path
    sealed: bool
    base_problem: str | None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd trash restore --json` prints them."""
        return {"path": os.fspath(self.path), "sealed": self.sealed, "base_problem": self.base_problem}


def trash(images: PathNames, *, force: bool = False, ignore_unreadable: bool = False, herd: PathNames = ()) -> list[Entry]:
    """Moves images with their seals and shadows into the trash beside each, overlays before their bases.

    Raises, with nothing moved and unless `force`: `BaseSealed` or `BaseInUse` if an overlay that is not among them stands on one,
    `HerdNotReadable` if a file that can't be read may be such an overlay (unless `ignore_unreadable`), `ProtectedByOthers` for an
    image that somebody else has made immutable, `DiskOfDomain` if a libvirt domain names one. Raises, with nothing moved,
    `ImageInUse` if a process has one open, also with `force`.
    """
    images, herd = path_names(images), path_names(herd)
    with checked_for_deletion(images, force=force, readable=not (force or ignore_unreadable), herd=herd) as (lineage, doomed):
        for directory in {os.path.dirname(os.path.realpath(image.path)) for image in doomed}:
            with Directory.open(directory) as home, open_trash(home, make=True):
                pass  # it can be used; nothing has been moved yet
        return [_trash_one(lineage, image) for image in doomed]


def purge(
    images: PathNames, *, force: bool = False, ignore_unreadable: bool = False, herd: PathNames = ()
) -> list[tuple[Path, int]]:
    """Deletes images for good, with their seals and shadows, and returns each with the bytes that its file occupied.

    Raises as `trash`, and, unless `force`, `BaseSealed` also for a sealed image that has no overlays.
    """
    images, herd = path_names(images), path_names(herd)
    with checked_for_deletion(images, force=force, readable=not (force or ignore_unreadable), herd=herd) as (lineage, doomed):
        refuse_awaited(lineage, doomed)
        for image in doomed if not force else ():
            if image.seal:
                raise BaseSealed(image.path, "delete for good")
        make_others_durable(lineage, {image.key for image in doomed})
        for image in doomed:
            _purge_one(image)
    return [(image.path, image.disk_size) for image in doomed]


def _purge_one(image: Image) -> None:
    path = Path(os.path.realpath(image.path))
    own = _names_of(sidecars(path))
    kept = image.seal
    with Directory.open(path.parent) as home, protection.renamed(path, key=image.key):
        for name in (path.name, *own):
            _unlink(home, name)
    if kept and is_kept(kept):
        take_name(Path(kept))
        forget_listing()


def _names_of(paths: Sequence[str]) -> list[str]:
    return [os.path.basename(path) for path in paths]


def _trash_one(lineage: Lineage, image: Image) -> Entry:
    path = Path(os.path.realpath(image.path))
    held = image.seal is not None and condition(lineage, image).status.holds
    needing = tuple(dependent.path for dependent in lineage.children(image))
    now = datetime.now(UTC)
    entry = Entry(path.parent / TRASH, _new_id(now), path, now.isoformat(timespec="microseconds"), needing, None, held)
    entry = entry._replace(immutable=is_immutable_by_others(path))
    own = _names_of(sidecars(path))
    with Directory.open(path.parent) as home, open_trash(home, make=True) as box, _new_directory(box, entry.id) as place:
        write_entry(entry, box)
        with protection.renamed(path, key=image.key):
            for name in (path.name, *reversed(own)):
                _rename(home, place, name)
        entry = entry._replace(identity=identity_after_tick(Path(place.held(path.name))))
        write_entry(entry, box)
    return entry


def _new_id(now: datetime) -> str:
    return f"{now:%Y%m%d-%H%M%S}-{os.urandom(3).hex()}"


@contextlib.contextmanager
def _new_directory(box: Directory, name: str) -> Iterator[Directory]:
    try:
        os.mkdir(box.held(name), 0o700)
    except OSError as error:
        raise HostFileError(box.path / name, "create", error) from error
    with box.below(name) as place:  # its name becomes durable with the record, which is written before anything moves there
        yield place


def _rename(source: Directory, target: Directory, name: str) -> None:
    try:
        os.rename(source.held(name), target.held(name))
    except FileNotFoundError:
        return  # a seal or a shadow that has gone meanwhile
    except OSError as error:
        raise HostFileError(source.path / name, "move to the trash", error) from error
    atomic.sync_directory(target.held())
    atomic.sync_directory(source.held())


def _unlink(place: Directory, name: str) -> None:
    """Removes a name, durably; it need not be there."""
    try:
        os.unlink(place.held(name))
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostFileError(place.path / name, "remove", error) from error
    atomic.sync_directory(place.held())


def trashed(directories: PathNames = ()) -> list[Entry]:
    """Returns the deleted images in the trash of `directories` (the current one by default) and all under them, oldest first."""
    directories = path_names(directories)
    require_directories(directories)
    found = [entry for trash in trash_directories(directories or ["."]) for entry in entries(trash)[0]]
    return sorted(found, key=lambda entry: (entry.deleted, entry.id))


def left_alone(directories: Sequence[PathName] = ()) -> list[Path]:
    """Returns what has a trash's name but is none, and what lies in a trash but is no deleted image: nothing touches these."""
    places = directories or ["."]
    return [*strange_trashes(places), *(path for trash in trash_directories(places) for path in strays(trash))]


def restore(name: PathName, *, herd: PathNames = ()) -> Restored:
    """Puts a deleted image back where it was: `name` is its entry's id, or its path from before (the newest of that path).

    The seal comes back too; it holds if it held before and the file was not touched in the trash. Raises `InvalidRequest` if no
    such image is in a trash, `HostFileError` if something else has its place.
    """
    herd = path_names(herd)
    require_directories(herd)
    found = find_entries([], name) or find_entries(list(trash_directories(herd or ["."])), name)
    if not found:
        raise InvalidRequest(f"there is no {printable(name)} in the trash; 'cowherd trash list' shows what is")
    entry = found[-1]
    require_free([entry.image])
    own = _names_of(sidecars(entry.image))
    with Directory.open(entry.trash.parent) as home, open_trash(home) as box, box.below(entry.id) as place:
        if not entry.immutable or not is_trusted(box):
            require_liftable(entry.image, "restore")
        lifted = _movable(entry, place)
        untouched = entry.identity is not None and FileIdentity.of(entry.image) == entry.identity
        sealed = entry.sealed and untouched and is_trusted(box) and is_vouched_for(entry.record)
        _require_places(home, place, entry.path.name, own)
        _make_earlier_run_durable(entry)
        with lifted:
            for part in (*reversed(own), entry.path.name):
                _give_back(place, home, part)
            _unlink(place, entry.path.name)
        _remove(entry, box, place, own)
    _remove_trash(entry)
    return _settle(entry, sealed=sealed, herd=herd)


def _movable(entry: Entry, place: Directory) -> contextlib.AbstractContextManager[None]:
    """Lets the block rename and remove the image of an entry, provided that it is still the file that has the name now."""
    info = place.look_up(entry.path.name)
    return protection.renamed(entry.image, key=(info.st_dev, info.st_ino) if info else None)


def _require_places(home: Directory, place: Directory, image: str, own: Sequence[str]) -> None:
    """Raises `HostFileError` or `NameTaken` if other files have the old names of an image, its seal or its shadow."""
    for name in (image, *own):
        there, here = home.look_up(name), place.look_up(name)
        if there is None or (here is not None and os.path.samestat(there, here)):
            continue  # an interrupted restore has put it back
        if name == image:
            raise HostFileError(home.path / name, "restore", FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))
        require_name_free(home.path / name, "seal" if name == image + SUFFIX else "shadow", home.path / image)


def _make_earlier_run_durable(entry: Entry) -> None:
    """Makes durable what a killed run of the same command put back: it stays there, and its name in the trash is removed."""
    places = [os.fspath(entry.path), *sidecars(entry.path)]
    make_durable(*(place for place in places if is_there(place)))


def _give_back(place: Directory, home: Directory, name: str) -> None:
    """Gives a file in the trash its old name too, or only that where there are no hard links; never replaces another file."""
    there, here = home.look_up(name), place.look_up(name)
    if here is None or (there is not None and os.path.samestat(there, here)):
        return
    try:
        try:
            os.link(place.held(name), home.held(name), follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS or there is not None:
                raise
            os.rename(place.held(name), home.held(name))
    except OSError as error:
        raise HostFileError(home.path / name, "restore", error) from error
    atomic.sync_directory(home.held())


def _settle(entry: Entry, *, sealed: bool, herd: Sequence[PathName]) -> Restored:
    """Updates a seal to where its file lies now, if the seal held and nobody touched the file in the trash."""
    lineage = survey_around(entry.path, herd=herd)
    image = lineage.find(entry.path)
    sealed = sealed and is_seal(seal_path(entry.path))
    if sealed:
        record_files(lineage, image, *read_digests(seal_path(entry.path)))
    broken = lineage.broken(image)
    problem = f"{printable(broken.path or broken.name)}: {broken.problem}" if broken else None
    return Restored(entry.path, sealed, problem)


def empty_trash(
    directories: PathNames = (), *, older_than_days: float = 0, force: bool = False, dry_run: bool = False
) -> list[tuple[Entry, int]]:
    """Removes for good what lies in the trash of `directories` and of all under them, and returns each with the bytes it freed.

    Removes only what was deleted at least `older_than_days` ago; raises `InvalidRequest` if that is no possible number of days.
    Raises, with nothing removed and unless `force`, `BaseInUse` if an overlay, in place or in the trash, waits for one, and
    `ProtectedByOthers` for one that somebody else has made immutable. `dry_run` only tells. What lies there beside deleted images
    with their seals and shadows stays (`left_alone`).
    """
    directories = path_names(directories)
    if not 0 <= older_than_days <= _MOST_DAYS:  # NaN is refused too: it is in no range
        raise InvalidRequest(f"{older_than_days} is no number of days from 0 to {_MOST_DAYS}")
    before = (datetime.now(UTC) - timedelta(days=older_than_days)).isoformat(timespec="microseconds")
    doomed = [entry for entry in trashed(directories) if not older_than_days or entry.deleted <= before]
    lineage = survey(directories or ["."])
    if not force:
        _refuse_awaited(doomed, lineage)
        for entry in doomed:
            require_liftable(entry.image, "remove", forceable=True)
    require_free(entry.image for entry in doomed)
    freed = [(entry, entry.disk_size) for entry in doomed]
    if not dry_run:
        make_others_durable(lineage, ())
    for entry in doomed if not dry_run else ():
        _remove_for_good(entry)
    return freed


def _remove_for_good(entry: Entry) -> None:
    """Removes the files of an entry, the image last: while it is there, the entry counts, and the same command goes on."""
    own = _names_of(sidecars(entry.image))
    with Directory.open(entry.trash.parent) as home, open_trash(home) as box, box.below(entry.id) as place:
        with _movable(entry, place):
            for name in (*own, entry.path.name):
                _unlink(place, name)
        _remove(entry, box, place, ())
    _remove_trash(entry)


def _refuse_awaited(doomed: Sequence[Entry], lineage: Lineage) -> None:
    awaited = Awaited(lineage, [entry.directory for entry in doomed])
    for entry in doomed:
        waiting = awaited.by(entry.path, awaited_record(seal_path(entry.image)))
        if waiting:
            raise BaseInUse(entry.path, "remove from the trash", waiting)


def _remove(entry: Entry, box: Directory, place: Directory, own: Sequence[str]) -> None:
    """Removes the remains of an entry, its record last: without a record they are not taken for remains of a deletion.

    `own`: the names there of the seal and the shadow, which were put back. Anything else there is left.
    """
    for name in own:
        _unlink(place, name)
    try:
        os.rmdir(box.held(entry.id))
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise HostFileError(entry.directory, "remove", error) from error
    atomic.sync_directory(box.held())
    _unlink(box, entry.record.name)


def _remove_trash(entry: Entry) -> None:
    with contextlib.suppress(OSError):  # it is not empty
        os.rmdir(entry.trash)
