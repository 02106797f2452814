"""Where overlays of an image may lie when nobody has said where: around it, within bounds.

Nova keeps bases in `_base/` and each machine in a directory of its own, Proxmox in `images/100/` and `images/101/`, multipass in
`vault/images/NAME/` and `vault/instances/NAME/`. So the search looks below an image's directory, then into its parent's other
directories, then into those of the parent's parent, the nearest first. It never begins in a directory that is nobody's or
everybody's (`/`, `/var/lib`, `/tmp`, `/home`), nor above a home or the root of a file system. COWHERD_CEILING names directories,
separated by colons, in and above which it does not look.
"""

from __future__ import annotations

import heapq
import os
import stat
import time

from cowherd.herd.lineage.book.memory import mount_table
from cowherd.herd.lineage.listing import ALL_DEVICES, directories_in, list_directory
from cowherd.herd.lineage.walk import Listing
from cowherd.storage.mounts import lies_in, mount_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

CEILING_VARIABLE = "COWHERD_CEILING"
"""The environment variable that names directories in and above which no search looks, as GIT_CEILING_DIRECTORIES does."""
MOST_ENTRIES = 10_000
MOST_SECONDS = 1.0

_CLIMB = 2  # directories above an image's own
_DEEPEST = 4  # levels below an image's directory, or the one that was climbed to
_DEEPEST_FROM_TOP = 2  # below a home, or the root of a file system
_NOBODYS = frozenset(
    (
        "/",
        "/boot",
        "/dev",
        "/dev/shm",
        "/etc",
        "/home",
        "/media",
        "/mnt",
        "/proc",
        "/run",
        "/run/media",
        "/run/user",
        "/snap",
        "/sys",
        "/tmp",
        "/usr",
        "/usr/local",
        "/usr/local/share",
        "/usr/share",
        "/var",
        "/var/cache",
        "/var/lib",
        "/var/local",
        "/var/log",
        "/var/snap",
        "/var/spool",
        "/var/tmp",
    )
)
_LOCAL = frozenset(
    ("bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "vfat", "xfs", "zfs")
)
"""Types of file systems that answer at once: the search enters those that are mounted among an image's neighbours."""


class Budget:
    """How much more may be looked at; `cut` are the directories that were left out because of it."""

    def __init__(self) -> None:
        self._entries, self._until = MOST_ENTRIES, time.monotonic() + MOST_SECONDS
        self.cut: list[str] = []

    def allows(self, directory: str) -> bool:
        """Returns whether one more directory may be looked at, and adds it to `cut` if not."""
        if self._entries > 0 and time.monotonic() < self._until:
            return True
        self.cut.append(directory)
        return False

    def spend(self, entries: int) -> None:
        """Notes that so many files and directories were looked at."""
        self._entries -= entries


def begins(directories: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Returns where a look around images in `directories` (absolute, without symbolic links) begins: for each place its
    distance from them, and the number of levels below it to look at."""
    found: dict[str, tuple[int, int]] = {}
    for directory in directories:
        for place in (directory, *_aliases(directory)):
            for distance, (here, depth) in enumerate(_climbed(place)):
                if here not in found or found[here][0] > distance:
                    found[here] = distance, depth
    return found


def look_around(places: Iterable[str], listed: Container[str], unseen: list[str], budget: Budget) -> Iterator[Listing]:
    """Yields the directories around images that lie in `places`, nearest first, except those in `listed`.

    Links to directories are followed. What can't be looked into is added to `unseen`.
    """
    seen: set[tuple[int, int]] = set()
    pending = [(distance, distance, depth, place) for place, (distance, depth) in begins(places).items()]
    heapq.heapify(pending)
    ceilings = _ceilings()
    while pending:
        distance, below, depth, directory = heapq.heappop(pending)
        if not _is_new(directory, seen, ceilings) or not budget.allows(directory):
            continue
        if not _answers_at_once(directory):
            unseen.append(directory)
            continue
        try:
            if directory in listed:
                names = directories_in(directory)
            else:
                found = list_directory(directory, ALL_DEVICES)
                budget.spend(len(found.files))
                unseen.extend(os.path.join(directory, name) for name in found.unreadable)
                yield Listing(directory, found.files, frozenset(found.links), has_trash=found.has_trash)
                names = [*found.below, *found.linked]
        except OSError:
            unseen.append(directory)
            continue
        budget.spend(1 + len(names))
        if distance - below < depth:
            for name in names:
                if not name.startswith("."):
                    heapq.heappush(pending, (distance + 1, below, depth, os.path.realpath(os.path.join(directory, name))))


def _climbed(directory: str) -> Iterator[tuple[str, int]]:
    """Yields the directory and those above it that belong to its images' surroundings, each with the levels to look at below."""
    for _ in range(1 + _CLIMB):
        if _is_nobodys(directory):
            return
        top = _is_top(directory)
        yield directory, _DEEPEST_FROM_TOP if top else _DEEPEST
        if top:
            return
        directory = os.path.dirname(directory)


def _is_nobodys(directory: str) -> bool:
    """Whether a directory belongs to the whole system, or to everybody, as /tmp does; COWHERD_CEILING names more such."""
    if directory in _NOBODYS:
        return True
    name = os.fsencode(directory)
    if any(lies_in(ceiling, name) for ceiling in _ceilings()):
        return True
    try:
        mode = os.stat(directory).st_mode
    except OSError:
        return True
    return bool(mode & stat.S_ISVTX and mode & stat.S_IWOTH)


def _ceilings() -> list[bytes]:
    named = os.environ.get(CEILING_VARIABLE, "").split(os.pathsep)
    return [os.fsencode(os.path.realpath(ceiling)) for ceiling in named if ceiling]


def _is_top(directory: str) -> bool:
    """Whether a directory is somebody's home, or the root of a file system."""
    if os.path.dirname(directory) in ("/home", "/var/home") or directory in ("/root", os.path.realpath(os.path.expanduser("~"))):
        return True
    name = os.fsencode(directory)
    return any(mount.point == name for mount in mount_table())


def _is_new(directory: str, seen: set[tuple[int, int]], ceilings: list[bytes]) -> bool:
    """Whether a directory has not been looked at yet, under any name, and may be looked at."""
    name = os.fsencode(directory)
    if directory in _NOBODYS or any(lies_in(ceiling, name) for ceiling in ceilings):
        return False
    try:
        info = os.stat(directory)
    except OSError:
        return False  # gone since it was listed
    key = info.st_dev, info.st_ino
    if key in seen:
        return False
    seen.add(key)
    return True


def _answers_at_once(directory: str) -> bool:
    mount = mount_of(directory, mount_table())
    return mount is None or mount.type in _LOCAL


def _aliases(directory: str) -> Iterator[str]:
    """Yields the other names of a directory whose file system, or a part of it, is mounted in several places."""
    table = mount_table()
    here = mount_of(directory, table)
    if here is None:
        return
    inside = os.path.normpath(os.path.join(here.root, os.path.relpath(os.fsencode(directory), here.point)))
    for mount in table:
        if mount.device == here.device and mount is not here and lies_in(inside, mount.root):
            alias = os.fsdecode(os.path.normpath(os.path.join(mount.point, os.path.relpath(inside, mount.root))))
            if alias != directory and os.path.isdir(alias):
                yield alias
