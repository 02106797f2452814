"""Examining one sealed image: is it as its seal says, and if not, which blocks changed and whom does that hit?

Nothing is locked and nothing is changed, so that the watch is never in the way of a machine or of another cowherd.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cowherd.errors import BackingFileError, CowherdError, ImageFormatError, UnsupportedFeature
from cowherd.extents import Ranges, total
from cowherd.herd.impact.verdict import UNREADABLE, Hit, depth_of, judged
from cowherd.herd.lineage.pending import describe
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest import differing, digest_disk, to_bytes
from cowherd.herd.records.journal import Entry, Seen, journal_path, look_at
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.herd.records.status import Status
from cowherd.herd.seals.opaque import open_content
from cowherd.herd.seals.quick_check import condition
from cowherd.herd.watch.stock import Base, Stock
from cowherd.image.open import open_disk
from cowherd.live.holders import Holder, writers
from cowherd.storage import protection
from cowherd.storage.identity import FileIdentity
from cowherd.storage.protection import Protection

if TYPE_CHECKING:
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.digest import BlockDigests
    from cowherd.progress import Progress

_NOTHING = np.empty((0, 2), np.int64)


class Outcome(enum.Enum):
    """What an image was found to be. DAMAGED: its seal, or the image itself, can't be made sense of any more.

    PENDING: a merge is at work on it. UNREADABLE: the host refused, so that nothing is known.
    """

    FINE = "fine"
    DRIFTED = "drifted"
    DAMAGED = "damaged"
    UNSEALED = "unsealed"
    GONE = "gone"
    PENDING = "pending"
    INTERRUPTED = "interrupted"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, eq=False)
class Finding:
    """What was found of the image at `path`.

    `changed` are guest bytes, in whole blocks; `hits` what that does to the dependents, of which `running` says who has them
    open for writing. `contradicted` are overlays that are bound to other content than the seal's. `level`: the protection that
    the file has. `was_read`: its content was read, and not just the identity of its files. `still_changing`: it was written
    to meanwhile.
    """

    path: Path
    outcome: Outcome
    detail: str = ""
    record: SealRecord | None = None
    dependents: tuple[Path, ...] = ()
    changed: Ranges = field(default_factory=lambda: _NOTHING)
    hits: tuple[Hit, ...] = ()
    running: dict[Path, tuple[Holder, ...]] = field(default_factory=dict)
    contradicted: tuple[Path, ...] = ()
    level: Protection | None = None
    was_read: bool = False
    still_changing: bool = False

    @property
    def blocks(self) -> int:
        """How many blocks of 64 KiB differ."""
        return -(-total(self.changed) // BLOCK)


def examine(
    stock: Stock, path: Path, progress: Progress | None, *, always_read: bool, suspicious: Callable[[Path], None] | None = None
) -> Finding:
    """Examines the image called `path`; its content is read if the identities of its files don't settle it, or `always_read`.

    `suspicious` is called with the path before content is read because the files are not as the seal left them.
    """
    base = stock.bases.get(path)
    if base is None:
        return _of_the_vanished(stock, path)
    try:
        return _examine(stock, base, progress, always_read, suspicious)
    except (ImageFormatError, UnsupportedFeature, BackingFileError) as error:
        return _unreadable(base, Outcome.DAMAGED, error)
    except CowherdError as error:
        return _unreadable(base, Outcome.UNREADABLE, error)


def _unreadable(base: Base, outcome: Outcome, error: CowherdError) -> Finding:
    return Finding(base.path, outcome, str(error), base.record, base.dependents)


def _of_the_vanished(stock: Stock, path: Path) -> Finding:
    """What is known of a path at which no sealed image is any more."""
    image = stock.lineage.known(path)
    if image:
        return Finding(path, Outcome.UNSEALED, dependents=tuple(one.path for one in stock.lineage.dependents(image)))
    return Finding(path, Outcome.GONE, dependents=tuple(_left_behind(stock, path)))


def _left_behind(stock: Stock, path: Path) -> list[Path]:
    """Returns the overlays whose base has left this path, with all that stand on them."""
    orphans = [image for image in stock.lineage.images.values() if (link := stock.lineage.broken(image)) and link.path == path]
    return sorted({one.path for orphan in orphans for one in (orphan, *stock.lineage.dependents(orphan))})


def _examine(
    stock: Stock, base: Base, progress: Progress | None, always_read: bool, suspicious: Callable[[Path], None] | None
) -> Finding:
    pending = _merge_of(stock, base)
    if pending:
        return Finding(base.path, Outcome.PENDING if pending.running else Outcome.INTERRUPTED, describe(pending), base.record)
    quick = condition(stock.lineage, base.image)
    if quick.status is Status.MISSING_BASE:
        return Finding(base.path, Outcome.DAMAGED, quick.detail, base.record, base.dependents)
    if quick.status is Status.UNKNOWN:
        return Finding(base.path, Outcome.UNREADABLE, quick.detail, base.record, base.dependents)
    record, sealed = read_digests(base.seal)
    if quick.status is Status.OK and quick.certain and not always_read:
        return _fine(stock, base, record, was_read=False)
    if not quick.status.holds and suspicious:
        suspicious(base.path)
    identities = [FileIdentity.of(path) for path in base.files]
    with open_content(base.image, of_file=record.of_file, force_share=True) as disk:
        held = replace(digest_disk(disk, progress), of_file=record.of_file)
    moving = identities != [FileIdentity.of(path) for path in base.files]
    if held.content_digest == record.content_digest:
        return _fine(stock, base, record, was_read=True, still_changing=moving)
    return _drifted(stock, base, record, sealed, held, still_changing=moving)


def _merge_of(stock: Stock, base: Base) -> Seen | None:
    """Returns the journal of a merge that takes part of what `base` is read through, or None: it lies beside one of those files.

    The whole herd's journals are not asked for, since that takes long where there are many images.
    """
    for path in base.files:
        seen = look_at(journal_path(path))
        if seen and (seen.entry is None or any(one.key == base.key for one in _named_in(stock, seen.entry))):
            return seen
    return None


def _named_in(stock: Stock, entry: Entry) -> Iterator[Image]:
    return (image for path in entry.images if (image := stock.lineage.known(path)))


def _fine(stock: Stock, base: Base, record: SealRecord, *, was_read: bool, still_changing: bool = False) -> Finding:
    return Finding(
        base.path,
        Outcome.FINE,
        record=record,
        dependents=base.dependents,
        contradicted=tuple(
            child.path
            for child in stock.lineage.children(base.image)
            if child.binding and child.binding.content_digest != record.content_digest
        ),
        level=protection.current(base.path),
        was_read=was_read,
        still_changing=still_changing,
    )


def _drifted(
    stock: Stock, base: Base, record: SealRecord, sealed: BlockDigests, held: BlockDigests, *, still_changing: bool
) -> Finding:
    changed = to_bytes(differing(sealed, held), max(sealed.size, held.size))
    dependents = stock.lineage.dependents(base.image)
    resized = f"its size went from {sealed.size} to {held.size} bytes" if held.size != sealed.size else ""
    return Finding(
        base.path,
        Outcome.DRIFTED,
        resized,
        record,
        base.dependents,
        changed,
        tuple(_judge(overlay, base.image, changed) for overlay in dependents),
        writers(overlay.path for overlay in dependents),
        level=protection.current(base.path),
        was_read=True,
        still_changing=still_changing,
    )


def _judge(overlay: Image, base: Image, changed: Ranges) -> Hit:
    """Says what changed bytes of `base` do to an overlay as its file is now, also while a machine has it open.

    What that machine has not written to its tables yet counts as not written: exposed, and not shielded.
    """
    try:
        with open_disk(overlay.path, format=overlay.format, force_share=True) as disk:
            return judged(overlay.path, disk, depth_of(disk, base), changed)
    except CowherdError as error:
        return Hit(overlay.path, UNREADABLE, _NOTHING, _NOTHING, str(error))


def is_less_protected(finding: Finding) -> bool:
    """Returns whether a file has lost protection that its seal gave it."""
    return finding.record is not None and finding.level is not None and finding.level < finding.record.level


def hit_facts(finding: Finding) -> list[dict[str, object]]:
    """Returns what a drift does to each dependent, as plain values."""
    return [
        {
            "path": os.fspath(hit.path),
            "verdict": hit.verdict,
            "exposed_bytes": total(hit.exposed),
            "shielded_bytes": total(hit.shielded),
            "snapshots": [{"id": one.id, "name": one.name, "verdict": one.verdict} for one in hit.snapshots],
            "open_in": [holder.pid for holder in finding.running.get(hit.path, ())],
            **({"problem": hit.problem} if hit.problem else {}),
        }
        for hit in finding.hits
    ]
