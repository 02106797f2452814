"""Herds to merge in, what QEMU reads from every disk of one, and merges that are killed at a chosen moment."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from cowherd.storage import copying, fallocate
from cowherd.storage.hostfile import HostFile
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img, write

MIB = 1 << 20
SIZE = 2 * MIB
CALLS = {
    HostFile: ("pwritev", "truncate", "flush"),
    fallocate: ("zero_range",),
    copying: ("clone_range", "copy_range"),
    os: ("rename", "link", "unlink", "chmod", "fchmod"),
}
"""Whatever changes a file on the host, and the flushes between: each call is a moment at which a process can be killed."""


def large_herd(directory: Path, overlays: int = 20, seed: int = 0) -> dict[str, Path]:
    """A base and overlays of it at mixed depths, with random guest writes in all of them, made by QEMU alone.

    Clusters of several sizes, with subclusters and of version 2; disks that are smaller and larger than the base.
    """
    generator = random.Random(seed)
    herd = {"base": make_base(directory / "base", noise(SIZE, seed))}
    kinds = ("cluster_size=4096", "cluster_size=65536", "cluster_size=65536,extended_l2=on", "compat=0.10", "cluster_size=2M")
    for number in range(overlays):
        name = f"o{number:02}"
        under = "base" if number < 5 else generator.choice(list(herd))
        size = SIZE if number < 5 else generator.choice((SIZE, SIZE, SIZE - MIB // 2, SIZE + MIB))
        herd[name] = make_overlay(directory / name, under, "-o", generator.choice(kinds), size=size)
        write(herd[name], *random_writes(generator, size))
    return herd


def random_writes(generator: random.Random, size: int, number: int = 4) -> Iterator[str]:
    """qemu-io's commands for random guest writes, of data and of zeros."""
    for _ in range(number):
        start = generator.randrange(size // 512) * 512
        length = min(generator.choice((512, 4096, 65536, 200 * 1024)), size - start)
        what = "-z" if generator.randrange(3) == 0 else f"-P {generator.randrange(1, 255)}"
        yield f"write {what} {start} {length}"


def contents(herd: dict[str, Path]) -> dict[str, str]:
    """A hash of what QEMU reads from each disk that is there."""
    return {name: content_hash(path) for name, path in herd.items() if path.exists()}


def content_hash(image: Path) -> str:
    """A hash of what QEMU reads from one disk."""
    raw = image.with_name(image.name + ".read")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", image, raw)
    found = hashlib.sha256(raw.read_bytes()).hexdigest()
    raw.unlink()
    return found


def assert_sound(herd: dict[str, Path], codes: tuple[int, ...] = (0,)) -> None:
    """Fails unless `qemu-img check` finds no error in any disk; with 3 among `codes` leaked clusters may be there."""
    for path in herd.values():
        if path.exists():
            qemu_img("check", "-q", path, codes=codes)


def killed_at(moment: int, work: Callable[[], object]) -> bool:
    """Does `work` in a process that kills itself (SIGKILL) before its call number `moment` that changes a file.

    Returns whether it was killed; False if it was done before.
    """
    process = os.fork()
    if not process:
        try:
            _count(lambda call: os.kill(os.getpid(), signal.SIGKILL) if call == moment else None)
            work()
        finally:
            os._exit(0)
    status = os.waitpid(process, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def moments_of(work: Callable[[], object]) -> int:
    """Does `work` in a process of its own and returns how many moments it has."""
    read_end, write_end = os.pipe()
    if not os.fork():
        calls = [0]
        try:
            _count(lambda call: calls.__setitem__(0, call))
            work()
        finally:
            os.write(write_end, str(calls[0]).encode())
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = int(pipe.read())
    os.wait()
    return answer


def _count(before_call: Callable[[int], None]) -> None:
    calls = [0]

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            calls[0] += 1
            before_call(calls[0])
            return original(*arguments, **options)

        return call

    for place, names in CALLS.items():
        for name in names:
            setattr(place, name, counted(getattr(place, name)))
