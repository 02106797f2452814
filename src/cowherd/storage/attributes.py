"""The attributes of a file: owner, group, mode, access lists, extended attributes, labels, flags, times.

A new file that takes an old one's place gets them in an order in which nobody ever has more rights than in the end: it is made
with mode 0600, then come the attributes that only its owner may set, the owner and the group, the access list, and last the mode.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import stat
import struct

from cowherd.errors import HostFileError
from cowherd.storage.losses import Lost
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from cowherd.paths import PathName

ACCESS_LIST = "system.posix_acl_access"
CAPABILITIES = "security.capability"

_ACL_VERSION = struct.pack("<I", 2)
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_GROUP, _ACL_MASK = 0x04, 0x10
_PERMISSIONS = 0o7

_OF_THE_CONTENT = ("security.ima", "security.evm")
"""Checksums of a file's bytes and of its attributes, which the kernel keeps; those of one file are wrong for another."""
_RECORDED = (ACCESS_LIST, "security.selinux")
_LONGEST_RECORDED = 4096
_LARGEST_ID = 2**32 - 2

_GETFLAGS, _SETFLAGS = (0x80086601, 0x40086602) if array.array("l").itemsize == 8 else (0x80046601, 0x40046602)
_FOLLOWING_FLAGS = 0x00800000 | 0x00000400 | 0x00000080 | 0x00000040 | 0x00000008 | 0x00000004
"""No copy-on-write, never compressed, no access time, no dump, synchronous, compressed. `protection` handles immutable."""
_NO_COPY_ON_WRITE = 0x00800000
_FSGETXATTR, _FSSETXATTR = 0x801C581F, 0x401C5820
_FSXATTR = struct.Struct("=IIIII8x")
_PROJECT = 3  # the index of fsx_projid in it


