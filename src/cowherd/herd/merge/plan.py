"""What a merge will do, as a value: which bytes of the base change, who would see that, and what it costs to keep it from them.

Two ways keep every dependent's content. `preserve`: the direct overlays of the base get the bytes that they would lose, which
serves everything that stands on them, too; nothing deeper can serve them, since each of them is a disk of its own. `fork`: the
base stays as it is, and a copy of it takes the changes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from cowherd import extents
from cowherd.errors import CowherdError
from cowherd.herd.impact.verdict import UNREADABLE, Hit, hit_to_json, judged
from cowherd.herd.merge.holding import stacked
from cowherd.herd.merge.witness import bears_witness
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest import (
    BlockDigests,
    Blocks,
    Digests,
    digest_disk,
    digests_of,
    equal_rows,
    expand,
    is_zero,
    runs_of,
    to_blocks,
    to_bytes,
)
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.repair.plan import Writes
from cowherd.herd.repair.repair import unallocated_bytes
from cowherd.herd.seals.drift import pairs
from cowherd.herd.seals.quick_check import condition
from cowherd.image.disk import Disk
from cowherd.ops.commit import plan_commit
from cowherd.ops.exposure import exposed_bytes
from cowherd.ops.plan import Plan
from cowherd.storage.space import check_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.progress import Progress

PRESERVE, FORK, AUTO = "preserve", "fork", "auto"
STRATEGIES = (AUTO, PRESERVE, FORK)
NOTHING, EMPTY, CONTENT = "nothing", "empty", "content"
KEEPS = (NOTHING, EMPTY, CONTENT)

_WRITE_BYTES_PER_SECOND = 250e6
_READ_BYTES_PER_SECOND = 1000e6
_SECONDS_PER_FILE = 0.05
_TABLES_PER_BYTE, _TABLES_PER_FILE = 1 / 512, 1 << 20  # of L2 tables and refcount blocks, generously


@dataclass(frozen=True)
class Cost:
    """What one strategy costs: bytes written, bytes that files may grow by, bytes read (to copy and verify), files changed."""

    written: int
    growth: int
    read: int
    files: int

    @property
    def seconds(self) -> float:
        """A rough estimate, for a local disk."""
        moving = self.written / _WRITE_BYTES_PER_SECOND + self.read / _READ_BYTES_PER_SECOND
        return moving + self.files * _SECONDS_PER_FILE

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "written_bytes": self.written,
            "growth_bytes": self.growth,
            "read_bytes": self.read,
            "files": self.files,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, eq=False)
class Served:
    """A direct overlay of the base: what is written to it, and the digest of its bytes that the merge may touch."""

    writes: Writes
    witness: str

    @property
    def image(self) -> Image:
        """The overlay."""
        return self.writes.image

    @property
    def is_written(self) -> bool:
        """Whether it gets bytes of the base."""
        return len(self.writes.ranges) > 0


@dataclass(frozen=True, eq=False)
class MergePlan:
    """How `overlay`, and the images between, are merged into `base`.

    `above`: the overlay and the images between it and the base, topmost first. `down`: the guest bytes of the base that are
    written; `changed`: those whose 64 KiB block really changes. `new_size`: the base's virtual size afterwards. `predicted`: the
    content that the base will have. `hits`: every dependent, and what a plain commit would show it. `served`: what `preserve`
    writes to the direct overlays. `fork`: the file that `fork` makes. `unreadable`: files that may be overlays nobody knows of.
    """

    overlay: Image
    base: Image
    above: tuple[Image, ...]
    strategy: str
    keep: str
    down: Plan
    down_growth: int
    changed: Ranges
    old_size: int
    predicted: BlockDigests
    hits: tuple[Hit, ...]
    served: tuple[Served, ...]
    fork: Path
    preserve_cost: Cost
    fork_cost: Cost
    unreadable: tuple[Path, ...]

    @property
    def cost(self) -> Cost:
        """That of the chosen strategy."""
        return self.preserve_cost if self.strategy == PRESERVE else self.fork_cost

    @property
    def new_size(self) -> int:
        """The virtual size of the base afterwards, in bytes."""
        return self.predicted.size

    def check_space(self) -> None:
        """Raises `NotEnoughSpace` if a file system that will be written to may be too full."""
        if self.strategy == FORK:
            check_space([(self.base.path, self.fork_cost.growth)])
        else:
            check_space([(self.base.path, self.down_growth), *((one.image.path, one.writes.new_bytes) for one in self.served)])

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: ranges as [start, length] pairs of bytes."""
        return {
            "overlay": os.fspath(self.overlay.path),
            "base": os.fspath(self.base.path),
            "between": [os.fspath(image.path) for image in self.above[1:]],
            "strategy": self.strategy,
            "keep": self.keep,
            "changed": pairs(self.changed),
            "changed_bytes": extents.total(self.changed),
            "size": self.old_size,
            "new_size": self.new_size,
            "new_base": os.fspath(self.fork) if self.strategy == FORK else None,
            "dependents": [hit_to_json(hit) for hit in self.hits],
            "writes": [one.writes.to_json() for one in self.served if one.is_written and self.strategy == PRESERVE],
            "unreadable": [os.fspath(path) for path in self.unreadable],
            "costs": {PRESERVE: self.preserve_cost.to_json(), FORK: self.fork_cost.to_json()},
        }


