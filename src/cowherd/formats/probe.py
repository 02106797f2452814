"""Guesses a file's format from its first bytes, as QEMU does (the `bdrv_probe` functions under its block/).

A guess is only safe for files that no guest has written as raw: a guest that writes a disk's first bytes chooses the result.
"""

from __future__ import annotations

from cowherd.formats.registry import FORMATS, UNRECOGNISED
from cowherd.sizes import whole_sectors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.storage.blocks import BlockFile

PROBED_BYTES = 512
"""QEMU looks at this many bytes of a file's start."""

TAIL_BYTES = 1023
"""The trailer of a dmg image lies in this many bytes of a file's end, the last sector counted as whole."""

_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"QFI\xfb\0\0\0\x01", "qcow"),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"LUKS\xba\xbe\0\x01", "luks"),  # only guests read version 2: to QEMU it is a raw disk's content
    (0, b"Bochs Virtual HD Image", "bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop ", "cloop"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
)
"""What QEMU knows and cowherd does not open, as (offset, magic, name); each format of the registry recognises its own images."""
_DESCRIPTOR_VERSIONS = (b"version=1", b"version=2", b"version=3")
_DMG_TRAILER = b"koly"
_DMG_SUFFIX = ".dmg"


def probe(file: BlockFile) -> str:
    """Returns the name of the format that the file's first bytes indicate, "raw" if they indicate none.

    A file is a dmg image if its last bytes say so or, as for QEMU, its name.
    """
    found = probe_bytes(file.pread(0, PROBED_BYTES))
    if found != UNRECOGNISED:
        return found
    size = file.size()
    begin = max(0, whole_sectors(size) - TAIL_BYTES)
    named = size and str(file.name).endswith(_DMG_SUFFIX)
    return "dmg" if named or has_dmg_trailer(file.pread(begin, size - begin), size) else UNRECOGNISED


def probe_bytes(head: bytes) -> str:
    """Returns the name of the format that a file's first 512 bytes indicate, "raw" if they indicate none."""
    for format in FORMATS.values():
        if format.recognise(head):
            return format.name
    found = next((name for offset, magic, name in _FOREIGN if head.startswith(magic, offset)), None)
    return found or ("vmdk" if _is_vmdk_descriptor(head) else UNRECOGNISED)


def has_dmg_trailer(tail: bytes, size: int) -> bool:
    """Returns whether a file of `size` bytes ends as a dmg image does. `tail` is its last `TAIL_BYTES` bytes, or all.

    QEMU accepts a trailer that begins anywhere in the last two sectors.
    """
    begin = max(0, whole_sectors(size) - TAIL_BYTES) - (size - len(tail))
    return _DMG_TRAILER in tail[max(0, begin) : begin + 515]


def _is_vmdk_descriptor(head: bytes) -> bool:
    """Returns whether a text states its version as a VMDK descriptor does: after nothing but comments and lines of blanks."""
    rest = head[:PROBED_BYTES]
    while rest[:1] in (b"#", b" "):
        line, newline, rest = rest.partition(b"\n")
        if not newline or not (line.startswith(b"#") or line.removesuffix(b"\r").strip(b" ") == b""):
            return False
    line, newline, _ = rest.partition(b"\n")
    return bool(newline) and line.removesuffix(b"\r") in _DESCRIPTOR_VERSIONS
