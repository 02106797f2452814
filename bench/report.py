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

from bench.ratio import Comparison, Spread
from bench.row import Cost, Row
from bench.scale import Scale

MEMORY_LIMIT = 150 << 20
_HEADS = (
    "job",
    "place",
    "peer",
    "as it ends (s)",
    "durable (s)",
    "limit (s)",
    "CPU (s)",
    "peak (MiB)",
    "ratio as it ends (least to most)",
    "ratio, durable",
    "to the limit",
    "target",
    "reached",
)


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
    if row.theirs is None or row.ours is None or row.compared is None:
        return [row.title, row.place, row.peer, *["-"] * (len(_HEADS) - 5), row.target, f"not run: {row.missing}"]
    over = "" if row.stopped_after is None else "over "
    return [
        row.title,
        row.place,
        _peer(row),
        f"{over}{row.theirs.wall:.3f} / {row.ours.wall:.3f}",
        "" if row.theirs.durable is None else f"{over}{row.theirs.durable:.3f} / {row.ours.durable:.3f}",
        "" if row.limit is None else f"{row.limit.seconds:.3f} ({row.limit.way})",
        f"{over}{row.theirs.cpu:.3f} / {row.ours.cpu:.3f}",
        f"{_mebibytes(row.theirs)} / {_mebibytes(row.ours)}{' (over 150)' if row.ours.peak > MEMORY_LIMIT else ''}",
        _ratio(row, row.compared),
        "" if row.theirs.durable is None else _spread(row, row.compared.durable),
        "" if row.compared.limit is None else f"{row.compared.limit.middle:.2f}",
        row.target,
        {True: "yes", False: "**no**", None: ""}[row.reached],
    ]


def _peer(row: Row) -> str:
    name = row.peer if row.configuration in (None, "plain") else f"{row.peer} ({row.configuration})"
    return name if row.stopped_after is None else f"{name}, stopped after {row.stopped_after:.0f} s"


def _ratio(row: Row, compared: Comparison) -> str:
    text = _spread(row, compared.ends)
    return f"{compared.extra.middle * 1000:+.0f} ms; {text}" if row.target.startswith("+") else text


def _spread(row: Row, ratio: Spread) -> str:
    most = "" if row.stopped_after is None else "at most "
    fewer = f", {row.pairs} pairs" if row.pairs < row.pairs_wanted else ""
    return f"{most}{ratio.middle:.3f} ({ratio.least:.3f} to {ratio.most:.3f}{fewer})"


def _mebibytes(cost: Cost) -> str:
    return f"{cost.peak / (1 << 20):.0f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
