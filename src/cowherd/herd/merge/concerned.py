"""Whether a survey of the herd met every image that a merge concerns: an image that it left out would be taken for gone."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from cowherd.errors import HostFileError
from cowherd.herd.records.header import read_image
from cowherd.storage.presence import GONE, look_up

if TYPE_CHECKING:
    from pathlib import Path

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.records.journal import Entry


def require_concerned(lineage: Lineage, entry: Entry) -> None:
    """Raises `HostFileError` for an image of the journal that exists but could not be looked at, or read.

    Otherwise an overlay of the base that was left out would not get its new binding, and an overlay of a removed overlay would
    lose its base.
    """
    unreadable = set(lineage.unreadable)
    for path in entry.images:
        # Only a clear answer that there is nothing counts as gone; a host that may not or can't tell has not given that answer.
        if look_up(path, absent=GONE) and (path in unreadable or lineage.known(path) is None):
            raise _why(path)


def _why(path: Path) -> HostFileError:
    try:
        read_image(os.fspath(path))
    except OSError as error:
        return HostFileError(path, "read", error)
    return HostFileError(path, "read", OSError(errno.EAGAIN, "it could not be read a moment ago, or its directory could not"))
