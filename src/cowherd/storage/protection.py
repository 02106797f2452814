"""Protects a file from changes: by its mode, and by the immutable attribute, which stops root too (chattr(1))."""

from __future__ import annotations

import array
import contextlib
import enum
import errno
import fcntl
import os
import stat

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.storage.hostfile import HostFile, naming_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from cowherd.paths import PathName

    Level: TypeAlias = "Protection | str"
    """A level as a caller gives it: itself, or its name, as in "readonly"."""

Key = tuple[int, int]
"""A file's identity: (device, inode)."""

_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = (0x80086601, 0x40086602) if array.array("l").itemsize == 8 else (0x80046601, 0x40046602)
_IMMUTABLE = 0x10
_WRITE_BITS = 0o222
_CANT_GIVE = (errno.EPERM, errno.EACCES, errno.EROFS, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL)


@enum.unique
class Protection(enum.IntEnum):
    """How well a file is protected from changes; a greater level includes the lesser ones.

    RECORDED: not at all. READONLY: nobody has the write bit, which stops everybody but root, and the owner until a chmod.
    IMMUTABLE: root can't rename, remove, link or change it either, until the attribute is removed.
    """

    RECORDED = 0
    READONLY = 1
    IMMUTABLE = 2

    @property
    def label(self) -> str:
        """The level's name as a user types it, as in "readonly"."""
        return self.name.lower()

    @classmethod
    def named(cls, level: Level) -> Protection:
        """Returns the level that a caller means; raises `InvalidRequest` for a word that names none."""
        if not isinstance(level, str):
            return cls(level)
        found = {one.label: one for one in cls}.get(level)
        if found is None:
            raise InvalidRequest(f"{level!a} is no level of protection: {', '.join(one.label for one in cls)}")
        return found


def protect(path: PathName, level: Protection) -> Protection:
    """Brings a file to at least `level`, and returns the level that it really has then.

    That is less than `level` if the file system or the caller's privileges don't allow more, and more if the file was protected
    better already; a block device has none. Only the write bits are removed: 0644 becomes 0444, and 0600 becomes 0400.
    Both steps move the file's ctime, so a caller that compares identities must record them afterwards.
    Raises `HostFileError` if the host fails in another way.
    """
    with _opened(path) as file, naming_file(path, "protect"):
        return _protect(file, level)


def _protect(file: HostFile, level: Protection) -> Protection:
    if file.is_block_device:  # the mode of a node is the host's to give, and gone with the next boot
        return Protection.RECORDED
    if level > Protection.RECORDED and _level(file) < Protection.READONLY:
        _as_far_as_given(lambda: os.fchmod(file.fd, _mode(file) & ~_WRITE_BITS))
    if level > _level(file) and level is Protection.IMMUTABLE:
        _as_far_as_given(lambda: _set_flags(file, _flags(file) | _IMMUTABLE))
    return _level(file)


def unprotect(path: PathName, mode: int | Callable[[int], int], key: Key | None = None) -> None:
    """Removes the immutable attribute and sets the permission bits `mode`; a function computes them from the current ones.

    With `key`, (device, inode), it must be that file. Moves the file's ctime. Raises `HostFileError`.
    """
    with _opened(path, key) as file, naming_file(path, "unprotect"):
        _lift(file)
        wanted = mode if isinstance(mode, int) else mode(_mode(file))
        if not file.is_block_device:
            os.fchmod(file.fd, stat.S_IMODE(wanted))


@contextlib.contextmanager
def written(path: PathName, level: Protection, key: Key | None = None, *, owner_may_write: bool) -> Iterator[None]:
    """Lets the block write to a file: it is not immutable meanwhile, and with `owner_may_write` its owner has the write bit.

    Afterwards, however the block ends, the file has its former mode, and at least its former protection and `level`.
    `key` and errors are as with `unprotect`.
    """
    with _opened(path, key) as file:
        with naming_file(path, "unprotect"):
            level, before = max(level, _level(file)), _mode(file)
            _lift(file)
        try:
            if owner_may_write and not before & stat.S_IWUSR and not file.is_block_device:
                with naming_file(path, "unprotect"):
                    os.fchmod(file.fd, before | stat.S_IWUSR)
            yield
        finally:
            with naming_file(path, "protect"):
                if _mode(file) != before:
                    os.fchmod(file.fd, before)
                _protect(file, level)


@contextlib.contextmanager
def renamed(path: PathName, *copies: PathName, key: Key | None = None) -> Iterator[None]:
    """Lets the block link to a file, rename and remove it, which the immutable attribute prevents.

    Afterwards, however the block ends, the file is as well protected as before, under whatever name it has, and so are those of
    `copies` that exist. `key` and errors are as with `unprotect`.
    """
    with _opened(path, key) as file:
        with naming_file(path, "unprotect"):
            level = _level(file)
            _lift(file)
        try:
            yield
        finally:
            with naming_file(path, "protect"):
                if os.fstat(file.fd).st_nlink:
                    _protect(file, level)
            for copy in copies:
                if os.path.lexists(copy):
                    protect(copy, level)


def is_immutable(path: PathName) -> bool:
    """Returns whether a file has the immutable attribute, whether cowherd or somebody else set it. Raises `HostFileError`."""
    with _opened(path) as file, naming_file(path, "look at the protection of"):
        return bool(_flags(file) & _IMMUTABLE)


def current(path: PathName) -> Protection:
    """Returns a file's level of protection, whether cowherd or somebody else set it. Raises `HostFileError`."""
    with _opened(path) as file, naming_file(path, "look at the protection of"):
        return _level(file)


def _opened(path: PathName, key: Key | None = None) -> HostFile:
    """Opens the file that a name leads to. A file that takes the name later is not touched: all work goes by the descriptor."""
    name = os.path.realpath(path) if os.path.islink(path) else path  # directories above need not be open to this user
    file = HostFile.open(name, lock=None, follow=False)
    if key is not None and (file.device, file.inode) != key:
        file.close()
        raise HostFileError(path, "change the protection of", OSError(errno.ESTALE, "another file has its name now"))
    return file


def _lift(file: HostFile) -> None:
    if _flags(file) & _IMMUTABLE:
        _set_flags(file, _flags(file) & ~_IMMUTABLE)


def _level(file: HostFile) -> Protection:
    if file.is_block_device:
        return Protection.RECORDED
    if _flags(file) & _IMMUTABLE:
        return Protection.IMMUTABLE
    return Protection.RECORDED if _mode(file) & _WRITE_BITS else Protection.READONLY


def _mode(file: HostFile) -> int:
    return stat.S_IMODE(os.fstat(file.fd).st_mode)


def _as_far_as_given(step: Callable[[], None]) -> None:
    """Takes a step that the host may refuse. The caller looks at the file afterwards to see what was reached."""
    try:
        step()
    except OSError as error:
        if error.errno not in _CANT_GIVE:
            raise


def _flags(file: HostFile) -> int:
    """Returns the file's attribute flags (chattr); 0 on a file system without flags."""
    flags = array.array("i", [0])
    try:
        fcntl.ioctl(file.fd, _FS_IOC_GETFLAGS, flags)
    except OSError as error:
        if error.errno not in _CANT_GIVE:
            raise
    return flags[0]


def _set_flags(file: HostFile, flags: int) -> None:
    fcntl.ioctl(file.fd, _FS_IOC_SETFLAGS, array.array("i", [flags]))
