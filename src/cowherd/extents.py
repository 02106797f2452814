"""Extents: runs of guest bytes with one status, and the algebra on sorted arrays of them.

An extent array is a one-dimensional numpy array of dtype `EXTENT`, sorted by `start`, without overlaps. A *cover* of a range has
no gaps either. A range array is an int64 array of shape (n, 2) of half-open [start, end) pairs, sorted, without overlaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cowherd import arrays, kinds

arrays.numpy_imported()

BACKING, ZERO, DATA, COMPRESSED, NOWHERE = kinds.BACKING, kinds.ZERO, kinds.DATA, kinds.COMPRESSED, kinds.NOWHERE

EXTENT = np.dtype([("start", np.int64), ("length", np.int64), ("host", np.int64), ("depth", np.int32), ("kind", np.uint8)])

Extents = NDArray[np.void]
Ranges = NDArray[np.int64]


def single(start: int, length: int, kind: int, host: int = NOWHERE, depth: int = 0) -> Extents:
    """Returns an array of one extent, or an empty one if `length` is 0."""
    if length <= 0:
        return np.empty(0, EXTENT)
    return np.array([(start, length, host, depth, kind)], EXTENT)


def build(
    start: NDArray[np.int64], length: NDArray[np.int64], host: NDArray[np.int64], kind: NDArray[np.uint8], depth: int = 0
) -> Extents:
    """Returns an extent array from its columns."""
    out = np.empty(len(start), EXTENT)
    out["start"], out["length"], out["host"], out["kind"], out["depth"] = start, length, host, kind, depth
    return out


def ends(extents: Extents) -> NDArray[np.int64]:
    """Returns the guest byte after each extent."""
    sums: NDArray[np.int64] = extents["start"] + extents["length"]
    return sums


def concat(parts: Sequence[Extents]) -> Extents:
    """Returns arrays that follow each other as one, with runs merged across the seams."""
    if not parts:
        return np.empty(0, EXTENT)
    return merge(np.concatenate(parts)) if len(parts) > 1 else parts[0]


def merge(extents: Extents) -> Extents:
    """Returns extents with contiguous neighbours joined: adjacent guest bytes, same kind and depth, contiguous host bytes."""
    if len(extents) < 2:
        return extents
    a, b = extents[:-1], extents[1:]
    without_host = (a["host"] == NOWHERE) & (b["host"] == NOWHERE)
    continues = (
        (a["start"] + a["length"] == b["start"])
        & (a["kind"] == b["kind"])
        & (a["depth"] == b["depth"])
        & (without_host | ((a["host"] != NOWHERE) & (a["host"] + a["length"] == b["host"])))
    )
    if not continues.any():
        return extents
    first = np.flatnonzero(np.concatenate(([True], ~continues)))
    out = extents[first].copy()
    out["length"] = np.add.reduceat(extents["length"], first)
    return out


def laid_over(parts: Sequence[Extents], start: int, end: int, below: int) -> Extents:
    """Returns a cover of [start, end) by arrays of extents, the topmost first: the next array shows where an upper one has gaps.

    A range that no array covers is BACKING at depth `below`. The cost is one sort of all borders, not their product.
    """
    parts = [part for part in parts if len(part)]
    if len(parts) == 1 and int(parts[0]["length"].sum()) == end - start:
        return parts[0]
    joined = np.concatenate((single(start, end - start, BACKING, depth=below), *reversed(parts)))
    borders = distinct(np.concatenate((joined["start"], ends(joined))))
    first, last = np.searchsorted(borders, joined["start"]), np.searchsorted(borders, ends(joined))
    owner = np.zeros(len(borders) - 1, np.intp)
    done = 1
    for part in reversed(parts):
        mine = np.arange(done, done + len(part))
        counts = last[mine] - first[mine]
        cells = np.repeat(first[mine] - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
        owner[cells] = np.repeat(mine, counts)
        done += len(part)
    opens = np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1])))
    shown: Extents = joined[owner[opens]]
    begin = borders[opens]
    shown["host"] += np.where(shown["host"] == NOWHERE, 0, begin - shown["start"])
    shown["start"], shown["length"] = begin, np.diff(borders[np.append(opens, len(owner))])
    return merge(shown)


def clip(extents: Extents, start: int, end: int) -> Extents:
    """Returns the part of `extents` inside [start, end); the `host` of an extent that is cut moves with its start."""
    if end <= start:
        return extents[:0]
    lo = int(np.searchsorted(ends(extents), start, side="right"))
    hi = int(np.searchsorted(extents["start"], end, side="left"))
    out = extents[lo:hi]
    if len(out) and (out["start"][0] < start or out["start"][-1] + out["length"][-1] > end):
        out = out.copy()
        _cut_front(out[:1], start)
        out["length"][-1] = min(out["start"][-1] + out["length"][-1], end) - out["start"][-1]
    return out


def _cut_front(first: Extents, start: int) -> None:
    skipped = max(0, start - int(first["start"][0]))
    first["start"] += skipped
    first["length"] -= skipped
    if first["host"][0] != NOWHERE:
        first["host"] += skipped


def restrict(extents: Extents, ranges: Ranges) -> Extents:
    """Returns the parts of `extents` that lie inside `ranges`, cut at the ranges' borders.

    Both are sorted; the cost is one sort of the borders, not their product.
    """
    if not len(extents) or not len(ranges):
        return np.empty(0, EXTENT)
    extent_ends = ends(extents)
    first = np.searchsorted(extent_ends, ranges[:, 0], side="right")
    last = np.searchsorted(extents["start"], ranges[:, 1], side="left")
    counts = np.maximum(last - first, 0)
    total = int(counts.sum())
    if not total:
        return np.empty(0, EXTENT)
    owner = np.repeat(np.arange(len(ranges)), counts)
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    index = first[owner] + within
    out: Extents = extents[index]
    start = np.maximum(out["start"], ranges[owner, 0])
    end = np.minimum(extent_ends[index], ranges[owner, 1])
    skipped = start - out["start"]
    out["host"] = np.where(out["host"] == NOWHERE, NOWHERE, out["host"] + skipped)
    out["start"], out["length"] = start, end - start
    return out


def ranges_of(extents: Extents) -> Ranges:
    """Returns the guest ranges that `extents` occupy, adjacent ones joined."""
    return normalised(np.column_stack((extents["start"], ends(extents))))


def of_kind(extents: Extents, *kinds: int) -> Extents:
    """Returns the extents whose kind is one of `kinds`."""
    found = extents["kind"] == kinds[0]
    for kind in kinds[1:]:  # a few comparisons are faster than a look-up of each in a set
        found |= extents["kind"] == kind
    chosen: Extents = extents[found]
    return chosen


def ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Returns a range array from (start, end) pairs in any order, overlapping or not."""
    return normalised(np.array(list(pairs), np.int64).reshape(-1, 2))


