"""Killed at any moment, each job of the service leaves what was acknowledged, nothing half, and can be done again."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.service.crashes.jobs import JOBS, Job
from tests.service.crashes.killing import killed_at
from tests.service.crashes.world import World

ALL = os.environ.get("COWHERD_CRASH") == "all"
"""Whether each moment of a job is tried, which takes some minutes; else every so many of them."""
EVERY = 1 if ALL else 37


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name.replace(" ", "-"))
def test_killed_at_any_moment_nothing_is_lost_and_nothing_is_half(job: Job, new_tables: Path, tmp_path: Path):
    tried = sum(1 for _ in killed_everywhere(job, new_tables, tmp_path))
    assert tried > 1


def killed_everywhere(job: Job, new_tables: Path, folder: Path) -> Iterator[int]:
    """Does a job again and again, each time killed a little later, until it comes to its end; yields the moments."""
    for number in itertools.count():
        moment = 1 + number * EVERY + number % EVERY
        world = World.new(folder / str(moment), new_tables)
        with world.service() as service:
            job.prepare(world, service)
        killed = killed_at(moment, world.data, world.service, partial(job.work, world))
        require_all(job, world, done=not killed)
        with world.service() as service:
            job.work(world, service)
        require_all(job, world, done=True)
        yield moment
        if not killed:
            return


def require_all(job: Job, world: World, *, done: bool) -> None:
    """Requires after a restart what a kill, or the end of the job, must leave."""
    world.restart()
    world.require_sense()
    job.check(world, done)
