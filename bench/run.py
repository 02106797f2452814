"""Runs jobs: pairs of the peer and cowherd in turn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.inputs import Workspace, clear, warm
from bench.job import Job, Result, Side
from bench.limits import Limits
from bench.measure import BenchmarkFailed, Command, Run, measure
from bench.memory import touch
from bench.peers import contenders, winner
from bench.ratio import Spread, differences, ratios, spread

_READY_BYTES = 3 << 30  # more than any job writes at full scale


@dataclass(frozen=True)
class Cost:
    """What the runs of one side cost: the middle of the seconds of wall clock and CPU, the most bytes of memory."""

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True)
class Row:
    """A job's figures at one place. `configuration` is the peer's best, if it has several. Where the job could not run, `missing`
    says why and the rest is None. `stopped_after`: after so many seconds the peer was stopped; the ratio
    is at most what it says then. `pairs` are less than `pairs_wanted` where these would have taken too long.
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
    pairs_wanted: int = 0
    stopped_after: float | None = None


def run_job(job: Job, space: Workspace, place: str, limits: Limits, say: Callable[[str], None]) -> Row:
    """Runs a job in pairs. Raises `BenchmarkFailed` if a command fails or the results differ."""
    missing = job.missing()
    if missing:
        return row(job, space, place, missing=missing)
    try:
        job.setup(space)
        warm(space.own)
        warm(space.shared)
        theirs: dict[str, list[Run]] = {}
        ours: list[Run] = []
        last = False
        while not last:
            last = limits.is_last(theirs, ours)
            _run_pair(job, space, theirs, ours, limits.run, check=last or not ours)
            say(f"pair {len(ours)} of {len(ours) if last else limits.pairs}")
        return replace(figures(job, space, place, theirs, ours), pairs_wanted=limits.pairs)
    finally:
        shutil.rmtree(space.own, ignore_errors=True)


def row(job: Job, space: Workspace, place: str, *, missing: str | None = None) -> Row:
    """The row of a job without figures."""
    fill = space.scale.fill
    return Row(job.name, fill(job.title), fill(job.peer), place, str(job.target), missing)


def figures(job: Job, space: Workspace, place: str, theirs: dict[str, list[Run]], ours: list[Run]) -> Row:
    """The row of a job that has run; of the peer's configurations the best counts. One that was stopped counts for every pair."""
    configuration = winner(theirs)
    counted = theirs[configuration]
    stopped = counted[-1].stopped
    walls = [run.wall for run in ours], [run.wall for run in counted] * (len(ours) if stopped else 1)
    ratio, extra = ratios(*walls), differences(*walls)
    return replace(
        row(job, space, place),
        configuration=configuration if len(theirs) > 1 else None,
        ratio=ratio,
        extra=extra,
        theirs=_cost(counted),
        ours=_cost(ours),
        reached=job.target.reached(ratio, extra),
        pairs=len(ours),
        stopped_after=counted[-1].wall if stopped else None,
    )


def _run_pair(
    job: Job, space: Workspace, theirs: dict[str, list[Run]], ours: list[Run], limit: float | None, *, check: bool
) -> None:
    """The configurations of the peer that may still win, then cowherd. A side's output is removed before its next run."""
    folder = space.own / "out"
    their_side, our_side = Side(space, folder / "theirs"), Side(space, folder / "ours")
    done = _run_peer(job, their_side, theirs, limit)
    _prepare(job, our_side)
    ours.append(mine := _measured(job.ours(our_side), our_side, "ours"))
    difference = None
    if check and done is not None and not done.stopped:
        difference = job.differs(space, Result(done, their_side.out), Result(mine, our_side.out))
    shutil.rmtree(folder)
    if difference:
        raise BenchmarkFailed(f"{job.name}: the results differ: {difference}")


def _run_peer(job: Job, side: Side, theirs: dict[str, list[Run]], limit: float | None) -> Run | None:
    """Runs the configurations of the peer that may still win; returns the last run, which has left its result."""
    wanted = contenders(theirs) if theirs else None
    done = None
    for command in job.theirs(side):
        if wanted is None or command.label in wanted:
            _prepare(job, side)
            done = _measured(command, side, "theirs", limit)
            theirs.setdefault(command.label, []).append(done)
    return done


def _prepare(job: Job, side: Side) -> None:
    clear(side.out)
    job.prepare(side)
    if job.writes_much:
        touch(int(_READY_BYTES * side.space.scale.factor))


def _measured(command: Command, side: Side, name: str, limit: float | None = None) -> Run:
    return measure(command, side.out.with_name(f"{name}.stdout"), limit)


def _cost(runs: list[Run]) -> Cost:
    return Cost(
        wall=spread([run.wall for run in runs]).middle,
        cpu=spread([run.cpu for run in runs]).middle,
        peak=max(run.peak for run in runs),
    )
