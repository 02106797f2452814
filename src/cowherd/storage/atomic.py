"""Files that appear whole or not at all: a temporary file in the same directory, made durable, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from cowherd.errors import HostFileError
from cowherd.paths import as_path, directory_of
from cowherd.storage.filetype import refuse_device_node
from cowherd.storage.hostfile import Buffer, HostFile
from cowherd.storage.presence import is_there, look_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.paths import PathName
    from cowherd.storage.attributes import Attributes

TEMPORARY_PREFIX = ".cowherd-"
"""The begin of the names of unfinished files, which are never images."""

NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""The errors of a file system without hard links."""


def write_atomically(path: PathName, data: Buffer | Sequence[Buffer], mode: int | None = None, *, replaces: bool = True) -> None:
    """Makes `path` a file with exactly the bytes of `data` (one buffer, or several that are joined), durably.

    Without `replaces`, another file of that name stays as it is and is an error. Permissions are as in `replacement`.
    Raises `HostFileError`; then `path` is as it was and nothing else is left behind. One case differs: if the directory can't be
    flushed, at the very end, the new file is there, but may not survive a power cut.
    """
    buffers = [data] if isinstance(data, bytes | bytearray | memoryview) else data
    with replacement(path, mode, replaces=replaces) as file:
        file.pwritev(0, buffers)


@contextlib.contextmanager
def replacement(
    path: PathName,
    mode: int | None = None,
    *,
    replaces: bool = True,
    like: Attributes | None = None,
    times: bool = False,
) -> Iterator[HostFile]:
    """Yields an empty file to fill. It takes the name `path` durably when the block ends, and vanishes if the block raises.

    With `like`, the file gets these attributes (with `times` also the times in them) when it is filled; until then only this user
    may use it. With `mode`, it is a new file with these permission bits. Without either, it gets the attributes of the file that
    it replaces, or is a new one with 0644 less the umask. Attributes that it can't get are noted (`storage.losses`).
    A symbolic link at `path` is replaced, not followed: others may have put it there. `replaces` is as in `write_atomically`.
    Raises `HostFileError`, `DeviceNode`.
    """
    path = os.fspath(path)
    if like is None and mode is None:
        like = _attributes_of(path)
    temporary = temporary_name(path)
    first_mode = 0o600 if like else 0o644 if mode is None else mode & 0o600
    with meant_for(path, temporary):
        file = HostFile.create(temporary, exclusive=True, lock=None, mode=first_mode)
        try:
            with file:
                if like:
                    yield from _filled(file, path, like, times=times)
                else:
                    if mode is not None:
                        _set_mode(file, mode)
                    yield file
                file.flush(whole=first_mode != 0o644)
                if not replaces:
                    name_newcomer(file, path)
            if replaces:
                _rename(file.name, path)
        except BaseException:
            with contextlib.suppress(OSError):  # it has its name, or the first error says more
                os.unlink(file.name)
            raise


def make_private(path: PathName, like: Attributes) -> None:
    """Makes an empty file that will get the attributes `like`; until then only this user may use it. Raises `HostFileError`."""
    from cowherd.storage import attributes, losses

    with HostFile.create(path, exclusive=True, lock=None, mode=0o600) as file:
        losses.note(path, attributes.give_first(file.fd, like))


@contextlib.contextmanager
def newcomer(path: PathName) -> Iterator[HostFile]:
    """Yields an empty file to fill, with QEMU's locks for creating an image. It takes the name `path` when the block ends.

    It is durable then; it vanishes if the block raises. Another file with that name stays as it is, and is an error.
    Raises `HostFileError`.
    """
    path = os.fspath(path)
    temporary = temporary_name(path)
    with meant_for(path, temporary):
        file = HostFile.create(temporary, exclusive=True)
        try:
            with file:
                yield file
                file.flush()
                name_newcomer(file, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error says more
                os.unlink(file.name)
            raise


def name_newcomer(file: HostFile, path: PathName) -> None:
    """Renames a finished file from its temporary name to `path`, durably, and changes its `path` accordingly.

    Raises `HostFileError`, also if something else has the name already.
    """
    try:
        try:
            os.link(file.name, path)
            os.unlink(file.name)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS or is_there(path):
                raise
            os.rename(file.name, path)
    except HostFileError:
        raise
    except OSError as error:
        raise HostFileError(path, "create", error) from error
    file.name = os.fspath(path)
    sync_directory(directory_of(path))


def temporary_name(path: PathName) -> str:
    """Returns a new name for an unfinished file beside `path`."""
    return os.path.join(os.path.dirname(path), f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}")


@contextlib.contextmanager
def meant_for(path: PathName, unfinished: PathName) -> Iterator[None]:
    """Lets errors of the host about an unfinished file name `path`, which it is to become: nobody else knows the other name."""
    try:
        yield
    except HostFileError as error:
        if error.path == as_path(unfinished):
            error.path = as_path(path)
        raise


def sync_directory(directory: PathName) -> None:
    """Makes the names in a directory durable: files created, renamed and removed. Raises `HostFileError`."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # from a file system that has nothing to sync in a directory
            raise HostFileError(directory, "flush the directory", error) from error


def make_name_lasting(path: PathName) -> None:
    """Makes the name of a new file durable, if its directory may be opened. Raises `HostFileError`."""
    try:
        sync_directory(directory_of(path))
    except HostFileError as error:
        if error.errno != errno.EACCES:  # a directory may be writable and not readable
            raise


def _filled(file: HostFile, path: PathName, like: Attributes, *, times: bool) -> Iterator[HostFile]:
    from cowherd.storage import attributes, losses  # few files take the place of others

    lost = attributes.give_first(file.fd, like)
    yield file
    losses.note(path, (*lost, *attributes.give(file.fd, like, times=times)))


def _attributes_of(path: PathName) -> Attributes | None:
    """Returns the attributes of the regular file that will be replaced, None if there is none."""
    info = look_up(path, follow=False)
    if info is None or not stat.S_ISREG(info.st_mode):
        return None
    from cowherd.storage.attributes import Attributes

    try:
        return Attributes.of(path)
    except HostFileError:  # it can't be opened; stat gives these
        return Attributes(info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode))


def _set_mode(file: HostFile, mode: int) -> None:
    try:
        os.fchmod(file.fd, mode)
    except OSError as error:
        raise HostFileError(file.name, "set the permissions of", error) from error


def _rename(temporary: str, path: PathName) -> None:
    refuse_device_node(path, "replace", follow=False)
    try:
        os.rename(temporary, path)
    except OSError as error:
        raise HostFileError(path, "replace", error) from error
    sync_directory(directory_of(path))
