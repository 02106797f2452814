"""Whatever interrupts a job, on whichever call, no disk is lost and the job can be done again.

* A power cut or a kill at any moment leaves every disk old or new. By default a few states are tried for each job;
  COWHERD_CRASH_STATES=400 tries about that many of each.
* Whatever call to the host fails, the job ends with one clear error and harms nothing. By default a few calls of each job fail,
  each in a way drawn by lot. COWHERD_FAULTS=100 tries so many for each job, COWHERD_FAULTS=each makes every call of every job
  fail once, and COWHERD_FAULTS=all makes it fail in every way that it can.
* Processes are killed (SIGKILL) at random moments on the real file system: by default one for each job, and with
  COWHERD_KILLS=10000 that many in all.
"""

from __future__ import annotations

import errno
import gc
import os
import random
import select
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cowherd.errors import CowherdError
from tests.reliability.calls import interposed
from tests.reliability.crash import Crash, crashes, cuts, durable, kill_moments, left_in_memory, replayed, spread, telling_cuts
from tests.reliability.faults import FAULTS, Counter, Fault, Injected
from tests.reliability.forgetting import ForgettingFlush
from tests.reliability.jobs import JOBS, Job, Outcome
from tests.reliability.recorder import Event
from tests.reliability.scenes import Scene, done_again, staged
from tests.reliability.truth import (
    TRASH,
    Untrue,
    assert_fault_done_with,
    assert_interrupted_well,
    assert_lasting,
    assert_recovers,
    disks_in,
    names_in,
)
from tests.reliability.world import World

pytestmark = pytest.mark.qemu

