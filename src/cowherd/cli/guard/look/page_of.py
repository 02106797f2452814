"""A herd as one HTML page, for programs: what `cowherd report` writes to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cowherd.paths import PathNames
    from cowherd.progress import Progress


def report(directories: PathNames = (), *, full: bool = False, progress: Progress | None = None) -> str:
    """Returns one HTML page about the herd in `directories` (the current one by default): its lineage, health and drift.

    The page needs no other file. With `full` the content of all sealed images and all tables are read. Changes nothing.
    Raises `HostFileError` if a directory does not exist.
    """
    from cowherd.cli.guard.look.page.document import page
    from cowherd.herd.report.overview import overview

    return page(overview(directories, full=full, progress=progress))
