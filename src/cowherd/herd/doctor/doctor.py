"""Examines a herd: runs every check in turn, and sorts their findings, worst first."""

from __future__ import annotations

import os

from cowherd.herd.doctor import content, files, links, machines, running
from cowherd.herd.doctor.examination import Examination
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.survey import survey
from cowherd.herd.seals.verify import Checker
from cowherd.paths import as_path, path_names
from cowherd.progress import of_each
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from cowherd.herd.doctor.finding import Finding
    from cowherd.herd.machines.running import Runs
    from cowherd.paths import PathNames
    from cowherd.progress import Progress, Reading

LONGEST_CHAIN = 16

CHECKS: tuple[Callable[[Examination], Iterator[Finding]], ...] = (
    running.running_faults,
    links.missing_bases,
    links.unknown_bases,
    links.disputed_formats,
    links.unseen_places,
    links.forgotten_places,
    links.loops,
    links.unrecorded_formats,
    links.names,
    links.deep_chains,
    links.smaller_bases,
    content.interrupted_merges,
    content.lost_images,
    content.drift,
    content.written_now,
    content.unprotected_bases,
    content.unbound,
    files.unreadable,
    files.marks,
    files.tables,
    files.copied_bases,
    machines.domains_without_disks,
    machines.unnamed_disks,
)


class Diagnosis(NamedTuple):
    """The findings in the herd of `directories`, worst first; `images` counts the images that were examined.

    `catalog` is the file of the catalog that knew headers, so that these were not read; None if none was used. `not_asked`
    says why machines were not asked though they have a monitor.
    """

    directories: tuple[Path, ...]
    images: int
    findings: tuple[Finding, ...]
    full: bool
    catalog: Path | None = None
    not_asked: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether all findings are mere notes."""
        return all(finding.kind.is_note for finding in self.findings)

    def to_json(self, rows: Callable[[Iterator[dict[str, Any]]], Any] = list) -> dict[str, Any]:
        """Returns plain values, as `cowherd doctor --json` prints them; `rows` makes the list of the findings."""
        return {
            "directories": [os.fspath(directory) for directory in self.directories],
            "images": self.images,
            "healthy": self.healthy,
            "full": self.full,
            "catalog": os.fspath(self.catalog) if self.catalog else None,
            "not_asked": list(self.not_asked),
            "findings": rows(finding.to_json() for finding in self.findings),
        }


def doctor(
    directories: PathNames = (),
    *,
    full: bool = False,
    longest_chain: int = LONGEST_CHAIN,
    progress: Progress | None = None,
    reading: Reading | None = None,
) -> Diagnosis:
    """Examines the herd in `directories` (the current one by default); changes no file of it.

    The quick form reads headers, the records of seals, and the tables of a few overlays; `full` also reads the content of sealed
    images and the tables of all images. `longest_chain`: a chain of more images is a finding. Asks the monitors of machines that
    run on the herd, within the limits of time of `cowherd.live.qmp`. `reading(name)` is called before the content of an image is
    read, and returns a progress of its own for it, or None. Raises `HostFileError` if /proc can't be read.
    """
    directories = path_names(directories)
    return diagnosis_of(
        survey(directories or ["."]), full=full, longest_chain=longest_chain, reading=reading or of_each(progress)
    )


def diagnosis_of(
    lineage: Lineage,
    *,
    full: bool = False,
    longest_chain: int = LONGEST_CHAIN,
    reading: Reading | None = None,
    runs: Runs | None = None,
    checker: Checker | None = None,
) -> Diagnosis:
    """Examines the herd of a lineage that the caller has already; raises as `doctor`.

    `runs` is what runs on it, if the caller has looked through all processes already; `checker` finds the conditions of images,
    if the caller has one.
    """
    exam = Examination(lineage, checker or Checker(full=full, reading=reading), full, longest_chain, runs)
    found = _findings_in(exam)
    unasked = tuple(running.not_asked(exam))
    return Diagnosis(tuple(map(as_path, lineage.directories)), len(lineage.shown), tuple(found), full, lineage.catalog, unasked)


def findings_of(lineage: Lineage, runs: Runs) -> list[Finding]:
    """Returns what the quick form of `diagnosis_of` finds, worst first."""
    return _findings_in(Examination(lineage, Checker(full=False), False, LONGEST_CHAIN, runs))


def _findings_in(exam: Examination) -> list[Finding]:
    return sorted((finding for check in CHECKS for finding in check(exam)), key=lambda finding: finding.rank)
