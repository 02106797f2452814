"""What fuzzing begins with: a sound file, and where in it its structures lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Seed:
    """A file of one kind: "qcow2", "raw", "seal", "journal" or "disk" (what a guest's file systems are looked for in).

    `places` are the offsets of its tables and fields, each with the bytes of an entry, whose bytes are in the order `order`. The
    first `fixed` bytes stay as they are. `sums` are the CRC-32C in it: where what they guard begins and ends, the first byte
    that counts, and their own place; `mend` makes checksums of other kinds true.
    """

    kind: str
    content: bytes
    places: tuple[tuple[int, int], ...]
    name: str = ""
    fixed: int = 0
    order: str = "big"
    sums: tuple[tuple[int, int, int, int], ...] = ()
    mend: Callable[[bytearray], None] | None = None
