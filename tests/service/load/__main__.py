"""Runs the trial at length: `python -m tests.service.load --kills 200 --workers 4`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.service.load.trial import Outcome, run


def main() -> int:
    """Returns 1 if something was lost, or is there that must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how often the service is killed (default: 200)")
    parser.add_argument("--workers", type=int, default=1, help="how many processes answer (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="what the moments are drawn from (default: 1)")
    parser.add_argument("--database", default="", help="the address of an empty database (default: SQLite in a folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cowherd-load-") as folder:
        outcome = run(Path(folder), given.kills, given.workers, given.seed, _tell, given.database)
    print(f"killed {outcome.kills} times; images compared: {outcome.compared}, of them in the middle: {outcome.uncertain}")
    print("acknowledged:", ", ".join(f"{count} {what}" for what, count in sorted(outcome.acknowledged.items())))
    for problem in outcome.problems:
        print(problem)
    print(f"{len(outcome.problems)} problems")
    return 1 if outcome.problems else 0


def _tell(outcome: Outcome) -> None:
    print(f"{outcome.kills} kills, {len(outcome.problems)} problems", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
