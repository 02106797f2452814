"""Jobs on a very large herd: what commands take that look through all of it, with what the catalog knows and without.

The peers are what the host itself needs for as much: listing the files with what stat says of them, and reading their beginnings.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench import checks
from bench.commands import guard, shell
from bench.herds import make_herd
from bench.inputs import Workspace
from bench.job import Job, Result, Side
from bench.jobs.changes import run_now
from bench.measure import Command
from bench.ratio import Target

_LIST = 'find "$1" -type f -printf "%D %i %s %b %T@ %C@ %p\\n"'
_READ = 'find "$1" -type f -print0 | xargs -0 head -q -c 4096 | wc -c'
_SETTLED_SECONDS = 4  # the catalog takes no file that has just changed
_WARM = Target(extra=1.7)
_HERD = "herd"
_NOTHING_WRONG, _REFUSED = 0, 3


def _make(space: Workspace) -> None:
    """A herd, made by the first of these jobs, and a catalog of the job's own that knows it."""
    space.once(_HERD, lambda folder: _make_herd(folder, space.scale.many))
    run_now(knowing(space, guard("tree", _herd(space))).words)


def _make_herd(folder: Path, images: int) -> None:
    make_herd(folder, images)
    settle_herd()


def settle_herd() -> None:
    """Waits until the catalog would remember the files that have just been made."""
    time.sleep(_SETTLED_SECONDS)


def _herd(space: Workspace) -> Path:
    return space.shared / _HERD


def knowing(space: Workspace, command: Command) -> Command:
    """The command with a catalog of the benchmark's own."""
    return Command(command.label, ("env", f"COWHERD_CATALOG={space.own / 'catalog'}", *command.words), command.codes)


def _listing(side: Side) -> tuple[Command, ...]:
    return (shell("find", _LIST, _herd(side.space)),)


def _reading(side: Side) -> tuple[Command, ...]:
    return (shell("find and head", _READ, _herd(side.space)),)


def _tree(side: Side) -> Command:
    return knowing(side.space, guard("tree", "--json", _herd(side.space)))


def _doctor(side: Side) -> Command:
    return knowing(side.space, guard("doctor", "--json", _herd(side.space), codes=(_NOTHING_WRONG,)))


def _dependents(side: Side) -> Command:
    root = _herd(side.space) / "00000" / "image-000000.qcow2"
    return knowing(side.space, guard("delete", "--json", root, "--herd", _herd(side.space), codes=(_REFUSED,)))


def _cold(side: Side) -> Command:
    return knowing(side.space, guard("tree", "--json", "--rescan", _herd(side.space)))


def _as_many_files(space: Workspace, theirs: Result, ours: Result) -> str | None:
    listed, images = theirs.run.output.read_bytes().count(b"\n"), len(checks.document(ours)["images"])
    return None if listed == images == space.scale.many else f"{listed} files and {images} images"


def _all_images(space: Workspace, _theirs: Result, ours: Result) -> str | None:
    document = checks.document(ours)
    images = document["images"] if isinstance(document["images"], int) else len(document["images"])
    return None if images == space.scale.many else f"{images} images"


def _all_dependents(space: Workspace, _theirs: Result, ours: Result) -> str | None:
    found = len(checks.document(ours)["error"]["dependents"])
    return None if found == space.scale.many - 1 else f"{found} dependents"


JOBS = (
    Job(
        name="tree-many",
        title="tree of {many} images that the catalog knows",
        peer="find -printf",
        target=_WARM,
        setup=_make,
        theirs=_listing,
        ours=_tree,
        differs=_as_many_files,
    ),
    Job(
        name="doctor-many",
        title="doctor for {many} images that the catalog knows",
        peer="find -printf",
        target=_WARM,
        setup=_make,
        theirs=_listing,
        ours=_doctor,
        differs=_all_images,
    ),
    Job(
        name="dependents-many",
        title="dependents of a base among {many} images that the catalog knows",
        peer="find -printf",
        target=_WARM,
        setup=_make,
        theirs=_listing,
        ours=_dependents,
        differs=_all_dependents,
    ),
    Job(
        name="tree-many-rescan",
        title="tree of {many} images, every header read",
        peer="find and head -c 4096",
        target=Target(),
        setup=_make,
        theirs=_reading,
        ours=_cold,
        differs=_all_images,
    ),
)
