"""What a repair will do, as a value: it can be printed, summed and checked against free space before anything is written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cowherd import extents
from cowherd.herd.seals.drift import pairs
from cowherd.storage.space import check_space

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.seals.donors import Located


@dataclass(frozen=True, eq=False)
class Writes:
    """Guest ranges that will be written to one image, and the host bytes that may newly be allocated for them."""

    image: Image
    ranges: Ranges
    new_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: ranges as [start, length] pairs of bytes."""
        return {"path": os.fspath(self.image.path), "bytes": extents.total(self.ranges), "ranges": pairs(self.ranges)}


@dataclass(frozen=True, eq=False)
class RepairPlan:
    """How a base is brought back, or its drift kept from its overlays (`preserve`).

    `changed`: the guest bytes that differ from the seal; `size` and `sealed_size`: the virtual size now and as sealed;
    `located`: where the sealed blocks come from; `writes`: what is written to which image.
    """

    base: Image
    preserve: bool
    changed: Ranges
    size: int
    sealed_size: int
    located: Located
    writes: tuple[Writes, ...]

    @property
    def gone(self) -> bool:
        """Whether the base itself is not there, and will be made anew."""
        return self.base.size is None

    @property
    def write_bytes(self) -> int:
        """Guest bytes to be written, to all images together."""
        return sum(extents.total(write.ranges) for write in self.writes)

    def check_space(self) -> None:
        """Raises `NotEnoughSpace` if a file system that will be written to may be too full."""
        check_space((write.image.path, write.new_bytes) for write in self.writes)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: ranges as [start, length] pairs of bytes."""
        return {
            "base": os.fspath(self.base.path),
            "preserve": self.preserve,
            "gone": self.gone,
            "changed": pairs(self.changed),
            "changed_bytes": extents.total(self.changed),
            "size": self.size,
            "sealed_size": self.sealed_size,
            "donors": [{"path": os.fspath(path), "bytes": count} for path, count in self.located.bytes_by_donor()],
            "zero_bytes": self.located.zero_bytes,
            "writes": [write.to_json() for write in self.writes],
        }


@dataclass(frozen=True, eq=False)
class Repaired:
    """What a repair did: its plan, whether it was carried out, and overlays whose binding or seal is `left` out of date."""

    plan: RepairPlan
    done: bool
    left: Sequence[tuple[Path, str]] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd repair --json` prints them."""
        left = [{"path": os.fspath(path), "problem": problem} for path, problem in self.left]
        return self.plan.to_json() | {"done": self.done, "left": left}
