"""Processes that are killed (SIGKILL) at a random moment of any job, on the real file system.

By default a few processes are killed for each job; COWHERD_KILLS=10000 kills that many in all.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.reliability.jobs import JOBS, Job
from tests.reliability.scenes import staged
from tests.reliability.truth import Untrue, assert_interrupted_well, assert_recovers

pytestmark = pytest.mark.qemu

KILLS = -(-int(os.environ.get("COWHERD_KILLS", len(JOBS))) // len(JOBS))
_DONE, _FAILED = 0, 1


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_job_survives_being_killed(job: Job, tmp_path, record_property):
    generator = random.Random(f"{job} {KILLS}")
    killed = 0
    with staged(job, tmp_path / "herd") as scene:
        with scene.laid_out(scene.expected.before) as root:
            lasts = _seconds_until(job, root, None)[0]
        for number in range(KILLS):
            with scene.laid_out(scene.expected.before) as root:
                moment = generator.uniform(0, lasts)
                lasted, died = _seconds_until(job, root, moment)
                lasts = 0.9 * lasts + 0.1 * lasted if not died else lasts
                killed += died
                try:
                    assert_interrupted_well(scene.expected, root)
                    assert_recovers(scene.expected, root)
                except Untrue as untrue:
                    pytest.fail(f"{job}, kill {number} after {moment:.4f} s: {untrue}")
    record_property("killed", killed)
    assert lasts > 0


def _seconds_until(job: Job, root: Path, moment: float | None) -> tuple[float, bool]:
    """Does the job in a process of its own, which is killed after `moment` seconds; how long it lasted, and whether it died."""
    ready, go = os.pipe(), os.pipe()
    process = os.fork()
    if not process:
        code = _FAILED
        try:
            os.write(ready[1], b"r")
            os.read(go[0], 1)
            job.run(root)
            code = _DONE
        finally:
            os._exit(code)
    os.read(ready[0], 1)
    begun = time.monotonic()
    os.write(go[1], b"g")
    if moment is not None:
        time.sleep(moment)
        os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    lasted = time.monotonic() - begun
    for fd in (*ready, *go):
        os.close(fd)
    died = os.WIFSIGNALED(status)
    assert died or status == _DONE, "it failed"
    return lasted, died