def normalised(pairs: Ranges) -> Ranges:
    """Returns (start, end) pairs sorted, without empty ones, and with those joined that overlap or touch."""
    pairs = pairs[pairs[:, 1] > pairs[:, 0]]
    if not len(pairs):
        return np.empty((0, 2), np.int64)
    if (pairs[1:, 0] > pairs[:-1, 1]).all():
        return pairs
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    reach = np.maximum.accumulate(pairs[:, 1])
    first = np.flatnonzero(np.concatenate(([True], pairs[1:, 0] > reach[:-1])))
    last = np.concatenate((first[1:] - 1, [len(pairs) - 1]))
    return np.column_stack((pairs[first, 0], reach[last]))


def intersect(a: Ranges, b: Ranges) -> Ranges:
    """Returns the bytes that are in both range arrays."""
    if not len(a) or not len(b):
        return np.empty((0, 2), np.int64)
    as_extents = build(a[:, 0], a[:, 1] - a[:, 0], np.full(len(a), NOWHERE), np.full(len(a), DATA, np.uint8))
    return ranges_of(restrict(as_extents, b))


def subtract(a: Ranges, b: Ranges) -> Ranges:
    """Returns the bytes that are in `a` and not in `b`."""
    if not len(a) or not len(b):
        return a
    low, high = int(min(a[0, 0], b[0, 0])), int(max(a[-1, 1], b[-1, 1]))
    gaps = np.column_stack((np.concatenate(([low], b[:, 1])), np.concatenate((b[:, 0], [high]))))
    return intersect(a, gaps[gaps[:, 1] > gaps[:, 0]])


def union(a: Ranges, b: Ranges) -> Ranges:
    """Returns the bytes that are in either range array."""
    return normalised(np.concatenate((a, b)))


def aligned(pairs: Ranges, block: int, limit: int) -> Ranges:
    """Returns `pairs` widened to whole blocks of `block` bytes, cut at `limit`."""
    start = pairs[:, 0] // block * block
    end = np.minimum(-(-pairs[:, 1] // block) * block, limit)
    return normalised(np.column_stack((start, end)))


def cut(pairs: Ranges, size: int) -> tuple[Ranges, NDArray[np.int64]]:
    """Divides ranges into groups of `size` bytes each (the last may be smaller), cutting a range at a group's end.

    Returns the pieces, in their order, and the index of the first piece of each group.
    """
    lengths = pairs[:, 1] - pairs[:, 0]
    end = np.cumsum(lengths)
    begin = end - lengths
    first = begin // size
    counts = (end - 1) // size - first + 1
    owner = np.repeat(np.arange(len(pairs)), counts)
    group = first[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    moved = pairs[owner, 0] - begin[owner]
    pieces = np.column_stack((np.maximum(begin[owner], group * size) + moved, np.minimum(end[owner], (group + 1) * size) + moved))
    opens = np.ones(len(group), np.bool_)
    opens[1:] = group[1:] != group[:-1]
    return pieces, np.flatnonzero(opens)


def distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the values sorted, each once. Unlike `numpy.unique`, it does not import masked arrays, which takes long."""
    ordered: NDArray[np.int64] = np.sort(values)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))]


def total(pairs: Ranges) -> int:
    """Returns the number of bytes in `pairs`."""
    return int((pairs[:, 1] - pairs[:, 0]).sum())


def pieces(extents: Extents, limit: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yields (start, length, host, depth, kind) as plain integers, no piece longer than `limit` bytes."""
    for start, length, host, depth, kind in extents.tolist():
        for done in range(0, length, limit):
            yield start + done, min(limit, length - done), host + done if host != NOWHERE else host, depth, kind
