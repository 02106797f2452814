"""Plans: what a job will do to a file, as a value that can be printed, summed and executed. Planning reads tables, never data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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


@dataclass(frozen=True)
class Step:
    """A piece of a plan: guest bytes [start, end) to copy, or to make zeros."""

    start: int
    end: int
    is_zero: bool


@dataclass(frozen=True)
class Share:
    """Guest bytes [start, end) that the target can share with the file that holds them, at `host` in the layer at `depth`."""

    start: int
    end: int
    host: int
    depth: int


def shares(batch: Extents, *, alignment: int, block: int, depths: frozenset[int]) -> list[Share]:
    """Returns what of `batch` can be had by sharing blocks of `block` bytes: plain data in layers at `depths`.

    Each is made of whole units of `alignment` bytes, at least one, whose place in the file begins with a block.
    """
    found: list[Share] = []
    for start, length, host, depth, _ in ext.of_kind(batch, ext.DATA).tolist():
        first = -(-start // alignment) * alignment
        end = (start + length) // alignment * alignment
        if first < end and depth in depths and not (host + first - start) % block:
            found.append(Share(first, end, host + first - start, depth))
    return found


def steps(plan: Plan, size: int) -> Iterator[Step]:
    """Yields the steps of a plan in guest order; copies are cut at multiples of `size` bytes, zeros are left whole."""
    ranges = np.concatenate((plan.copy, plan.zero))
    is_zero = np.arange(len(ranges)) >= len(plan.copy)
    order = np.argsort(ranges[:, 0], kind="stable")
    for (start, end), zero in zip(ranges[order].tolist(), is_zero[order].tolist(), strict=True):
        while start < end:
            stop = end if zero else min(end, (start // size + 1) * size)
            yield Step(start, stop, zero)
            start = stop
