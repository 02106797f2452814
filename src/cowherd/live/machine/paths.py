"""Resolves a name in a machine's description to the file that the kernel will find."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.text import current_directory

if TYPE_CHECKING:
    from cowherd.paths import PathName

_DESCRIPTOR = re.compile(r"/dev/(?:fd/\d+|std(?:in|out|err))|/proc/[^/]+(?:/task/\d+)?/fd/\d+")


def local_path(name: str, directory: PathName) -> Path:
    """Returns the absolute path of `name`, which starts in `directory` if it is relative.

    `..` behind a symbolic link goes up from the link's target, as in the kernel. A name of an open descriptor becomes the name of
    the open file, because no seal can lie beside a descriptor.
    """
    path = name
    if not os.path.isabs(name):  # if the current directory is gone, nothing can be opened in it anyway
        path = os.path.join(os.path.abspath(directory) if current_directory() else directory, name)
    if ".." in path.split("/"):
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        path = os.path.realpath(path) if os.path.basename(path) in ("..", ".") else path
    if _DESCRIPTOR.fullmatch(os.path.normpath(path)):
        path = os.path.realpath(path)
    return Path(os.path.normpath(path))
