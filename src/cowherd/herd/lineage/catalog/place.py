"""Says where the catalog is, whether it can be trusted, and on which file systems the times of files are reliable."""

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

_NAME = "catalog-3.sqlite"  # each layout of the rows has its own name, so that two versions don't delete each other's catalog
_SYSTEM_CACHE = "/var/cache"
_RELIABLE = frozenset(("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"))


def catalog_path() -> Path | None:
    """Returns the path of the catalog, None for no catalog. COWHERD_CATALOG gives it; else it lies in the user's cache directory
    (for root in the system's, so that `sudo` does not leave files of root's in somebody's home)."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return None if named == OFF else as_path(os.path.abspath(named))
    home = os.environ.get("XDG_CACHE_HOME", "")
    if os.geteuid() == 0:
        home = _SYSTEM_CACHE
    elif not os.path.isabs(home):  # the XDG base directory specification says to ignore relative paths
        home = os.path.join(os.path.expanduser("~"), ".cache")
    return as_path(os.path.abspath(home), "cowherd", _NAME)


def is_named() -> bool:
    """Returns whether the user chose the catalog's file by name, so that the file may be something else of theirs."""
    return bool(os.environ.get(VARIABLE, ""))


def distrust(path: Path) -> str | None:
    """Returns why the file at `path` can't be trusted; None if it can, or there is none. Raises OSError."""
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
    """Returns whether every change of a file under `directory` shows at once in what stat(2) says of the file.

    The local file systems of this kernel promise that. Over a network another machine's change can take a minute to show. `table`
    is the file that lists the mounts.
    """
    try:
        mount = mount_of(directory, list(mounts(table)))
    except OSError:
        return False
    return mount is not None and mount.type in _RELIABLE
