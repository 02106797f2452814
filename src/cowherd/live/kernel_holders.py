"""Finds uses of a file by the kernel itself: loop devices, mounts, swap, device mapper, targets that export it.

No process has such a file open, and no lock of QEMU's shows it. Sources: loop(4), proc_pid_mountinfo(5), proc_swaps(5), and the
kernel's Documentation/ABI/testing/sysfs-block*, configfs-usb-gadget and target/nvmet directories in configfs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct

from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Key = tuple[str, int, int]
"""The identity of a file: ("file", device, inode), or ("block device", its number, 0)."""

FILE, BLOCK_DEVICE = "file", "block device"
BLOCK = "/sys/block"
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO = struct.Struct("=QQQ")
_LOOP_INFO_BYTES = 232
_EXPORTS = (
    "/sys/kernel/config/target/core/*/*/udev_path",
    "/sys/kernel/config/nvmet/subsystems/*/namespaces/*/device_path",
    "/sys/kernel/config/usb_gadget/*/functions/*/lun.*/file",
)


class KernelUse(NamedTuple):
    """One use of a file by the kernel: in words, escaped for printing, and whether it may write to the file."""

    what: str
    writing: bool


def key_of(info: os.stat_result) -> Key:
    """Returns the key of the file of a stat(2) result; that of a block device is its number, whatever its node."""
    if stat.S_ISBLK(info.st_mode):
        return BLOCK_DEVICE, info.st_rdev, 0
    return FILE, info.st_dev, info.st_ino


class Loop(NamedTuple):
    """A loop device that is set up: its number, its name ("loop7"), its file, and whether it can write to that.

    `path` is the kernel's name for the file. `key` is None if this user can't tell which file it is.
    """

    device: int
    name: str
    key: Key | None
    path: str
    writing: bool


def kernel_uses(wanted: Collection[Key]) -> dict[Key, tuple[KernelUse, ...]]:
    """Returns the kernel's own uses of each of `wanted`. Leaves out uses that can't be looked at (in sysfs, of a device)."""
    found: dict[Key, list[KernelUse]] = {}
    devices = [key for key in wanted if key[0] == BLOCK_DEVICE]
    over = [(loop, loop.key) for loop in loops() if loop.key is not None and loop.key in wanted]
    if devices or over:
        users = DeviceUsers()
        for loop, key in over:
            what = ", ".join([f"loop device /dev/{loop.name}", *users.of(loop.device)])
            found.setdefault(key, []).append(KernelUse(what, loop.writing))
        for key in devices:
            uses = users.of(key[1]) or _claimed(key[1])
            found.setdefault(key, []).extend(KernelUse(use, writing=True) for use in uses)
    for key, use in named_files():
        if key in wanted:
            found.setdefault(key, []).append(use)
    return {key: tuple(uses) for key, uses in found.items() if uses}


def loops() -> Iterator[Loop]:
    """Yields the loop devices that are set up, by name."""
    for name in block_devices("loop"):
        backing = _text(f"{BLOCK}/{name}/loop/backing_file")
        device = number_of(name)
        if backing is not None and device is not None:  # otherwise it is not set up
            key = _backing_by_ioctl(f"/dev/{name}", device) or _key_at(backing)
            yield Loop(device, name, key, backing, _text(f"{BLOCK}/{name}/ro") != "1")


def block_devices(kind: str) -> list[str]:
    """Returns the names of the block devices whose names begin with `kind`, none without sysfs."""
    return [name for name in _listed(BLOCK) if name.startswith(kind)]


def number_of(name: str) -> int | None:
    """Returns the number of the block device with this name in sysfs, None if there is none."""
    return _number(_text(f"{BLOCK}/{name}/dev"))


def _backing_by_ioctl(node: str, device: int | None) -> Key | None:
    """Asks a loop device for its file. The name in sysfs may lead elsewhere by now, or belong to another mount namespace."""
    import fcntl

    try:
        fd = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None  # no such node here, or only root may open it
    try:
        if os.fstat(fd).st_rdev != device:
            return None
        answer = fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_LOOP_INFO_BYTES))
    except OSError:
        return None  # it was detached meanwhile
    finally:
        os.close(fd)
    on, inode, raw = _LOOP_INFO.unpack_from(answer)
    return (BLOCK_DEVICE, raw, 0) if raw else (FILE, on, inode)


class DeviceUsers:
    """The kernel's own uses of block devices. Mounts and swap are read once, for all questions."""

    def __init__(self) -> None:
        self._places: dict[int, list[str]] = {}
        for device, source, place in _mounts():
            for number in {device, _rdev(source)} - {None}:
                assert number is not None
                self._places.setdefault(number, []).append(f"mounted on {place}")
        for path in _swaps():
            number = _rdev(path)
            if number is not None:
                self._places.setdefault(number, []).append("used as swap")

    def of(self, device: int, depth: int = 0) -> list[str]:
        """Returns in words the uses of a device, of its partitions, and of devices made of them."""
        found = list(dict.fromkeys(self._places.get(device, ())))
        home = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
        for name in _listed(f"{home}/holders"):
            found.append(_called(name))
            found += self._of_name(f"{home}/holders/{name}", depth)
        for name in _listed(home):
            if _text(f"{home}/{name}/partition") is not None:
                found += self._of_name(f"{home}/{name}", depth)
        return found

    def _of_name(self, place: str, depth: int) -> list[str]:
        number = _number(_text(f"{place}/dev"))
        return self.of(number, depth + 1) if number is not None and depth < 16 else []


