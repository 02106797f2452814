"""The newest generation of each seal that this host has seen: if an older one, even signed, is back, somebody put it there.

A file beside the memory of overlays, a line for each seal: a JSON array [id of the seal, generation]. It notes only seals that
were made on this host, or that somebody trusted signed, so that nobody else can put anything into it.
"""

from __future__ import annotations

import fcntl
import os

from cowherd.herd.lineage.book.memory import memory_directory
from cowherd.herd.records.ownership import OTHERS_MAY_WRITE
from cowherd.jsontext import read_json, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.herd.records.sealrecord import SealRecord

_OVERLAYS, _NAME = "overlays", "generations"
_MOST_BYTES = 16 << 20


def newest_generation(seal_id: bytes) -> int:
    """Returns the highest generation of a seal that this host has seen, 0 if it has seen none."""
    return _known().get(seal_id.hex(), 0)


def note_generation(record: SealRecord) -> None:
    """Notes the generation of a seal on this host; where nothing can be written, it does nothing."""
    path = _path()
    if path is None or newest_generation(record.seal_id) >= record.generation:
        return
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(write_json([record.seal_id.hex(), record.generation], between=(", ", ": ")).encode("ascii") + b"\n")
    except OSError:
        return  # as the docstring says


def _path() -> str | None:
    overlays = memory_directory()
    return overlays.removesuffix(_OVERLAYS) + _NAME if overlays else None


def _known() -> dict[str, int]:
    path = _path()
    if path is None:
        return {}
    try:
        with open(path, "rb") as file:
            info = os.fstat(file.fileno())
            if info.st_uid != os.geteuid() or info.st_mode & OTHERS_MAY_WRITE:
                return {}
            lines = file.read(_MOST_BYTES).splitlines()
    except OSError:
        return {}
    found: dict[str, int] = {}
    for line in lines:
        seal, generation = _parsed(line)
        found[seal] = max(found.get(seal, 0), generation)
    return found


def _parsed(line: bytes) -> tuple[str, int]:
    """Reads a line; a line that was cut short, or makes no sense, counts as generation 0 of no seal."""
    try:
        seal, generation = read_json(line)
    except (ValueError, TypeError, RecursionError):
        return "", 0
    return (seal, generation) if isinstance(seal, str) and isinstance(generation, int) else ("", 0)
