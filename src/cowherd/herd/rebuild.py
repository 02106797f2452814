"""Bringing back a base that is gone: its seal says what it held, donors give the blocks.

The new image takes the name only when it is whole and was read back, so that no overlay ever finds half a base. Killed before,
all that it leaves is a temporary file, which `cowherd gc` removes.
"""

from __future__ import annotations

import os
from pathlib import Path

from cowherd import extents
from cowherd.errors import HostFileError
from cowherd.herd.digest import digest_disk, expand, to_bytes
from cowherd.herd.donors import locate, write_blocks
from cowherd.herd.faults import RepairFailed
from cowherd.herd.lineage import Lineage, survey, survey_again
from cowherd.herd.plan import Repaired, RepairPlan, Writes
from cowherd.herd.scan import Image
from cowherd.herd.seal import Held, refresh
from cowherd.herd.sealfile import SealRecord, read_digests, seal_path
from cowherd.image.open import open_disk
from cowherd.ops.create import create
from cowherd.storage import atomic, copying
from cowherd.storage.space import check_space
from cowherd.storage.ticks import settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.herd.digest import Progress


def rebuild(
    base: str | os.PathLike[str],
    *,
    donors: Sequence[str | os.PathLike[str]] = (),
    dry_run: bool = False,
    herd: Sequence[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
) -> Repaired:
    """Makes the image that the seal of `base` tells of, which is gone itself, and puts it in its place.

    Without `donors` they are found: the shadow, the deleted file while a process still has it open, and images and raw files of
    the same size in the herd. Every block is compared with the seal. `dry_run` only plans. Raises `DonorMissing` and
    `NotEnoughSpace` (nothing is written then), `ImageFormatError` for a damaged seal, `RepairFailed`.
    """
    path = Path(os.path.realpath(base))
    record, sealed = read_digests(seal_path(path))
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
    unfinished = atomic.temporary_name(path)
    try:
        held = _from_shadow(path, record, unfinished, progress)
        if held is None:
            check_space([(path.parent, plan.write_bytes)])
            create(unfinished, plan.sealed_size, format=record.format)
            with open_disk(unfinished, format=record.format, writable=True) as disk:
                write_blocks(disk, plan.located, plan.located.blocks, progress)
            held = _as_sealed(unfinished, record, progress)
        if held is None:
            raise RepairFailed(unfinished)
        os.chmod(unfinished, record.mode_before)
        os.link(unfinished, path)  # unlike a rename it never replaces what somebody has put there meanwhile
    except OSError as error:
        raise HostFileError(path, "put the rebuilt image in place", error) from error
    finally:
        unfinished.unlink(missing_ok=True)
    atomic.sync_directory(path.parent)
    now = survey_again(lineage)
    refresh(now, now.find(path), held)


def _from_shadow(path: Path, record: SealRecord, unfinished: Path, progress: Progress | None) -> Held | None:
    """Copies the shadow, at no cost in space; returns None if there is none that still holds what was sealed."""
    shadow = path.with_name(record.shadow) if record.shadow else None
    if shadow is None or not shadow.exists() or not copying.clone_file(shadow, unfinished):
        return None
    return _as_sealed(unfinished, record, progress)


def _as_sealed(unfinished: Path, record: SealRecord, progress: Progress | None) -> Held | None:
    """Reads the new image back; returns None if it does not hold what was sealed."""
    with open_disk(unfinished, format=record.format) as disk:
        found = digest_disk(disk, progress)
    return Held(found, settled(unfinished)) if found.content_digest == record.content_digest else None
