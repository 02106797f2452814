"""The errors of the keeping.

CowherdError
    ContentDamaged      no store has what is asked for as it was
    CopyDamaged         the copy of the metadata definitions in a store makes no sense
"""

from __future__ import annotations

from pathlib import Path

from cowherd.errors import CowherdError
from cowherd.text import printable


class ContentDamaged(CowherdError):
    """No store has a blob, or the part of it that is asked for, as it was. Attributes: `digest`, `problem` (a sentence)."""

    exit_code = 4

    def __init__(self, digest: str, problem: str):
        self.digest, self.problem = digest, problem

    def __str__(self) -> str:
        return self.problem


class CopyDamaged(CowherdError):
    """The copy of the metadata definitions in a store makes no sense. Attributes: `store`, `path`, `problem`."""

    exit_code = 4

    def __init__(self, store: str, path: Path, problem: str):
        self.store, self.path, self.problem = store, path, problem

    def __str__(self) -> str:
        return (
            f"the copy of the metadata definitions in the store {printable(self.store)} makes no sense "
            f"({printable(self.problem)}): restore or delete {printable(str(self.path))}; a service that has definitions "
            f"writes it anew"
        )
