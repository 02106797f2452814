"""What a merge will do, as a value: which bytes of the base change, who would see that, and what it costs to keep it from them.

Two ways keep every dependent's content. `preserve`: the direct overlays of the base get the bytes that they would lose, which
serves everything that stands on them, too; nothing deeper can serve them, since each of them is a disk of its own. `fork`: the
base stays as it is, and a copy of it takes the changes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cowherd import extents
from cowherd.herd.impact.verdict import Hit, hit_to_json
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest import BlockDigests
from cowherd.herd.repair.plan import Writes
from cowherd.herd.repair.repair import unallocated_bytes
from cowherd.herd.seals.drift import pairs
from cowherd.ops.plan import Plan
from cowherd.storage.space import check_space

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.scan import Image
    from cowherd.image.disk import Disk

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
        """Whether bytes of the base are written to it."""
        return len(self.writes.ranges) > 0


@dataclass(frozen=True, eq=False)
class MergePlan:
    """How `overlay`, and the images between, are merged into `base`.

    `above`: the overlay and the images between it and the base, topmost first. `down`: the guest bytes of the base that are
    written; `changed`: those whose 64 KiB block really changes. `new_size`: the base's virtual size afterwards. `predicted`: the
    content that the base will have. `hits`: every dependent, and what a plain commit would show it. `served`: what `preserve`
    writes to the direct overlays, none if it is not the strategy. `fork`: the file that `fork` makes. `unreadable`: unreadable
    files, which may be overlays.
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
        """The cost of the chosen strategy."""
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


def growth_of(disk: Disk, ranges: Ranges, size: int) -> int:
    """Returns how many bytes the file of `disk` may grow by when `ranges` are written to it."""
    whole = extents.aligned(ranges, max(disk.layers[0].granularity, 4096), max(size, disk.size))
    return with_tables(unallocated_bytes(disk, whole))


def with_tables(new_bytes: int) -> int:
    """Returns how many bytes a file may grow by when `new_bytes` of data are added to it."""
    return new_bytes + int(new_bytes * _TABLES_PER_BYTE) + _TABLES_PER_FILE if new_bytes else 0


def cost_of_preserve(down: Plan, growth: int, writes: Sequence[Writes], predicted: BlockDigests) -> Cost:
    """Returns what it costs to write `writes` to the direct overlays, and then `down` to the base."""
    up = sum(extents.total(one.ranges) for one in writes)
    read = up + down.bytes_to_copy + len(predicted.digests) * BLOCK
    written = [one for one in writes if len(one.ranges)]
    return Cost(
        written=up + down.bytes_to_copy,
        growth=growth + sum(one.new_bytes for one in written),
        read=read,
        files=1 + len(written),
    )


def cost_of_fork(base: Image, down: Plan, growth: int, predicted: BlockDigests, *, reflink: bool) -> Cost:
    """Returns what it costs to copy the base, with shared blocks if there is `reflink`, and to write `down` to the copy."""
    copied = 0 if reflink else base.disk_size
    shared = down.bytes_to_copy if reflink else 0  # a write gives the copy its own block in place of a shared one
    read = copied + down.bytes_to_copy + len(predicted.digests) * BLOCK
    return Cost(written=copied + down.bytes_to_copy, growth=copied + growth + with_tables(shared), read=read, files=1)
