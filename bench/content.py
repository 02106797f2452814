"""Realistic content: an ext4 file system with files of this Python's installation (compressible) and random ones (not)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from bench.measure import BenchmarkFailed

DATA_SHARE = 0.4
_RANDOM_SHARE = 0.25
_CORPUS = 64 << 20
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@cache
def corpus() -> np.ndarray:
    """64 MiB of sources and shared libraries, on one machine always the same, as bytes."""
    gathered = bytearray()
    for file in _sources(sysconfig.get_path("stdlib"), sysconfig.get_path("platlib")):
        gathered += file.read_bytes()
        if len(gathered) >= _CORPUS:
            break
    return np.resize(np.frombuffer(bytes(gathered), np.uint8), _CORPUS)


def _sources(*roots: str) -> Iterator[Path]:
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders.sort()
            yield from (Path(folder, name) for name in sorted(names) if name.endswith((".py", ".so")))


def piece(random: np.random.Generator, length: int) -> bytes:
    """`length` bytes (at most 32 MiB): a part of the corpus, or one time in four random ones."""
    if random.random() < _RANDOM_SHARE:
        return random.bytes(length)
    start = int(random.integers(0, _CORPUS - length))
    return corpus()[start : start + length].tobytes()


def file_system(target: Path, size: int) -> None:
    """Makes `target` a raw disk of `size` bytes: an ext4 file system, 40 % full, sparse."""
    folder = target.with_suffix(".files")
    folder.mkdir()
    try:
        _fill(folder, int(size * DATA_SHARE))
        mke2fs = shutil.which("mke2fs", path=_PATH)
        if mke2fs is None:
            raise BenchmarkFailed("mke2fs (e2fsprogs) is not installed")
        command = [mke2fs, "-q", "-F", "-t", "ext4", "-m", "0", "-d", str(folder), str(target), f"{size >> 10}k"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(folder)


def _fill(folder: Path, total: int) -> None:
    random = np.random.default_rng(4)
    number = 0
    while total > 0:
        length = min(total, 16 << 20, max(512, int(random.lognormal(11, 2))))
        inside = folder / f"{number // 500}"
        inside.mkdir(exist_ok=True)
        (inside / f"{number}").write_bytes(piece(random, length))
        total -= length
        number += 1
