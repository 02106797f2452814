"""Small disks with partitions, volumes and file systems, made by the programs that are there, as seeds.

A disk is mostly empty, and a seed holds only the blocks of it that are not: its length (8 bytes), the number of blocks (4 bytes)
and where each belongs (4 bytes), little-endian, padded to a whole block; then the blocks.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cowherd.guest.crc import crc32c
from cowherd.guest.lvm.physical import checksum
from tests.fuzz.seed import Seed

BLOCK = 4096
MIB = 1 << 20
_HEAD = struct.Struct("<QI")

_MKFS_XFS = ("env", "TEST_DIR=.", "TEST_DEV=.", "QA_CHECK_FS=.", "mkfs.xfs", "-q", "-f", "-d", "agcount=2")
_XFS_SECTORS = {b"XFSB": 224, b"XAGF": 216, b"XAGI": 312, b"XAFL": 32}
_XFS_BLOCKS = dict.fromkeys((b"AB3B", b"AB3C", b"IAB3", b"FIB3", b"RMB3", b"R3FC"), 52) | {b"BMA3": 64, b"XARM": 12, b"XSLM": 12}
_XFS_BLOCKS |= {b"XDB3": 4, b"XDD3": 4, b"XDF3": 4}
_XFS_TREES = (0x3DF1, 0x3DFF, 0x3EBE, 0x3BEE)
_BTRFS_SUPER, _BTRFS_MAGIC = 65536, b"_BHRfS_M"


def disks(folder: Path) -> list[Seed]:
    """All seeds of kind "disk"; `folder` is used to make them."""
    files = _files(folder)
    made = [_made(folder / name, size, command) for name, size, command in _commands(files, folder)]
    made += [_fat(folder, files), _ntfs(folder, files), *_lvm(folder), _partitioned(folder), _gpt(folder)]
    return [seed for seed in made if seed is not None]


def packed(content: bytes) -> bytes:
    """Returns a disk as a seed holds it."""
    blocks = [number for number in range(-(-len(content) // BLOCK)) if any(content[number * BLOCK : (number + 1) * BLOCK])]
    head = _HEAD.pack(len(content), len(blocks)) + struct.pack(f"<{len(blocks)}I", *blocks)
    pieces = [content[number * BLOCK : (number + 1) * BLOCK].ljust(BLOCK, b"\0") for number in blocks]
    return head.ljust(head_of(len(blocks)), b"\0") + b"".join(pieces)


def head_of(count: int) -> int:
    """How many bytes stand before the first of so many blocks."""
    return -(-(_HEAD.size + 4 * count) // BLOCK) * BLOCK


def unpacked(content: bytes) -> tuple[Callable[[int, int], bytes], int]:
    """Returns what reads a disk, and its length. Blocks that were cut off read as zeros."""
    size, count = _HEAD.unpack_from(content)
    numbers = struct.unpack_from(f"<{count}I", content, _HEAD.size)
    places = {number: head_of(count) + BLOCK * index for index, number in enumerate(numbers)}
    empty = bytes(BLOCK)

    def block(number: int) -> bytes:
        place = places.get(number)
        return empty if place is None else content[place : place + BLOCK].ljust(BLOCK, b"\0")

    def fetch(offset: int, length: int) -> bytes:
        first, last = offset // BLOCK, (offset + length - 1) // BLOCK
        return b"".join(map(block, range(first, last + 1)))[offset - first * BLOCK :][:length]

    return fetch, size


def _seed(path: Path, mend: Callable[[bytearray], None] | None = None) -> Seed:
    content, name = packed(path.read_bytes()), path.name
    fixed = head_of(_HEAD.unpack_from(content)[1])
    words = [offset for offset in range(fixed, len(content), 4) if content[offset : offset + 4] != b"\0\0\0\0"]
    places = tuple(place for offset in words for place in ((offset, 4), (offset, 2), (offset + 2, 2)))
    order = "big" if name == "XFS" else "little"
    sums = tuple(_sums(content, fixed)) if name in ("XFS", "btrfs") else ()
    return Seed("disk", content, places, name, fixed, order, sums, mend)


def _files(folder: Path) -> Path:
    """Files of some lengths, links, and enough names for a tree of them."""
    top = folder / "files"
    (top / "inner" / "deep").mkdir(parents=True)
    (top / "many").mkdir()
    for number in range(150):
        (top / "many" / f"a_name_that_is_rather_long_{number}").touch()
    for number, length in enumerate((0, 10, 700, 9000, 70000)):
        (top / "inner" / f"file{number}").write_bytes(bytes([number + 1]) * length)
    with (top / "inner" / "deep" / "holes").open("wb") as file:
        for at in range(0, 40 * 8192, 8192):
            file.seek(at)
            file.write(b"x")
    (top / "link").symlink_to("x/" * 100)
    return top


def _commands(files: Path, folder: Path) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    prototype = folder / "prototype"
    prototype.write_text("/stand/none\n0 0\nd--755 0 0\n" + "\n".join(_prototype(files)) + "\n$\n$\n")
    extended = ("mke2fs", "-q", "-F", "-d", str(files), "-t")
    yield "ext4", 4 * MIB, (*extended, "ext4")
    yield "ext4 without checksums", 4 * MIB, (*extended, "ext4", "-b", "1024", "-O", "^metadata_csum")
    yield "ext2", 2 * MIB, (*extended, "ext2", "-b", "1024")
    yield "XFS", 40 * MIB, (*_MKFS_XFS, "-i", "sparse=0", "-m", "rmapbt=1,reflink=1", "-p", str(prototype))
    yield "btrfs", 110 * MIB, ("mkfs.btrfs", "-q", "-n", "4096", "-m", "single", "-d", "single", "--rootdir", str(files))


def _prototype(directory: Path) -> Iterator[str]:
    """What mkfs.xfs fills a file system from."""
    for path in sorted(directory.iterdir()):
        if path.is_symlink():
            yield f"{path.name} l--777 0 0 {path.readlink()}"
        elif path.is_dir():
            yield f"{path.name} d--755 0 0"
            yield from _prototype(path)
            yield "$"
        else:
            yield f"{path.name} ---644 0 0 {path}"


def _run(*command: str | Path) -> bool:
    """Whether a program is there and did what it was told."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    if shutil.which(str(command[0]), path=environment["PATH"]) is None:
        return False
    return not subprocess.run(command, capture_output=True, env=environment, check=False).returncode


