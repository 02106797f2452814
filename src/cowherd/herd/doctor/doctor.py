"""Examines a herd: runs every check in turn, and sorts their findings, worst first."""

from __future__ import annotations

from pathlib import Path

from cowherd.herd.doctor import content, files, links, machines, running
from cowherd.herd.doctor.examination import Examination
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.survey import survey
from cowherd.herd.seals.verify import Checker
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cowherd.herd.doctor.finding import Finding
    from cowherd.herd.machines.running import Runs
    from cowherd.paths import PathName
    from cowherd.progress import Progress

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


def doctor(
    directories: Sequence[PathName] = (),
    *,
    full: bool = False,
    longest_chain: int = LONGEST_CHAIN,
    progress: Progress | None = None,
) -> Diagnosis:
    """Examines the herd in `directories` (the current one by default); changes no file of it.

    The quick form reads headers, the records of seals, and the tables of a few overlays; `full` also reads the content of sealed
    images and the tables of all images. `longest_chain`: a chain of more images is a finding. Asks the monitors of machines that
    run on the herd, within the limits of time of `cowherd.live.qmp`. Raises `HostFileError` if /proc can't be read.
    """
    return diagnosis_of(survey(directories or ["."]), full=full, longest_chain=longest_chain, progress=progress)


def diagnosis_of(
    lineage: Lineage,
    *,
    full: bool = False,
    longest_chain: int = LONGEST_CHAIN,
    progress: Progress | None = None,
    runs: Runs | None = None,
    checker: Checker | None = None,
) -> Diagnosis:
    """Examines the herd of a lineage that the caller has already; raises as `doctor`.

    `runs` is what runs on it, if the caller has looked through all processes already; `checker` finds the conditions of images,
    if the caller has one.
    """
    exam = Examination(lineage, checker or Checker(full=full, progress=progress), full, longest_chain, runs)
    found = sorted((finding for check in CHECKS for finding in check(exam)), key=lambda finding: finding.rank)
    unasked = tuple(running.not_asked(exam))
    return Diagnosis(tuple(map(Path, lineage.directories)), len(lineage.shown), tuple(found), full, lineage.catalog, unasked)
