"""Guessing a file's format by its first bytes.

Only for files that no guest has written as raw: whoever writes a disk's first bytes chooses what a guess will say.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.storage.hostfile import HostFile

KNOWN = ("qcow2", "raw")
"""The formats that cowherd opens."""

_MAGIC_NUMBERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"Bochs Virtual HD Image", "bochs"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
)
_PROBED_BYTES = 512


def probe(file: HostFile) -> str:
    """Returns the name of the format that the file's first bytes say, "raw" if they say nothing."""
    return probe_bytes(file.pread(0, _PROBED_BYTES))


def probe_bytes(head: bytes) -> str:
    """Returns the name of the format that a file's first 512 bytes say, "raw" if they say nothing."""
    if head[:4] == b"QFI\xfb" and head[4:8] == b"\0\0\0\x01":
        return "qcow"
    return next((name for offset, magic, name in _MAGIC_NUMBERS if head.startswith(magic, offset)), "raw")
