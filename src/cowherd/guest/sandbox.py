"""Reads a guest's file systems in a process of its own, so that guest data can mislead, crash or exhaust it without harm.

The process receives the bytes of the disk through a pipe and sends a chart back. Its memory and time are limited, and it writes
no files. However it ends, the caller sees no error: the chart then says why nothing is known.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Callable
from typing import IO

import numpy as np

from cowherd.children import module_command, module_environment
from cowherd.extents import Ranges, ranges
from cowherd.guest.chart import NO_RANGES, Chart, Uncharted
from cowherd.guest.source import Malformed, Report
from cowherd.guest.wire import decoded
from cowherd.guest.worker import ANSWER, HEAD, MESSAGE, PROGRESS
from cowherd.text import printable

MEMORY = 4 << 30
"""Bytes of address space that reading one disk may take."""
SECONDS = 600
"""Seconds of processor time that reading one disk may take."""
# The process may be in the hands of the guest, so what it says is bounded before memory is taken for it.
MOST_ANSWER = 1 << 30
_MOST_REQUEST = 256 << 20

ReadInto = Callable[[int, memoryview], None]


def chart_of(
    readinto: ReadInto,
    size: int,
    *,
    doubted: Ranges | None = None,
    report: Report | None = None,
    memory: int = MEMORY,
    seconds: int = SECONDS,
) -> Chart:
    """Returns the chart of a disk of `size` bytes; `readinto(offset, buffer)` fills a buffer with its bytes.

    File systems that keep checksums of their files' content have it checked in the ranges `doubted`, by default everywhere.
    `report(done, total)` is called with how much of each file system is read. `memory` is in bytes of address space, `seconds`
    in processor time.

    If the reading process fails, the whole disk is uncharted, with the reason. Errors of `readinto` are raised.
    """
    command, environment = module_command("cowherd.guest.worker", str(memory), str(seconds)), module_environment()
    whole = ranges([(0, size)]) if size else NO_RANGES
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environment) as process:
            try:
                answer = _serve(process, readinto, size, whole if doubted is None else doubted, report)
            except BaseException:
                process.kill()
                raise
        problem = None if answer is not None and process.returncode == 0 else _why(process.returncode, said)
    if answer is not None and problem is None:
        try:
            return decoded(answer, size)
        except Malformed as error:
            problem = str(error)
    return Chart((), NO_RANGES, (Uncharted("the whole disk", whole, f"its file systems could not be read: {problem}"),))


def _serve(
    process: subprocess.Popen[bytes], readinto: ReadInto, size: int, doubted: Ranges, report: Report | None
) -> bytes | None:
    """Answers the requests of the reading process; returns its answer, or None if it ended before it gave one."""
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(HEAD.pack(size, len(doubted)) + np.ascontiguousarray(doubted, "<i8").tobytes())
        process.stdin.flush()
        while len(message := process.stdout.read(MESSAGE.size)) == MESSAGE.size:
            kind, offset, length = MESSAGE.unpack(message)
            if kind == ANSWER:
                if report:
                    report(1, 1)
                answer = process.stdout.read(offset) if offset <= MOST_ANSWER else b""
                return answer if len(answer) == offset else None
            if kind == PROGRESS:
                if report:
                    report(offset, length)
                continue
            if length > _MOST_REQUEST or offset + length > size:
                process.kill()
                return None
            buffer = memoryview(bytearray(length))
            readinto(offset, buffer)
            process.stdin.write(buffer)
            process.stdin.flush()
    except BrokenPipeError:
        return None  # its exit code says why
    return None


def _why(code: int, said: IO[bytes]) -> str:
    # The soft limit of time equals the hard one, and the kernel looks at the hard one first: the usual end is SIGKILL.
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "it took too long"
    if code < 0:
        return f"the process that read it crashed ({signal.Signals(-code).name})"
    said.seek(0)
    lines = said.read(1 << 20).decode(errors="replace").strip().splitlines()
    if lines and lines[-1].startswith("MemoryError"):
        return "it took too much memory"
    return printable(lines[-1])[:200] if lines else "the process that read it gave no answer"
