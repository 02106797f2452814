"""What the heads of images say that cowherd does not read: how large the disk is, and whether it leads to other files.

Sources: Virtual Disk Format 5.0 (VMDK), the specifications of VHD and VHDX, VirtualBox's header of VDI images, ECMA-119 (ISO). No
name in an image is ever followed.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable
from pathlib import Path

from cowherd.service.intake.faults import Refused
from cowherd.storage.hostfile import HostFile

SECTOR = 512
_MOST_DESCRIPTOR = 1 << 20

_VMDK_TYPES = ("monolithicSparse", "streamOptimized")
_VMDK_HEAD = struct.Struct("<4sIIQQQQIQQ")
_VMDK_AT_END = (1 << 64) - 1
_EXTENT = re.compile(rb'^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\S+)(?:\s+"([^"]*)")?', re.IGNORECASE | re.MULTILINE)
_CREATE_TYPE = re.compile(rb'^\s*createType\s*=\s*"([^"]*)"', re.IGNORECASE | re.MULTILINE)
_PARENT = re.compile(rb"^\s*parentFileNameHint\s*=", re.IGNORECASE | re.MULTILINE)
_PARENT_ID = re.compile(rb"^\s*parentCID\s*=\s*(?!f{8}\s*$)", re.IGNORECASE | re.MULTILINE)

_VHD_FIXED, _VHD_DYNAMIC = 2, 3
_VDI_DYNAMIC, _VDI_FIXED = 1, 2

_REGIONS, _REGION_BYTES = 192 << 10, 64 << 10
_METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
_DISK_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8").bytes_le
_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le
_HAS_PARENT = 2
_MOST_ENTRIES = 2047


def virtual_size_of(path: Path, format: str, most: int) -> int | None:
    """Returns the bytes of the disk that a stored image of `format` holds, None if its head does not say.

    Raises `Refused` for an image that needs other files, or whose disk has more than `most` bytes; `HostFileError`.
    """
    examine = _EXAMINERS.get(format)
    if examine is None:
        return None
    with HostFile.open(path, lock=None, follow=False) as file:
        size = examine(file)
    if not 0 <= size <= most:
        raise Refused("virtual-size", f"a disk of {size} bytes; at most {most} are let through")
    return size


def _of_vmdk(file: HostFile) -> int:
    head = file.pread(0, SECTOR)
    magic, _, _, capacity, _, place, length, _, _, directory = _VMDK_HEAD.unpack_from(head)
    if magic != b"KDMV":
        raise Refused("vmdk-type", "its data lies in other files")
    if not capacity:
        raise Refused("vmdk-type", "its header states no capacity, so that its extents would be followed")
    if directory == _VMDK_AT_END:
        _check_vmdk_footer(file, head)
    if not 0 < length * SECTOR <= _MOST_DESCRIPTOR or (place + length) * SECTOR > file.size():
        raise Refused("vmdk-descriptor", f"{length} sectors at sector {place} of a file of {file.size()} bytes")
    _check_vmdk_descriptor(file.pread(place * SECTOR, length * SECTOR))
    return int(capacity) * SECTOR


def _check_vmdk_footer(file: HostFile, head: bytes) -> None:
    """Checks that the header at a stream's end, which is read instead of the first one, differs only in where the tables lie."""
    footer = file.pread(max(0, file.size() - 2 * SECTOR), SECTOR)
    if footer[:48] != head[:48]:
        raise Refused("vmdk-footer", "the header at its end differs from the first one")


def _check_vmdk_descriptor(data: bytes) -> None:
    text = data.split(b"\0", 1)[0]
    types = [found.decode("ascii", "replace") for found in _CREATE_TYPE.findall(text)]
    if len(types) != 1 or types[0] not in _VMDK_TYPES:
        raise Refused(
            "vmdk-type", f"its type is {' and '.join(map(ascii, types)) or 'not stated'}, not {' or '.join(_VMDK_TYPES)}"
        )
    if _PARENT.search(text) or _PARENT_ID.search(text):
        raise Refused("backing-file", "its descriptor names a parent")
    extents = _EXTENT.findall(text)
    if len(extents) != 1 or extents[0][0].upper() != b"SPARSE" or b"/" in extents[0][1]:
        raise Refused("vmdk-descriptor", f"{len(extents)} extents are named; one, sparse and in the same file, is let through")


def _of_vhd(file: HostFile) -> int:
    head = file.pread(0, SECTOR)
    if not head.startswith(b"conectix"):
        head = file.pread(max(0, file.size() - SECTOR), SECTOR)
    (size,), (kind,) = struct.unpack_from(">Q", head, 48), struct.unpack_from(">I", head, 60)
    if kind not in (_VHD_FIXED, _VHD_DYNAMIC):
        raise Refused("backing-file", f"it is a VHD of type {kind}; fixed and dynamic ones are let through")
    return int(size)


def _of_vdi(file: HostFile) -> int:
    head = file.pread(0, SECTOR)
    (kind,), (size,) = struct.unpack_from("<I", head, 76), struct.unpack_from("<Q", head, 368)
    if kind not in (_VDI_DYNAMIC, _VDI_FIXED):
        raise Refused("backing-file", f"it is a VDI of type {kind}; fixed and dynamic ones are let through")
    return int(size)


def _of_vhdx(file: HostFile) -> int:
    regions = file.pread(_REGIONS, _REGION_BYTES)
    (count,) = struct.unpack_from("<I", regions, 8)
    place = _entry(regions, 16, count, _METADATA)
    if not regions.startswith(b"regi") or place is None:
        raise Refused("vhdx-metadata", "it has no region of metadata")
    (begin,) = struct.unpack_from("<Q", regions, place)
    if begin >= file.size():
        raise Refused("vhdx-metadata", f"its metadata is to lie at {begin:#x}, and the file has {file.size()} bytes")
    return _in_vhdx_metadata(file, begin)


def _in_vhdx_metadata(file: HostFile, begin: int) -> int:
    table = file.pread(begin, _REGION_BYTES)
    (count,) = struct.unpack_from("<H", table, 10)
    places = [_entry(table, 32, count, item) for item in (_DISK_SIZE, _PARAMETERS)]
    if not table.startswith(b"metadata") or places[0] is None or places[1] is None:
        raise Refused("vhdx-metadata", "it states no disk size")
    size, parameters = (file.pread(begin + struct.unpack_from("<I", table, place)[0], 8) for place in places if place)
    if struct.unpack("<II", parameters)[1] & _HAS_PARENT:
        raise Refused("backing-file", "it is a differencing VHDX")
    return int.from_bytes(size, "little")


def _entry(table: bytes, first: int, count: int, identifier: bytes) -> int | None:
    """Returns where the fields behind the entry with a GUID lie in a table of entries of 32 bytes, None if it has none."""
    for place in range(first, min(first + min(count, _MOST_ENTRIES) * 32, len(table) - 31), 32):
        if table.startswith(identifier, place):
            return place + 16
    return None


def _of_disc(file: HostFile) -> int:
    descriptor = file.pread(0x8000, 2048)
    if not descriptor.startswith(b"CD001", 1):
        return file.size()
    (blocks,), (length,) = struct.unpack_from("<I", descriptor, 80), struct.unpack_from("<H", descriptor, 128)
    return int(blocks) * int(length)


_EXAMINERS: dict[str, Callable[[HostFile], int]] = {
    "vmdk": _of_vmdk,
    "vhd": _of_vhd,
    "vdi": _of_vdi,
    "vhdx": _of_vhdx,
    "iso": _of_disc,
}
