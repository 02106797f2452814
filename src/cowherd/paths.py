"""Makes paths of file names late: most commands need no `Path` for their work, and `pathlib` takes long to load."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import TypeAlias

    PathName: TypeAlias = str | os.PathLike[str]
    """The name of a file, as a caller gives it."""

    PathNames: TypeAlias = PathName | Iterable[PathName]
    """The names of files, as a caller gives them. One alone is one file, also as text."""


def as_path(*parts: PathName) -> Path:
    """Returns `Path(*parts)`; the first call loads `pathlib`."""
    from pathlib import Path

    return Path(*parts)


def path_names(names: PathNames) -> tuple[str, ...]:
    """Returns the names of files that a caller gave; one name alone, and not its letters, if it is text.

    Raises `TypeError` if one is no name of a file, as a number is none, which the host would take for an open descriptor.
    """
    return tuple(map(os.fsdecode, [names] if isinstance(names, str | bytes | os.PathLike) else names))


def in_real_directory(path: PathName) -> str:
    """Returns where a new file of that name lies: its directory without symbolic links; the name itself is not followed."""
    directory, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(directory), name)


def directory_of(path: PathName) -> str:
    """Returns the name of the directory in which the name `path` is."""
    return os.path.dirname(path) or "."


def lies_in(path: str, directory: str) -> bool:
    """Returns whether an absolute path is `directory` or lies under it; `storage.mounts.lies_in` does for names in bytes."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")
