"""Each job carried out once, recorded, with what was there before it and after it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cowherd.herd.records.sealplace import forget_listing
from tests.reliability.calls import played_reflinks, quick_flushes
from tests.reliability.crash import replayed
from tests.reliability.jobs import Job, Outcome
from tests.reliability.recorder import Event, Recorder
from tests.reliability.truth import Expected, all_fine, disks_in, do_again, names_in
from tests.reliability.world import Node, World


@dataclass(frozen=True)
class Scene:
    """A job's directory, what the job did there, and what it made of it."""

    root: Path
    expected: Expected
    nodes: dict[int, Node]
    log: tuple[Event, ...]
    since: int = 0
    """How many events of the log are of an earlier run."""

    @contextlib.contextmanager
    def laid_out(self, world: World) -> Iterator[Path]:
        """The directory with the files of `world`, while the block runs."""
        shutil.rmtree(os.environ["COWHERD_STATE"], ignore_errors=True)  # no seal that an earlier world had to keep elsewhere
        forget_listing()
        with quick_flushes(), played_reflinks(), world.lay_out(self.root).believed():
            yield self.root


@contextlib.contextmanager
def done_again(scene: Scene, earlier: tuple[Event, ...], found: World) -> Iterator[tuple[Scene, Outcome]]:
    """Does the job again on the tree `found`, recorded on top of the events `earlier`, which may not all be on the disk yet."""
    before, nodes = (scene.expected.before, scene.nodes) if earlier else (found, {**scene.nodes, **found.nodes})
    with quick_flushes(), played_reflinks():
        root, identities = scene.root, found.lay_out(scene.root)
        recorder = Recorder.resumed(root, found, nodes, identities)
        try:
            with identities.believed(), recorder.recording():
                outcome = do_again(scene.expected, root)
            log = (*earlier, *recorder.log)
            _assert_all_recorded(before, recorder.nodes, log, root)
            yield Scene(root, replace(scene.expected, before=before), recorder.nodes, log, len(earlier)), outcome
        finally:
            recorder.release()


@contextlib.contextmanager
def staged(job: Job, root: Path) -> Iterator[Scene]:
    """Prepares and does a job in the empty directory `root`, and records it."""
    root.mkdir()
    with quick_flushes(), played_reflinks():
        job.prepare(root)
        before, first = World.capture(root), disks_in(root, job.raw)
        recorder = Recorder(root, before)
        try:
            with recorder.recording():
                outcome = job.run(root)
            _assert_all_recorded(before, recorder.nodes, recorder.log, root)
            last, names = disks_in(root, job.raw), names_in(root)
            expected = Expected(job, before, first, last, names, outcome.code, all_fine(root))
            assert outcome.code == 0 or outcome.code in job.again, f"{job}: {outcome}"
            yield Scene(root, expected, recorder.nodes, tuple(recorder.log))
        finally:
            recorder.release()


def _assert_all_recorded(before: World, nodes: dict[int, Node], log: Sequence[Event], root: Path) -> None:
    """Fails unless what was recorded, done once more, gives the directory that is there."""
    after = replayed(before, nodes, log)
    there = {path: (path.read_bytes() if path.is_file() else None, path.stat().st_mode & 0o777) for path in root.rglob("*")}
    places = {path: after.nodes[node] for path, node in after.places(root).items()}
    assert {path: (node.data, node.mode) for path, node in places.items()} == there
