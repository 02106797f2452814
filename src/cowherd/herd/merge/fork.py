"""The new base that a merge by forking makes: a copy of the old one, sharing its blocks where the file system can.

It has a temporary name, which no scan takes for an image, until it is complete and verified.
"""

from __future__ import annotations

import os
import stat
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.log import concerned
from cowherd.herd.merge.faults import MergeFailed
from cowherd.herd.records.ownership import SHADOW_SUFFIX, mode_given_back
from cowherd.herd.records.sealrecord import SUFFIX
from cowherd.herd.seals.quick_check import record_of
from cowherd.herd.seals.seal import seal_found
from cowherd.paths import in_real_directory
from cowherd.storage import losses
from cowherd.storage.atomic import NO_HARD_LINKS, meant_for, sync_directory
from cowherd.storage.attributes import Attributes, give_first, give_to
from cowherd.storage.copying import can_clone, clone_range, copy_range
from cowherd.storage.hostfile import HostFile
from cowherd.storage.opening import require_host
from cowherd.storage.presence import is_there
from cowherd.storage.transfer import take_name
from cowherd.storage.writeback import BEHIND_BYTES, WriteBehind
from cowherd.text import shown

if TYPE_CHECKING:
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.merge.plan import MergePlan
    from cowherd.herd.merge.steps import Steps
    from cowherd.herd.records.journal import Entry
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.paths import PathName
    from cowherd.progress import Progress
    from cowherd.storage.holding import Holding


_PERMISSIONS = 0o777
_RECORDS = ("", SUFFIX, SHADOW_SUFFIX)
"""Suffixes of the names that an image and the files of its own beside it have."""


def can_reflink(base: HostFile) -> bool:
    """Returns whether a copy of `base` beside it costs nothing; it tries that with a nameless file, which leaves no trace."""
    return can_clone(base, base)


def free_name(base: Image) -> Path:
    """Returns a name beside `base` that is not taken, such as `debian-merged.qcow2`."""
    path = base.path
    names = (f"{path.stem}-merged{number if number > 1 else ''}{path.suffix}" for number in count(1))
    return next(path.with_name(name) for name in names if not any(is_there(path.with_name(name + end)) for end in _RECORDS))


def named_fork(base: Image, name: PathName) -> Path:
    """Returns the path of a new base called `name`. Raises `InvalidRequest` unless it lies beside the old one.

    There its own backing file, if it has one, goes by the same name.
    """
    path = Path(in_real_directory(name))
    if path.parent != Path(os.path.realpath(base.path.parent)):
        raise InvalidRequest(f"the new base {shown(name)} must lie beside the old one, in {shown(base.path.parent)}")
    return path


def build_fork(lineage: Lineage, plan: MergePlan, entry: Entry, held: Holding, steps: Steps, progress: Progress | None) -> None:
    """Makes the copy of the base under its temporary name, merges into it and verifies it. The base is only read."""
    assert entry.temporary is not None
    assert entry.fork is not None
    with meant_for(entry.fork, entry.temporary):
        copy_file(require_host(held.open(plan.base.path)), entry.temporary)
        target = plan.base._replace(filenames=(os.fspath(entry.temporary),))
        below = [target, *lineage.chain(plan.base)[1:]]
        steps.apply_down(plan, below, progress)
        steps.verify(plan, below, (), progress)


def copy_file(source: HostFile, target: Path) -> None:
    """Copies a file, which it closes, to `target`, which must not be there; holes too, and blocks are shared where they can be.

    On return the name is durable; the bytes become so when the copy is merged into. Until it is complete, only its owner may use
    it.
    """
    with source as original, HostFile.create(target, exclusive=True, lock=None, mode=0o600) as copy:
        give_first(copy.fd, Attributes.of(original.fd))
        size = original.size()
        if not clone_range(original, 0, copy, 0, size):
            copy.truncate(size)
            behind = WriteBehind(copy)
            for first, last in original.data_ranges(0, size):
                for start in range(first, last, BEHIND_BYTES):
                    length = min(BEHIND_BYTES, last - start)
                    copy_range(original, start, copy, start, length)
                    behind.wrote(length)
    sync_directory(target.parent)  # the journal is about to rely on it


def complete_fork(lineage: Lineage, base: Image, entry: Entry, progress: Progress | None) -> tuple[Image, SealRecord | None]:
    """Gives the finished copy its name, and a seal if the old base has one. A second run goes on where the first stopped."""
    assert entry.temporary is not None
    assert entry.fork is not None
    concerned.note([entry.fork])
    record = record_of(base)
    if is_there(entry.temporary):
        _give_name(entry.temporary, entry.fork, Attributes.of(base.path)._replace(mode=_mode_for(base, record)))
    target = lineage.find(entry.fork, entry.base_format)
    sealed = record_of(target)
    if record is None or (sealed and sealed.level >= record.level):  # a new seal is recorded first, and its protection follows
        return target, sealed
    around = survey_around(entry.fork)
    done = seal_found(
        around, around.find(entry.fork, entry.base_format), record.level, shadow=record.shadow is not None, progress=progress
    )
    return target, done.record


def _mode_for(base: Image, record: SealRecord | None) -> int:
    """Returns the new base's mode: the old one's, or the one that it would have unsealed; never more than permissions."""
    info = os.stat(base.path)
    now = stat.S_IMODE(info.st_mode)
    return (mode_given_back(now, record, info, base.expected_seal) if record else now) & _PERMISSIONS


def _give_name(temporary: Path, path: Path, attributes: Attributes) -> None:
    """Gives the copy the old base's attributes, and then its name. Never replaces another file, even one that just appeared."""
    try:
        with HostFile.open(temporary, lock=None, follow=False) as file:
            info = os.fstat(file.fd)
            if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1 + is_there(path):
                raise MergeFailed(temporary, "it is not the new base: it has other names, or is no regular file")
        if not is_there(path):
            losses.note(path, give_to(temporary, attributes))
        if not _linked(temporary, path):
            os.rename(temporary, path)
    except HostFileError:
        raise
    except OSError as error:
        raise HostFileError(path, "create", error) from error
    sync_directory(path.parent)
    take_name(temporary)


def _linked(temporary: Path, path: Path) -> bool:
    """Gives a file a second name, unless an earlier try did; returns False where there are no hard links."""
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        if not os.path.samestat(os.lstat(temporary), os.lstat(path)):
            raise MergeFailed(path, "another file has taken the name of the new base; move it away") from error
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        return False
    return True
