"""OpenStack's suites and clients against cowherd's image service, or against Glance: `make openstack ARGS="--against glance"`.

Everything runs on this machine: keystone, the service under test with a new database for each suite, and a web server with
two images. All of it is ended, and its folder removed (see --keep), when the run ends.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.openstack.moving import differences as differences_of_move
from tests.openstack.peers import Peers
from tests.openstack.processes import folder_in_memory
from tests.openstack.recorder.compare import differences
from tests.openstack.recorder.reasons import report
from tests.openstack.recorder.records import GLANCE, read_records, write_records
from tests.openstack.running import Result
from tests.openstack.suites import SUITES, explanation
from tests.openstack.trial import Trial, trial

_LINES_SHOWN = 4


def main() -> int:
    """Runs what was asked for. Returns 1 if a suite fails or skips without an explanation, or if an answer differs."""
    arguments = _parser().parse_args()
    with (
        folder_in_memory(arguments.keep) as folder,
        trial(Peers(arguments.peers.absolute()), folder, arguments.against) as started,
    ):
        if arguments.record:
            write_records(arguments.record, started.record())
            return 0
        if arguments.move:
            good = _move(started)
        else:
            good = _compare(started) if arguments.compare else _run(started, arguments.suite, arguments.workers)
        if arguments.keep:
            print(f"Kept: {folder}")
    return 0 if good else 1


def _parser() -> argparse.ArgumentParser:
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(prog="python -m tests.openstack", description=__doc__)
    parser.add_argument("--peers", type=Path, default=Path(".venv/openstack"), help="where keystone and the suites are installed")
    parser.add_argument("--against", choices=("cowherd", "glance"), default="cowherd", help="the service under test")
    parser.add_argument("--suite", action="append", choices=names, help="run only this suite (may be repeated)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4], help="run each with so many workers (default: 1 4)")
    parser.add_argument("--compare", action="store_true", help="compare the answers with those that Glance gave")
    parser.add_argument("--move", action="store_true", help="move a Glance in, and compare what both then answer")
    parser.add_argument("--record", type=Path, metavar="FILE", help=f"write the answers down (Glance's are in {GLANCE.name})")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the databases and logs")
    return parser


def _compare(started: Trial) -> bool:
    text, good = report(differences(read_records(), started.record()))
    print(text)
    return good


def _move(started: Trial) -> bool:
    found = differences_of_move(started)
    print("\n".join([*found, f"{len(found)} differences between Glance and what was made of it here"]))
    return not found


def _run(started: Trial, names: Sequence[str] | None, workers: Sequence[int]) -> bool:
    good = True
    for number in workers:
        for suite in SUITES:
            if not names or suite.name in names:
                result = started.run(suite, number)
                _tell(result)
                good &= result.good
    return good


def _tell(result: Result) -> None:
    print(result.line())
    for test in result.having("failed"):
        print(f"  failed: {test.id}")
        print("".join(f"    {line}\n" for line in test.detail.splitlines()[-_LINES_SHOWN:]), end="")
    for test in result.having("skipped"):
        print(f"  skipped: {test.id}: {test.detail}\n    {explanation(test.detail) or 'NOT EXPLAINED'}")
    for said in result.lost:
        print(said)
    if len(result.having("passed")) < result.suite.passing:
        print(f"  fewer than the {result.suite.passing} that pass on Glance")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
