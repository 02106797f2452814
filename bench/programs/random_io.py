"""4 KiB requests at random aligned offsets of a qcow2 image, through a Python API; prints the CRC-32 of what was read.

python random_io.py cowherd|dissect read|write IMAGE REQUESTS
python random_io.py qemu-io write SIZE REQUESTS          prints the same writes as commands of qemu-io
"""

from __future__ import annotations

import random
import sys
import zlib
from pathlib import Path

REQUEST = 4096


def main() -> None:
    """Does what the command line asks for."""
    library, direction, image, requests = sys.argv[1:]
    if library == "qemu-io":
        _script(int(image), int(requests))
    elif library == "dissect":
        _dissect(Path(image), int(requests))
    else:
        _cowherd(image, int(requests), writing=direction == "write")


def _offsets(size: int, requests: int) -> list[int]:
    chosen = random.Random(4)
    return [chosen.randrange(size // REQUEST) * REQUEST for _ in range(requests)]


def _script(size: int, requests: int) -> None:
    print("\n".join([f"write -q -P 0xab {offset} {REQUEST}" for offset in _offsets(size, requests)] + ["flush"]))


def _cowherd(image: str, requests: int, *, writing: bool) -> None:
    import cowherd

    crc = 0
    with cowherd.open(image, format="qcow2", writable=writing) as disk:
        for offset in _offsets(disk.size, requests):
            if writing:
                disk.write(offset, b"\xab" * REQUEST)
            else:
                crc = zlib.crc32(disk.read(offset, REQUEST), crc)
        if writing:
            disk.flush()
    print(crc)


def _dissect(image: Path, requests: int) -> None:
    from dissect.hypervisor.disk.qcow2 import QCow2  # type: ignore[import-untyped]

    disk = QCow2(image)
    stream = disk.open()
    crc = 0
    for offset in _offsets(disk.size, requests):
        stream.seek(offset)
        crc = zlib.crc32(stream.read(REQUEST), crc)
    print(crc)


main()
