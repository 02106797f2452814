"""Examines one sealed image: does it match its seal, and if not, which blocks changed and which dependents does that hit?

It locks nothing and changes nothing, so that the watch is never in the way of a machine or of another cowherd.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cowherd.errors import BackingFileError, CowherdError, ImageFormatError, UnsupportedFeature
from cowherd.extents import Ranges, total
from cowherd.herd.impact.verdict import UNREADABLE, Hit, depth_of, judged
from cowherd.herd.lineage.pending import describe
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest import arrays_of, differing, to_bytes
from cowherd.herd.records.digest_rows import read_content
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
    """The state in which an image was found. DAMAGED: its seal, or the image itself, makes no sense any more.

    PENDING: a merge is at work on it. UNREADABLE: the host refused to read it, so that nothing is known.
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

    `changed` are guest bytes, in whole blocks; `hits` is what that does to each dependent; `running` maps dependents to the
    processes that have them open for writing. `contradicted` are overlays that are bound to other content than the seal's.
    `level` is the protection that the file has. `was_read`: the content was read, and not just the identity of the files.
    `still_changing`: somebody wrote to it during the examination.
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
        """Number of blocks of 64 KiB that differ."""
        return -(-total(self.changed) // BLOCK)


def examine(
    stock: Stock, path: Path, progress: Progress | None, *, always_read: bool, suspicious: Callable[[Path], None] | None = None
) -> Finding:
    """Examines the image at `path`. Reads its content if the identities of its files prove nothing, or with `always_read`.

    Calls `suspicious` with the path before it reads content because the files are not as the seal left them.
    """
    base = stock.bases.get(path)
    if base is None:
        return _examine_vanished(stock, path)
    try:
        return _examine(stock, base, progress, always_read, suspicious)
    except (ImageFormatError, UnsupportedFeature, BackingFileError) as error:
        return _failed_finding(base, Outcome.DAMAGED, error)
    except CowherdError as error:
        return _failed_finding(base, Outcome.UNREADABLE, error)


def _failed_finding(base: Base, outcome: Outcome, error: CowherdError) -> Finding:
    return Finding(base.path, outcome, str(error), base.record, base.dependents)


def _examine_vanished(stock: Stock, path: Path) -> Finding:
    """Returns the finding for a path at which there is no sealed image any more."""
    image = stock.lineage.known(path)
    if image:
        return Finding(path, Outcome.UNSEALED, dependents=tuple(one.path for one in stock.lineage.dependents(image)))
    return Finding(path, Outcome.GONE, dependents=tuple(_left_behind(stock, path)))


def _left_behind(stock: Stock, path: Path) -> list[Path]:
    """Returns the overlays whose base is gone from this path, with all their dependents."""
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
        return _fine_finding(stock, base, record, was_read=False)
    if not quick.status.holds and suspicious:
        suspicious(base.path)
    identities = [FileIdentity.of(path) for path in base.files]
    with open_content(base.image, of_file=record.of_file, force_share=True) as reading:
        held = arrays_of(read_content(reading, progress, of_file=record.of_file))
    moving = identities != [FileIdentity.of(path) for path in base.files]
    if held.content_digest == record.content_digest:
        return _fine_finding(stock, base, record, was_read=True, still_changing=moving)
    return _drifted_finding(stock, base, record, sealed, held, still_changing=moving)


def _merge_of(stock: Stock, base: Base) -> Seen | None:
    """Returns the journal of a merge that concerns `base`, or None. Looks only beside the files of the base's chain.

    To look at the journals of the whole herd would take long if there are many images.
    """
    for path in base.files:
        seen = look_at(journal_path(path))
        if seen and (seen.entry is None or any(one.key == base.key for one in _named_in(stock, seen.entry))):
            return seen
    return None


def _named_in(stock: Stock, entry: Entry) -> Iterator[Image]:
    return (image for path in entry.images if (image := stock.lineage.known(path)))


def _fine_finding(stock: Stock, base: Base, record: SealRecord, *, was_read: bool, still_changing: bool = False) -> Finding:
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


def _drifted_finding(
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
    """Judges what changed bytes of `base` do to an overlay as its file is now, also while a machine has it open.

    Data that the machine has not yet entered into the overlay's tables counts as not written: exposed, not shielded.
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
    """Returns what a drift does to each dependent, as plain values for JSON."""
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
