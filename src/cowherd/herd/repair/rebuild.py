"""Bringing back a base that is gone: its seal says what it held, donors give the blocks.

The new image takes the name only when it is whole and was read back, so that no overlay ever finds half a base. A run that is
killed before leaves only a temporary file, which `cowherd gc` removes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd import extents
from cowherd.errors import HostFileError
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.scan import Image
from cowherd.herd.lineage.survey import survey, survey_again
from cowherd.herd.records.digest import digest_disk, expand, to_bytes
from cowherd.herd.records.faults import RepairFailed
from cowherd.herd.records.ownership import is_regular, is_vouched_for
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.herd.records.sidecars import shadow_path
from cowherd.herd.repair.plan import Repaired, RepairPlan, Writes
from cowherd.herd.seals.donors import locate, write_blocks
from cowherd.herd.seals.held import Held
from cowherd.herd.seals.opaque import OpaqueImage
from cowherd.herd.seals.seal import refresh
from cowherd.image.open import open_disk
from cowherd.ops.create import create
from cowherd.storage import atomic, copying, losses
from cowherd.storage.attributes import Attributes, give_to
from cowherd.storage.space import check_space
from cowherd.storage.ticks import identity_after_tick

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.paths import PathName
    from cowherd.progress import Progress


def rebuild(
    base: PathName,
    *,
    donors: Sequence[PathName] = (),
    dry_run: bool = False,
    herd: Sequence[PathName] = (),
    progress: Progress | None = None,
) -> Repaired:
    """Makes the image `base`, which is gone, anew from what its seal says, and puts it in its old place.

    Without `donors` it looks for them: the shadow, the deleted file while a process still has it open, and images and raw files
    of the same size in the herd. Every block is compared with the seal. `dry_run` only plans. Raises `DonorMissing` and
    `NotEnoughSpace` (nothing is written then), `ImageFormatError` for a damaged seal, `RepairFailed`.
    """
    path = Path(os.path.realpath(base))
    record, sealed = read_digests(seal_path(path))
    if record.of_file:
        raise OpaqueImage(path, record.format, "make anew")
    lineage = survey(herd, [path.parent])
    gone = Image(key=(0, 0), filenames=(os.fspath(path),), format=record.format, size=None, disk_size=0)
    located = locate(gone, sealed, expand(sealed.runs), lineage, [Path(donor) for donor in donors])
    ranges = to_bytes(sealed.runs, sealed.size)
    amount = extents.total(ranges)
    plan = RepairPlan(gone, False, ranges, 0, sealed.size, located, (Writes(gone, ranges, amount),))
    if not dry_run:
        _make(lineage, path, record, plan, progress)
    return Repaired(plan, done=not dry_run)


def _make(lineage: Lineage, path: Path, record: SealRecord, plan: RepairPlan, progress: Progress | None) -> None:
    unfinished, attributes = Path(atomic.temporary_name(path)), _attributes(path, record)
    try:
        with atomic.meant_for(path, unfinished):
            held = _from_shadow(path, record, unfinished, progress)
            if held is None:
                check_space([(path.parent, plan.write_bytes)])
                atomic.make_private(unfinished, attributes)
                create(unfinished, plan.sealed_size, format=record.format)
                with open_disk(unfinished, format=record.format, writable=True) as disk:
                    write_blocks(disk, plan.located, plan.located.blocks, progress)
                held = _as_sealed(unfinished, record, progress)
        if held is None:
            raise RepairFailed(path)
        losses.note(path, give_to(unfinished, attributes))
        os.link(unfinished, path)  # unlike a rename, a link never replaces a file that appeared meanwhile
    except HostFileError:
        raise
    except OSError as error:
        raise HostFileError(path, "put the rebuilt image in place", error) from error
    finally:
        unfinished.unlink(missing_ok=True)
    atomic.sync_directory(path.parent)
    now = survey_again(lineage)
    refresh(now, now.find(path), held)


def _mode_of_new(path: Path, owner: int, record: SealRecord) -> int:
    """Returns the lost image's mode, as far as its seal is believed; otherwise one with which only its owner may write to it."""
    if not is_vouched_for(seal_path(path), owner):
        return record.mode_before & (stat.S_IRWXU | stat.S_IRGRP | stat.S_IROTH) | stat.S_IRUSR
    return record.mode_before & (stat.S_IRWXU | stat.S_IRWXG | stat.S_IROTH | stat.S_IXOTH) | stat.S_IRUSR


def _attributes(path: Path, record: SealRecord) -> Attributes:
    """Returns the lost file's attributes beside its bytes, as far as its seal or its shadow tell. Somebody else may have written
    the seal: unless root or this user owns it, it gives the file to nobody but its own owner."""
    known = record.attributes
    seal_owner = os.stat(seal_path(path)).st_uid
    ours = Attributes(os.geteuid(), os.getegid(), _mode_of_new(path, os.geteuid(), record))
    if known is None or seal_owner not in (0, os.geteuid(), known.owner):
        losses.note(path, [losses.Lost("its owner, group and access list of before", "its seal does not tell them")])
        return ours
    return known._replace(mode=ours.mode)


def _from_shadow(path: Path, record: SealRecord, unfinished: Path, progress: Progress | None) -> Held | None:
    """Copies the shadow, at no cost in space; returns None if there is none that still holds what was sealed."""
    shadow = shadow_path(path) if record.shadow else None
    if shadow is None or not is_regular(shadow) or not copying.clone_file(shadow, unfinished):
        return None
    return _as_sealed(unfinished, record, progress)


def _as_sealed(unfinished: Path, record: SealRecord, progress: Progress | None) -> Held | None:
    """Reads the new image back; returns None if it does not hold what was sealed."""
    with open_disk(unfinished, format=record.format) as disk:
        found = digest_disk(disk, progress)
    return Held(found, identity_after_tick(unfinished)) if found.content_digest == record.content_digest else None
