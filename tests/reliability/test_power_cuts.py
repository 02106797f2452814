"""A power cut or a kill at any moment of any job leaves every disk old or new, and a herd in which the job can be done again.

By default a few states are tried for each job; COWHERD_CRASH_STATES=400 tries about that many of each.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.reliability.crash import crashes
from tests.reliability.jobs import JOBS, Job
from tests.reliability.scenes import staged
from tests.reliability.truth import Untrue, assert_interrupted_well, assert_recovers

pytestmark = pytest.mark.qemu

STATES = int(os.environ.get("COWHERD_CRASH_STATES", "4"))


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_job_survives_power_cuts(job: Job, tmp_path, record_property):
    generator = random.Random(f"{job} {STATES}")
    tried = 0
    with staged(job, tmp_path / "herd") as scene:
        for tried, crash in enumerate(crashes(scene.expected.before, scene.nodes, scene.log, generator, STATES), 1):
            with scene.laid_out(crash.world) as root:
                try:
                    assert_interrupted_well(scene.expected, root)
                    assert_recovers(scene.expected, root)
                except Untrue as untrue:
                    where = "\n".join(map(str, scene.log[max(0, crash.events - 12) : crash.events]))[-3000:]
                    pytest.fail(f"{job}, state {tried}, {crash.way} at {crash.events} of {len(scene.log)}: {untrue}\n{where}")
    record_property("states", tried)
    record_property("events", len(scene.log))
    assert tried
