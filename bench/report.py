"""The results as a table in Markdown and as JSON."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bench.run import Cost, Row
from bench.scale import Scale

MEMORY_LIMIT = 150 << 20
_HEADS = ("job", "place", "peer", "wall (s)", "CPU (s)", "peak (MiB)", "ratio (least to most)", "target", "reached")


@dataclass(frozen=True)
class Circumstances:
    """Under which conditions a run was made. `load` is the machine's 1-minute load average at the start."""

    command: str
    when: str
    scale: float
    pairs: int
    qemu: str
    system: str
    cores: int
    load: float


def circumstances(words: Sequence[str], scale: Scale, pairs: int) -> Circumstances:
    """Those of the run that starts now."""
    version = subprocess.run(["qemu-img", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return Circumstances(
        command=shlex.join(["python", "-m", "bench", *words]),
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        scale=scale.factor,
        pairs=pairs,
        qemu=version,
        system=f"Linux {platform.release()}, Python {platform.python_version()}",
        cores=len(os.sched_getaffinity(0)),
        load=round(os.getloadavg()[0], 1),
    )


def document(under: Circumstances, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything, for JSON: `circumstances` and `rows`; times in seconds, memory in bytes."""
    return {"circumstances": asdict(under), "rows": [asdict(row) for row in rows]}


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown. In a pair of figures the peer's comes first."""
    lines = [_line(_HEADS), _line(["---"] * len(_HEADS)), *(_line(_cells(row)) for row in rows)]
    return "\n".join(lines) + "\n"


def conditions(under: Circumstances) -> str:
    """One paragraph that says how the table was measured."""
    return (
        f"`{under.command}`, {under.when}: {under.pairs} pair(s) a row, images of {under.scale:g} times the full size, "
        f"{under.qemu}, {under.system}, {under.cores} cores, load {under.load} at the start.\n"
    )


def _cells(row: Row) -> list[str]:
    if row.theirs is None or row.ours is None or row.ratio is None:
        return [row.title, row.place, row.peer, *["-"] * 4, row.target, f"not run: {row.missing}"]
    over = "" if row.stopped_after is None else "over "
    return [
        row.title,
        row.place,
        _peer(row),
        f"{over}{row.theirs.wall:.3f} / {row.ours.wall:.3f}",
        f"{over}{row.theirs.cpu:.3f} / {row.ours.cpu:.3f}",
        f"{_mebibytes(row.theirs)} / {_mebibytes(row.ours)}{' (over 150)' if row.ours.peak > MEMORY_LIMIT else ''}",
        _ratio(row),
        row.target,
        {True: "yes", False: "**no**", None: ""}[row.reached],
    ]


def _peer(row: Row) -> str:
    name = row.peer if row.configuration in (None, "plain") else f"{row.peer} ({row.configuration})"
    return name if row.stopped_after is None else f"{name}, stopped after {row.stopped_after:.0f} s"


def _ratio(row: Row) -> str:
    assert row.ratio is not None
    assert row.extra is not None
    most = "" if row.stopped_after is None else "at most "
    fewer = f", {row.pairs} pairs" if row.pairs < row.pairs_wanted else ""
    text = f"{most}{row.ratio.middle:.3f} ({row.ratio.least:.3f} to {row.ratio.most:.3f}{fewer})"
    return f"{row.extra.middle * 1000:+.0f} ms; {text}" if row.target.startswith("+") else text


def _mebibytes(cost: Cost) -> str:
    return f"{cost.peak / (1 << 20):.0f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
