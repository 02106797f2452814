"""Recognises a disk or a volume by its signatures: every signature that is there, not only the first.

Formatting writes its own signature and leaves others in place, so that a volume may look like several things at once.
The places come from the documentation of each structure; the choice of structures follows util-linux's libblkid.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest import raid
from cowherd.guest.source import Volume

LVM, RAID, SWAP = "LVM", "Linux RAID", "swap space"

Place = int | Callable[[int], int]
"""A byte of a volume. A negative one counts from the end; a function computes it from the volume's size."""
Check = Callable[[Volume, int], bool]
"""Returns whether the structure at a place is what its magic number says, because short magic numbers also occur by chance."""


@dataclass(frozen=True)
class Signature:
    """One magic number, the places that it may lie at, and its meaning.

    `reader` is "module:function" that reads the structure, empty if nothing here does; `package` is what that module needs.
    """

    name: str
    magic: bytes
    places: tuple[Place, ...]
    reader: str = ""
    package: str = ""
    check: Check | None = None

    def spans(self, size: int) -> Iterator[tuple[int, int]]:
        """Yields the (start, end) of the bytes that are compared in a volume of `size` bytes."""
        for place in self.places:
            at = place(size) if callable(place) else place + size if place < 0 else place
            if at >= 0 and at + len(self.magic) <= size:
                yield at, at + len(self.magic)

    def find(self, volume: Volume) -> int | None:
        """Returns the byte of the volume at which the magic number lies, None if it is not there."""
        for start, end in self.spans(volume.size):
            if volume.read(start, end - start) == self.magic and (self.check is None or self.check(volume, start)):
                return start
        return None


@dataclass(frozen=True)
class Seen:
    """A signature, and the byte of the volume at which its magic number lies."""

    signature: Signature
    at: int


def recognised(volume: Volume) -> list[Seen]:
    """Returns all that a volume looks like; the first is believed: partition tables, then RAID, LUKS and LVM, then file systems.

    Swap space is named only if nothing else is: formatting a former swap volume can leave its signature in place.
    """
    found: dict[str, Seen] = {}
    for signature in _SIGNATURES:
        at = signature.find(volume)
        if at is not None:
            found.setdefault(signature.name, Seen(signature, at))
    if len(found) > 1:
        found.pop(SWAP, None)
    return list(found.values())


def marks(size: int) -> Ranges:
    """Returns the bytes of a volume of `size` bytes at which any signature may lie."""
    return extents.ranges(span for signature in _SIGNATURES for span in signature.spans(size))


def _is_sun_label(volume: Volume, _: int) -> bool:
    """Returns whether the words of the label xor to zero: the last one is a checksum made so that they do."""
    total = 0
    for word in struct.unpack("<256H", volume.read(0, 512)):
        total ^= word
    return total == 0


def _has(offset: int, magic: bytes) -> Check:
    """Returns a check that another magic number lies `offset` bytes after the first."""

    def check(volume: Volume, at: int) -> bool:
        start = at + offset
        return start >= 0 and start + len(magic) <= volume.size and volume.read(start, len(magic)) == magic

    return check


def _is_first_superblock(volume: Volume, at: int) -> bool:
    """Returns whether an ext superblock is that of the first group, and not a copy that another file system left behind."""
    # s_block_group_nr, 34 bytes after s_magic, is the group that the copy belongs to.
    return volume.read(at + 34, 2) == bytes(2)


def _is_fat(volume: Volume, at: int) -> bool:
    """Returns whether the numbers of a boot sector are FAT's, as the kernel checks them (fs/fat/inode.c): names are optional."""
    boot = volume.read(at - 510, 512)
    sector, per_cluster, reserved, tables = struct.unpack_from("<HBHB", boot, 11)
    return (
        boot[0] in (0xEB, 0xE9)
        and sector in (512, 1024, 2048, 4096)
        and per_cluster in (1, 2, 4, 8, 16, 32, 64, 128)
        and bool(reserved and tables)
        and (boot[21] == 0xF0 or boot[21] >= 0xF8)
    )


def _is_second_header(volume: Volume, at: int) -> bool:
    """Returns whether LUKS2's second header names its own place."""
    return int.from_bytes(volume.read(at + 256, 8), "big") == at


