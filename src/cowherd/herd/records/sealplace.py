"""Finds the seal of an image that can have none beside it: on a read-only file system, in another user's directory, on a device.

Such a seal is kept in the `seals` directory of cowherd's state: /var/lib/cowherd for root, $XDG_STATE_HOME/cowherd or
~/.local/state/cowherd for other users, who look into root's too. COWHERD_STATE names another directory; "off" goes without. A
seal there is trusted only if the directory belongs to the user who reads it, or to root, and nobody else may write into it.

A kept seal names its image: the path and the UUID of its file system, or a name that stays with a device for its whole life. The
seal's file name is a digest of that path or device name. A process lists the directories once, and again with each scan.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat

from cowherd.errors import CowherdError, HostFileError
from cowherd.herd.records.ownership import OTHERS_MAY_WRITE, is_seal
from cowherd.herd.records.sealrecord import SUFFIX, KeptFor
from cowherd.paths import as_path
from cowherd.storage.filetype import is_device
from cowherd.storage.state import OFF, VARIABLE, state_directories
from cowherd.text import shown
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.paths import PathName

CANT_WRITE = (errno.EROFS, errno.EACCES, errno.EPERM)
"""The errno values that mean: no file can be made beside an image."""

_SEALS = "seals"
_SUFFIX = ".kept"  # not ".seal": of NAME.seal one would conclude that an image NAME lies beside it
_LONGEST_LINE = 4096
_DISKS = "/dev/disk"
_LASTING = ("by-id", "by-partuuid", "by-path")


class SealHasNoPlace(CowherdError):
    """A seal can be written neither beside its image nor into cowherd's state.

    Attributes: `image`, `beside` and `elsewhere` (why it can't lie there).
    """

    def __init__(self, image: str, beside: str, elsewhere: str):
        self.image, self.beside, self.elsewhere = image, beside, elsewhere

    def __str__(self) -> str:
        return (
            f"the seal of {shown(self.image)} can't be written beside it ({self.beside}), nor elsewhere ({self.elsewhere}). "
            f"{VARIABLE} names another directory for such seals; 'cowherd clone --no-seal' makes an overlay without one"
        )


def whose_seal(image: str) -> KeptFor:
    """Returns what identifies the image at a path without symbolic links, also after a boot that numbers devices anew."""
    if is_device(image):
        return KeptFor(image, None, lasting_name(image))
    return KeptFor(image, _file_system(os.stat(image).st_dev))


class _Kept(NamedTuple):
    seal: str
    place: KeptFor
    format: str


def forget_listing() -> None:
    """Forgets the list of kept seals: the next question lists the directories again."""
    _list_kept_seals.cache_clear()


def kept_seal(image: str) -> str | None:
    """Returns the kept seal of the image at a path without symbolic links, or None."""
    kept = _list_kept_seals()
    if not kept:
        return None
    found = kept.get(image)
    if found is None and any(one.place.device for one in kept.values()) and is_device(image):
        found = kept.get(KeptFor(image, None, lasting_name(image)).key)
    return found.seal if found and _is_still(found.place, image) else None


def kept_under(directories: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yields (image, seal, format) for each kept seal whose image lies directly in one of `directories` and exists."""
    for one in _list_kept_seals().values():
        image = one.place.path
        is_near = not one.place.device and os.path.dirname(image) in directories
        if is_near and os.path.exists(image) and _is_still(one.place, image):
            yield image, one.seal, one.format


def is_kept(seal: PathName) -> bool:
    """Returns whether a seal lies in cowherd's state, and not beside its image."""
    return os.path.dirname(os.path.abspath(seal)) in _directories()


def place_for(image: str, beside: str) -> tuple[str, KeptFor]:
    """Makes the directory for the kept seal of an image, whose path has no symbolic links.

    Returns the path of the seal, and what the seal has to record of its image. `beside` says why the seal can't lie beside the
    image. Raises `SealHasNoPlace`.
    """
    directories = _directories()
    if not directories:
        raise SealHasNoPlace(image, beside, f"{VARIABLE} is {OFF}")
    try:
        os.makedirs(directories[0], 0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)
    except OSError as error:
        raise SealHasNoPlace(image, beside, f"{directories[0]}: {error.strerror}") from error
    problem = _reason_to_distrust(directories[0])
    if problem:
        raise SealHasNoPlace(image, beside, f"{directories[0]}: {problem}")
    from hashlib import blake2b

    place = whose_seal(image)
    name = f"{blake2b(os.fsencode(place.key), digest_size=16).hexdigest()}{_SUFFIX}"
    return os.path.join(directories[0], name), place


def lasting_name(device: str) -> str:
    """Returns a name of a block device that outlasts its number: the UUID of an LV, the id of a disk, the file of a loop device.

    The kernel (/sys/dev/block) or udev (/dev/disk) gives it. Raises `HostFileError` if stat(2) of the device fails.
    """
    try:
        number = os.stat(device).st_rdev
    except OSError as error:
        raise HostFileError(device, "look at", error) from error
    of_kernel = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    for name in ("dm/uuid", "loop/backing_file"):
        text = _read_line(f"{of_kernel}/{name}")
        if text:
            return f"{name} {text}{_read_line(f'{of_kernel}/loop/offset') if 'loop' in name else ''}"
    for directory in _LASTING:
        found = _link_to(f"{_DISKS}/{directory}", number)
        if found:
            return f"{directory} {found}"
    return f"name {device}"


@functools.cache
def _list_kept_seals() -> dict[str, _Kept]:
    """Returns all kept seals, by the keys of their places; this user's replace root's."""
    kept: dict[str, _Kept] = {}
    for directory in reversed(_directories()):
        if not _reason_to_distrust(directory):
            kept |= _kept_seals_in(directory)
    return kept


def _kept_seals_in(directory: str) -> dict[str, _Kept]:
    from cowherd.herd.records.sealfile import read_record

    found = {}
    for name in sorted(os.listdir(directory)):
        seal = os.path.join(directory, name)
        if name.endswith(_SUFFIX) and not name.startswith("."):
            with contextlib.suppress(CowherdError):  # damaged, or no seal: it names no image
                record: SealRecord = read_record(seal)
                if record.kept_for:
                    found[record.kept_for.key] = _Kept(seal, record.kept_for, record.format)
    return found


def _directories() -> list[str]:
    """Returns the directories of kept seals, the one for new seals first."""
    return [os.path.join(directory, _SEALS) for directory in state_directories()]


def _reason_to_distrust(directory: str) -> str | None:
    """Returns why the files in a directory can't be trusted, None if they can."""
    try:
        info = os.lstat(directory)
    except OSError as error:
        return error.strerror
    if not stat.S_ISDIR(info.st_mode):
        return "it is no directory"
    if info.st_uid not in (0, os.geteuid()):
        return "it belongs to another user"
    if info.st_mode & OTHERS_MAY_WRITE:
        return "others may write into it"
    return None


def _is_still(place: KeptFor, image: str) -> bool:
    """Returns whether an image still lies on the file system on which it was sealed; True if that is not known."""
    if place.device or place.uuid is None:
        return True
    try:
        now = _file_system(os.stat(image).st_dev)
    except OSError:
        return True  # it is gone; its seal says what it held
    return now in (None, place.uuid)


def _file_system(device: int) -> str | None:
    """Returns the UUID of the file system on a device number, None if udev does not know it."""
    return _link_to(f"{_DISKS}/by-uuid", device)


def _link_to(directory: str, number: int) -> str | None:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return None
    for name in names:
        with contextlib.suppress(OSError):  # it leads nowhere
            if os.stat(os.path.join(directory, name)).st_rdev == number:
                return name
    return None


def _read_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read(_LONGEST_LINE)).rstrip("\n")
    except OSError:
        return ""


def find_seal(image: PathName) -> str | None:
    """Returns the seal of `image`, or None. It lies beside the file to which symbolic links lead, or in cowherd's state."""
    real = os.path.realpath(image)
    return real + SUFFIX if is_seal(real + SUFFIX) else kept_seal(real)


def seal_name(image: PathName) -> str:
    """Returns the path of the seal of `image`; if it has none, the path beside the image."""
    return find_seal(image) or os.path.realpath(image) + SUFFIX


def seal_path(image: PathName) -> Path:
    """Returns what `seal_name` returns, as a `Path`."""
    return as_path(seal_name(image))


def is_sealed(image: PathName) -> bool:
    """Returns whether `image` has a seal; a file that only has a seal's name does not count. Raises `HostFileError`."""
    return find_seal(image) is not None
