"""The limit of a row: the bytes that no program can do without, read and written by one that does nothing else."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.inputs import tool
from bench.measure import Command
from bench.places import DISK, TMPFS

_PROGRAM = Path(__file__).parent / "programs" / "bare_copy.py"


@dataclass(frozen=True)
class Bare:
    """Bytes to read, of the data of the files `sources`, and bytes to write."""

    sources: tuple[Path, ...]
    reads: int
    writes: int = 0


def bare_commands(bare: Bare, place: str, out: Path) -> tuple[Command, ...]:
    """The ways to move those bytes, of which the fastest is the limit. None where clusters are shared and not moved."""
    mixed = ("direct writes",) * bool(bare.writes)
    ways = {TMPFS: ("kernel",) if bare.writes else ("buffered",), **dict.fromkeys(DISK, ("direct", *mixed, "buffered"))}
    return tuple(_command(way, bare, out) for way in ways.get(place, ()))


def _command(way: str, bare: Bare, out: Path) -> Command:
    program = (sys.executable, "-I", "-S", str(_PROGRAM))  # starts in 10 ms
    return Command(way, (*program, way, str(bare.reads), str(bare.writes), str(out / "bare"), *map(str, bare.sources)))


def guest_data(image: Path, image_format: str) -> int:
    """Bytes that a guest sees of `image` and its chain and that are not known to be zeros."""
    extents = json.loads(tool("qemu-img", "map", "--output=json", "-f", image_format, image))
    return sum(extent["length"] for extent in extents if extent["data"] and not extent["zero"])


def file_data(path: Path) -> int:
    """Bytes that a file takes on the file system."""
    return path.stat().st_blocks * 512