# Swap space and a suspended system have their signature at the end of the first page, of the size that the machine's pages had.
_PAGES = (4096, 8192, 16384, 32768, 65536)
_SIGNATURES = (
    Signature("a Sun disk label", b"\xda\xbe", (508,), check=_is_sun_label),
    Signature("an SGI disk label", b"\x0b\xe5\xa9\x41", (0,)),
    Signature("a BSD disk label", b"\x57\x45\x56\x82", (512,), check=_has(132, b"\x57\x45\x56\x82")),
    Signature("an Apple partition map", b"PM\0\0", (512,), check=_has(-512, b"ER")),
    Signature("an Amiga rigid disk block", b"RDSK", tuple(range(0, 8192, 512))),
    Signature("LUKS", b"LUKS\xba\xbe", (0,)),
    # LUKS2's first header, with its area of JSON, has 16 KiB to 4 MiB, a power of two; the second lies right behind it.
    Signature("LUKS", b"SKUL\xba\xbe", tuple(0x4000 << shift for shift in range(9)), check=_is_second_header),
    Signature("BitLocker", b"-FVE-FS-", (3,)),
    Signature(RAID, raid.MAGIC, (0, 4096, raid.near_end, raid.old_place), check=raid.is_superblock),
    # These keep their description at the end of the device, so that what they hold may be recognised without them as well.
    *(Signature("DRBD", bytes((0x83, 0x74, 0x02, last)), (-4096 + 60,)) for last in (0x6B, 0x6C, 0x6D)),
    Signature("an Intel RAID volume", b"Intel Raid ISM Cfg Sig. ", (-1024,)),
    Signature("a DDF RAID volume", b"\xde\x11\xde\x11", (-512,)),
    Signature("a GEOM provider", b"GEOM::", (-512,)),
    Signature(LVM, b"LVM2 001", tuple(at + 24 for at in range(0, 2048, 512)), check=_has(-24, b"LABELONE")),
    Signature("bcache", bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"), (4096 + 24,)),
    Signature("bcachefs", bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef"), (4096 + 24,)),
    # The uberblocks of ZFS's first label, in slots of 1 KiB; the number is in the byte order of the machine that wrote it.
    Signature("ZFS", b"\x0c\xb1\xba\0\0\0\0\0", tuple(range(0x20000, 0x40000, 1024))),
    Signature("ZFS", b"\0\0\0\0\0\xba\xb1\x0c", tuple(range(0x20000, 0x40000, 1024))),
    Signature("VMFS", b"\x0d\xd0\x01\xc0", (0x100000,)),
    Signature("ext", b"\x53\xef", (1080,), "cowherd.guest.ext:read_ext", check=_is_first_superblock),
    Signature("NTFS", b"NTFS    ", (3,), "cowherd.guest.ntfs:read_ntfs", "pytsk3"),
    Signature("FAT", b"FAT", (54,), "cowherd.guest.fat:read_fat", "pytsk3"),
    Signature("FAT", b"FAT32", (82,), "cowherd.guest.fat:read_fat", "pytsk3"),
    Signature("FAT", b"\x55\xaa", (510,), "cowherd.guest.fat:read_fat", "pytsk3", check=_is_fat),
    Signature("XFS", b"XFSB", (0,), "cowherd.guest.xfs:read_xfs"),
    Signature("btrfs", b"_BHRfS_M", (65600,), "cowherd.guest.btrfs:read_btrfs"),
    Signature("exFAT", b"EXFAT   ", (3,)),
    Signature("ReFS", b"ReFS\0", (3,)),
    Signature("F2FS", b"\x10\x20\xf5\xf2", (1024,)),
    Signature("ISO 9660", b"CD001", (32769,)),
    # The volume recognition sequence: one descriptor a sector of 2 KiB, and NSR is the one that means UDF (ECMA-167).
    Signature("UDF", b"NSR0", tuple(range(32769, 65536, 2048))),
    Signature("ReiserFS", b"ReIsEr", (8192 + 52, 65536 + 52)),
    Signature("JFS", b"JFS1", (32768,)),
    Signature("HFS+", b"H+\0\4", (1024,)),
    Signature("HFS+", b"HX\0\5", (1024,)),
    Signature("APFS", b"NXSB", (32,)),
    Signature("UFS", b"\x54\x19\x01\0", (8192 + 1372,)),
    Signature("UFS", b"\x19\x01\x54\x19", (65536 + 1372,)),
    Signature("OCFS2", b"OCFSV2", (1024, 2048, 4096, 8192)),
    Signature("GFS2", b"\x01\x16\x19\x70", (65536,)),
    Signature("squashfs", b"hsqs", (0,)),
    Signature("EROFS", b"\xe2\xe1\xf5\xe0", (1024,)),
    *(
        Signature("a suspended system", magic, tuple(page - 10 for page in _PAGES))
        for magic in (b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001")
    ),
    Signature(SWAP, b"SWAPSPACE2", tuple(page - 10 for page in _PAGES)),
)
