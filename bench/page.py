"""Puts the table of a run into docs/benchmarks.md, between its two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.measure import BenchmarkFailed
from bench.report import Circumstances, conditions, table
from bench.row import Row

BEGIN, END = "<!-- the last run: begin -->", "<!-- the last run: end -->"


def write_table(page: Path, under: Circumstances, rows: Sequence[Row]) -> None:
    """Replaces what stands between the marks of `page`. Raises `BenchmarkFailed` if a mark is not there."""
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchmarkFailed(f"{page} does not have the lines '{BEGIN}' and '{END}'")
    page.write_text(f"{before}{BEGIN}\n\n{heading(under)}{conditions(under)}\n{table(rows)}\n{END}{after}")


def heading(under: Circumstances) -> str:
    """A warning in front of figures that are not those of a full run."""
    if under.scale == 1 and under.pairs >= 3:
        return ""
    return "**Not a full run.** Small images and few pairs show that every row works; at these sizes starting up weighs most.\n\n"
