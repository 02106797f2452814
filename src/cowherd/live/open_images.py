"""The images that a process has open, from /proc: descriptors lead to the files themselves, even if their names are gone.

Source: proc_pid_fd(5), proc_pid_fdinfo(5). /proc/locks is no help: QEMU's locks belong to open files and name no process there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from cowherd.formats.qcow2.layout import MAGIC
from cowherd.live.gone import DELETED, LAST_STREAM, former_path
from cowherd.live.holders import PROC, descriptors, flags_and_locks
from cowherd.live.kernel_holders import FILE, Key
from cowherd.live.mappings import Mapping, mappings

_SECTOR_BYTES = 512
_NO_DISKS = ("/dev/", "/memfd:", "/proc/", "/sys/")


@dataclass(frozen=True)
class OpenImage:
    """An image that a process has open. `path` is the kernel's name for it now; `writing` says that a descriptor can write,
    `locking` that one holds image locks. `descriptor` leads to it whatever its name; `gone` says that it has no name any more.

    `mapped` says that the process has it in its memory: then it may be open without any descriptor.
    """

    path: str
    key: Key
    writing: bool
    locking: bool
    descriptor: str
    gone: bool = False
    mapped: bool = False

    @property
    def is_qcow2(self) -> bool:
        """Whether it begins as a qcow2 image; False if this user may not read it."""
        with contextlib.suppress(OSError):
            fd = os.open(self.descriptor, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return os.pread(fd, len(MAGIC), 0) == MAGIC
            finally:
                os.close(fd)
        return False


def open_images(pid: int, wanted: Container[Key], *, is_machine: bool) -> list[OpenImage]:
    """Returns the images that a process has open by a descriptor, each once, by path.

    Images are files in `wanted`, files that are locked as QEMU locks images, and qcow2 images; for a machine also raw files that
    it can write to, and block devices. Raises `PermissionError` if this user may not look into the process.
    """
    found: dict[Key, OpenImage] = {}
    for name, key in descriptors(pid):
        place = f"{PROC}/{pid}/fd/{name}"
        with contextlib.suppress(OSError):  # closed meanwhile, or the process has ended
            writing, locking = flags_and_locks(f"{PROC}/{pid}/fdinfo/{name}")
            known = found.get(key)
            if known:
                found[key] = replace(known, writing=known.writing or writing, locking=known.locking or locking)
                continue
            image = _opened(place, key, writing=writing, locking=locking)
            is_disk = is_machine and (key[0] != FILE or writing) and int(name) > LAST_STREAM
            if key in wanted or (_has_a_sector(place, key) and (locking or _is_disk(image, known=is_disk))):
                found[key] = image
    return sorted(found.values(), key=lambda image: image.path)


class MappedImages:
    """Finds images that processes have mapped: files in `wanted`, and qcow2 images. Looks into each file only once."""

    def __init__(self, wanted: Container[Key]):
        self._wanted = wanted
        self._keys: dict[tuple[int, int, str], Key | None] = {}

    def added_to(self, pid: int, opened: Iterable[OpenImage]) -> list[OpenImage]:
        """Returns the images that a process has open or mapped, by path, if `opened` are those that it has open by a descriptor.

        Raises `PermissionError` if this user may not look into the process.
        """
        found = {image.key: image for image in opened}
        for mapping in mappings(f"{PROC}/{pid}"):
            key = self._key_of(mapping)
            if key:
                known = found.get(key) or _mapped(mapping, key)
                found[key] = replace(known, mapped=True, writing=known.writing or mapping.writing)
        return sorted(found.values(), key=lambda image: image.path)

    def _key_of(self, mapping: Mapping) -> Key | None:
        """Returns the key of a mapped image, None if the file is none."""
        file = mapping.device, mapping.inode, mapping.path
        if file not in self._keys:
            key = None if mapping.path.startswith(_NO_DISKS) else mapping.key()
            is_image = key is not None and (key in self._wanted or _mapped(mapping, key).is_qcow2)
            self._keys[file] = key if is_image else None
        return self._keys[file]


def _opened(place: str, key: Key, *, writing: bool, locking: bool) -> OpenImage:
    path = os.readlink(place)
    former = former_path(path, os.stat(place))
    return OpenImage(former or path, key, writing, locking, place, former is not None)


def _mapped(mapping: Mapping, key: Key) -> OpenImage:
    """Returns a mapped file as an image. A file whose name ends as those of deleted files do is only called gone if it is."""
    gone = mapping.path.endswith(DELETED) and not os.path.lexists(mapping.path)
    path = mapping.path.removesuffix(DELETED) if gone else mapping.path
    return OpenImage(path, key, mapping.writing, locking=False, descriptor=mapping.leading(), gone=gone, mapped=True)


def _is_disk(image: OpenImage, *, known: bool) -> bool:
    """Returns whether an open file holds a disk: it is `known` to do, or a qcow2 image.

    A pipe, a character device and memory without a name can't.
    """
    if image.key[0] == FILE:
        regular = stat.S_ISREG(os.stat(image.descriptor).st_mode)
        if not regular or os.readlink(image.descriptor).startswith(_NO_DISKS):
            return False
    return known or image.is_qcow2


def _has_a_sector(place: str, key: Key) -> bool:
    """Returns whether a file is long enough for a disk. QEMU's programs also lock the file with their process id."""
    return key[0] != FILE or os.stat(place).st_size >= _SECTOR_BYTES
