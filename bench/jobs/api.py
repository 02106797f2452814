"""Small requests through Python APIs."""

from __future__ import annotations

import importlib.util
import shutil

from bench import checks
from bench.commands import python, shell
from bench.inputs import Workspace, copy, tool
from bench.job import Job, Result, Side
from bench.measure import Command
from bench.ratio import Target


def _without_dissect() -> str | None:
    try:
        found = importlib.util.find_spec("dissect.hypervisor")
    except ModuleNotFoundError:
        found = None
    return None if found else "dissect.hypervisor is not installed"


def _make(space: Workspace) -> None:
    space.qcow2(space.scale.small)


def _read(side: Side, library: str) -> Command:
    scale = side.space.scale
    return python(library, "random_io.py", library, "read", side.space.qcow2(scale.small), str(scale.requests))


def _write(side: Side) -> Command:
    return python("cowherd", "random_io.py", "cowherd", "write", side.out / "disk.qcow2", str(side.space.scale.requests))


def _fresh(side: Side) -> None:
    copy(side.space.qcow2(side.space.scale.small), side.out / "disk.qcow2")


def _same_bytes(_space: Workspace, theirs: Result, ours: Result) -> str | None:
    digests = [side.run.output.read_text() for side in (theirs, ours)]
    return None if digests[0] == digests[1] else f"CRC-32 of what was read: {digests}"


def _make_script(space: Workspace) -> None:
    words = python("script", "random_io.py", "qemu-io", "write", str(space.scale.small), str(space.scale.requests)).words
    (space.own / "writes").write_text(tool(*words))
    _make(space)


def _without_qemu_io() -> str | None:
    return None if shutil.which("qemu-io") else "qemu-io is not installed"


def _qemu_io(side: Side) -> Command:
    return shell("qemu-io", 'qemu-io -f qcow2 "$1" < "$2"', side.out / "disk.qcow2", side.space.own / "writes")


JOBS = (
    Job(
        name="random-read",
        title="{requests} random 4 KiB reads through Python",
        peer="dissect.hypervisor",
        target=Target(1.0),
        setup=_make,
        theirs=lambda side: (_read(side, "dissect"),),
        ours=lambda side: _read(side, "cowherd"),
        differs=_same_bytes,
        missing=_without_dissect,
    ),
    Job(
        name="random-write",
        title="{requests} random 4 KiB writes through Python",
        peer="qemu-io",
        target=Target(),
        setup=_make_script,
        prepare=_fresh,
        theirs=lambda side: (_qemu_io(side),),
        ours=_write,
        differs=checks.same_image("disk.qcow2"),
        missing=_without_qemu_io,
    ),
)
