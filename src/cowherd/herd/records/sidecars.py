"""What lies beside an image and is its own: its seal, and the shadow that the seal tells of."""

from __future__ import annotations

import os
import stat

from cowherd.errors import CowherdError, HostFileError, InvalidRequest
from cowherd.herd.records.faults import ProtectedByOthers
from cowherd.herd.records.ownership import (
    SHADOW_SUFFIX,
    WRITE_BITS,
    is_proven_seal,
    is_regular,
    is_seal,
    require_name_free,
    set_immutable,
)
from cowherd.paths import as_path
from cowherd.storage.presence import look_up
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.paths import PathName

_HEAD = 4096  # bytes by which a shadow of which no identity was recorded is told from another file of its length


def shadow_name(image: PathName) -> str:
    """Returns the name that the shadow of an image has, or would have: beside the file `image`."""
    return os.fspath(image) + SHADOW_SUFFIX


def shadow_path(image: PathName) -> Path:
    """Returns the same as a path."""
    return as_path(shadow_name(image))


def is_shadow(path: PathName) -> bool:
    """Returns whether a file is the shadow that the seal beside it tells of. Raises `HostFileError` where the host fails."""
    from cowherd.herd.records.sealfile import read_record
    from cowherd.herd.records.sealrecord import SUFFIX

    name = os.fspath(path)
    seal = name.removesuffix(SHADOW_SUFFIX) + SUFFIX
    if not name.endswith(SHADOW_SUFFIX) or not is_regular(name) or not is_proven_seal(seal):
        return False
    try:
        return is_shadow_of(name, read_record(seal))
    except CowherdError:
        return False  # a seal that can't be read proves nothing


def is_shadow_of(path: PathName, record: SealRecord) -> bool:
    """Returns whether the file `path` is the shadow that `record`, the seal of the image beside it, tells of.

    It is known by inode, length and mtime, which a rename keeps. Older seals don't tell these: then it must be as long as the
    image was, have no write bit, and begin as the image does, if that is there. Raises `HostFileError` where the host fails.
    """
    info = look_up(path, follow=False)
    if info is None or not stat.S_ISREG(info.st_mode) or record.shadow is None:
        return False
    known = record.shadow_file
    if known is not None:
        return (info.st_ino, info.st_size, info.st_mtime_ns) == (known.inode, known.size, known.mtime_ns)
    if info.st_size != record.identity.size or info.st_mode & WRITE_BITS:
        return False
    image = os.fspath(path).removesuffix(SHADOW_SUFFIX)
    return not is_regular(image) or _head(image) == _head(path)


def _head(path: PathName) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.pread(fd, _HEAD, 0)
        finally:
            os.close(fd)
    except OSError as error:
        raise HostFileError(path, "read", error) from error


def require_liftable(path: PathName, action: str, *, seal: PathName | None = None, forceable: bool = False) -> None:
    """Raises `ProtectedByOthers` if a file is immutable, and not by cowherd. `seal` as with `is_immutable_by_others`.

    `forceable`: the message says that --force goes on all the same.
    """
    if is_immutable_by_others(path, seal):
        raise ProtectedByOthers(os.path.realpath(path), action, forceable=forceable)


def is_immutable_by_others(path: PathName, seal: PathName | None = None) -> bool:
    """Returns whether a file is immutable, and that not certainly by cowherd. `seal` is where its seal lies if not beside it."""
    from cowherd.herd.records.sealfile import read_record
    from cowherd.herd.records.sealrecord import SUFFIX
    from cowherd.storage import protection

    real = os.path.realpath(path)
    info = look_up(real)
    if info is None or not stat.S_ISREG(info.st_mode) or not protection.is_immutable(real):
        return False
    seal = real + SUFFIX if seal is None else seal
    try:
        return not (is_proven_seal(seal) and set_immutable(read_record(seal), info, seal))
    except CowherdError:
        return True  # a seal that can't be read says nothing of who made the file immutable


def require_sidecars_free(image: PathName, *, shadow: bool = False) -> None:
    """Raises `NameTaken` if something else than its seal (and with `shadow` its shadow) has their names beside `image`."""
    from cowherd.herd.records.sealrecord import SUFFIX

    real = os.path.realpath(image)
    if not is_seal(real + SUFFIX):
        require_name_free(real + SUFFIX, "seal", real)
    if shadow and not is_shadow(shadow_name(real)):
        require_name_free(shadow_name(real), "shadow", real)


def refuse_left_seal(image: PathName) -> None:
    """Raises `InvalidRequest` if there is a seal of the image that is to get this name: it is that of another, which is gone."""
    from cowherd.herd.records.sealplace import is_sealed

    if is_sealed(image):
        raise InvalidRequest(f"the seal of an image that is gone has the name of {printable(image)}; 'cowherd unseal' removes it")


def sidecars(image: PathName) -> list[str]:
    """Returns what beside the file `image` is certainly its own: its shadow, and its seal, which proves the shadow, last."""
    from cowherd.herd.records.sealrecord import SUFFIX

    name = os.fspath(image)
    found = [shadow_name(name)] if is_shadow(shadow_name(name)) else []
    return [*found, name + SUFFIX] if is_proven_seal(name + SUFFIX) else found
