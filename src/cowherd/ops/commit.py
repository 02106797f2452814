"""Commits an overlay: writes what it and the other layers above a base hold into that base.

The base is complete and durable before the overlay is emptied, and until then the overlay holds everything that it held. So an
interrupted commit can be started again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cowherd import extents as ext
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.image.snapshots import snapshots_of
from cowherd.ops.commit_target import find_base
from cowherd.ops.copying import CHUNK_BYTES, Buffers, pump
from cowherd.ops.moves import Move, moves
from cowherd.ops.plan import Plan
from cowherd.ops.snapshots import exposed_snapshots, require_same
from cowherd.progress import Progress
from cowherd.storage.copying import can_clone
from cowherd.storage.opening import open_file, require_host
from cowherd.storage.space import check_space
from cowherd.storage.writeback import WriteBehind

if TYPE_CHECKING:
    from typing import Any

    from cowherd.paths import PathName
    from cowherd.storage.blocks import Opener


@dataclass(frozen=True)
class Committed:
    """The result of a commit: the file that it wrote to, what it copied and zeroed there, and whether it emptied the overlay."""

    base: Path
    plan: Plan
    emptied: bool

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: the file that was written to, and how many bytes were copied."""
        return {"base": os.fspath(self.base), "copied_bytes": self.plan.bytes_to_copy, "emptied": self.emptied}


def commit(
    overlay: PathName,
    *,
    format: str | None = None,
    base: str | None = None,
    keep_content: bool = False,
    keep_snapshots: bool = True,
    opener: Opener = open_file,
    progress: Progress | None = None,
) -> Committed:
    """Writes the content of `overlay` into its backing file, or into `base`, a deeper image of its chain, as qemu-img does.

    `base` is a name as one of the chain's images stores it, or a path; a relative name is first resolved beside each image.
    The base grows if it is smaller than the overlay. Then the overlay is emptied, unless `keep_content` or a `base` is given.
    Images between the overlay and `base` are useless afterwards. `keep_snapshots`: refuse if an internal snapshot of the overlay,
    or of an image between, would show other bytes afterwards. `opener` lends the files that the caller holds. `progress` is
    called with (bytes done, bytes in all).

    Raises `InvalidRequest` without a backing file, or where `base` is not in the chain; `SnapshotsWouldChange` and
    `NotEnoughSpace`, with nothing changed; what opening raises; `HostFileError`.
    """
    empties = not keep_content and base is None
    with open_disk(overlay, format=format, writable=True, opener=opener) as chain:
        depth = find_base(chain.layers, base)
        if keep_snapshots:
            _require_snapshots_kept(chain, depth)
        target_path, target_format = require_host(chain.layers[depth].file).path, chain.layers[depth].format
        above = Disk(chain.layers[:depth], writable=True)
        for layer in chain.layers[depth:]:
            layer.close()  # so that it can be opened for writing: two opens of one file would exclude each other by their locks
        with open_disk(target_path, format=target_format, writable=True, opener=opener) as target:
            plan = plan_commit(above, target)
            _check_space(plan, above, target)
            if target.size < above.size:
                target.resize(above.size)
            copy_down(plan, above, target, progress)
            target.flush()
            if empties:
                above.layers[0].deallocate_all()
                above.flush()
    return Committed(target_path, plan, empties)


def plan_commit(above: Disk, target: Disk) -> Plan:
    """Plans to write into `target` what the layers of `above` hold; the rest of `target` stays. Reads only tables."""
    copy, zero = [np.empty((0, 2), np.int64)], [np.empty((0, 2), np.int64)]
    for batch in above.extents():
        copy.append(ext.ranges_of(ext.of_kind(batch, ext.DATA, ext.COMPRESSED)))
        zero.append(ext.ranges_of(ext.of_kind(batch, ext.ZERO)))
    return Plan(target.path, ext.normalised(np.concatenate(copy)), ext.normalised(np.concatenate(zero)))


def _require_snapshots_kept(chain: Disk, depth: int) -> None:
    """Raises `SnapshotsWouldChange` if a snapshot of a layer above the target shows bytes of the target that will change."""
    if not any(snapshots_of(layer) for layer in chain.layers[:depth]):
        return
    target = Disk(chain.layers[depth:], writable=False)
    plan = plan_commit(Disk(chain.layers[:depth], writable=False), target)
    written = ext.union(plan.copy, plan.zero)
    exposed = [one for index in range(depth) for one in exposed_snapshots(chain.layers[index:], depth - index, changed=written)]
    require_same(chain.layers, "commit", exposed, target, Disk(chain.layers, writable=False))


def copy_down(plan: Plan, above: Disk, target: Disk, progress: Progress | None = None) -> None:
    """Carries out a plan of `plan_commit`, or a part of one. Repeating it does no harm. It does not flush `target`."""
    total, done = plan.bytes_to_copy, 0
    behind = WriteBehind(target.layers[0].data.host)
    buffers = Buffers(CHUNK_BYTES)

    def load(move: Move) -> memoryview | None:
        if move.held is None:
            return None
        buffer = buffers.take(move.end - move.start)
        above.read_extents(move.held, move.start, buffer)
        return buffer

    def store(move: Move, data: memoryview | None) -> None:
        nonlocal done
        if data is not None:
            target.write(move.start, data)
            buffers.give(data)
        elif move.range is not None:
            target.write(move.start, move.range)
        else:
            target.zero(move.start, move.end - move.start)
            return
        behind.wrote(move.end - move.start)
        done += move.end - move.start
        if progress is not None:
            progress(done, total)

    pump(moves(plan, above, target), load, store, is_quick=lambda move: move.held is None)
    if progress is not None:
        progress(total, total)


def _check_space(plan: Plan, above: Disk, target: Disk) -> None:
    """Raises `NotEnoughSpace` if the bytes that need new clusters do not fit. Shared blocks and devices need no space."""
    below = require_host(target.layers[0].file)
    if below.is_block_device or all(file and can_clone(file, below) for file in (layer.data.host for layer in above.layers)):
        return
    held = [np.empty((0, 2), np.int64)]
    if not snapshots_of(target.layers[0]):  # clusters that snapshots share can't be overwritten in place
        held += [ext.ranges_of(ext.of_kind(batch, ext.DATA)) for batch in target.extents(depth=1)]
    check_space([(target.path, ext.total(ext.subtract(plan.copy, ext.normalised(np.concatenate(held)))))])
