"""Reads from a file's first bytes what it is in a herd: a qcow2 image, with its size and backing file; a seal; or neither.

Everything here follows from the bytes of one file, so that callers can remember it for as long as that file stays as it is.
"""

from __future__ import annotations

import functools
import operator
import os
import stat

from cowherd.errors import CowherdError, HostFileError
from cowherd.formats.qcow2.header import FIRST_READ, Header, parse_header, read_header
from cowherd.formats.qcow2.layout import MAGIC
from cowherd.herd.records.binding import Binding, binding_in, with_binding
from cowherd.herd.records.ownership import is_seal
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.storage.hostfile import HostFile
from cowherd.storage.identity import open_unnoticed
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cowherd.formats.reference import BackingReference

SMALLEST_IMAGE = 72  # bytes of a version 2 header

Identity = tuple[int, int, int, int, int]
"""Tells one state of a file from another: device, inode, size in bytes, mtime and ctime in nanoseconds."""


class Head(NamedTuple):
    """The facts in a qcow2 image's header. `size` is in bytes, None where `problem` says why the header can't be trusted.

    `data_file` is the stored name of the external data file, None if the image itself holds the guest's data.
    """

    size: int | None
    backing: BackingReference | None = None
    binding: Binding | None = None
    problem: str | None = None
    dirty: bool = False
    corrupt: bool = False
    data_file: str | None = None


class DamagedSeal(NamedTuple):
    """A seal whose record can't be read, and why."""

    problem: str


Content = Head | SealRecord | DamagedSeal | None
"""What a file holds: None if it is neither a qcow2 image nor a seal. Caches never keep a `DamagedSeal`: it is read again."""


class Read(NamedTuple):
    """What a file holds, and its identity just before it was read; None where the identity does not vouch for what was read."""

    identity: Identity | None
    content: Content


identity_of: Callable[[os.stat_result], Identity] = operator.attrgetter(
    "st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"
)
"""Returns a file's identity from its stat(2) result."""


def read_image(path: str) -> Read:
    """Reads the header of an image, without locks. Raises OSError where the file can't be opened or read."""
    fd = open_unnoticed(path)
    try:
        info = os.fstat(fd)
        identity = identity_of(info)
        large = info.st_size >= SMALLEST_IMAGE if stat.S_ISREG(info.st_mode) else stat.S_ISBLK(info.st_mode)
        area = os.pread(fd, FIRST_READ, 0) if large else b""
        if not area.startswith(MAGIC):
            return Read(identity, None)
        head = _head_in(area) if len(area) == FIRST_READ else None
        return Read(identity, head) if head else _read_whole_header(HostFile(path, fd, writable=False), identity)
    finally:
        os.close(fd)


class _HeaderLonger(Exception):
    """A header is longer than the bytes that were read first."""


@functools.lru_cache(maxsize=1024)
def _head_in(area: bytes) -> Head | None:
    """Returns what a header says; None if it is longer than `area`, or damaged.

    Remembered, because many overlays of one base have the same header.
    """
    try:
        return _head_of(parse_header(_NO_PATH, area, _refuse_more), _NO_PATH)
    except (_HeaderLonger, CowherdError):
        return None


_NO_PATH = ""


def _refuse_more(_length: int) -> bytes:
    raise _HeaderLonger


def _head_of(header: Header, path: str) -> Head:
    backing = header.backing if header.backing_name else None
    data_file = header.data_file_name if header.external_data_file else None
    return Head(header.size, backing, binding_in(header, path), dirty=header.dirty, corrupt=header.corrupt, data_file=data_file)


def _read_whole_header(file: HostFile, identity: Identity) -> Read:
    try:
        header = read_header(file)
    except HostFileError as error:
        return Read(None, Head(None, problem=str(error)))
    except CowherdError as error:
        return Read(identity, Head(None, problem=str(error)))
    try:
        return Read(identity, _head_of(header, file.name))
    except CowherdError as error:
        return Read(identity, _head_of(with_binding(header, None), file.name)._replace(problem=str(error)))


def read_seal(path: str) -> Read:
    """Reads the record of a seal; a file that only has a seal's name is read as an image. Raises OSError if there is no file."""
    identity = identity_of(os.stat(path))
    try:
        if not is_seal(path):
            return read_image(path)
        return Read(identity, read_record(path))
    except CowherdError as error:
        return Read(None, DamagedSeal(str(error)))  # verifying the image reports it
