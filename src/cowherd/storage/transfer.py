"""Gives a file another name so that both are valid for a while: by a hard link, or across file systems by a verified copy."""

from __future__ import annotations

import errno
import os
import stat

from cowherd.errors import CowherdError, HostFileError
from cowherd.progress import Progress
from cowherd.storage.atomic import replacement, sync_directory
from cowherd.storage.attributes import Attributes
from cowherd.storage.durable import make_durable
from cowherd.storage.filetype import refuse_device_node
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import is_there
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


_CHUNK = 4 << 20
_CANT_LINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class CopyDiffers(CowherdError):
    """A copy did not read back the same as its source, and was removed. Attributes: `source`, `target`."""

    def __init__(self, source: Path, target: Path):
        self.source, self.target = source, target

    def __str__(self) -> str:
        return f"the copy {printable(self.target)} of {printable(self.source)} does not read back the same; it was removed"


def give_name(source: Path, target: Path, progress: Progress | None = None) -> bool:
    """Makes `target` lead to the file `source`, which keeps its name; returns False if it had to be copied instead.

    Durable on return. If the name leads to the same file already, or to a copy of the same bytes, that counts as the result of an
    earlier call. A copy keeps holes, times, owner, rights and labels, and is read back before it gets its name. Attributes that
    it can't get are noted (`storage.losses`).
    Raises `HostFileError`, also if another file has the name; `ImageInUse` if the file must be copied and is in use.
    """
    refuse_device_node(source, "move")
    if is_there(target):
        return _is_there(source, target, progress)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANT_LINK:
            raise HostFileError(target, "create", error) from error
        _copy(source, target, progress)
        return False
    sync_directory(target.parent)
    return True


def take_name(path: Path) -> None:
    """Removes a name of a file, durably; the name need not exist. Raises `HostFileError`, `DeviceNode` for that of a device."""
    refuse_device_node(path, "remove", follow=False)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise HostFileError(path, "remove", error) from error
    sync_directory(path.parent)


def _is_there(source: Path, target: Path, progress: Progress | None) -> bool:
    taken = HostFileError(target, "create", FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))
    if target.is_symlink() or not stat.S_ISREG(os.stat(target).st_mode):
        raise taken
    make_durable(target)  # the process that made it may have been killed before the name was durable
    with HostFile.open(source, lock=None) as old, HostFile.open(target, lock=None) as new:
        if (old.device, old.inode) == (new.device, new.inode):
            return True
        if old.device == new.device or old.size() != new.size() or not _same(old, new, progress):
            raise taken
    return False


def _copy(source: Path, target: Path, progress: Progress | None) -> None:
    from cowherd.storage.locks import READ

    with HostFile.open(source, lock=READ) as old, replacement(target, like=Attributes.of(old.fd), times=True) as new:
        new.truncate(old.size())
        done = 0
        for start, end in _pieces(old):
            new.pwrite(start, old.pread(start, end - start))
            done += end - start
            if progress:
                progress(done, 2 * old.allocated_bytes())
        new.flush()
        if not _same(old, new, progress):
            raise CopyDiffers(source, target)


def _pieces(file: HostFile) -> list[tuple[int, int]]:
    return [(at, min(at + _CHUNK, end)) for start, end in file.data_ranges(0, file.size()) for at in range(start, end, _CHUNK)]


def _same(a: HostFile, b: HostFile, progress: Progress | None) -> bool:
    """Compares two files where either has data; reads `b` from its disk if the host drops it from its cache when asked to."""
    os.posix_fadvise(b.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    pieces = sorted({*_pieces(a), *_pieces(b)})
    for number, (start, end) in enumerate(pieces, 1):
        if a.pread(start, end - start) != b.pread(start, end - start):
            return False
        if progress:
            progress(len(pieces) + number, 2 * len(pieces))
    return True
