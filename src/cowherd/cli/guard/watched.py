"""The directories that a command watches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.errors import HostFileError

if TYPE_CHECKING:
    import argparse


def directories_of(arguments: argparse.Namespace) -> tuple[Path, ...]:
    """Returns the directories to watch, without symbolic links. Raises `HostFileError` if one is not there."""
    directories = tuple(Path(os.path.realpath(directory)) for directory in [*arguments.directories, *arguments.herd] or ["."])
    for directory in directories:
        if not directory.is_dir():
            raise HostFileError(directory, "watch", NotADirectoryError(20, "there is no such directory"))
    return directories
