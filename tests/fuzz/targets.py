"""What is done with a file from the fuzzer. Only errors of the project may come out; anything else is a finding."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import cowherd
from cowherd.errors import CowherdError
from cowherd.guest.source import Cached
from cowherd.guest.survey import survey
from cowherd.herd.records import sealfile
from cowherd.herd.records.binding import read_binding
from cowherd.herd.records.journal import look_at
from cowherd.image.backing import resolve
from cowherd.image.open import open_disk
from cowherd.image.reading import Reading
from cowherd.ops.map import entries
from tests.fuzz.disks import unpacked
from tests.images import KIB, Request, run_in_cowherd

_MOST_READ = 300 * KIB
_MOST_EXTENTS = 2000
_MOST_SECONDS = 30
Action = Callable[[Path], object]


def _read(path: Path) -> None:
    with open_disk(path, format="qcow2", backing=False) as disk:
        end = min(disk.size, _MOST_READ)
        with contextlib.suppress(CowherdError):
            disk.read(0, end)
        with contextlib.suppress(CowherdError):
            disk.read(max(0, disk.size - KIB), min(disk.size, KIB))
        for number, _ in enumerate(entries(Reading.of(disk))):
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
    fetch, size = unpacked(path.read_bytes())
    if _needs_pytsk3(fetch, size):
        _in_a_child(lambda: survey(Cached(fetch, size)))
    else:
        survey(Cached(fetch, size))


def _needs_pytsk3(fetch: Callable[[int, int], bytes], size: int) -> bool:
    """Whether a library in C is going to look at it, which may crash; cowherd lets it do so in a process of its own, too."""
    return any(fetch(at, len(magic)) == magic for at, magic in ((3, b"NTFS    "), (54, b"FAT"), (82, b"FAT32")) if size > 100)


def _in_a_child(work: Callable[[], object]) -> None:
    """Does `work` in a child, and raises what it raised; one that the library in C crashes ends that way."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(_MOST_SECONDS)
        try:
            work()
        except BaseException:  # noqa: BLE001 - it is told to the parent
            os.write(writing, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if told:
        raise ChildFailed(told)
    if status == -signal.SIGALRM:
        raise ChildFailed(f"more than {_MOST_SECONDS} s")


class ChildFailed(Exception):
    """What a child raised that is no answer."""


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
