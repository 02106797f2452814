"""What a row of the benchmark is: a job, declared once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.bare import Bare
from bench.inputs import Workspace
from bench.measure import Command, Run
from bench.places import TMPFS
from bench.ratio import Target


@dataclass(frozen=True)
class Side:
    """Where one side of a pair works: `space` has the inputs, `out` is its own folder, as `prepare` leaves it."""

    space: Workspace
    out: Path


@dataclass(frozen=True)
class Result:
    """One finished run with the folder that it worked in."""

    run: Run
    out: Path


def _nothing(_side: Side) -> None:
    """The job needs nothing anew before each run."""


@dataclass(frozen=True)
class Job:
    """A row: the same work by a peer and by cowherd.

    `title` and `peer` may name sizes of the scale in braces. `setup` makes the inputs, once; `prepare` what a run changes, before
    each run and not timed. `theirs` returns the peer's configurations, of which the best counts. `differs` says how the two
    results are not equal (None: they are). `missing` says what this machine lacks to run it. `places` are the file systems
    that it runs on; `targets` those that are others at some of them. `bare` says which bytes every program has to move for it.
    Before each run of a job that `writes_much`, memory is made ready for it (see `bench.memory`), and its time counts until all
    is on the disk.
    """

    name: str
    title: str
    peer: str
    target: Target
    setup: Callable[[Workspace], None]
    theirs: Callable[[Side], tuple[Command, ...]]
    ours: Callable[[Side], Command]
    differs: Callable[[Workspace, Result, Result], str | None]
    places: tuple[str, ...] = (TMPFS,)
    targets: Mapping[str, Target] = field(default_factory=dict)
    bare: Callable[[Workspace], Bare] | None = None
    prepare: Callable[[Side], None] = _nothing
    missing: Callable[[], str | None] = lambda: None
    writes_much: bool = False

    def target_at(self, place: str) -> Target:
        """What is to be reached at a place."""
        return self.targets.get(place, self.target)
