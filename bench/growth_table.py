"""The growth of each job's cost as a table in Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.growth import Cell, Shape
from bench.report import Circumstances
from bench.row import Cost
from bench.scale import size

_HEADS = ("job", "disk", "depth", "data", "CPU (s)", "peak (MiB)")


@dataclass(frozen=True)
class Growth:
    """How many times more CPU and memory a job takes on the largest disk, on the deepest chain and with more data than without;
    None where it did not run.
    """

    job: str
    by_size: tuple[float, float] | None
    by_depth: tuple[float, float] | None
    by_data: tuple[float, float] | None


def growth(cells: Sequence[Cell]) -> list[Growth]:
    """The growth of cowherd's costs for each job: each time all else is at its least."""
    jobs = dict.fromkeys(cell.job for cell in cells)
    return [_growth(job, {cell.shape: cell.ours for cell in cells if cell.job == job}) for job in jobs]


def _growth(job: str, costs: dict[Shape, Cost]) -> Growth:
    least = min(costs, key=lambda shape: (shape.data, shape.depth, shape.size))

    def to(shapes: list[Shape]) -> tuple[float, float] | None:
        if not shapes:
            return None
        most = max(shapes, key=lambda shape: (shape.size, shape.depth, shape.data))
        return costs[most].cpu / costs[least].cpu, costs[most].peak / costs[least].peak

    return Growth(
        job,
        to([shape for shape in costs if shape.size > least.size and (shape.depth, shape.data) == (least.depth, least.data)]),
        to([shape for shape in costs if shape.depth > least.depth and (shape.size, shape.data) == (least.size, least.data)]),
        to([shape for shape in costs if shape.data > least.data and (shape.size, shape.depth) == (least.size, least.depth)]),
    )


def growth_document(under: Circumstances, cells: Sequence[Cell]) -> dict[str, Any]:
    """Everything, for JSON: `circumstances`, `cells` (seconds, bytes) and `growth` (factors of CPU time and of peak memory)."""
    return {
        "circumstances": asdict(under),
        "cells": [asdict(cell) for cell in cells],
        "growth": [asdict(row) for row in growth(cells)],
    }


def growth_tables(cells: Sequence[Cell]) -> str:
    """Two tables in Markdown: every cell, the peer's figures first, and how often the least of each job its most is."""
    lines = [_line(_HEADS), _line(["---"] * len(_HEADS)), *(_line(_cells(cell)) for cell in _in_order(cells)), ""]
    heads = ("job", "largest disk", "deepest chain", "more data")
    lines += [_line(heads), _line(["---"] * len(heads))]
    for row in growth(cells):
        lines.append(_line([row.job, *map(_factors, (row.by_size, row.by_depth, row.by_data))]))
    return "\n".join(lines) + "\n"


def _in_order(cells: Sequence[Cell]) -> list[Cell]:
    jobs = list(dict.fromkeys(cell.job for cell in cells))
    return sorted(cells, key=lambda cell: jobs.index(cell.job))


def _cells(cell: Cell) -> list[str]:
    theirs, shape = cell.theirs, cell.shape
    cpu, peak = f"{cell.ours.cpu:.3f}", f"{cell.ours.peak / (1 << 20):.0f}"
    if theirs is not None:
        cpu, peak = f"{theirs.cpu:.3f} / {cpu}", f"{theirs.peak / (1 << 20):.0f} / {peak}"
    return [cell.job, size(shape.size), str(shape.depth), size(shape.data), cpu, peak]


def _factors(factors: tuple[float, float] | None) -> str:
    return "-" if factors is None else f"{factors[0]:.2f} CPU, {factors[1]:.2f} memory"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