class Attributes(NamedTuple):
    """The attributes of a file.

    `extended` are its extended attributes, access list and labels included. `flags` are the chattr flags that a copy should have.
    `project` is the id by which quotas count the file; it belongs to the file system `device`. Times are in nanoseconds.
    """

    owner: int
    group: int
    mode: int
    extended: tuple[tuple[str, bytes], ...] = ()
    flags: int = 0
    project: int = 0
    device: int = 0
    atime_ns: int = 0
    mtime_ns: int = 0

    @classmethod
    def of(cls, path_or_fd: PathName | int) -> Self:
        """Returns the attributes of a file, symbolic links followed, or of an open descriptor. Raises `HostFileError`."""
        if isinstance(path_or_fd, int):
            return cls._of(path_or_fd, f"file descriptor {path_or_fd}")
        try:
            fd = os.open(path_or_fd, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise HostFileError(path_or_fd, "open", error) from error
        try:
            return cls._of(fd, path_or_fd)
        finally:
            os.close(fd)

    @classmethod
    def _of(cls, fd: int, name: PathName) -> Self:
        try:
            info = os.fstat(fd)
            extended = tuple(_extended(fd))
        except OSError as error:
            raise HostFileError(name, "look at the attributes of", error) from error
        return cls(
            info.st_uid,
            info.st_gid,
            stat.S_IMODE(info.st_mode),
            extended,
            _flags(fd) & _FOLLOWING_FLAGS,
            _project(fd),
            info.st_dev,
            info.st_atime_ns,
            info.st_mtime_ns,
        )

    @property
    def recorded(self) -> Self:
        """The part that a record keeps: who may use the file, apart from its mode, and its label."""
        kept = tuple((name, value) for name, value in self.extended if name in _RECORDED and len(value) <= _LONGEST_RECORDED)
        return type(self)(self.owner, self.group, 0, kept)

    def to_dict(self) -> dict[str, object]:
        """Returns what `recorded` has, for JSON."""
        return {"owner": self.owner, "group": self.group, "extended": {name: value.hex() for name, value in self.extended}}

    @classmethod
    def from_dict(cls, facts: Mapping[str, object]) -> Self:
        """Reads the result of `to_dict` of a `recorded` one. Raises ValueError if it makes no sense, or holds more than that."""
        extended = facts.get("extended")
        if not isinstance(extended, dict) or not set(extended) <= set(_RECORDED):
            raise ValueError("the extended attributes are not those that a record may hold")
        pairs = tuple((name, _value(value)) for name, value in extended.items())
        return cls(_number(facts, "owner"), _number(facts, "group"), 0, pairs)


def mode_before(now: int, recorded: int) -> int:
    """Returns the mode that a protected file had, from its mode `now` and the `recorded` one: only readers may write again.

    The record may be forged, so it can give the write bit back only to those who have the read bit, and nothing else.
    """
    return now & 0o777 | recorded & 0o222 & (now & 0o444) >> 1


def give_first(fd: int, attributes: Attributes) -> tuple[Lost, ...]:
    """Sets the attributes that a file can get only while it is empty: no copy-on-write (btrfs). Returns what it could not get."""
    wanted = attributes.flags & _NO_COPY_ON_WRITE
    if not wanted or _flags(fd) & wanted:
        return ()
    return _tried("the attribute +C (no copy-on-write)", lambda: _set_flags(fd, _flags(fd) | wanted))


def give(fd: int, attributes: Attributes, *, times: bool = False) -> tuple[Lost, ...]:
    """Gives the open file, which only its maker may use (mode 0600), these attributes; returns those that it could not get.

    `times` is for the same disk in another place; new content has times of its own. If the file can't get the group, the group
    that it has gets no rights in its place. If the file can't get the access list, nobody gets rights that only the list's mask
    seems to give.
    """
    if os.fstat(fd).st_mode & 0o077:  # an earlier call was interrupted
        os.fchmod(fd, os.fstat(fd).st_mode & 0o700)
    named = dict(attributes.extended)
    access, capabilities = named.pop(ACCESS_LIST, None), named.pop(CAPABILITIES, None)
    lost = [*_drop_inherited_list(fd)]
    for name, value in named.items():
        lost += _tried(f"the attribute {name}", lambda name=name, value=value: _set(fd, name, value))  # type: ignore[misc]
    lost += _give_owner(fd, attributes)
    lost += _give_rights(fd, attributes, access)
    if capabilities is not None and _is_owned(fd, attributes):
        lost += _tried(f"the attribute {CAPABILITIES}", lambda: _set(fd, CAPABILITIES, capabilities))
    lost += _give_flags(fd, attributes)
    if times:
        lost += _tried("its times", lambda: os.utime(fd, ns=(attributes.atime_ns, attributes.mtime_ns)))
    return tuple(lost)


def give_to(path: PathName, attributes: Attributes, *, times: bool = False) -> tuple[Lost, ...]:
    """Does what `give` does, durably, for a file of this user's by its name, which must not be a symbolic link.

    Raises `HostFileError`.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            lost = give(fd, attributes, times=times)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise HostFileError(path, "set the attributes of", error) from error
    return lost


def _drop_inherited_list(fd: int) -> tuple[Lost, ...]:
    """Removes the list that the directory's default list has given. Until then its mask lets nobody in, as the mode is 0600."""
    return _tried("a file without its directory's access list", lambda: os.removexattr(fd, ACCESS_LIST)) if _has_list(fd) else ()


def _has_list(fd: int) -> bool:
    with contextlib.suppress(OSError):  # there are no lists, or there is none
        os.getxattr(fd, ACCESS_LIST)
        return True
    return False


def _give_owner(fd: int, attributes: Attributes) -> list[Lost]:
    info = os.fstat(fd)
    owner = attributes.owner if attributes.owner != info.st_uid else -1
    group = attributes.group if attributes.group != info.st_gid else -1
    if (owner, group) == (-1, -1) or not _tried("", lambda: os.fchown(fd, owner, group)):
        return []
    lost: list[Lost] = []
    if owner != -1:
        lost += _tried(f"the owner {owner}", lambda: os.fchown(fd, owner, -1))
    if group != -1:
        lost += _tried(f"the group {group}", lambda: os.fchown(fd, -1, group))
    return lost


def _is_owned(fd: int, attributes: Attributes) -> bool:
    info = os.fstat(fd)
    return (info.st_uid, info.st_gid) == (attributes.owner, attributes.group)


def _give_rights(fd: int, attributes: Attributes, access: bytes | None) -> list[Lost]:
    """Sets the access list and the mode. With a list, the group's bits of the mode are the list's mask."""
    lost: list[Lost] = []
    is_group_ours = os.fstat(fd).st_gid == attributes.group
    mode = attributes.mode if _is_owned(fd, attributes) else attributes.mode & 0o777
    if access is not None:
        if not is_group_ours:
            access = _without_group(access)
        denied = _tried("the access list", lambda: _set(fd, ACCESS_LIST, access))
        if denied:
            lost += denied
            mode = mode & ~0o070 | group_rights(access) << 3
    elif not is_group_ours or _has_list(fd):  # a list that could not be removed must not let anybody in
        mode &= ~0o070
    if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
        lost += _tried(f"the mode {mode:04o}", lambda: os.fchmod(fd, mode))
    return lost


def group_rights(access: bytes) -> int:
    """Returns the rights that an access list really gives the owning group (as in 0o6): those of its entry and of the mask."""
    group, mask = 0, _PERMISSIONS
    for tag, permissions, _ in _entries(access):
        if tag == _ACL_GROUP:
            group = permissions
        elif tag == _ACL_MASK:
            mask = permissions
    return group & mask & _PERMISSIONS


def _without_group(access: bytes) -> bytes:
    entries = [(tag, 0 if tag == _ACL_GROUP else permissions, who) for tag, permissions, who in _entries(access)]
    return _ACL_VERSION + b"".join(_ACL_ENTRY.pack(*entry) for entry in entries)


def _entries(access: bytes) -> list[tuple[int, int, int]]:
    """Returns the entries of a list in the kernel's form (linux/posix_acl_xattr.h): tag, permissions, id."""
    body = access[len(_ACL_VERSION) :]
    return [(tag, permissions, who) for tag, permissions, who in _ACL_ENTRY.iter_unpack(body[: len(body) // 8 * 8])]


def _give_flags(fd: int, attributes: Attributes) -> list[Lost]:
    lost: list[Lost] = []
    missing = attributes.flags & ~_flags(fd) & ~_NO_COPY_ON_WRITE
    if missing:
        lost += _tried(f"the attribute flags {missing:#x}", lambda: _set_flags(fd, _flags(fd) | missing))
    if attributes.project and attributes.device == os.fstat(fd).st_dev and _project(fd) != attributes.project:
        lost += _tried(f"the project {attributes.project}", lambda: _set_project(fd, attributes.project))
    return lost


def _tried(what: str, step: Callable[[], object]) -> tuple[Lost, ...]:
    try:
        step()
    except OSError as error:
        return (Lost(what, error.strerror or str(error)),)
    return ()


def _extended(fd: int) -> list[tuple[str, bytes]]:
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
            return []
        raise
    found = []
    for name in names:
        if name not in _OF_THE_CONTENT:
            with contextlib.suppress(OSError):  # removed since, or one that only its own user may read
                found.append((name, os.getxattr(fd, name)))
    return found


def _set(fd: int, name: str, value: bytes) -> None:
    """Sets an extended attribute unless the file has it already: the host's own rules may have set a label."""
    with contextlib.suppress(OSError):  # it has none; or it can't be read, and then setting it says why
        if os.getxattr(fd, name) == value:
            return
    os.setxattr(fd, name, value)


def _flags(fd: int) -> int:
    """Returns the file's flags (chattr); 0 on a file system without flags."""
    flags = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, _GETFLAGS, flags)
    return flags[0]


def _set_flags(fd: int, flags: int) -> None:
    fcntl.ioctl(fd, _SETFLAGS, array.array("i", [flags]))


def _project(fd: int) -> int:
    """Returns the file's project id; 0, which is none, on a file system without projects."""
    fields = bytearray(_FSXATTR.size)
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, _FSGETXATTR, fields)
    return int(_FSXATTR.unpack(fields)[_PROJECT])


def _set_project(fd: int, project: int) -> None:
    fields = bytearray(_FSXATTR.size)
    fcntl.ioctl(fd, _FSGETXATTR, fields)
    values = list(_FSXATTR.unpack(fields))
    values[_PROJECT] = project
    fcntl.ioctl(fd, _FSSETXATTR, _FSXATTR.pack(*values))


def _value(value: object) -> bytes:
    if not isinstance(value, str) or len(value) > 2 * _LONGEST_RECORDED:
        raise ValueError("the value of an extended attribute is no text of hexadecimal digits")
    return bytes.fromhex(value)


def _number(facts: Mapping[str, object], name: str) -> int:
    value = facts.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_ID:
        raise ValueError(f"'{name}' is no user or group")
    return value