SECOND_RUNS = os.environ.get("COWHERD_SECOND_RUNS", "1")
CUTS_OF_SECOND = int(os.environ.get("COWHERD_SECOND_CUTS", "2"))
STATES = int(os.environ.get("COWHERD_CRASH_STATES", "3"))
FAULTS_TRIED = os.environ.get("COWHERD_FAULTS", "3")
FLUSHES_TRIED = os.environ.get("COWHERD_FLUSHES", "2")
KILLS = -(-int(os.environ.get("COWHERD_KILLS", len(JOBS))) // len(JOBS))

MOST_TRIES = 10
"""How often a process may be done before it is killed, for each that is to be killed."""

CODES = (0, 1, 2, 3, 4)
DISTURBED = ("shrunk", "replaced")
"""After these, nothing is as it was through no fault of the job, and all that is asked is a clear end."""
_DONE, _FAILED = 0, 1


@pytest.fixture(scope="module", params=JOBS, ids=str)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A job, done once and recorded."""
    with staged(request.param, tmp_path_factory.mktemp("job") / "herd") as found:
        yield found


def test_a_job_survives_power_cuts(scene: Scene, record_property):
    generator = random.Random(f"{scene.expected.job} {STATES}")
    tried, tree = 0, (scene.expected.before, scene.nodes, scene.log)
    for tried, crash in enumerate((*telling_cuts(*tree), *crashes(*tree, generator, STATES)), 1):
        with scene.laid_out(crash.world) as root:
            try:
                assert_interrupted_well(scene.expected, root)
                assert_recovers(scene.expected, root)
            except Untrue as untrue:
                last = "\n".join(str(event)[:200] for event in scene.log[max(0, crash.events - 12) : crash.events])
                pytest.fail(f"state {tried}, {crash.way} at {crash.events} of {len(scene.log)}: {untrue}\n{last}")
    record_property("states", tried)
    assert tried


def test_a_second_run_survives_power_cuts(scene: Scene, record_property):
    """Killed, or cut off from power; then what was interrupted is ended and the command given again, and the power fails."""
    generator = random.Random(f"{scene.expected.job} second {SECOND_RUNS}")
    tried, found = 0, []
    for way, number, earlier, world in _first_interruptions(scene, generator):
        try:
            with done_again(scene, earlier, world) as (second, outcome):
                _assert_lasting(second, outcome)
                for crash in _cuts_of_second(second, len(earlier), generator):
                    tried += 1
                    with scene.laid_out(crash.world) as root:
                        _assert_survives(scene, second, crash, root)
        except Untrue as untrue:
            found.append(f"{way} after {number} of {len(scene.log)} events, second run, {untrue}")
    record_property("seconds", tried)
    assert tried or len(kill_moments(scene.log)) == 1, "a job that changes something leaves something"
    assert not found, f"{len(found)} of {tried}:\n" + "\n".join(found)


def _first_interruptions(scene: Scene, generator: random.Random) -> Iterator[tuple[str, int, tuple[Event, ...], World]]:
    """How, and after how many events, the first run ends; what of it is in memory only, and the tree that the second run finds.

    Kills right before a flush leave most in memory; those that leave nothing there are as good as a power cut.
    """
    log, before, number = scene.log, scene.expected.before, len(scene.log) if SECOND_RUNS == "each" else int(SECOND_RUNS)
    for moment in spread(left_in_memory(log), number, generator):
        yield "killed", moment, log[:moment], replayed(before, scene.nodes, log[:moment])
    for crash in cuts(before, scene.nodes, log, generator, -(-number // 4)):
        yield f"power cut ({crash.way})", crash.events, (), crash.world


def _cuts_of_second(second: Scene, since: int, generator: random.Random) -> Iterator[Crash]:
    """Power cuts of a second run: right after it, with nothing left but what was flushed, and at random moments."""
    before, nodes, log = second.expected.before, second.nodes, second.log
    yield Crash(len(log), "nothing that was not flushed", durable(before, nodes, log))
    yield from cuts(before, nodes, log, generator, CUTS_OF_SECOND, since=since)


def _assert_lasting(second: Scene, outcome: Outcome) -> None:
    """What a second run says that it has done, or found done, is so after a power cut too."""
    before, nodes, log, expected = second.expected.before, second.nodes, second.log, second.expected
    if outcome.code:
        return
    with second.laid_out(durable(before, nodes, log)) as root:
        now = disks_in(root, expected.job.raw).shown
    for name, content in expected.last.shown.items():
        if TRASH not in name and now.get(name) != content:
            raise Untrue(f"it says that all is done, and after a power cut {name} is not as the job makes it")


def _assert_survives(scene: Scene, second: Scene, crash: Crash, root: Path) -> None:
    try:
        assert_interrupted_well(scene.expected, root, again=True)
        assert_recovers(scene.expected, root)
    except Untrue as untrue:
        last = "\n".join(f"    {str(event)[:160]}" for event in second.log[max(0, crash.events - 12) : crash.events])
        raise Untrue(f"{crash.way} at {crash.events} of {len(second.log)}: {untrue}\n{last}") from untrue


def test_what_a_job_has_done_outlives_a_power_cut_right_after_it(scene: Scene):
    with scene.laid_out(durable(scene.expected.before, scene.nodes, scene.log)) as root:
        assert_lasting(scene.expected, root)


def test_a_job_survives_faults(scene: Scene, record_property):
    chosen = _chosen(scene)
    found = []
    for fault, number in chosen:
        with scene.laid_out(scene.expected.before) as root:
            injected = Injected(root, fault, number)
            try:
                _assert_ends_well(scene, root, injected)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other faults are tried, too
                found.append(f"{fault.name} at {number} ({injected.struck}): {_told(error)}")
    record_property("faults", len(chosen))
    assert chosen
    assert not found, f"{len(found)} of {len(chosen)}:\n" + "\n".join(found)


def test_a_job_survives_a_flush_that_fails(scene: Scene, record_property):
    """What was not durable by then is lost, the next flush succeeds, and the job must not build on any of it."""
    found, tried = [], 0
    for number in _flushes_chosen(scene):
        generator = random.Random(f"{scene.expected.job} {number}")
        lasting, error = generator.random() < 0.3, generator.choice((errno.EIO, errno.ENOSPC))
        with scene.laid_out(scene.expected.before) as root:
            failing = ForgettingFlush(root, number, error, generator, lasting)
            tried += 1
            try:
                _assert_ends_well(scene, root, failing)
            except Exception as problem:  # noqa: BLE001 - whatever it is, the other flushes are tried, too
                found.append(f"flush {number} ({failing.struck}, {failing.lost} pages lost): {_told(problem)}")
    record_property("flushes", tried)
    assert not found, f"{len(found)} of {tried}:\n" + "\n".join(found)


def _flushes_chosen(scene: Scene) -> list[int]:
    """The numbers of the flushes of files that are to fail."""
    with scene.laid_out(scene.expected.before) as root:
        counter = ForgettingFlush(root, -1, 0, random.Random())
        with interposed(counter.handle):
            scene.expected.job.run(root)
    number = counter.met if FLUSHES_TRIED == "each" else int(FLUSHES_TRIED)
    return spread(range(counter.met), number, random.Random(str(scene.expected.job))) if counter.met else []


def test_a_job_survives_being_killed(scene: Scene, record_property):
    job = scene.expected.job
    generator = random.Random(f"{job} {KILLS}")
    with scene.laid_out(scene.expected.before) as root:
        lasts = _seconds_until(job, root, None)[0]
    killed = 0
    for number in range(MOST_TRIES * KILLS):
        if killed == KILLS:
            break
        with scene.laid_out(scene.expected.before) as root:
            moment = generator.uniform(0, lasts)
            lasted, died = _seconds_until(job, root, moment)
            lasts = lasts if died else lasted
            killed += died
            try:
                assert_interrupted_well(scene.expected, root)
                assert_recovers(scene.expected, root)
            except Untrue as untrue:
                pytest.fail(f"kill {number} after {moment:.4f} s: {untrue}")
    record_property("killed", killed)
    assert killed == KILLS, f"only {killed} of {MOST_TRIES * KILLS} were killed before they were done"


def _chosen(scene: Scene) -> list[tuple[Fault, int]]:
    """The faults to inject: each a kind, and the number of the call among those that it concerns."""
    with scene.laid_out(scene.expected.before) as root:
        counter = Counter(root)
        with interposed(counter.handle):
            scene.expected.job.run(root)
    generator = random.Random(str(scene.expected.job))
    if FAULTS_TRIED == "each":
        return _one_of_each(counter.seen, generator)
    by_kind = [[(fault, number) for number in range(sum(call in fault.calls for call in counter.seen))] for fault in FAULTS]
    if FAULTS_TRIED == "all":
        return [one for kind in by_kind for one in kind]
    kinds = [kind for kind in by_kind if kind]
    return list(dict.fromkeys(generator.choice(generator.choice(kinds)) for _ in range(int(FAULTS_TRIED))))


def _one_of_each(calls: Sequence[str], generator: random.Random) -> list[tuple[Fault, int]]:
    """For each call that can go wrong, one of the ways in which it can."""
    chosen = []
    met = dict.fromkeys(FAULTS, 0)
    for call in calls:
        if possible := [fault for fault in FAULTS if call in fault.calls]:
            fault = generator.choice(possible)
            chosen.append((fault, met[fault]))
            for fault in possible:
                met[fault] += 1
    return chosen


def _assert_ends_well(scene: Scene, root: Path, injected: Injected | ForgettingFlush) -> None:
    open_before, names_before = _descriptors(), names_in(root)
    try:
        with interposed(injected.handle):
            outcome = _run(scene.expected.job, root)
    finally:
        if isinstance(injected, ForgettingFlush):
            injected.forget_all()
    if _descriptors() - open_before:
        gc.collect()  # what only an error's traceback held
    if left := _descriptors() - open_before:
        raise Untrue(f"left open: {left}")
    _assert_clear(scene, outcome)
    if isinstance(injected, ForgettingFlush) and injected.lost and outcome.code == 0:
        raise Untrue("it says that it succeeded, and what it wrote is lost")
    if isinstance(injected, Injected) and injected.fault.name in DISTURBED:
        return
    assert_fault_done_with(scene.expected, root, outcome)
    if isinstance(injected, Injected):
        _assert_tidy(scene, root, injected, names_before)
    assert_recovers(scene.expected, root)


def _assert_tidy(scene: Scene, root: Path, injected: Injected, names_before: frozenset[str]) -> None:
    can_tidy = not injected.fault.lasting and not injected.struck.startswith(("unlink", "rmdir", "open", "fsync", "rename"))
    left_over = {name for name in names_in(root) - names_before - scene.expected.names if TRASH not in name}
    waits = any(name.endswith(".merge") for name in left_over)  # for recover, with all that it needs
    if can_tidy and not waits and any(".cowherd-" in name for name in left_over):
        raise Untrue(f"left over: {sorted(left_over)}")


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, Untrue) else "".join(traceback.format_exception(error))


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


def _seconds_until(job: Job, root: Path, moment: float | None) -> tuple[float, bool]:
    """Does the job in a process of its own, which is killed if it takes `moment` seconds; how long it took, whether it died."""
    ready, go, done = os.pipe(), os.pipe(), os.pipe()
    process = os.fork()
    if not process:
        code = _FAILED
        try:
            os.write(ready[1], b"r")
            os.read(go[0], 1)
            job.run(root)
            os.write(done[1], b"d")  # to end takes longer than many a job
            code = _DONE
        finally:
            os._exit(code)
    os.close(done[1])
    os.read(ready[0], 1)
    begun = time.monotonic()
    os.write(go[1], b"g")
    ended = select.select(done[:1], [], [], moment)[0]
    lasted = time.monotonic() - begun
    if not ended:
        os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    for fd in (*ready, *go, done[0]):
        os.close(fd)
    died = os.WIFSIGNALED(status)
    assert died or status == _DONE, "it failed"
    return lasted, died
