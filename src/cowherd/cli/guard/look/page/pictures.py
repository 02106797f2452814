"""The drawings of a herd's page, as inline SVG: the overlays of a large family, and the parts of a disk that are hit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.look.page.states import severity_of
from cowherd.pages.markup import Severity
from cowherd.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Layer = tuple[str, str, Sequence[tuple[int, int]]]
    """A CSS class, a shape of `_SHAPES`, and [start, end) of bytes."""

CELLS = 1024
"""The number of parts of a strip, from the disk's first byte to its last."""

CELL = 10
"""The width and height that an image takes in the picture of a family, in pixels."""

_FEW, _COLUMNS, _MORE_COLUMNS = 600, 60, 100
_DOTS = {
    Severity.BAD: "M{x} {y}m1 1h8v8h-8z",
    Severity.WARN: "M{x} {y}m5 .5l4.5 4.5l-4.5 4.5l-4.5 -4.5z",
    Severity.QUIET: "M{x} {y}m2 2h6v6h-6zm1.5 1.5v3h3v-3z",
    Severity.GOOD: "M{x} {y}m3 5a2 2 0 1 1 4 0a2 2 0 1 1 -4 0z",
}
_NEAR_AN_END = 0.01
_SHAPES = {"whole": ((0, 10),), "split": ((0, 4), (6, 4)), "low": ((7, 3),)}
"""For those who do not see colours: the heights of the bars, from the top, of ten."""


def crowd(states: Sequence[str], depth: int) -> str:
    """Returns a picture of the images at one depth, given by their states in the order of the table: a dot for each.

    The script finds the row of a dot by this order.
    """
    columns = _COLUMNS if len(states) <= _FEW else _MORE_COLUMNS
    dots: dict[str, list[str]] = {}
    for number, state in enumerate(states):
        y, x = divmod(number, columns)
        dots.setdefault(state, []).append(_DOTS[severity_of(state)].format(x=x * CELL, y=y * CELL))
    width, height = min(columns, len(states)) * CELL, -(-len(states) // columns) * CELL
    label = ", ".join(f"{len(those)} {state}" for state, those in dots.items())
    paths = "".join(f'<path class={severity_of(state)} d="{"".join(those)}"/>' for state, those in dots.items())
    size = f'data-depth={depth} width={width} viewBox="0 0 {width} {height}"'
    return f'<svg class=crowd {size} role="img" aria-label="{label}">{paths}</svg>'


def strip(size: int, layers: Iterable[Layer], label: str) -> str:
    """Returns a picture of a disk of `size` bytes from left to right; even the smallest part is visible.

    Later layers cover earlier ones. `label` must be HTML.
    """
    marks = "".join(_marks(size, *layer) for layer in layers)
    return f'<svg class=strip viewBox="0 0 {CELLS} 10" preserveAspectRatio="none" role="img" aria-label="{label}">{marks}</svg>'


def _marks(size: int, name: str, shape: str, ranges: Sequence[tuple[int, int]]) -> str:
    runs: list[list[int]] = []
    for start, end in ranges:
        first, last = start * CELLS // size, min(CELLS, -(-end * CELLS // size))
        if runs and first <= runs[-1][1]:
            runs[-1][1] = max(last, runs[-1][1])
        else:
            runs.append([first, last])
    bars = [(top, height, *run) for top, height in _SHAPES[shape] for run in runs]
    drawn = "".join(f"M{first} {top}h{last - first}v{height}H{first}z" for top, height, first, last in bars)
    return f'<path class={name} d="{drawn}"/>' if drawn else ""


def axis(size: int) -> str:
    """Returns an axis for strips of a disk of `size` bytes, with marks at multiples of a power of two."""
    return f'<svg class=axis aria-hidden="true">{"".join(_ticks(size))}</svg>'


def signposts(size: int, starts: Iterable[int]) -> str:
    """Returns marks for a strip of a disk of `size` bytes: a line at each start, and its number, from 1 on, below."""
    return f'<svg class="axis signposts" aria-hidden="true">{"".join(_posts(size, starts))}</svg>'


def _posts(size: int, starts: Iterable[int]) -> Iterator[str]:
    for number, start in enumerate(starts, 1):
        share = start / size
        x = f'"{100 * share:.4g}%"'
        role = "start" if share < _NEAR_AN_END else "end" if share > 1 - _NEAR_AN_END else "even"
        yield f'<line x1={x} x2={x} y2="4"/><text class={role} x={x} y="15">{number}</text>'


def _ticks(size: int) -> Iterator[str]:
    step = 1 << max(0, (size - 1).bit_length() - 3)
    for number, place in enumerate(range(0, size + 1, step)):
        x = f'"{100 * place / size:.4g}%"'
        role = "odd" if number % 2 else "end" if place == size else "start" if place == 0 else "even"
        yield f'<line x1={x} x2={x} y2="4"/><text class={role} x={x} y="15">{human_size(place) if place else 0}</text>'
