"""Plans: the changes that a job will make to a file, as a value to print, sum and execute. Planning reads tables, never data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cowherd import extents as ext
from cowherd.extents import Ranges


@dataclass(frozen=True)
class Plan:
    """Guest ranges of `target` that a job changes: `copy` gets bytes from elsewhere, `zero` becomes zeros.

    Both are range arrays (see `cowherd.extents`), disjoint from each other.
    """

    target: Path
    copy: Ranges
    zero: Ranges

    @property
    def bytes_to_copy(self) -> int:
        """Number of bytes to copy."""
        return ext.total(self.copy)

    @property
    def files_changed(self) -> tuple[Path, ...]:
        """The target, unless there is nothing to do."""
        return (self.target,) if len(self.copy) or len(self.zero) else ()