def plan_merge(
    lineage: Lineage,
    above: Sequence[Image],
    base: Image,
    strategy: str,
    keep: str,
    fork: Path,
    *,
    reflink: bool,
    progress: Progress | None = None,
) -> MergePlan:
    """Plans to merge `above`, the overlay and the images between, into `base`. Takes no locks: the caller holds them.

    `strategy` AUTO takes the cheaper one. `reflink`: whether a copy of the base costs nothing. Reads what `above` holds, and the
    whole base if no seal says what it holds.
    """
    below = lineage.chain(base)
    with stacked([*above, *below]) as whole:
        depth = len(above)
        over, under = Disk(whole.layers[:depth], writable=False), Disk(whole.layers[depth:], writable=False)
        old = _content(lineage, base, under, progress)
        down, changed, predicted = _changes(whole, over, under, old, progress)
        growth = _growth(under, extents.union(down.copy, down.zero), predicted.size)
    hits = tuple(_hit(lineage, dependent, base, changed) for dependent in lineage.dependents(base))
    children = [child for child in lineage.children(base) if child.key != above[0].key]
    served = tuple(_served(lineage, child, changed) for child in children)
    preserve_cost = _cost_of_preserve(down, growth, served, predicted)
    fork_cost = _cost_of_fork(base, down, growth, predicted, reflink=reflink)
    if strategy == AUTO:
        strategy = FORK if fork_cost.written < preserve_cost.written else PRESERVE
    return MergePlan(
        overlay=above[0],
        base=base,
        above=tuple(above),
        strategy=strategy,
        keep=keep,
        down=down,
        down_growth=growth,
        changed=changed,
        old_size=old.size,
        predicted=predicted,
        hits=hits,
        served=served,
        fork=fork,
        preserve_cost=preserve_cost,
        fork_cost=fork_cost,
        unreadable=lineage.unreadable,
    )


def _content(lineage: Lineage, base: Image, disk: Disk, progress: Progress | None) -> BlockDigests:
    if base.seal and condition(lineage, base).status.holds:
        return read_digests(base.expected_seal)[1]
    return digest_disk(disk, progress)


def _changes(
    whole: Disk, over: Disk, under: Disk, old: BlockDigests, progress: Progress | None
) -> tuple[Plan, Ranges, BlockDigests]:
    """Returns what is to be written, which of it changes anything, and what the base will hold."""
    down = plan_commit(over, under)
    held = extents.union(down.copy, down.zero)
    runs = to_blocks(held)
    blocks, new = expand(runs), digests_of(whole, runs, progress)
    _finish_last_block(whole, under, blocks, new)
    size = max(whole.size, under.size)
    predicted = _overlaid(old, blocks, new, size)
    differing = runs_of(blocks[~equal_rows(new, old.lookup(blocks))])
    changed = extents.intersect(held, to_bytes(differing, size))
    part = Plan(down.target, extents.intersect(down.copy, changed), extents.intersect(down.zero, changed))
    return part, changed, predicted


