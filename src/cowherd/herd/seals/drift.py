"""Drift: the blocks in which a base differs from what it was sealed with, or from an older copy of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from cowherd import extents
from cowherd.herd.records.digest import BlockDigests, differing, digest_disk, to_bytes
from cowherd.herd.records.faults import NotSealed
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.seals.held import Held, held_content
from cowherd.image.open import open_disk
from cowherd.live.holders import naming_holders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName
    from cowherd.progress import Progress


@dataclass(frozen=True)
class Drift:
    """What a base held (`old`), what it holds now (`held`), and the numbers of the blocks that differ (`runs`)."""

    base: Image
    old: BlockDigests
    held: Held
    runs: Ranges

    @property
    def new(self) -> BlockDigests:
        """What the base holds now."""
        return self.held.digests

    @property
    def changed(self) -> Ranges:
        """The changed guest bytes, in whole blocks, cut at the end of the larger of both states of the disk."""
        return to_bytes(self.runs, max(self.old.size, self.new.size))


@contextlib.contextmanager
def held_drift(lineage: Lineage, base: Image, progress: Progress | None = None) -> Iterator[Drift]:
    """Finds how `base` differs from its seal, and gives it to the block, during which QEMU can't write to the base.

    Raises `NotSealed`, `ImageFormatError` for a damaged seal, and as `held_content`.
    """
    if base.seal is None:
        raise NotSealed(base.path)
    _, sealed = read_digests(base.expected_seal)
    with held_content(lineage, base, progress) as held:
        yield Drift(base, sealed, held, differing(sealed, held.digests))


def drift_of(lineage: Lineage, base: Image, against: PathName | None = None, progress: Progress | None = None) -> Drift:
    """Returns how `base` differs from its seal, or from the content of the image `against`, an older copy of it.

    A size that differs is no change by itself: overlays read zeros past a base's end. Raises as `held_drift`.
    """
    if against is None:
        with held_drift(lineage, base, progress) as drift:
            return drift
    with naming_holders(), open_disk(against, format=lineage.find(against).format) as disk:
        old = digest_disk(disk, progress)
    with held_content(lineage, base, progress) as held:
        return Drift(base, old, held, differing(old, held.digests))


def changed_bytes(old: BlockDigests, new: BlockDigests) -> int:
    """Returns the size of the blocks that differ."""
    return extents.total(to_bytes(differing(old, new), max(old.size, new.size)))


def pairs(ranges: Ranges) -> list[list[int]]:
    """Returns byte ranges as [start, length] pairs, as JSON shows them."""
    return [[start, end - start] for start, end in ranges.tolist()]
