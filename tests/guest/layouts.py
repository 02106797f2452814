"""Disks on which something older was left behind, each with an ext4 file system in use, made by the tools that leave it.

What the kernel of a guest takes from such a disk is the file system at `Layout.start`.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.guest import truth
from tests.guest.lvm import lvm_on
from tests.guest.truth import Kind
from tests.storage.hosts import run

MIB = 1 << 20
SIZE, START = 24 * MIB, MIB
FILE_SYSTEM_BYTES = 12 * MIB

LAYOUTS: dict[str, Callable[[Path], int]] = {}
"""What makes each layout of a sparse file of `SIZE` bytes, and returns where its file system lies."""


def layout(make: Callable[[Path], int]) -> Callable[[Path], int]:
    """Puts a function in the table, by its name."""
    LAYOUTS[make.__name__.replace("_", " ")] = make
    return make


def make_file_system(raw: Path, start: int) -> None:
    """Makes the file system that is in use."""
    run("mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={start}", raw, f"{FILE_SYSTEM_BYTES // 1024}k")


def make_old(raw: Path, kind: str | Kind) -> None:
    """Makes the file system that will be left behind, on the whole disk."""
    command = truth.EXT4.make if kind == "ext4" else kind.make if isinstance(kind, Kind) else kind.split()
    truth.require(next(word for word in command if word.startswith("mk")))
    run(*command, raw)


def partition(raw: Path, script: str, *options: str) -> None:
    """Writes a partition table, which leaves all other bytes as they are."""
    truth.require("sfdisk")
    command = ["sfdisk", "-q", "--no-reread", "--wipe", "never", *options, str(raw)]
    subprocess.run(command, input=script, text=True, check=True, capture_output=True)


def patch(raw: Path, at: int, data: bytes) -> None:
    """Overwrites bytes, from the end if `at` is negative."""
    with raw.open("r+b") as file:
        file.seek(at, 2 if at < 0 else 0)
        file.write(data)


def boot_record(*entries: tuple[int, int, int]) -> bytes:
    """Returns the end of an MBR, from byte 446 on, with (type, first sector, sectors) entries."""
    packed = b"".join(struct.pack("<4xB3xII", *entry) for entry in entries)
    return packed.ljust(64, b"\0") + b"\x55\xaa"


def raid_superblock(at: int, *, level: int = 1, disks: int = 2, data: tuple[int, int]) -> bytes:
    """Returns what mdadm writes for version 1 (md_p.h, struct mdp_superblock_1), the checksum included."""
    block = bytearray(256 + 2 * 128)
    struct.pack_into("<II", block, 0, 0xA92B4EFC, 1)
    block[16:32] = b"identity of md-1"
    struct.pack_into("<iIQII", block, 72, level, 0, data[1] // 512, 0, disks)
    struct.pack_into("<QQQ", block, 128, data[0] // 512, data[1] // 512, at // 512)
    struct.pack_into("<I", block, 220, 128)
    words = sum(struct.unpack(f"<{len(block) // 4}I", block))
    struct.pack_into("<I", block, 216, (words + (words >> 32)) & 0xFFFFFFFF)
    return bytes(block).ljust(4096, b"\0")


def old_raid_superblock() -> bytes:
    """Returns a superblock of version 0.90 for a mirror of two."""
    return struct.pack("<8I i 3I", 0xA92B4EFC, 0, 90, 0, 0, 7, 0, 1, 1, 0, 2, 2).ljust(4096, b"\0")


@layout
def ext4_then_mbr(raw: Path) -> int:
    make_old(raw, "ext4")
    partition(raw, f"label: dos\nstart={START // 512}, type=83\n")
    return START


@layout
def ext4_then_mbr_of_old_geometry(raw: Path) -> int:
    make_old(raw, "ext4")
    partition(raw, "label: dos\nunit: sectors\nstart=63, type=83, bootable\n")
    return 63 * 512


@layout
def ext4_then_logical_partitions(raw: Path) -> int:
    make_old(raw, "ext4")
    partition(raw, "label: dos\nsize=2M\ntype=f\nsize=1M\nsize=13M\n")
    listed = run("sfdisk", "-d", raw).splitlines()
    return int(listed[-1].split("start=")[1].split(",")[0]) * 512


@layout
def ext4_then_a_chain_of_logical_partitions_that_breaks(raw: Path) -> int:
    start = ext4_then_mbr(raw)
    patch(raw, 446, boot_record((0x83, start // 512, 13 * MIB // 512), (0x0F, 15 * MIB // 512, 8 * MIB // 512)))
    patch(raw, 15 * MIB, b"no record")
    return start


@layout
def ext4_then_partitions_that_end_past_the_disk(raw: Path) -> int:
    start = ext4_then_mbr(raw)
    patch(raw, 446, boot_record((0x83, start // 512, 100 * MIB // 512), (0x83, 200 * MIB // 512, 2048)))
    return start


@layout
def ext4_then_partitions_that_overlap(raw: Path) -> int:
    start = ext4_then_mbr(raw)
    patch(raw, 446, boot_record((0x83, start // 512, 13 * MIB // 512), (0x83, 2 * MIB // 512, 20 * MIB // 512)))
    return start


@layout
def ext4_then_mbr_in_sectors_of_4096(raw: Path) -> int:
    make_old(raw, "ext4")
    patch(raw, 446, boot_record((0x83, 4 * MIB // 4096, 14 * MIB // 4096)))
    return 4 * MIB


@layout
def ext4_then_a_sun_label(raw: Path) -> int:
    make_old(raw, "ext4")
    partition(raw, "label: sun\n")
    return 8 * MIB


@layout
def ext4_then_an_sgi_label(raw: Path) -> int:
    make_old(raw, "ext4")
    partition(raw, "label: sgi\n")
    return 8 * MIB


@layout
def ext4_then_a_bsd_label(raw: Path) -> int:
    start = ext4_then_mbr(raw)
    old = raw.with_name("old")
    old.write_bytes(bytes(14 * MIB))
    make_old(old, "ext4")
    patch(raw, start, old.read_bytes()[: 64 * 1024])
    old.unlink()
    patch(raw, start + 512, struct.pack("<I128xI", 0x82564557, 0x82564557))
    return start + 2 * MIB


@layout
def ext4_then_a_table_inside_of_a_partition(raw: Path) -> int:
    start = ext4_then_a_bsd_label(raw)
    patch(raw, START + 512, bytes(136))
    patch(raw, START + 446, boot_record((0x83, 2 * MIB // 512, 13 * MIB // 512)))
    return start + 2 * MIB


@layout
def ext4_then_a_raid_of_version_1_2(raw: Path) -> int:
    make_old(raw, "ext4")
    patch(raw, 4096, raid_superblock(4096, data=(2 * MIB, 20 * MIB)))
    return 2 * MIB


@layout
def ext4_then_a_raid_of_several_disks(raw: Path) -> int:
    make_old(raw, "ext4")
    patch(raw, 4096, raid_superblock(4096, level=-1, data=(2 * MIB, 20 * MIB)))
    return 2 * MIB


@layout
def a_raid_of_version_1_0_left_behind(raw: Path) -> int:
    start, at = ext4_then_mbr(raw), SIZE - 8192
    patch(raw, at, raid_superblock(at, data=(0, at)))
    return start


@layout
def a_raid_of_version_0_90_over_all(raw: Path) -> int:
    patch(raw, SIZE - 65536, old_raid_superblock())
    return 0


@layout
def ext4_then_lvm(raw: Path) -> int:
    with lvm_on(raw) as lvm:
        lvm("vgcreate", "vg", *lvm.devices)
        lvm.create("root", "-L", "16M")
        start = lvm.segments("root")[0][0]
    old = raw.with_name("old")
    old.write_bytes(bytes(SIZE))
    make_old(old, "ext4")
    patch(raw, 1024, old.read_bytes()[1024:4096])  # label and metadata lie on both sides
    old.unlink()
    return start


@layout
def lvm_then_mbr(raw: Path) -> int:
    with lvm_on(raw) as lvm:
        lvm("pvcreate", *lvm.devices)
    partition(raw, f"label: dos\nstart={START // 512}, type=83\n")
    return START


@layout
def fat_then_mbr(raw: Path) -> int:
    make_old(raw, "mkfs.fat -F 16")
    partition(raw, f"label: dos\nstart={START // 512}, type=83\n")
    return START


@layout
def ntfs_then_mbr(raw: Path) -> int:
    make_old(raw, "mkfs.ntfs -q -F")
    patch(raw, 446, bytes(64))  # boot code stands there
    partition(raw, f"label: dos\nstart={START // 512}, type=83\n")
    return START


@layout
def xfs_then_mbr(raw: Path) -> int:
    make_old(raw, truth.XFS)
    partition(raw, f"label: dos\nstart={START // 512}, type=83\n")
    return START


@layout
def swap_then_mbr(raw: Path) -> int:
    make_old(raw, "mkswap -q")
    partition(raw, f"label: dos\nstart={START // 512}, type=83\n")
    return START


@layout
def btrfs_then_gpt(raw: Path) -> int:
    make_old(raw, truth.BTRFS)
    partition(raw, f"label: gpt\nstart={START // 512}\n")
    return START


@layout
def gpt_then_mbr(raw: Path) -> int:
    make_old(raw, "ext4")
    partition(raw, "label: gpt\nstart=2048, size=4M\n")
    patch(raw, 0, bytes(17 * 1024))  # the copy at the end stays
    partition(raw, f"label: dos\nstart={START // 512}, type=83\n")
    return START


@layout
def a_gpt_whose_first_header_is_damaged(raw: Path) -> int:
    partition(raw, f"label: gpt\nstart={START // 512}\n")
    patch(raw, 512 + 24, b"\xff")
    return START


@layout
def a_gpt_that_is_gone_but_for_its_protective_mbr(raw: Path) -> int:
    partition(raw, f"label: gpt\nstart={START // 512}\n")
    patch(raw, 512, bytes(512))
    patch(raw, -512, bytes(512))
    return 0


@layout
def a_hybrid_mbr(raw: Path) -> int:
    partition(raw, "label: gpt\nstart=32768\n")
    patch(raw, 446, boot_record((0x83, START // 512, 13 * MIB // 512), (0xEE, 1, 2047)))
    return START


@layout
def a_gpt_in_sectors_of_4096(raw: Path) -> int:
    partition(raw, "label: gpt\nsector-size: 4096\nstart=1024\n")
    return 4 * MIB
