"""Herds made by QEMU's tools alone, and what QEMU says of them: the ground truth that the guard's answers are compared with."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from cowherd.storage.copying import FileRange
from cowherd.storage.hostfile import HostFile
from tests import qemu

BLOCK = 65536
SECTOR = 512
KILLED = 99

qemu_img, qemu_io = qemu.Tool("qemu-img"), qemu.Tool("qemu-io")


def noise(length: int, seed: int = 0) -> bytes:
    """Bytes without zeros in them, so that no block of them is one of zeros."""
    return random.Random(seed).randbytes(length).replace(b"\0", b"\1")


def make_base(path: Path, content: bytes, *options: str, format: str = "qcow2") -> Path:
    """Makes an image that holds `content`."""
    raw = path.with_name(path.name + ".content")
    raw.write_bytes(content)
    qemu_img("convert", "-f", "raw", "-O", format, *options, raw, path)
    raw.unlink()
    return path


def make_overlay(path: Path, base: Path | str, *options: str, base_format: str = "qcow2", size: int | None = None) -> Path:
    """Makes an overlay as qemu-img does, without cowherd."""
    sizes = [] if size is None else [size]
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", base_format, *options, path, *sizes)
    return path


def write(image: Path, *commands: str, format: str = "qcow2") -> None:
    """Writes to an image as QEMU does: `commands` are those of qemu-io."""
    arguments = [word for command in commands for word in ("-c", command)]
    printed = qemu_io("-f", format, *arguments, image)
    assert "failed" not in printed, printed


def content(image: Path, format: str = "qcow2") -> bytes:
    """The guest content of an image, as qemu-img reads it."""
    raw = image.with_name(image.name + ".read")
    qemu_img("convert", "-f", format, "-O", "raw", image, raw)
    data = raw.read_bytes()
    raw.unlink()
    return data


def changed_blocks(before: bytes, after: bytes) -> set[int]:
    """The numbers of the blocks of 64 KiB that differ, zeros past an end."""
    blocks = range(-(-max(len(before), len(after)) // BLOCK))
    return {block for block in blocks if _block(before, block) != _block(after, block)}


def _block(data: bytes, block: int) -> bytes:
    return data[block * BLOCK : (block + 1) * BLOCK].ljust(BLOCK, b"\0")


def exposed_bytes(overlay: Path, base: Path, size: int, scratch: Path, base_format: str = "qcow2") -> list[bool]:
    """For each sector of `overlay`, whether it shows the base: found out by putting two other disks in the base's place.

    `size` is that of the disks put there. The overlay's directory is copied for it, so names must be relative.
    """
    shown = []
    for pattern in (0xA5, 0x5A):
        copy = scratch / f"pattern-{pattern:x}"
        shutil.copytree(overlay.parent, copy)
        make_base(copy / base.name, bytes([pattern]) * size, format=base_format)
        shown.append(content(copy / overlay.name))
        shutil.rmtree(copy)
    one, other = shown
    return [one[i : i + SECTOR] != other[i : i + SECTOR] for i in range(0, len(one), SECTOR)]


def blocks_of(ranges: list[list[int]]) -> set[int]:
    """The blocks that [start, length] pairs of whole blocks cover."""
    return {block for start, length in ranges for block in range(start // BLOCK, -(-(start + length) // BLOCK))}


def killed_after(writes: int, work: Callable[[], object]) -> None:
    """Does `work` in a process of its own, which ends without a word before its next write once it has made `writes` of them."""
    process = os.fork()
    if process:
        assert os.waitpid(process, 0)[1] == KILLED << 8, "it was done before it was killed"
        return
    try:
        left = iter(range(writes))

        def mortal(write: Callable[..., None]) -> Callable[..., None]:
            return lambda *arguments: write(*arguments) if next(left, None) is not None else os._exit(KILLED)

        HostFile.pwrite, HostFile.pwritev = mortal(HostFile.pwrite), mortal(HostFile.pwritev)
        FileRange.put = mortal(FileRange.put)
        work()
    finally:
        os._exit(0)
