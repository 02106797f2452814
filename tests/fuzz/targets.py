"""What is done with a file from the fuzzer. Only errors of the project may come out; anything else is a finding."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import cowherd
from cowherd.errors import CowherdError
from cowherd.guest.source import Cached, Malformed
from cowherd.guest.survey import survey
from cowherd.herd import sealfile
from cowherd.herd.binding import read_binding
from cowherd.herd.merging.journal import look_at
from cowherd.image.backing import resolve
from cowherd.image.open import open_disk
from cowherd.ops.map import entries
from tests.images import KIB, Request, run_in_cowherd

_MOST_READ = 300 * KIB
_MOST_EXTENTS = 2000
Action = Callable[[Path], object]


def _read(path: Path) -> None:
    with open_disk(path, format="qcow2", backing=False) as disk:
        end = min(disk.size, _MOST_READ)
        with contextlib.suppress(CowherdError):
            disk.read(0, end)
        with contextlib.suppress(CowherdError):
            disk.read(max(0, disk.size - KIB), min(disk.size, KIB))
        for number, _ in enumerate(entries(disk)):
            if number > _MOST_EXTENTS:
                break


def _write(path: Path) -> None:
    with open_disk(path, format="qcow2", writable=True, backing=False) as disk:
        for request in (
            Request("write", 0, 5000, 1),
            Request("discard", 10 * KIB, 50 * KIB),
            Request("zero", 100 * KIB, 30 * KIB),
            Request("write", 200 * KIB, 20 * KIB, 3),
        ):
            if request.end <= disk.size:
                with contextlib.suppress(CowherdError):
                    run_in_cowherd(disk, [request])
        with contextlib.suppress(CowherdError):
            disk.flush()


def _resize(path: Path) -> None:
    with open_disk(path, format="qcow2", writable=True, backing=False) as disk:
        disk.resize(disk.size // 2 // 512 * 512)
        disk.resize(disk.size + 64 * KIB)


def _name(path: Path) -> None:
    with open_disk(path, format="qcow2", backing=False) as disk:
        if (stored := disk.layers[0].backing) is not None:
            resolve(path, stored)


def _stream(path: Path) -> None:
    cowherd.inspect(io.BytesIO(path.read_bytes()), format="qcow2")


def _survey(path: Path) -> None:
    with path.open("rb") as file:
        fd = file.fileno()
        with contextlib.suppress(Malformed):
            survey(Cached(lambda offset, length: os.pread(fd, length, offset), os.fstat(fd).st_size))


ACTIONS: dict[str, tuple[Action, ...]] = {
    "qcow2": (
        _read,
        _write,
        _resize,
        _name,
        _stream,
        lambda path: cowherd.check(path, format="qcow2"),
        lambda path: cowherd.image_info(path, format="qcow2"),
        lambda path: cowherd.inspect(path, format="qcow2", allow=("bitmaps", "snapshots")),
        lambda path: cowherd.measure(path, source_format="qcow2", target_format="qcow2"),
        read_binding,
    ),
    "raw": (cowherd.image_info, cowherd.inspect),
    "seal": (sealfile.read_record, sealfile.read_digests),
    "journal": (look_at,),
    "disk": (_survey,),
}


def exercise(kind: str, path: Path, number: int | None = None) -> None:
    """Does one of the things that are done with files of this kind, or all of them."""
    actions = ACTIONS[kind]
    for action in actions if number is None else (actions[number % len(actions)],):
        with contextlib.suppress(CowherdError):
            action(path)
