"""The row of a job: its figures at one place, and how they are made of the runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bench.inputs import Workspace
from bench.job import Job
from bench.measure import Run
from bench.peers import winner
from bench.ratio import Comparison, differences, ratios, spread


@dataclass(frozen=True)
class Cost:
    """What the runs of one side cost: the middle of the seconds of wall clock and CPU, the most bytes of memory.

    `durable`: the middle of the seconds until all is on the disk; None of a job that writes nothing.
    """

    wall: float
    cpu: float
    peak: int
    durable: float | None = None


@dataclass(frozen=True)
class Limit:
    """Seconds in which the machine reads and writes a job's bytes, and the way in which it does so."""

    seconds: float
    way: str


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
    target_ratio: float | None = None
    missing: str | None = None
    configuration: str | None = None
    theirs: Cost | None = None
    ours: Cost | None = None
    compared: Comparison | None = None
    limit: Limit | None = None
    reached: bool | None = None
    pairs: int = 0
    pairs_wanted: int = 0
    stopped_after: float | None = None


@dataclass(frozen=True)
class Runs:
    """The runs of a job so far, those of the peer and of the bare machine by their configuration."""

    bare: dict[str, list[Run]] = field(default_factory=dict)
    theirs: dict[str, list[Run]] = field(default_factory=dict)
    ours: list[Run] = field(default_factory=list)


def empty_row(job: Job, space: Workspace, *, missing: str | None = None) -> Row:
    """The row of a job without figures."""
    fill = space.scale.fill
    target = job.target_at(space.place)
    return Row(job.name, fill(job.title), fill(job.peer), space.place, str(target), target.ratio, missing)


def figures(job: Job, space: Workspace, runs: Runs) -> Row:
    """The row of a job that has run; of the peer's configurations the best counts. One that was stopped counts for every pair."""
    configuration = winner(runs.theirs)
    counted = runs.theirs[configuration]
    stopped = counted[-1].stopped
    compared = _compare(runs, counted * (len(runs.ours) if stopped else 1))
    ours = _cost(runs.ours, writes=job.writes_much)
    return replace(
        empty_row(job, space),
        configuration=configuration if len(runs.theirs) > 1 else None,
        compared=compared,
        theirs=_cost(counted, writes=job.writes_much),
        ours=ours,
        limit=_limit(runs),
        reached=job.target_at(space.place).reached(compared, ours.durable or ours.wall, ours.peak),
        pairs=len(runs.ours),
        stopped_after=counted[-1].wall if stopped else None,
    )


def _compare(runs: Runs, theirs: list[Run]) -> Comparison:
    ours, durable = [run.durable for run in runs.ours], [run.durable for run in theirs]
    return Comparison(
        ends=ratios([run.wall for run in runs.ours], [run.wall for run in theirs]),
        durable=ratios(ours, durable),
        extra=differences(ours, durable),
        limit=ratios(ours, [run.durable for run in runs.bare[winner(runs.bare)]]) if runs.bare else None,
    )


def _limit(runs: Runs) -> Limit | None:
    if not runs.bare:
        return None
    way = winner(runs.bare)
    return Limit(spread([run.durable for run in runs.bare[way]]).middle, way)


def _cost(runs: list[Run], *, writes: bool) -> Cost:
    return Cost(
        wall=spread([run.wall for run in runs]).middle,
        cpu=spread([run.cpu for run in runs]).middle,
        peak=max(run.peak for run in runs),
        durable=spread([run.durable for run in runs]).middle if writes else None,
    )