def _called(name: str) -> str:
    """Returns a description of a device on top of another; for one of the device mapper, with its name."""
    mapped = _text(f"{BLOCK}/{name}/dm/name")
    return f"device mapper {printable(mapped)}" if mapped else f"part of /dev/{printable(name)}"


def _claimed(device: int) -> list[str]:
    """Returns a use if a device is claimed exclusively, as by a mount in another mount namespace: then O_EXCL fails (open(2))."""
    node = f"/dev/block/{os.major(device)}:{os.minor(device)}"
    if _rdev(node) != device:
        node = f"/dev/{os.path.basename(os.path.realpath(f'/sys/dev/block/{os.major(device)}:{os.minor(device)}'))}"
    if _rdev(node) != device:
        return []
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return ["claimed by the kernel, or exclusively by a process"] if error.errno == errno.EBUSY else []
    return []


def named_files() -> Iterator[tuple[Key, KernelUse]]:
    """Yields files that the kernel uses directly, without a block device."""
    for path in _swaps():
        key = _key_at(path)
        if key:
            yield key, KernelUse("used as swap", writing=True)
    for _, source, place in _mounts():
        key = _key_at(source) if source.startswith("/") else None
        if key and key[0] == FILE:
            yield key, KernelUse(f"mounted on {place}", writing=False)  # erofs mounts files; a writing file system needs a device
    if os.path.isdir("/sys/kernel/config"):
        import glob

        for pattern in _EXPORTS:
            for file in glob.iglob(pattern):
                key = _key_at(_text(file) or "")
                if key:
                    yield key, KernelUse(f"exported by {printable(file.split('/')[4])}", writing=True)


def _mounts() -> Iterator[tuple[int, str, str]]:
    """Yields for each mount its device's number, its source, and its mount point, escaped for printing."""
    for line in (_text("/proc/self/mountinfo") or "").splitlines():
        fields = line.split(" ")
        try:
            number, place = _number(fields[2]), _unescaped(fields[4])
            source = _unescaped(fields[fields.index("-", 6) + 2])
        except (IndexError, ValueError):
            continue  # not a line of mountinfo's format
        if number is not None:
            yield number, source, printable(place)


def _swaps() -> list[str]:
    lines = (_text("/proc/swaps") or "").splitlines()[1:]
    return [_unescaped(line.split()[0]) for line in lines if line.strip()]


def _unescaped(text: str) -> str:
    r"""Replaces the octal escapes with which the kernel writes blanks, as in "\040"."""
    if "\\" not in text:
        return text
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] if part[:3].isdecimal() else "\\" + part for part in rest)


def _key_at(path: str) -> Key | None:
    with contextlib.suppress(OSError, ValueError):
        return key_of(os.stat(path))
    return None


def _rdev(path: str) -> int | None:
    key = _key_at(path) if path.startswith("/dev/") else None
    return key[1] if key and key[0] == BLOCK_DEVICE else None


def _number(text: str | None) -> int | None:
    """Reads a device's number, as in "7:0"."""
    major, colon, minor = (text or "").partition(":")
    return os.makedev(int(major), int(minor)) if colon and major.isdecimal() and minor.isdecimal() else None


def _text(path: str) -> str | None:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return os.fsdecode(file.read()).removesuffix("\n")
    return None


def _listed(directory: str) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(os.listdir(directory))
    return []