def _finish_last_block(whole: Disk, under: Disk, blocks: Blocks, digests: Digests) -> None:
    """Where the overlay ends inside a block that goes on in a larger base, the merged block holds bytes of both."""
    last, within = divmod(whole.size, BLOCK)
    row = int(np.searchsorted(blocks, last))
    if not within or under.size <= whole.size or row == len(blocks) or blocks[row] != last:
        return
    end = min(under.size, (last + 1) * BLOCK)
    merged = whole.read(last * BLOCK, within) + under.read(whole.size, end - whole.size)
    digests[row] = np.frombuffer(blake3(merged.ljust(BLOCK, b"\0")).digest(), np.uint8)


def _overlaid(old: BlockDigests, blocks: Blocks, new: Digests, size: int) -> BlockDigests:
    """Returns the content `old` with the digests of some blocks replaced, on a disk of `size` bytes."""
    filled = ~is_zero(new)
    kept = expand(extents.subtract(old.runs, runs_of(blocks)))
    numbers = np.concatenate((kept, blocks[filled]))
    order = np.argsort(numbers, kind="stable")
    rows = np.concatenate((old.lookup(kept), new[filled]))[order]
    return BlockDigests(size, runs_of(numbers[order]), np.ascontiguousarray(rows))


def _growth(disk: Disk, ranges: Ranges, size: int) -> int:
    """Returns how many bytes the file of `disk` may grow by when `ranges` are written to it."""
    whole = extents.aligned(ranges, max(disk.layers[0].granularity, 4096), max(size, disk.size))
    return _with_tables(unallocated_bytes(disk, whole))


def _with_tables(new_bytes: int) -> int:
    return new_bytes + int(new_bytes * _TABLES_PER_BYTE) + _TABLES_PER_FILE if new_bytes else 0


def _hit(lineage: Lineage, dependent: Image, base: Image, changed: Ranges) -> Hit:
    chain = lineage.chain(dependent)
    nothing = np.empty((0, 2), np.int64)
    try:
        with stacked(chain) as disk:
            return judged(dependent.path, disk, [image.key for image in chain].index(base.key), changed)
    except CowherdError as error:
        return Hit(dependent.path, UNREADABLE, nothing, nothing, str(error))


def _served(lineage: Lineage, child: Image, changed: Ranges) -> Served:
    with stacked(lineage.chain(child)) as disk:
        exposed = exposed_bytes(disk, 1, changed)
        units = extents.aligned(exposed, disk.layers[0].granularity, disk.size)
        witness = bears_witness(disk, changed, whole=len(units) > 0)
    return Served(Writes(child, units, _with_tables(extents.total(units))), witness)


def _cost_of_preserve(down: Plan, growth: int, served: Sequence[Served], predicted: BlockDigests) -> Cost:
    up = sum(extents.total(one.writes.ranges) for one in served)
    read = up + down.bytes_to_copy + len(predicted.digests) * BLOCK
    written = [one for one in served if one.is_written]
    return Cost(
        written=up + down.bytes_to_copy,
        growth=growth + sum(one.writes.new_bytes for one in written),
        read=read,
        files=1 + len(written),
    )


def _cost_of_fork(base: Image, down: Plan, growth: int, predicted: BlockDigests, *, reflink: bool) -> Cost:
    copied = 0 if reflink else base.disk_size
    shared = down.bytes_to_copy if reflink else 0  # blocks that are shared with the old base are parted by a write
    read = copied + down.bytes_to_copy + len(predicted.digests) * BLOCK
    return Cost(written=copied + down.bytes_to_copy, growth=copied + growth + _with_tables(shared), read=read, files=1)
