"""Runs jobs of the program as soon as arrays come into use, and not before: many commands need no arrays."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_wanted: list[Callable[[], None]] = []


def when_in_use(job: Callable[[], None]) -> None:
    """Calls `job` once numpy is imported for cowherd's arrays; now if it has been imported already."""
    if "numpy" in sys.modules:
        job()
    else:
        _wanted.append(job)


def numpy_imported() -> None:
    """Runs the jobs that wait for numpy. Called by `cowherd.extents`, which imports numpy for all other modules."""
    while _wanted:
        _wanted.pop()()
