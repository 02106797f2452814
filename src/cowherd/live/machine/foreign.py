"""The files that images of formats other than qcow2 name, and those that a qcow2 image names beside its backing file.

Reads only what decides which files QEMU will open; does not judge the images themselves.
Sources: QEMU's docs/interop/qed_spec.rst and qcow2, block/qcow.c, and VMware's Virtual Disk Format 5.0 for the descriptor.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.errors import CowherdError
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.layout import EXTENSION_DATA_FILE
from cowherd.formats.reference import BackingReference
from cowherd.image.backing import has_protocol
from cowherd.live.machine.paths import local_path
from cowherd.storage.hostfile import HostFile
from cowherd.text import printable

if TYPE_CHECKING:
    from cowherd.paths import PathName

_MOST_BYTES = 1 << 20
_LONGEST_NAME = 1023
_EXTENT = re.compile(rb'^(?:RW|RDONLY|NOACCESS)\s+\d+\s+\w+\s+"([^"\n]+)"', re.MULTILINE)
_PARENT = re.compile(rb'^parentFileNameHint\s*=\s*"([^"\n]+)"', re.MULTILINE)
_PARENT_ID = re.compile(rb"^parentCID\s*=\s*(\w+)", re.MULTILINE)
_NO_PARENT = b"ffffffff"


@dataclass(frozen=True)
class Named:
    """The files that an image names: `backing`, if the herd does not read it, and `parts`, which hold bytes of the image itself.

    `unknown` says which part is not understood.
    """

    backing: BackingReference | None = None
    parts: tuple[Path, ...] = ()
    unknown: str = ""


def named_by(path: Path, image_format: str, directory: PathName) -> Named:
    """Returns the files that an image of a format names, for a QEMU that runs in `directory`.

    An image that can't be parsed names nothing: QEMU will not open it either.

    Raises `HostFileError` for an image that can't be read.
    """
    reader = _READERS.get(image_format)
    if reader is None:
        return Named()
    with HostFile.open(path, lock=None) as file:
        try:
            return reader(path, file, directory)
        except OverflowError:
            return Named()  # its header names an offset that no file can have


def _qcow2(_path: Path, file: HostFile, directory: PathName) -> Named:
    try:
        header = read_header(file)
    except CowherdError:
        return Named()  # the check of its chain reports the fault
    data = header.extension(EXTENSION_DATA_FILE) if header.external_data_file else None
    if not data:
        return Named()
    name = os.fsdecode(data).removeprefix("file:")
    if has_protocol(name):
        return Named(unknown=f"its external data file {printable(name)} is not followed")
    return Named(parts=(local_path(name, directory),))  # relative to QEMU's directory, and not to the image's


def _qcow(_path: Path, file: HostFile, _directory: object) -> Named:
    offset, length = struct.unpack(">QI", file.pread(8, 12))
    return Named(_reference(file, offset, length, None))


def _qed(_path: Path, file: HostFile, _directory: object) -> Named:
    (features,) = struct.unpack("<Q", file.pread(16, 8))
    offset, length = struct.unpack("<II", file.pread(56, 8))
    return Named(_reference(file, offset, length, "raw" if features & 4 else None) if features & 1 else None)


def _reference(file: HostFile, offset: int, length: int, image_format: str | None) -> BackingReference | None:
    if not offset or not 0 < length <= _LONGEST_NAME:
        return None
    return BackingReference(os.fsdecode(file.pread(offset, length)), image_format)


def _vmdk(path: Path, file: HostFile, _directory: object) -> Named:
    head = file.pread(0, 512)
    if head.startswith(b"KDMV"):
        sector, sectors = struct.unpack_from("<QQ", head, 28)
        text = file.pread(sector * 512, min(sectors * 512, _MOST_BYTES)) if sector else b""
    else:
        text = file.pread(0, _MOST_BYTES) if head.startswith(b"# Disk DescriptorFile") else b""
    text = text.partition(b"\0")[0].replace(b"\r\n", b"\n")
    parent, identity = _PARENT.search(text), _PARENT_ID.search(text)
    backing = None
    if parent and not (identity and identity[1].lower() == _NO_PARENT):
        backing = BackingReference(os.fsdecode(parent[1]), "vmdk")
    extents = [] if head.startswith(b"KDMV") else _EXTENT.findall(text)
    return Named(backing, tuple(local_path(os.fsdecode(name), path.parent) for name in extents))


_READERS = {"qcow2": _qcow2, "qcow": _qcow, "qed": _qed, "vmdk": _vmdk}
