"""The drawings of a herd's page, as inline SVG: the place of each image in the tree, and the parts of a disk that are hit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

CELLS = 1024
"""The number of parts of a strip, from the disk's first byte to its last."""

ROW = 32
"""The height of a row of the tree, in pixels; branches meet only if every row has it."""

_STEP = 18


def branches(depths: Sequence[int]) -> Iterator[str]:
    """Yields the part of the tree for each image, given by its depth in the order of a walk (each base before its overlays).

    Each part is as high as a row, so that they join to one picture: a dot for the image, a line up to its base, and lines past it
    to images below.
    """
    return map(_branch, depths, _open_below(depths), _has_child(depths))


def _open_below(depths: Sequence[int]) -> list[frozenset[int]]:
    """Returns for each row the depths at which a line goes on below it, because a later image there has the same base."""
    found: list[frozenset[int]] = []
    below: set[int] = set()
    for depth in reversed(depths):
        below = {other for other in below if other <= depth}
        found.append(frozenset(below - {0}))
        below.add(depth)
    return found[::-1]


def _has_child(depths: Sequence[int]) -> list[bool]:
    return [after > depth for depth, after in zip(depths, [*depths[1:], 0], strict=True)] if depths else []


def _branch(depth: int, below: frozenset[int], has_child: bool) -> str:
    x, middle = _center(depth), ROW // 2
    lines = [f"M{_center(level - 1)} 0V{ROW}" for level in sorted(below) if level < depth]
    if depth:
        up = _center(depth - 1)
        lines.append(f"M{up} 0V{middle - 6}Q{up} {middle} {up + 6} {middle}H{x}")
        lines += [f"M{up} 0V{ROW}"] if depth in below else []
    if has_child:
        lines.append(f"M{x} {middle}V{ROW}")
    path = f'<path d="{"".join(lines)}"/>' if lines else ""
    width = x + _STEP // 2
    dot = f'<circle cx="{x}" cy="{middle}" r="4"/>'
    return f'<svg class=branch width="{width}" height="{ROW}" viewBox="0 0 {width} {ROW}" aria-hidden="true">{path}{dot}</svg>'


def _center(depth: int) -> int:
    return _STEP // 2 + depth * _STEP


def strip(size: int, layers: Iterable[tuple[str, Sequence[tuple[int, int]]]], label: str) -> str:
    """Returns a picture of a disk of `size` bytes from left to right; even the smallest part is visible.

    `layers` are pairs of a CSS class and [start, end) bytes; later ones cover earlier ones. `label` must be HTML.
    """
    marks = "".join(_marks(name, size, ranges) for name, ranges in layers)
    return f'<svg class=strip viewBox="0 0 {CELLS} 10" preserveAspectRatio="none" role="img" aria-label="{label}">{marks}</svg>'


def _marks(name: str, size: int, ranges: Sequence[tuple[int, int]]) -> str:
    runs: list[list[int]] = []
    for start, end in ranges:
        first, last = start * CELLS // size, min(CELLS, -(-end * CELLS // size))
        if runs and first <= runs[-1][1]:
            runs[-1][1] = max(last, runs[-1][1])
        else:
            runs.append([first, last])
    return "".join(f'<rect class={name} x="{first}" y="0" width="{last - first}" height="10"/>' for first, last in runs)
