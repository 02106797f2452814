"""Runs jobs: pairs of the peer and cowherd in turn, and beside each what the machine itself needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace

from bench.bare import Bare, bare_commands
from bench.caches import read_inputs, settle
from bench.inputs import Workspace, clear
from bench.job import Job, Result, Side
from bench.limits import Limits
from bench.measure import BenchmarkFailed, Command, Run, measure
from bench.memory import touch
from bench.peers import contenders
from bench.row import Row, Runs, empty_row, figures

_READY_BYTES = 2 << 30  # more than any job writes at full scale


def run_job(job: Job, space: Workspace, limits: Limits, say: Callable[[str], None]) -> Row:
    """Runs a job in pairs. Raises `BenchmarkFailed` if a command fails or the results differ."""
    missing = job.missing()
    if missing:
        return empty_row(job, space, missing=missing)
    try:
        job.setup(space)
        read_inputs(space)
        bare = None if job.bare is None else job.bare(space)
        runs = Runs()
        last = False
        while not last:
            last = limits.is_last(runs.theirs, runs.ours)
            if bare is not None:
                _run_bare(job, space, bare, runs.bare)
            _run_pair(job, space, runs, limits.run, check=last or not runs.ours)
            say(f"pair {len(runs.ours)} of {len(runs.ours) if last else limits.pairs}")
        return replace(figures(job, space, runs), pairs_wanted=limits.pairs)
    finally:
        shutil.rmtree(space.own, ignore_errors=True)


def _run_bare(job: Job, space: Workspace, bare: Bare, runs: dict[str, list[Run]]) -> None:
    """What the machine itself needs for the job, in each way that may still be the fastest. Leaves nothing behind."""
    side = Side(space, space.own / "out" / "bare")
    for command in _wanted(bare_commands(bare, space.place, side.out), runs):
        clear(side.out)
        _settle(job, side)
        runs.setdefault(command.label, []).append(_measured(job, command, side))
    shutil.rmtree(side.out.parent, ignore_errors=True)


def _run_pair(job: Job, space: Workspace, runs: Runs, limit: float | None, *, check: bool) -> None:
    """The configurations of the peer that may still win and cowherd, in every other pair cowherd first.

    Who comes second finds a file system that the first has written to, and a disk whose allowance the first has used. A side's
    output is removed before its next run.
    """
    folder = space.own / "out"
    their_side, our_side = Side(space, folder / "theirs"), Side(space, folder / "ours")
    ours_first = len(runs.ours) % 2 == 1
    mine = _run_ours(job, our_side, runs) if ours_first else None
    done = _run_peer(job, their_side, runs.theirs, limit)
    mine = mine or _run_ours(job, our_side, runs)
    difference = None
    if check and done is not None and not done.stopped:
        difference = job.differs(space, Result(done, their_side.out), Result(mine, our_side.out))
    shutil.rmtree(folder)
    if difference:
        raise BenchmarkFailed(f"{job.name}: the results differ: {difference}")


def _run_ours(job: Job, side: Side, runs: Runs) -> Run:
    _prepare(job, side)
    runs.ours.append(_measured(job, job.ours(side), side))
    return runs.ours[-1]


def _run_peer(job: Job, side: Side, theirs: dict[str, list[Run]], limit: float | None) -> Run | None:
    """Runs the configurations of the peer that may still win; returns the last run, which has left its result."""
    done = None
    for command in _wanted(job.theirs(side), theirs):
        _prepare(job, side)
        done = _measured(job, command, side, limit)
        theirs.setdefault(command.label, []).append(done)
    return done


def _wanted(commands: Iterable[Command], runs: dict[str, list[Run]]) -> list[Command]:
    """The configurations that may still win."""
    labels = contenders(runs) if runs else None
    return [command for command in commands if labels is None or command.label in labels]


def _prepare(job: Job, side: Side) -> None:
    clear(side.out)
    job.prepare(side)
    _settle(job, side)


def _settle(job: Job, side: Side) -> None:
    settle(side.space)
    if job.writes_much:
        touch(int(_READY_BYTES * side.space.scale.factor), side.out)


def _measured(job: Job, command: Command, side: Side, limit: float | None = None) -> Run:
    return measure(command, side.out.with_name(f"{side.out.name}.stdout"), limit, writes=job.writes_much)
