"""The commands of both sides."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.measure import Command
from bench.places import DISK, XFS

Word = str | Path


def qemu(label: str, *words: Word, codes: tuple[int, ...] = (0,)) -> Command:
    """A configuration of qemu-img."""
    return Command(label, ("qemu-img", *map(str, words)), codes)


def converting(place: str, source: Word, target: Word, *options: Word, offload: bool = False) -> tuple[Command, ...]:
    """qemu-img convert in its configurations: plain, and out of order with 16 coroutines; both also past the page cache, where
    `place` is on a disk; with copy offloading if asked for.
    """
    plain, parallel, direct = (), ("-W", "-m", "16"), ("-T", "none", "-t", "none")
    configurations = [plain, parallel, *[direct, direct + parallel] * (place in DISK), *[("-C",)] * offload]
    return tuple(qemu(" ".join(more) or "plain", "convert", *more, *options, source, target) for more in configurations)


def changing(place: str, direct: Sequence[str], command: str, *words: Word, options: tuple[str, ...] = ()) -> tuple[Command, ...]:
    """A command of qemu-img with `options`, and also with those of `direct`, past the page cache, where `place` is on a disk."""
    configurations = [options, *[(*options, *direct)] * (place in DISK)]
    return tuple(qemu(" ".join(more) or "plain", command, *more, *words) for more in configurations)


def copying(place: str, source: Path, target: Path) -> tuple[Command, ...]:
    """Programs that copy a raw disk: qemu-img, cp, and nbdcopy if it is installed, also between two servers."""
    shared = [Command("cp --reflink=always", ("cp", "--reflink=always", str(source), str(target)))] * (place == XFS)
    copied = Command("cp --reflink=auto", ("cp", "--reflink=auto", str(source), str(target)))
    served = [_nbdcopy(source, target), *[_nbdcopy_served(source, target)] * bool(shutil.which("qemu-nbd"))]
    return (
        *converting(place, source, target, "-f", "raw", "-O", "raw", offload=place == XFS),
        copied,
        *shared,
        *served * bool(shutil.which("nbdcopy")),
    )


def _nbdcopy(source: Path, target: Path) -> Command:
    return Command("nbdcopy", ("nbdcopy", str(source), str(target)))


def _nbdcopy_served(source: Path, target: Path) -> Command:
    script = 'truncate -s "$3" "$2"; nbdcopy --destination-is-zero -- [ qemu-nbd -f raw "$1" ] [ qemu-nbd -f raw "$2" ]'
    return shell("nbdcopy, qemu-nbd", script, source, target, str(source.stat().st_size))


def image_tool(*words: Word, codes: tuple[int, ...] = (0,)) -> Command:
    """cowherd-img."""
    return Command("cowherd-img", (*_program("cowherd-img", "cowherd.cli.img.main"), *map(str, words)), codes)


def guard(*words: Word, codes: tuple[int, ...] = (0,)) -> Command:
    """cowherd."""
    return Command("cowherd", (*_program("cowherd", "cowherd.cli.guard.main"), *map(str, words)), codes)


def shell(label: str, script: str, *arguments: Word) -> Command:
    """A script for sh; it sees the arguments as $1, $2, ..."""
    return Command(label, ("sh", "-ec", script, label, *map(str, arguments)))


def python(label: str, script: str, *arguments: Word) -> Command:
    """One of the benchmark's own programs in bench/programs."""
    return Command(label, (sys.executable, str(Path(__file__).parent / "programs" / script), *map(str, arguments)))


def _program(name: str, module: str) -> tuple[str, ...]:
    installed = Path(sys.executable).with_name(name)
    if installed.exists():
        return (str(installed),)
    return (sys.executable, "-c", f"from {module} import program; program()")
