"""The images that jobs start from."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import cowherd
from bench import content
from bench.places import TMPFS
from bench.scale import Scale

CLUSTER = 65536
_OFFSET_MASK = np.uint64(0x00FF_FFFF_FFFF_FE00)


@dataclass(frozen=True)
class Workspace:
    """A place's folders: `shared` inputs live as long as the place, `own` ones as long as the job.

    `used`: those of the shared inputs that the job has asked for.
    """

    shared: Path
    own: Path
    scale: Scale
    place: str = TMPFS
    used: set[Path] = field(default_factory=set)

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """The shared input `name`, made by the first job that asks for it."""
        path = self.shared / name
        self.used.add(path)
        if not path.exists():
            unfinished = self.shared / f"unfinished-{name}"
            make(unfinished)
            unfinished.rename(path)
        return path

    def raw(self, size: int) -> Path:
        """A raw disk of `size` bytes with 40 % data."""
        return self.once(f"disk-{size >> 20}.raw", lambda path: content.file_system(path, size))

    def qcow2(self, size: int) -> Path:
        """The same as qcow2, as qemu-img writes it."""
        source = self.raw(size)

        def make(path: Path) -> None:
            tool("qemu-img", "convert", "-O", "qcow2", source, path)

        return self.once(f"disk-{size >> 20}.qcow2", make)


def tool(*words: str | Path) -> str:
    """Runs a tool of the set-up or of a check; returns what it prints. Raises `subprocess.CalledProcessError`."""
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def overlay(path: Path, base: Path, base_format: str, size: int, *, seed: int, runs: int, clusters: int) -> None:
    """Makes `path` an overlay of `base`, of `size` bytes, with `runs` writes of `clusters` clusters each at random places."""
    cowherd.create(path, size, backing=str(base), backing_format=base_format, unsafe=True, break_dependents=True)
    random = np.random.default_rng(seed)
    slots = size // (CLUSTER * clusters)
    with cowherd.open(path, format="qcow2", writable=True, backing=False, break_dependents=True) as disk:
        for slot in sorted(random.choice(slots, min(runs, slots), replace=False).tolist()):
            disk.write(slot * CLUSTER * clusters, content.piece(random, CLUSTER * clusters))
        disk.flush()


def scattered(path: Path, size: int, clusters: int) -> None:
    """Makes `path` a qcow2 image of `size` bytes, of which so many clusters are written, in random order and at random places."""
    cowherd.create(path, size)
    random = np.random.default_rng(7)
    with cowherd.open(path, format="qcow2", writable=True) as disk:
        for slot in random.choice(size // CLUSTER, clusters, replace=False).tolist():
            disk.write(slot * CLUSTER, content.piece(random, CLUSTER))
        disk.flush()


def chain(folder: Path, base: Path, base_format: str, size: int, depth: int) -> Path:
    """Makes `depth` overlays upon `base`, which together write as much as a fifth of the disk; returns the topmost."""
    runs = max(1, size // CLUSTER // 5 // depth)
    for level in range(depth):
        path = folder / f"layer-{level:03}.qcow2"
        overlay(path, base, base_format, size, seed=level, runs=runs, clusters=1)
        base, base_format = path, "qcow2"
    return base


def mapped(path: Path, size: int) -> None:
    """Makes `path` a qcow2 image of which every cluster is mapped, none written."""
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, str(size))


def shuffle_tables(path: Path) -> None:
    """Puts the L2 tables of an image into each other's places, at random; what the guest sees stays the same."""
    with path.open("r+b", buffering=0) as file:
        entries, offset = struct.unpack(">IQ", os.pread(file.fileno(), 12, 36))
        first = np.frombuffer(os.pread(file.fileno(), entries * 8, offset), ">u8").astype(np.uint64)
        places = first & _OFFSET_MASK
        order = np.random.default_rng(4).permutation(entries)
        tables = [os.pread(file.fileno(), CLUSTER, place) for place in places.tolist()]
        for table, place in zip(tables, places[order].tolist(), strict=True):
            os.pwrite(file.fileno(), table, place)
        moved = (first & ~_OFFSET_MASK) | places[order]
        os.pwrite(file.fileno(), moved.astype(">u8").tobytes(), offset)


def copy(source: Path, target: Path) -> Path:
    """Copies a file without sharing blocks, keeping its holes."""
    tool("cp", "--reflink=never", "--sparse=always", source, target)
    return target


def warm(folder: Path) -> None:
    """Reads a file, or every file of a folder, into the page cache."""
    for path in (folder, *folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                _read_data(file.fileno(), path.stat().st_size)


def _read_data(descriptor: int, size: int) -> None:
    buffer = bytearray(8 << 20)
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            return  # ENXIO: nothing but a hole follows
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        for offset in range(start, position, len(buffer)):
            os.preadv(descriptor, [memoryview(buffer)[: position - offset]], offset)


def clear(folder: Path) -> Path:
    """Makes a folder empty; returns it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
