"""What the first bytes of a file say of it as a member of a herd: a qcow2 image, which and on what, a seal, or nothing.

Everything here follows from the bytes of one file, so that it can be remembered as long as that file stays as it is.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from cowherd.errors import CowherdError, HostFileError
from cowherd.formats.layer import BackingReference
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.layout import MAGIC
from cowherd.herd.binding import Binding, binding_in
from cowherd.herd.sealfile import SealRecord, read_record
from cowherd.storage.hostfile import HostFile

SMALLEST_IMAGE = 72  # bytes of a version 2 header

Identity = tuple[int, int, int, int, int]
"""What tells one state of a file from another: device, inode, size in bytes, mtime and ctime in nanoseconds."""


class Head(NamedTuple):
    """What the header of a qcow2 image says. `size` in bytes, None where `problem` says why the header can't be trusted."""

    size: int | None
    backing: BackingReference | None = None
    binding: Binding | None = None
    problem: str | None = None
    dirty: bool = False
    corrupt: bool = False


Content = Head | SealRecord | None
"""What is known of a file: None where it is neither a qcow2 image nor a seal."""


class Read(NamedTuple):
    """What a file holds, and its identity just before it was read; None where that does not vouch for what was read."""

    identity: Identity | None
    content: Content


def identity_of(info: os.stat_result) -> Identity:
    """Returns the identity in what stat(2) says."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def read_image(path: str) -> Read:
    """Reads the header of an image, without locks. Raises OSError where the file can't be opened or read."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        identity = identity_of(info)
        large = info.st_size >= SMALLEST_IMAGE if stat.S_ISREG(info.st_mode) else stat.S_ISBLK(info.st_mode)
        if not large or os.pread(fd, len(MAGIC), 0) != MAGIC:
            return Read(identity, None)
        return _header(HostFile(Path(path), fd, writable=False), identity)
    finally:
        os.close(fd)


def _header(file: HostFile, identity: Identity) -> Read:
    try:
        header = read_header(file)
    except HostFileError as error:
        return Read(None, Head(None, problem=str(error)))
    except CowherdError as error:
        return Read(identity, Head(None, problem=str(error)))
    backing = header.backing if header.backing_name else None
    head = Head(header.size, backing, dirty=header.dirty, corrupt=header.corrupt)
    try:
        return Read(identity, head._replace(binding=binding_in(header, file.path)))
    except CowherdError as error:
        return Read(identity, head._replace(problem=str(error)))


def read_seal(path: str) -> Read:
    """Reads the record of a seal. Raises OSError where the file is not there."""
    identity = identity_of(os.stat(path))
    try:
        return Read(identity, read_record(Path(path)))
    except CowherdError:
        return Read(None, None)  # verifying the image reports the damaged seal
