"""Runs the benchmark: `make bench`, or `python -m bench --help`."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import mounts, page, picture, report
from bench.growth import GROWTH_JOBS, Cell, run_growth
from bench.growth_table import growth_document, growth_tables
from bench.inputs import Workspace, clear
from bench.job import Job
from bench.jobs import JOBS
from bench.limits import Limits
from bench.measure import BenchmarkFailed, as_installed
from bench.mounts import Roots
from bench.places import PLACES, TMPFS
from bench.row import Row, empty_row
from bench.run import run_job
from bench.scale import FULL, QUICK, Scale, scale

_PAIRS = 5
_SECONDS = 120
_ROW_SECONDS = 150
_SERVICE = "service"


def main(words: Sequence[str] | None = None) -> int:
    """Runs the jobs that the command line asks for; returns 0, or 1 if one failed or gave another result than its peer."""
    words = sys.argv[1:] if words is None else list(words)
    if words[:2] == ["--job", _SERVICE]:
        from bench.service.__main__ import main as measure_service

        return measure_service(words[2:])
    arguments = _parser().parse_args(words)
    if shutil.which("qemu-img") is None:
        print("qemu-img is not installed: there is nothing to compare with ('make qemu' installs it)", file=sys.stderr)
        return 1
    size = _scale(arguments)
    pairs = arguments.pairs or (1 if arguments.quick else _PAIRS)
    as_installed()
    under = report.circumstances(words, size, pairs)
    if arguments.growth:
        return _grow(arguments, under, size, pairs)
    rows: list[Row] = []
    ended = False
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to end, it unmounts and removes what it made, too
    try:
        for row in _rows(_chosen(arguments.job), arguments, size, Limits(pairs, arguments.limit, arguments.row_limit)):
            rows.append(row)  # one by one: those before an interrupt are kept
    except KeyboardInterrupt:
        _say("interrupted: only the rows before are shown")
        arguments.page, ended = None, True
    except BenchmarkFailed as error:  # of a place, which could not be removed
        _say(str(error))
        ended = True
    _write(arguments, under, rows)
    return 1 if ended or any(row.missing and row.missing.startswith("failed") for row in rows) else 0


def _grow(arguments: argparse.Namespace, under: report.Circumstances, size: Scale, runs: int) -> int:
    """Shows how the cost of each job grows. A folder in memory of its own is used, and removed."""
    chosen = [job for job in GROWTH_JOBS if arguments.job is None or job.name in arguments.job]
    cells: list[Cell] = []
    code = 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with mounts.mounted(TMPFS, Roots(arguments.folder, arguments.disk), size) as (folder, _):
            for cell in run_growth(chosen, folder, size.factor, runs, _say):
                cells.append(cell)
    except KeyboardInterrupt:
        _say("interrupted: only the cells before are shown")
        code = 1
    except (BenchmarkFailed, subprocess.CalledProcessError) as error:
        _say(str(error))
        code = 1
    print(f"{report.conditions(under)}\n{growth_tables(cells)}", end="")
    if arguments.json:
        arguments.json.write_text(json.dumps(growth_document(under, cells), indent=1) + "\n")
    return code


def _parser() -> argparse.ArgumentParser:
    folder = mounts.default_folder()
    names = list(dict.fromkeys([*(job.name for job in JOBS), *(job.name for job in GROWTH_JOBS), _SERVICE]))
    parser = argparse.ArgumentParser(prog="python -m bench", description="Runs cowherd and its peers side by side.")
    parser.add_argument("--quick", action="store_true", help="small images, and one pair")
    parser.add_argument(
        "--growth",
        action="store_true",
        help="how the cost of each job grows with size, depth and data; --list names its jobs last",
    )
    parser.add_argument("--job", action="append", metavar="NAME", choices=names, help="only this one (repeatable)")
    parser.add_argument("--place", action="append", choices=PLACES, help="only there (repeatable)")
    parser.add_argument("--pairs", type=int, metavar="N", help=f"pairs a row (default: {_PAIRS}, or 1 with --quick)")
    parser.add_argument(
        "--limit",
        type=float,
        metavar="N",
        default=_SECONDS,
        help="stop a run of the peer after N seconds; what was stopped does not run again (default: %(default)s)",
    )
    parser.add_argument(
        "--row-limit",
        type=float,
        metavar="N",
        default=_ROW_SECONDS,
        help="make fewer pairs, but two, of a row whose runs would take longer than N seconds (default: %(default)s)",
    )
    parser.add_argument("--scale", type=float, metavar="F", help="images of F times the full size")
    parser.add_argument("--folder", type=Path, default=folder, metavar="DIR", help="where to work (default: %(default)s)")
    disk = "a folder on a real disk, for the places on ext4 (default: %(default)s)"
    parser.add_argument("--disk", type=Path, default=Path("/var/tmp"), metavar="DIR", help=disk)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write the ratios there, as SVG")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the table into this page, between its marks")
    alone = ["", "alone, with its own options (python -m bench.service --help):", _SERVICE]
    listed = "\n".join([*(job.name for job in JOBS), "", "with --growth:", *(job.name for job in GROWTH_JOBS), *alone])
    parser.add_argument("--list", action="version", version=listed, help="list the jobs")
    return parser


def _scale(arguments: argparse.Namespace) -> Scale:
    if arguments.scale:
        return scale(arguments.scale)
    return QUICK if arguments.quick else FULL


def _chosen(names: Sequence[str] | None) -> list[Job]:
    return [job for job in JOBS if names is None or job.name in names]


def _rows(jobs: Sequence[Job], arguments: argparse.Namespace, size: Scale, limits: Limits) -> Iterator[Row]:
    for name in arguments.place or PLACES:
        there = [job for job in jobs if name in job.places]
        if not there:
            continue
        try:
            with mounts.mounted(name, Roots(arguments.folder, arguments.disk), size) as (folder, fitting):
                for job in there:
                    yield _row(job, Workspace(folder / "shared", clear(folder / "own"), fitting, name), limits)
        except mounts.PlaceMissing as missing:
            nowhere = Workspace(Path(), Path(), size, name)
            yield from (empty_row(job, nowhere, missing=str(missing)) for job in there)


def _row(job: Job, space: Workspace, limits: Limits) -> Row:
    space.shared.mkdir(exist_ok=True)
    try:
        return run_job(job, space, limits, lambda text: _say(f"{job.name} on {space.place}: {text}"))
    except (BenchmarkFailed, subprocess.CalledProcessError) as error:
        _say(f"{job.name} on {space.place}: {error}")
        return empty_row(job, space, missing=f"failed: {str(error).splitlines()[0][:200]}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(arguments: argparse.Namespace, under: report.Circumstances, rows: Sequence[Row]) -> None:
    print(f"{report.conditions(under)}\n{report.table(rows)}", end="")
    if arguments.json:
        arguments.json.write_text(json.dumps(report.document(under, rows), indent=1) + "\n")
    if arguments.picture:
        arguments.picture.write_text(picture.picture(rows))
    if arguments.page:
        page.write_table(arguments.page, under, rows)


if __name__ == "__main__":
    sys.exit(main())
