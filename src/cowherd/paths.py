"""Names of files as paths, made late: most commands need none to do their work, and `pathlib` takes long to load."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from pathlib import Path


def as_path(*parts: str | os.PathLike[str]) -> Path:
    """Returns the path that `Path(*parts)` is; the first call loads `pathlib`."""
    from pathlib import Path

    return Path(*parts)
