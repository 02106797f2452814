"""The commands of both sides."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.measure import Command

Word = str | Path


def qemu(label: str, *words: Word, codes: tuple[int, ...] = (0,)) -> Command:
    """A configuration of qemu-img."""
    return Command(label, ("qemu-img", *map(str, words)), codes)


def converting(source: Word, target: Word, *options: Word, offload: bool = False) -> tuple[Command, ...]:
    """qemu-img convert in its configurations: plain, and out of order with 16 coroutines; with copy offloading if asked for."""
    configurations = [("plain", ()), ("-W -m 16", ("-W", "-m", "16"))] + [("-C", ("-C",))] * offload
    return tuple(qemu(label, "convert", *more, *options, source, target) for label, more in configurations)


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
