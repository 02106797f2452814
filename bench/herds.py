"""Herds of very many images, made in seconds: each file is a header and a hole, and QEMU reads them all."""

from __future__ import annotations

import os
import struct
from pathlib import Path

_HEADER_LENGTH = 112
_CLUSTER_BITS = 16
_FILE_SIZE = 3 << _CLUSTER_BITS
_BACKING_FORMAT, _END = 0xE2792ACA, 0


def header(backing: str = "", backing_format: str = "qcow2", *, size: int = 1 << 30, extensions: bytes = b"") -> bytes:
    """The header of a qcow2 image without data: its L1 table and its refcount table lie in holes behind it."""
    name, recorded = os.fsencode(backing), backing_format.encode()
    if backing and recorded:
        extensions += struct.pack(">II", _BACKING_FORMAT, len(recorded)) + recorded + bytes(-len(recorded) % 8)
    extensions += struct.pack(">II", _END, 0)
    name_offset = _HEADER_LENGTH + len(extensions) if name else 0
    l1_entries = -(-size // (1 << 2 * _CLUSTER_BITS - 3))
    first = struct.pack(
        ">4sIQIIQIIQ", b"QFI\xfb", 3, name_offset, len(name), _CLUSTER_BITS, size, 0, l1_entries, 2 << _CLUSTER_BITS
    )
    rest = struct.pack(">QIIQQQQII8x", 1 << _CLUSTER_BITS, 1, 0, 0, 0, 0, 0, 4, _HEADER_LENGTH)
    return first + rest + extensions + name


def make_herd(folder: Path, images: int, *, in_directory: int = 1000, overlays: int = 10) -> None:
    """Makes `images` qcow2 files, `in_directory` in each directory: a tree in which each image has up to `overlays` overlays."""
    for number in range(images):
        directory = folder / f"{number // in_directory:05}"
        if number % in_directory == 0:
            directory.mkdir(parents=True)
        base = (number - 1) // overlays
        together = base // in_directory == number // in_directory
        backing = f"{'' if together else f'../{base // in_directory:05}/'}image-{base:06}.qcow2" if number else ""
        write_image(directory / f"image-{number:06}.qcow2", header(backing))


def write_image(path: str | os.PathLike[str], head: bytes) -> None:
    """Writes an image that is nothing but its header."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(fd, head)
        os.ftruncate(fd, _FILE_SIZE)
    finally:
        os.close(fd)
