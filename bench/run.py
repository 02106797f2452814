"""Runs jobs: pairs of the peer and cowherd in turn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.inputs import Workspace, clear, warm
from bench.job import Job, Result, Side
from bench.measure import BenchmarkFailed, Command, Run, measure
from bench.ratio import Spread, best, differences, ratios, spread


@dataclass(frozen=True)
class Cost:
    """What the runs of one side cost: the middle of the seconds of wall clock and CPU, the most bytes of memory."""

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True)
class Row:
    """A job's figures at one place. `configuration` is the peer's best, if it has several. Where the job could not run, `missing`
    says why and the rest is None.
    """

    name: str
    title: str
    peer: str
    place: str
    target: str
    missing: str | None = None
    configuration: str | None = None
    theirs: Cost | None = None
    ours: Cost | None = None
    ratio: Spread | None = None
    extra: Spread | None = None
    reached: bool | None = None
    pairs: int = 0


def run_job(job: Job, space: Workspace, place: str, pairs: int, say: Callable[[str], None]) -> Row:
    """Runs `pairs` pairs of a job. Raises `BenchmarkFailed` if a command fails or the results differ."""
    missing = job.missing()
    if missing:
        return row(job, space, place, missing=missing)
    try:
        job.setup(space)
        warm(space.own)
        warm(space.shared)
        theirs: dict[str, list[Run]] = {}
        ours: list[Run] = []
        for pair in range(pairs):
            _run_pair(job, space, theirs, ours, check=pair in (0, pairs - 1))
            say(f"pair {pair + 1} of {pairs}")
        return figures(job, space, place, theirs, ours)
    finally:
        shutil.rmtree(space.own, ignore_errors=True)


def row(job: Job, space: Workspace, place: str, *, missing: str | None = None) -> Row:
    """The row of a job without figures."""
    fill = space.scale.fill
    return Row(job.name, fill(job.title), fill(job.peer), place, str(job.target), missing)


def figures(job: Job, space: Workspace, place: str, theirs: dict[str, list[Run]], ours: list[Run]) -> Row:
    """The row of a job that has run; of the peer's configurations the best counts."""
    configuration = best({label: [run.wall for run in runs] for label, runs in theirs.items()})
    walls = [run.wall for run in ours], [run.wall for run in theirs[configuration]]
    ratio, extra = ratios(*walls), differences(*walls)
    return replace(
        row(job, space, place),
        configuration=configuration if len(theirs) > 1 else None,
        ratio=ratio,
        extra=extra,
        theirs=_cost(theirs[configuration]),
        ours=_cost(ours),
        reached=job.target.reached(ratio, extra),
        pairs=len(ours),
    )


def _run_pair(job: Job, space: Workspace, theirs: dict[str, list[Run]], ours: list[Run], *, check: bool) -> None:
    """Every configuration of the peer, then cowherd. A side's output is removed before its next run."""
    folder = space.own / "out"
    their_side, our_side = Side(space, folder / "theirs"), Side(space, folder / "ours")
    for number in range(len(job.theirs(their_side))):
        _prepare(job, their_side)
        command = job.theirs(their_side)[number]
        theirs.setdefault(command.label, []).append(done := _measured(command, their_side, "theirs"))
    _prepare(job, our_side)
    ours.append(mine := _measured(job.ours(our_side), our_side, "ours"))
    difference = job.differs(space, Result(done, their_side.out), Result(mine, our_side.out)) if check else None
    shutil.rmtree(folder)
    if difference:
        raise BenchmarkFailed(f"{job.name}: the results differ: {difference}")


def _prepare(job: Job, side: Side) -> None:
    clear(side.out)
    job.prepare(side)


def _measured(command: Command, side: Side, name: str) -> Run:
    return measure(command, side.out.with_name(f"{name}.stdout"))


def _cost(runs: list[Run]) -> Cost:
    return Cost(
        wall=spread([run.wall for run in runs]).middle,
        cpu=spread([run.cpu for run in runs]).middle,
        peak=max(run.peak for run in runs),
    )
