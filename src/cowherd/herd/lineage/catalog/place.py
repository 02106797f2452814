"""Where the catalog is, who may write it, and the file systems whose times can be relied on."""

from __future__ import annotations

import os
import stat

from cowherd.herd.records.ownership import OTHERS_MAY_WRITE
from cowherd.paths import as_path
from cowherd.storage.mounts import MOUNTS, mount_of, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from cowherd.paths import PathName


VARIABLE = "COWHERD_CATALOG"
"""The environment variable that names the catalog's file; "off" goes without."""
OFF = "off"

_NAME = "catalog-3.sqlite"  # another layout of the rows has another name, so that two versions don't throw away each other's
_SYSTEM_CACHE = "/var/cache"
_RELIABLE = frozenset(("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"))


def catalog_path() -> Path | None:
    """Returns where the catalog is, None for none: COWHERD_CATALOG says, or it is the user's cache directory (root's is the
    system's, so that `sudo` does not leave files of root's in somebody's home)."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return None if named == OFF else as_path(os.path.abspath(named))
    home = os.environ.get("XDG_CACHE_HOME", "")
    if os.geteuid() == 0:
        home = _SYSTEM_CACHE
    elif not os.path.isabs(home):  # the specification has relative ones ignored
        home = os.path.join(os.path.expanduser("~"), ".cache")
    return as_path(os.path.abspath(home), "cowherd", _NAME)


def is_named() -> bool:
    """Whether somebody chose the file by name, so that it may be one of their own."""
    return bool(os.environ.get(VARIABLE, ""))


def distrust(path: Path) -> str | None:
    """Returns why what lies at `path` is not to be believed, None if it may be or nothing is there. Raises OSError."""
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(info.st_mode):
        return "it is no regular file"
    if info.st_uid != os.geteuid():
        return "it belongs to another user"
    if info.st_mode & OTHERS_MAY_WRITE:
        return "others may write to it"
    return None


def times_are_reliable(directory: str, table: PathName = MOUNTS) -> bool:
    """Returns whether every change of a file under `directory` shows in what stat(2) says of it at once.

    So it is on the file systems of this machine's own kernel. Over a network another machine's change can take a minute to show.
    """
    try:
        mount = mount_of(directory, list(mounts(table)))
    except OSError:
        return False
    return mount is not None and mount.type in _RELIABLE
