"""Measures the image service beside a real Glance: `python -m bench.service --help`."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.measure import BenchmarkFailed, as_installed
from bench.mounts import default_folder
from bench.service.figures import MIB, Figures
from bench.service.rows import ROWS, Place, Row
from tests.openstack.peers import Peers
from tests.openstack.processes import DidNotStart

_FULL, _QUICK = (1 << 30, 10_000, 100_000), (64 * MIB, 1_000, 2_000)
Measured = dict[str, Figures]
"""The medians of both sides."""


def main(words: Sequence[str] | None = None) -> int:
    """Prints a table with a line for each row that the command line asks for; returns 1 if one failed."""
    arguments = _parser().parse_args(words)
    as_installed()
    folder = Path(tempfile.mkdtemp(prefix="cowherd-bench-", dir=arguments.folder))
    peers = Peers(arguments.peers.absolute()) if arguments.peers.exists() else None
    if peers is None:
        print(f"{arguments.peers} is not there ('make openstack' makes it): only cowherd is measured", file=sys.stderr)
    place = Place(folder, *(_QUICK if arguments.quick else _FULL), peers)
    rows = [row for row in ROWS if arguments.row is None or row.name in arguments.row]
    found: dict[str, Measured] = {}
    try:
        print("| job | Glance | cowherd | to reach |\n| --- | --- | --- | --- |")
        for row in rows:
            found[row.name] = _measure(row, place, 1 if arguments.quick else arguments.runs)
            print(_line(row, place, found[row.name]), flush=True)
    except (BenchmarkFailed, DidNotStart) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m bench.service", description=__doc__)
    parser.add_argument("--peers", type=Path, default=Path(".venv/openstack"), help="where 'make openstack' installed Glance")
    parser.add_argument("--quick", action="store_true", help="small contents, few images, one run")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs of each (default: 5)")
    parser.add_argument("--row", action="append", choices=names, metavar="NAME", help=f"only this one: {', '.join(names)}")
    parser.add_argument("--folder", type=Path, default=default_folder(), metavar="DIR", help="where to work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the medians there")
    return parser


def _measure(row: Row, place: Place, runs: int) -> Measured:
    """Returns the medians of a row; each service is started anew for it, with new data."""
    medians: Measured = {}
    for side, starting in row.services(place):
        with starting as service:
            image = ""
            if row.content:
                image = service.client.create()
                service.client.put(image, place.content())
            each = [row.measure(place, service, image) for _ in range(runs)]
        shutil.rmtree(service.folder)
        medians[side] = {unit: statistics.median(one[unit] for one in each) for unit in each[0]}
    return medians


def _line(row: Row, place: Place, medians: Measured) -> str:
    sizes = {"content": f"{place.content_bytes // MIB} MiB", "quarter": f"{place.content_bytes // 4 // MIB} MiB"}
    title = row.title.format(**sizes, few=f"{place.few:,}", many=f"{place.many:,}")
    goals = ", ".join(f"{unit}: {goal}" for unit, goal in row.goals.items())
    return f"| {title} | {_shown(medians.get('theirs'))} | {_shown(medians['ours'])} | {goals} |"


def _shown(figures: Figures | None) -> str:
    return ", ".join(f"{value:,.4g} {unit}" for unit, value in figures.items()) if figures else "-"


if __name__ == "__main__":
    raise SystemExit(main())
