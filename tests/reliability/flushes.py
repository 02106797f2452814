"""Which flushes of cowherd's the crash tests would miss: `python -m tests.reliability.flushes [WORD in its line]`.

Each job is recorded once, and where it is given again after a kill. For each line that asks for flushes, its flushes are taken
out of the records, and the power cuts that the tests try are tried until one of them is not survived. No line of cowherd's is
changed for that: what it does is the same without them, only what is durable is not.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.reliability.crash import Crash, cuts, durable, left_in_memory, replayed, spread, telling_cuts
from tests.reliability.jobs import JOBS
from tests.reliability.recorder import Event, Sync
from tests.reliability.scenes import Scene, done_again, staged
from tests.reliability.truth import Untrue, assert_interrupted_well, assert_lasting, assert_recovers

RANDOM_CUTS = 20
KILLS = 8
"""After how many kills each job is given again."""


def main(words: Sequence[str]) -> int:
    """Tries every line, prints those that are missed, and returns 1 if there are any."""
    noticed: dict[str, str] = {}
    met: dict[str, set[str]] = defaultdict(set)
    for job in JOBS:
        with tempfile.TemporaryDirectory() as directory, staged(job, Path(directory) / "herd") as scene:
            for run in _runs(scene):
                for site in sorted({event.site for event in run.log[run.since :] if isinstance(event, Sync)}):
                    met[site].add(str(job))
                    if site not in noticed and all(word in site for word in words) and (why := _noticed(run, site)):
                        noticed[site] = f"{job}: {why}"
    tried = {site: jobs for site, jobs in met.items() if all(word in site for word in words)}
    for site in sorted(tried):
        print(f"{'noticed' if site in noticed else 'MISSED '} {site}\n        {noticed.get(site) or ', '.join(tried[site])}")
    print(f"{len(noticed)} of {len(tried)} lines that flush are noticed when they do not")
    return 0 if len(noticed) == len(tried) else 1


def _runs(scene: Scene) -> Iterator[Scene]:
    """The job, and the same given again after kills that leave something in memory only."""
    yield scene
    for moment in spread(left_in_memory(scene.log), KILLS, random.Random(1)):
        found = replayed(scene.expected.before, scene.nodes, scene.log[:moment])
        with contextlib.suppress(Untrue), done_again(scene, scene.log[:moment], found) as (second, _):
            yield second


def _noticed(scene: Scene, site: str) -> str:
    """What goes wrong in a job without the flushes that a line asks for; empty if nothing does."""
    rest = (event for event in scene.log[scene.since :] if not (isinstance(event, Sync) and event.site == site))
    log = (*scene.log[: scene.since], *rest)
    without = replace(scene, log=log)
    for crash in _crashes(without, log):
        with without.laid_out(crash.world) as root:
            try:
                assert_interrupted_well(scene.expected, root, again=scene.since > 0)
                assert_recovers(scene.expected, root)
            except Untrue as untrue:
                return f"{crash.way}: {str(untrue).splitlines()[0][:150]}"
    with without.laid_out(durable(scene.expected.before, scene.nodes, log)) as root:
        try:
            assert_lasting(scene.expected, root)
        except Untrue as untrue:
            return str(untrue)
    return ""


def _crashes(scene: Scene, log: tuple[Event, ...]) -> Iterator[Crash]:
    tree = scene.expected.before, scene.nodes, log
    yield from telling_cuts(*tree, since=scene.since)
    if not scene.since:
        yield from cuts(*tree, random.Random(1), RANDOM_CUTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
