"""The ratios as a picture: one bar a row on a logarithmic scale, with the target as a tick, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from bench.row import Row

_LEFT, _WIDTH, _RIGHT, _STEP, _TOP = 430, 480, 90, 24, 54
_LOWEST, _HIGHEST = 0.01, 10.0

_STYLE = """\
  text { font: 13px sans-serif; fill: #24292f }
  .faint { fill: #57606a; font-size: 11px }
  .grid { stroke: #d0d7de }
  .same { stroke: #57606a; stroke-dasharray: 4 3 }
  .yes { fill: #2da44e }
  .no { fill: #cf222e }
  .none { fill: #6e7781 }
  .spread { stroke: #24292f; stroke-width: 1.5 }
  .target { stroke: #0969da; stroke-width: 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .faint { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .same { stroke: #9198a1 }
    .yes { fill: #3fb950 }
    .no { fill: #f85149 }
    .spread { stroke: #e6edf3 }
    .target { stroke: #4493f8 }
  }
"""


def picture(rows: Sequence[Row]) -> str:
    """An SVG document with a bar for each row that has figures."""
    shown = [row for row in rows if row.compared is not None]
    height = _TOP + _STEP * len(shown) + 30
    width = _LEFT + _WIDTH + _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>Time of cowherd as a part of its peer's</title>\n<style>\n{_STYLE}</style>",
        f'<text x="{_LEFT}" y="18">time until the result is on the disk, cowherd / peer (left is faster; blue: target)</text>',
        *_grid(_TOP + _STEP * len(shown)),
        *(_bar(row, _TOP + _STEP * number) for number, row in enumerate(shown)),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _grid(bottom: int) -> list[str]:
    parts = []
    for value in (0.01, 0.1, 1.0, 10.0):
        kind = "same" if value == 1 else "grid"
        parts.append(f'<line class="{kind}" x1="{_x(value):.1f}" x2="{_x(value):.1f}" y1="{_TOP - 8}" y2="{bottom}"/>')
        parts.append(f'<text class="faint" x="{_x(value):.1f}" y="{_TOP - 14}" text-anchor="middle">{value:g}</text>')
    return parts


def _bar(row: Row, y: int) -> str:
    assert row.compared is not None
    ratio = row.compared.durable
    kind = {True: "yes", False: "no", None: "none"}[row.reached]
    end, middle = _x(ratio.middle), y + 7
    name = f'{escape(row.title)} <tspan class="faint">{row.place}</tspan>'
    parts = [
        f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{name}</text>',
        f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{max(2, end - _LEFT):.1f}" height="14"/>',
        f'<line class="spread" x1="{_x(ratio.least):.1f}" x2="{_x(ratio.most):.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{max(end, _x(ratio.most)) + 8:.1f}" y="{y + 12}">{_figure(row, ratio.middle)}</text>',
    ]
    if row.target_ratio is not None:
        tick = _x(row.target_ratio)
        parts.append(f'<line class="target" x1="{tick:.1f}" x2="{tick:.1f}" y1="{y - 3}" y2="{y + 17}"/>')
    return "\n".join(parts)


def _figure(row: Row, ratio: float) -> str:
    return f"{ratio:.3g}" if row.stopped_after is None else f"at most {ratio:.3g}"


def _x(ratio: float) -> float:
    """Where a ratio lies on the logarithmic scale; what is beyond its ends lies at them."""
    inside = min(max(ratio, _LOWEST), _HIGHEST)
    return _LEFT + _WIDTH * math.log(inside / _LOWEST) / math.log(_HIGHEST / _LOWEST)