def _empty(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def _made(path: Path, size: int, command: tuple[str, ...]) -> Seed | None:
    return _seed(path) if _run(*command, _empty(path, size)) else None


def _fat(folder: Path, files: Path) -> Seed | None:
    path = _empty(folder / "FAT", 2 * MIB)
    made = _run("mkfs.fat", "-F", "12", path) and _run("mcopy", "-s", "-i", path, files / "inner", files / "many", "::")
    return _seed(path) if made else None


def _ntfs(folder: Path, files: Path) -> Seed | None:
    path = _empty(folder / "NTFS", 2 * MIB)
    if not _run("mkfs.ntfs", "-q", "-F", path):
        return None
    for name in ("file1", "file3"):
        _run("ntfscp", "-f", path, files / "inner" / name, name)
    return _seed(path)


def _lvm(folder: Path) -> Iterator[Seed]:
    """A volume group with a file system; only root can have LVM write one."""
    from tests.guest.lvm import lvm_on

    if os.geteuid() or shutil.which("lvm") is None or shutil.which("losetup") is None:
        return
    path = _empty(folder / "LVM", 24 * MIB)
    with lvm_on(path) as lvm:
        lvm("vgcreate", "-s", "1M", "vg", *lvm.devices)
        lvm.create("root", "-L", "3M")
        lvm.create("hole", "-L", "2M")
        lvm("lvextend", "-L", "5M", "vg/root")
        first = lvm.segments("root")[0][0]
    inside = (folder / "ext2").read_bytes() if (folder / "ext2").exists() else b""
    with path.open("r+b") as file:
        file.seek(first)
        file.write(inside)
    yield _seed(path, _mend_lvm)


def _partitioned(folder: Path) -> Seed:
    content = bytearray(256 << 10)
    for number in range(4):
        entry = bytes((0, 0, 0, 0, 0x83 if number < 3 else 5, 0, 0, 0))
        content[446 + 16 * number : 462 + 16 * number] = entry + (64 * (number + 1)).to_bytes(4, "little") + b"\x40\0\0\0"
    content[510:512] = b"\x55\xaa"
    path = folder / "MBR"
    path.write_bytes(content)
    return _seed(path)


def _gpt(folder: Path) -> Seed | None:
    path = _empty(folder / "GPT", 8 * MIB)
    script = folder / "script"
    script.write_text("label: gpt\nstart=2048, size=8192\nsize=1024\n")
    with script.open() as file:
        if not shutil.which("sfdisk") or subprocess.run(["sfdisk", "-q", path], stdin=file, check=False).returncode:
            return None
    if (folder / "ext4").exists():
        with path.open("r+b") as disk:
            disk.seek(MIB)
            disk.write((folder / "ext4").read_bytes())
    return _seed(path, _mend_gpt)


def _sums(content: bytes, fixed: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields where CRC-32C lie that can be told by what they guard: (start, end, first byte that counts, place of the sum)."""
    identity = b""
    for start in range(fixed, len(content), BLOCK):
        block = content[start : start + BLOCK]
        if block[64:72] == _BTRFS_MAGIC:
            identity = block[32:48]
    for start in range(fixed, len(content), BLOCK):
        block = content[start : start + BLOCK]
        if identity and block[32:48] == identity:
            yield start, start + BLOCK, start + 32, start
        place = _XFS_BLOCKS.get(block[:4], 12 if int.from_bytes(block[8:10], "big") in _XFS_TREES else None)
        if place is not None:
            yield start, start + BLOCK, start, start + place
        for at in range(0, BLOCK, 512):
            inode = 100 if block[at : at + 2] == b"IN" else None
            if (sector := _XFS_SECTORS.get(block[at : at + 4], inode)) is not None:
                yield start + at, start + at + 512, start + at, start + at + sector


def put_right(seed: Seed, content: bytearray) -> None:
    """Makes the checksums of what was changed true."""
    for start, end, first, place in seed.sums:
        if content[start:end] != seed.content[start:end] and len(content) >= end:
            content[place : place + 4] = bytes(4)
            content[place : place + 4] = (crc32c(bytes(content[first:end])) ^ 0xFFFFFFFF).to_bytes(4, "little")
    if seed.mend and len(content) >= seed.fixed + 2 * BLOCK:
        seed.mend(content)


def _mend_gpt(content: bytearray) -> None:
    start = head_of(_HEAD.unpack_from(content)[1]) + 512
    header = content[start : start + 92]
    count, size = struct.unpack_from("<II", header, 80)
    if count * size <= 128 * 128:  # those behind the first block are empty, and not in the seed
        entries = bytes(content[start + 512 : start + BLOCK - 512])[: count * size]
        header[88:92] = zlib.crc32(entries.ljust(count * size, b"\0")).to_bytes(4, "little")
    header[16:20] = bytes(4)
    length = min(92, int.from_bytes(header[12:16], "little"))
    header[16:20] = zlib.crc32(bytes(header[:length])).to_bytes(4, "little")
    content[start : start + 92] = header


def _mend_lvm(content: bytearray) -> None:
    label = head_of(_HEAD.unpack_from(content)[1]) + 512
    area = label + 4096 - 512
    content[label + 16 : label + 20] = checksum(bytes(content[label + 20 : label + 512])).to_bytes(4, "little")
    start, length = struct.unpack_from("<QQ", content, area + 40)
    if start + length <= len(content) - area:
        content[area + 56 : area + 60] = checksum(bytes(content[area + start : area + start + length])).to_bytes(4, "little")
    content[area : area + 4] = checksum(bytes(content[area + 4 : area + 512])).to_bytes(4, "little")
