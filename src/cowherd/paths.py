"""Makes paths of file names late: most commands need no `Path` for their work, and `pathlib` takes long to load."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from pathlib import Path
    from typing import TypeAlias

    PathName: TypeAlias = str | os.PathLike[str]
    """The name of a file, as a caller gives it."""


def as_path(*parts: PathName) -> Path:
    """Returns `Path(*parts)`; the first call loads `pathlib`."""
    from pathlib import Path

    return Path(*parts)
