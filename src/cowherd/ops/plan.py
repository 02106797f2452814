"""Plans: what a job will do to a file, as a value that can be printed, summed and executed. Planning reads tables, never data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cowherd import extents as ext
from cowherd.extents import Extents, Ranges


@dataclass(frozen=True)
class Plan:
    """Guest ranges of `target` that a job changes: `copy` gets bytes from elsewhere, `zero` becomes zeros.

    Both are range arrays (see `cowherd.extents`), disjoint from each other.
    """

    target: Path
    copy: Ranges
    zero: Ranges

    @property
    def bytes_to_copy(self) -> int:
        """Bytes that are moved."""
        return ext.total(self.copy)

    @property
    def files_changed(self) -> tuple[Path, ...]:
        """The target, unless there is nothing to do."""
        return (self.target,) if len(self.copy) or len(self.zero) else ()


def plan_copy(target: str | os.PathLike[str], batch: Extents, *, alignment: int, limit: int, backing_is_zero: bool) -> Plan:
    """Plans to make `target` hold what `batch` shows.

    Ranges to copy are widened to `alignment` bytes, the target's unit of allocation, and cut at `limit`, its size. What the batch
    leaves to a backing file becomes zeros if `backing_is_zero`, and is left alone otherwise.
    """
    copy = ext.aligned(ext.ranges_of(ext.of_kind(batch, ext.DATA, ext.COMPRESSED)), alignment, limit)
    kinds = (ext.ZERO, ext.BACKING) if backing_is_zero else (ext.ZERO,)
    return Plan(Path(target), copy, ext.subtract(ext.ranges_of(ext.of_kind(batch, *kinds)), copy))
