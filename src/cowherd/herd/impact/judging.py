"""What a changed base does to all of its dependents, with each image's own tables looked at once.

What shows through an overlay is what shows through the one below it, less what the overlay holds itself. So the work grows with
the number of images; laying out the chain of each anew, as `verdict.judge` does for one, grows with the square of the depth.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cowherd import extents
from cowherd.errors import CowherdError
from cowherd.herd.impact.verdict import Hit, SnapshotHit, has_machine, judge, snapshot_hit, verdict_by
from cowherd.herd.seals.opaque import is_opaque
from cowherd.image.backing import resolve
from cowherd.image.open import open_disk
from cowherd.image.snapshots import snapshot_disk, snapshots_of
from cowherd.live.holders import naming_holders
from cowherd.ops.exposure import has_own_data, seen_through

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from cowherd.extents import Ranges
    from cowherd.formats.qcow2.snapshots import Snapshot
    from cowherd.herd.impact.verdict import Verdict
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.image.disk import Disk


class Opener(Protocol):
    """How images are opened to be judged."""

    def lies_open(self, base: Image) -> bool:
        """Returns whether the base can be read as a disk, to tell what shows through: of some images only the bytes are known."""

    def alone(self, image: Image) -> AbstractContextManager[Disk]:
        """Opens an image without its backing file."""

    def stands_on(self, disk: Disk, parent: Image) -> bool:
        """Returns whether `parent` is what an open image shows where it holds nothing."""

    def judge(self, image: Image, base: Image, changed: Ranges) -> Hit:
        """Returns the verdict about an image, reached by laying out its whole chain."""


class _ByName(Opener):
    """Opens images by the names that they store, with QEMU's locks, as any user of them does."""

    def lies_open(self, base: Image) -> bool:
        return not is_opaque(base)

    @contextmanager
    def alone(self, image: Image) -> Iterator[Disk]:
        with naming_holders(), open_disk(image.path, format=image.format, backing=False) as disk:
            yield disk

    def stands_on(self, disk: Disk, parent: Image) -> bool:
        """Whether the backing file that an open image names is the file that the lineage says, with the format that it says."""
        stored = disk.layers[0].backing
        if stored is None:
            return False
        reference = resolve(disk.layers[0].file.path, stored)
        status = os.stat(reference.name)
        return (status.st_dev, status.st_ino) == parent.key and reference.format == parent.format

    def judge(self, image: Image, base: Image, changed: Ranges) -> Hit:
        return judge(image, base, changed)


_BY_NAME = _ByName()


class _Seen(NamedTuple):
    """What an image lets through: the changed bytes that show, to the byte, and whether it or one below holds data of its own.

    `size`: that of its disk, in bytes. `hit`: the verdict; the base itself has none.
    """

    shown: Ranges
    own: bool
    size: int
    hit: Hit | None


def judge_all(lineage: Lineage, overlays: Sequence[Image], base: Image, changed: Ranges, opener: Opener = _BY_NAME) -> list[Hit]:
    """Returns for each of `overlays`, dependents of `base`, what `opener.judge` says of it, by default `verdict.judge`."""
    judging = Judging(lineage, base, changed, opener)
    return [judging.hit(overlay) for overlay in overlays]


class Judging:
    """Judges dependents of one base, each image once. See `judge_all`."""

    def __init__(self, lineage: Lineage, base: Image, changed: Ranges, opener: Opener):
        self._lineage, self._base, self._changed, self._opener = lineage, base, changed, opener
        of_base = _Seen(changed, False, 0, None) if not len(changed) or opener.lies_open(base) else None
        self._seen: dict[object, _Seen | None] = {base.key: of_base}
        self._hits: dict[object, Hit] = {}

    def hit(self, overlay: Image) -> Hit:
        """Returns the verdict about one overlay, once all images between it and the base are judged."""
        for image in self._unseen(overlay):
            seen = self._seen[image.key] = self._look(image)
            self._hits[image.key] = self._judge_chain(image) if seen is None or seen.hit is None else seen.hit
        return self._hits[overlay.key]

    def shown(self, overlay: Image) -> Ranges | None:
        """Returns the changed bytes, to the byte, that a judged overlay lets through; None where only its whole chain can say."""
        seen = self._seen[overlay.key]
        return None if seen is None else seen.shown

    def _judge_chain(self, image: Image) -> Hit:
        return self._opener.judge(image, self._base, self._changed)

    def _unseen(self, overlay: Image) -> list[Image]:
        """Returns the images from `overlay` down to the base that have not been looked at, the lowest first."""
        chain: list[Image] = []
        for image in self._lineage.chain(overlay):
            if image.key in self._seen:
                break
            chain.append(image)
        return chain[::-1]

    def _look(self, image: Image) -> _Seen | None:
        """Returns what an image lets through, None where only its whole chain can say."""
        parent = self._lineage.parent(image)
        below = None if parent is None else self._seen.get(parent.key)
        if parent is None or below is None:
            return None
        try:
            with self._opener.alone(image) as disk:
                fits = self._opener.stands_on(disk, parent) and disk.size >= below.size
                return self._seen_by(image, disk, below) if fits else None
        except (CowherdError, OSError):
            return None  # judging the whole chain meets the same problem, and names it

    def _seen_by(self, image: Image, disk: Disk, below: _Seen) -> _Seen:
        shown, own = _through(disk, below)
        verdict = verdict_by(disk.size, self._changed, shown, lambda: own)
        hit = Hit(image.path, *verdict, snapshots=self._snapshots(image, disk, below))
        return _Seen(shown, own, disk.size, hit)

    def _snapshots(self, image: Image, disk: Disk, below: _Seen) -> tuple[SnapshotHit, ...]:
        """Returns the verdict about each internal snapshot of an image; a snapshot is another layer in the image's place."""

        def look(snapshot: Snapshot) -> Verdict:
            at_snapshot = snapshot_disk(disk.layers, snapshot)
            if at_snapshot.size < below.size:
                raise _OnlyTheChain
            shown, own = _through(at_snapshot, below)
            return verdict_by(at_snapshot.size, self._changed, shown, lambda: own or has_machine(snapshot))

        try:
            return tuple(snapshot_hit(one, self._changed, partial(look, one)) for one in snapshots_of(disk.layers[0]))
        except _OnlyTheChain:
            return self._judge_chain(image).snapshots


class _OnlyTheChain(Exception):
    """A snapshot is smaller than what it stands on: own data of the layers below counts only where the snapshot shows it."""


def _through(disk: Disk, below: _Seen) -> tuple[Ranges, bool]:
    """Returns what one layer lets through of what lies below, and whether it or one below holds data of its own."""
    shown, own = seen_through(disk, 1, extents.intersect(below.shown, extents.ranges([(0, disk.size)])))
    return shown, own or below.own or (len(shown) > 0 and has_own_data(disk, 1))
