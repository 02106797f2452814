"""Raw disks compared block by block, and written into images: the ground truth that cowherd's verdicts are held against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cowherd.image.disk import Disk

PAGE = 4096
"""What a guest's file system writes at least, in bytes."""

BLOCK = 64 << 10
"""The unit of cowherd's answers, in bytes."""

_CHUNK = 1 << 20


def digest(disk: Path) -> str:
    """Returns the SHA-256 of a raw disk."""
    with disk.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_content(disk: Disk) -> str:
    """Returns the SHA-256 of what a guest reads from an image."""
    found = hashlib.sha256()
    for start in range(0, disk.size, _CHUNK):
        found.update(disk.read(start, min(_CHUNK, disk.size - start)))
    return found.hexdigest()


def different(one: Path, other: Path, unit: int) -> list[int]:
    """Returns the numbers of the blocks of `unit` bytes in which two raw disks of the same size differ; `unit` divides 1 MiB."""
    found: list[int] = []
    with one.open("rb") as first, other.open("rb") as second:
        for start in range(0, max(one.stat().st_size, other.stat().st_size), _CHUNK):
            here, there = first.read(_CHUNK), second.read(_CHUNK)
            if here != there:
                found += (_unequal(here, there, unit) + start // unit).tolist()
    return found


def _unequal(here: bytes, there: bytes, unit: int) -> NDArray[np.int64]:
    one, other = (np.frombuffer(data, np.uint8).reshape(-1, unit) for data in (here, there))
    return np.flatnonzero((one != other).any(axis=1))


def as_ranges(blocks: list[int], unit: int) -> list[list[int]]:
    """Returns block numbers as [start, length] pairs of bytes, adjacent ones merged."""
    ranges: list[list[int]] = []
    for block in blocks:
        if ranges and sum(ranges[-1]) == block * unit:
            ranges[-1][1] += unit
        else:
            ranges.append([block * unit, unit])
    return ranges


def copy_differences(before: Path, after: Path, image: Disk) -> int:
    """Writes the pages in which `after` differs from `before` to an image, as the guest's driver would; returns the bytes."""
    written = 0
    for start, data in _differences(before, after):
        image.write(start, data)
        written += len(data)
    image.flush()
    return written


def _differences(before: Path, after: Path) -> Iterator[tuple[int, bytes]]:
    with after.open("rb") as file:
        for start, length in as_ranges(different(before, after, PAGE), PAGE):
            file.seek(start)
            yield start, file.read(length)
