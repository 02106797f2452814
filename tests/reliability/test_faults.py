"""Whatever call to the host fails, a job ends with one clear error, harms nothing, and can be done again.

By default a few calls of each job fail, each in a way drawn by lot. COWHERD_FAULTS=100 tries so many for each job, and
COWHERD_FAULTS=all makes every call of every job fail in every way that it can.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.errors import CowherdError
from tests.reliability.calls import interposed
from tests.reliability.faults import FAULTS, Counter, Fault, Injected
from tests.reliability.jobs import JOBS, Job, Outcome
from tests.reliability.scenes import Scene, staged
from tests.reliability.truth import TRASH, Untrue, assert_fault_done_with, assert_recovers, names_in

pytestmark = pytest.mark.qemu

TRIED = os.environ.get("COWHERD_FAULTS", "4")
DRAWN = {"shrunk", "replaced"}
"""After these nothing is as it was through no fault of the job, and all that is asked is a clear end."""
CODES = (0, 1, 2, 3, 4)


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_job_survives_faults(job: Job, tmp_path, record_property):
    with staged(job, tmp_path / "herd") as scene:
        chosen = list(_chosen(scene, job))
        for fault, number in chosen:
            with scene.laid_out(scene.expected.before) as root:
                injected = Injected(root, fault, number)
                try:
                    _assert_ends_well(scene, root, injected)
                except Untrue as untrue:
                    pytest.fail(f"{job}, {fault.name} at {number} ({injected.struck}): {untrue}")
    record_property("faults", len(chosen))
    assert chosen


def _chosen(scene: Scene, job: Job) -> Iterator[tuple[Fault, int]]:
    """The faults to inject: each a kind, and the number of the call among those that it concerns."""
    with scene.laid_out(scene.expected.before) as root:
        counter = Counter(root)
        with interposed(counter.handle):
            job.run(root)
    possible = [(fault, number) for fault in FAULTS for number in range(sum(call in fault.calls for call in counter.seen))]
    if TRIED == "all":
        return iter(possible)
    generator = random.Random(str(job))
    by_kind = [[one for one in possible if one[0] is fault] for fault in FAULTS]
    kinds = [kind for kind in by_kind if kind]
    return iter({generator.choice(generator.choice(kinds)) for _ in range(int(TRIED))})


def _assert_ends_well(scene: Scene, root: Path, injected: Injected) -> None:
    open_before = _descriptors()
    names_before = names_in(root)
    with interposed(injected.handle):
        outcome = _run(scene.expected.job, root)
    gc.collect()
    if left := _descriptors() - open_before:
        raise Untrue(f"left open: {left}")
    _assert_clear(scene, outcome)
    if injected.fault.name in DRAWN:
        return
    assert_fault_done_with(scene.expected, root, outcome)
    swept = not injected.fault.lasting and not injected.struck.startswith(("unlink", "rmdir", "open", "fsync", "rename"))
    left_over = {name for name in names_in(root) - names_before - scene.expected.names if TRASH not in name}
    if swept and any(".cowherd-" in name for name in left_over):
        raise Untrue(f"left over: {sorted(left_over)}")
    assert_recovers(scene.expected, root)


def _run(job: Job, root: Path) -> Outcome:
    try:
        return job.run(root)
    except CowherdError as error:
        if job.command[0] != "writes":
            raise
        return Outcome(error.exit_code, "", f"cowherd: {error}")


def _assert_clear(scene: Scene, outcome: Outcome) -> None:
    if outcome.code not in CODES:
        raise Untrue(f"exit code {outcome.code}")
    if outcome.code not in (0, scene.expected.code) and not (outcome.err + outcome.out).strip():
        raise Untrue(f"exit code {outcome.code} without a word")
    if "Traceback" in outcome.err or "Error(" in outcome.err:
        raise Untrue(f"it is no clear error: {outcome.err}")


def _descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue  # that of the listing itself
    return {one for one in found if "/proc/" not in one and "pipe" not in one and "anon_inode" not in one}
