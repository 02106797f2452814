"""Drift: the blocks in which a base differs from its sealed content, or from an older copy of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cowherd.herd.records.digest import BlockDigests, differing, digest_disk, to_bytes
from cowherd.herd.records.faults import NotSealed
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.seals.held import Held, held_content
from cowherd.image.open import open_disk
from cowherd.live.holders import naming_holders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName
    from cowherd.progress import Progress
    from cowherd.storage.holding import Holding


@dataclass(frozen=True)
class Drift:
    """The content of a base before (`old`) and now (`held`); `runs` are the numbers of blocks that differ, as [first, end)."""

    base: Image
    old: BlockDigests
    held: Held
    runs: Ranges

    @property
    def new(self) -> BlockDigests:
        """The content of the base now."""
        return self.held.digests

    @property
    def changed(self) -> Ranges:
        """The changed guest bytes, in whole blocks, up to the larger of the disk's two sizes."""
        return to_bytes(self.runs, max(self.old.size, self.new.size))


@contextlib.contextmanager
def held_drift(lineage: Lineage, base: Image, progress: Progress | None = None, held: Holding | None = None) -> Iterator[Drift]:
    """Yields how `base` differs from its seal. QEMU can't write to the base while the block runs.

    With `held` the files of the base are held there, for longer than the block.
    Raises `NotSealed`, `ImageFormatError` for a damaged seal, and as `held_content`.
    """
    if base.seal is None:
        raise NotSealed(base.path)
    _, sealed = read_digests(base.expected_seal)
    with held_content(lineage, base, progress, held) as content:
        yield Drift(base, sealed, content, differing(sealed, content.digests))


def drift_of(lineage: Lineage, base: Image, against: PathName | None = None, progress: Progress | None = None) -> Drift:
    """Returns how `base` differs from its seal, or from the content of the image `against`, an older copy of it.

    A different size is no change by itself: overlays read zeros past a base's end. Raises as `held_drift`.
    """
    if against is None:
        with held_drift(lineage, base, progress) as drift:
            return drift
    with naming_holders(), open_disk(against, format=lineage.find(against).format) as disk:
        old = digest_disk(disk, progress)
    with held_content(lineage, base, progress) as held:
        return Drift(base, old, held, differing(old, held.digests))


def pairs(ranges: Ranges) -> list[list[int]]:
    """Returns byte ranges as [start, length] pairs, as JSON shows them."""
    return [[start, end - start] for start, end in ranges.tolist()]
