"""What a base will hold after a merge, known before anything is written: its digests, with the overlay's laid over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from cowherd import extents
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
from cowherd.herd.seals.quick_check import condition
from cowherd.ops.commit import plan_commit
from cowherd.ops.plan import Plan

if TYPE_CHECKING:
    from cowherd.extents import Ranges
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.image.disk import Disk
    from cowherd.progress import Progress


def content_of(lineage: Lineage, base: Image, disk: Disk, progress: Progress | None) -> BlockDigests:
    """Returns the content of a base, as its seal says, or by reading all of it if no seal holds."""
    if base.seal and condition(lineage, base).status.holds:
        return read_digests(base.expected_seal)[1]
    return digest_disk(disk, progress)


def predict(
    whole: Disk, over: Disk, under: Disk, old: BlockDigests, progress: Progress | None
) -> tuple[Plan, Ranges, BlockDigests]:
    """Returns what will be written, which of it changes anything, and what the base will hold.

    `over` are the images above, `under` the base, which holds `old`, and `whole` both.
    """
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
    """Corrects the digest of a block in which the overlay ends and a larger base goes on: merged, it holds bytes of both."""
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
