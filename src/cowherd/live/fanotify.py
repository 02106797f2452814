"""fanotify(7): the kernel's notices of writes and renames, with the process that did it. Needs CAP_SYS_ADMIN and Linux 5.9.

Marks are set on single inodes: the bases, their seals, and the directories that hold them. A mark on a whole file system would
give a notice of every write of every machine on it. Events name objects by file handle (FAN_REPORT_FID): then no event opens a
descriptor, and renames and removals come with their process, too. A file system without file handles refuses the mark.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from cowherd.live.notices import Notice, What

_CLOEXEC, _NONBLOCK, _UNLIMITED_QUEUE, _UNLIMITED_MARKS = 0x1, 0x2, 0x10, 0x20
_REPORT_FID, _REPORT_DIR_FID, _REPORT_NAME = 0x200, 0x400, 0x800
_MARK_ADD, _MARK_ONLYDIR = 0x1, 0x8
_ATTRIB, _MODIFY, _CLOSE_WRITE, _OPEN = 0x4, 0x2, 0x8, 0x20
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_Q_OVERFLOW, _ONDIR = 0x4000, 0x40000000
_OF_FILES = {_OPEN: What.OPENED, _MODIFY: What.WRITTEN, _CLOSE_WRITE: What.CLOSED, _ATTRIB: What.ATTRIBUTES}
_OF_NAMES = {_DELETE: What.VANISHED, _MOVED_FROM: What.VANISHED, _CREATE: What.APPEARED, _MOVED_TO: What.APPEARED}

_EVENT = struct.Struct("=IBxHQii")  # fanotify_event_metadata: length, version, length of this, mask, descriptor, process
_INFO = struct.Struct("=BxH")  # fanotify_event_info_header: type, length
_HANDLE = struct.Struct("=8sIi")  # fsid, then file_handle: length, type
_INFO_FID, _INFO_DFID_NAME = 1, 2
_VERSION = 3
_BUFFER = 256 << 10
_MAX_HANDLE = 128
_AT_FDCWD, _AT_SYMLINK_FOLLOW = -100, 0x400

_FileHandle = tuple[bytes, int, bytes]
"""The object of an event: the file system's id, the handle's type, the handle."""


class _KernelHandle(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * _MAX_HANDLE))


_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    result = int(getattr(_libc, name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Fanotify:
    """A fanotify group with a mark on each watched file and directory. Raises OSError if this process may not have one."""

    names_processes = True

    def __init__(self) -> None:
        flags = _CLOEXEC | _NONBLOCK | _UNLIMITED_QUEUE | _UNLIMITED_MARKS | _REPORT_FID | _REPORT_DIR_FID | _REPORT_NAME
        self._fd = _call("fanotify_init", ctypes.c_uint(flags), ctypes.c_uint(os.O_RDONLY | os.O_CLOEXEC))
        self._paths: dict[_FileHandle, Path] = {}

    def fileno(self) -> int:
        """The descriptor that becomes readable when there are notices."""
        return self._fd

    def add_file(self, path: Path) -> None:
        """Watches the file that `path` leads to now. Raises OSError, for one if its file system has no file handles."""
        self._mark(path, sum(_OF_FILES), 0)

    def add_directory(self, path: Path) -> None:
        """Watches which names appear and vanish in a directory. Raises OSError as `add_file`."""
        self._mark(path, sum(_OF_NAMES) | _ONDIR, _MARK_ONLYDIR)

    def _mark(self, path: Path, mask: int, flags: int) -> None:
        handle = _handle_of(path)
        name = ctypes.c_char_p(os.fsencode(path))
        _call("fanotify_mark", self._fd, ctypes.c_uint(_MARK_ADD | flags), ctypes.c_uint64(mask), _AT_FDCWD, name)
        self._paths[handle] = path

    def read(self) -> list[Notice]:
        """Returns the pending notices, without waiting."""
        notices: list[Notice] = []
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return notices
            start = 0
            while start < len(data):
                length, version, head, mask, _, pid = _EVENT.unpack_from(data, start)
                if version != _VERSION:
                    raise OSError(f"the kernel speaks version {version} of fanotify, not {_VERSION}")
                notices += self._understood(mask, pid, data[start + head : start + length])
                start += length

    def _understood(self, mask: int, pid: int, records: bytes) -> list[Notice]:
        if mask & _Q_OVERFLOW:
            return [Notice(What.OVERFLOW, None)]
        objects = _objects(records)
        whats = {_OF_NAMES[bit] for bit in _OF_NAMES if mask & bit}
        if whats and _INFO_DFID_NAME in objects:
            handle, name = objects[_INFO_DFID_NAME]
            directory = self._paths.get(handle)
            return [Notice(what, directory / os.fsdecode(name), pid, bool(mask & _ONDIR)) for what in whats] if directory else []
        path = self._paths.get(objects[_INFO_FID][0]) if _INFO_FID in objects else None
        return [Notice(what, path, pid) for bit, what in _OF_FILES.items() if mask & bit] if path else []

    def close(self) -> None:
        """Ends all watches."""
        os.close(self._fd)


def _objects(records: bytes) -> dict[int, tuple[_FileHandle, bytes]]:
    """Returns the objects in the information records of an event, by the records' type, each with a name in it or b""."""
    found: dict[int, tuple[_FileHandle, bytes]] = {}
    start = 0
    while start < len(records):
        kind, length = _INFO.unpack_from(records, start)
        if kind in (_INFO_FID, _INFO_DFID_NAME):
            fsid, size, handle_type = _HANDLE.unpack_from(records, start + _INFO.size)
            body = start + _INFO.size + _HANDLE.size
            name = records[body + size : start + length].split(b"\0", 1)[0]
            found[kind] = (fsid, handle_type, records[body : body + size]), name
        start += length
    return found


def _handle_of(path: Path) -> _FileHandle:
    """Returns the handle by which events name the file or directory at `path` (name_to_handle_at(2), statfs(2))."""
    handle, mount = _KernelHandle(bytes=_MAX_HANDLE), ctypes.c_int()
    name = ctypes.c_char_p(os.fsencode(path))
    _call("name_to_handle_at", _AT_FDCWD, name, ctypes.byref(handle), ctypes.byref(mount), _AT_SYMLINK_FOLLOW)
    fsid = struct.pack("=Q", os.statvfs(path).f_fsid & (1 << 64) - 1)
    return fsid, int(handle.type), bytes(handle.handle[: handle.bytes])
