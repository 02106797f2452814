"""The files beside an image that belong to it: its seal, and the shadow that the seal records."""

from __future__ import annotations

import os
import stat

from cowherd.errors import CowherdError, HostFileError, InvalidRequest
from cowherd.herd.records.faults import ProtectedByOthers
from cowherd.herd.records.ownership import (
    SHADOW_SUFFIX,
    WRITE_BITS,
    first_bytes,
    is_proven_seal,
    is_regular,
    is_seal,
    made_immutable_by_cowherd,
    require_name_free,
)
from cowherd.paths import as_path
from cowherd.storage.presence import look_up
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.paths import PathName

_HEAD = 4096  # first bytes to compare, where an older seal records no identity of its shadow


def shadow_name(image: PathName) -> str:
    """Returns the name that the shadow of an image has, or would have: beside the file `image`."""
    return os.fspath(image) + SHADOW_SUFFIX


def shadow_path(image: PathName) -> Path:
    """Returns the same as a path."""
    return as_path(shadow_name(image))


def is_shadow(path: PathName) -> bool:
    """Returns whether a file is the shadow that the seal beside it records. Raises `HostFileError` where the host fails."""
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
    """Returns whether the file `path` is the shadow that `record`, the seal of the image beside it, names.

    Inode, length and mtime identify it, since a rename keeps them. Older seals don't record these: then the file must be as long
    as the image was, have no write bit, and begin as the image does if that exists. Raises `HostFileError` where the host fails.
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
    return not is_regular(image) or _first_bytes(image) == _first_bytes(path)


def _first_bytes(path: PathName) -> bytes:
    try:
        return first_bytes(path, _HEAD)
    except OSError as error:
        raise HostFileError(path, "read", error) from error


def require_liftable(path: PathName, action: str, *, seal: PathName | None = None, forceable: bool = False) -> None:
    """Raises `ProtectedByOthers` if a file is immutable and somebody other than cowherd made it so.

    `seal` is the path of its seal, if that does not lie beside it. `forceable`: the message names --force as a way to go on.
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
        return not (is_proven_seal(seal) and made_immutable_by_cowherd(read_record(seal), info, seal))
    except CowherdError:
        return True  # a seal that can't be read is no proof that cowherd made the file immutable


def require_sidecars_free(image: PathName, *, shadow: bool = False) -> None:
    """Raises `NameTaken` if a file that is not the seal of `image` has the seal's name; with `shadow` likewise for its shadow."""
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
    """Returns the files beside `image` that are certainly its own: its shadow, then its seal.

    The seal comes last because it proves the shadow: a caller that stops in the middle still has the proof.
    """
    from cowherd.herd.records.sealrecord import SUFFIX

    name = os.fspath(image)
    found = [shadow_name(name)] if is_shadow(shadow_name(name)) else []
    return [*found, name + SUFFIX] if is_proven_seal(name + SUFFIX) else found
