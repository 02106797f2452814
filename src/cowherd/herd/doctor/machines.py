"""Checks of disks in libvirt's records."""

from __future__ import annotations

import os

from cowherd.herd.doctor.finding import Finding, Kind
from cowherd.herd.doctor.links import in_trash
from cowherd.herd.machines.domains import images_without_domain
from cowherd.paths import as_path
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.herd.doctor.examination import Examination


def domains_without_disks(exam: Examination) -> Iterator[Finding]:
    """Yields disks that libvirt domains name and that do not exist."""
    for domain in exam.domains:
        for disk in domain.disks:
            directory = os.path.realpath(os.path.dirname(disk.path))
            if os.path.lexists(disk.path) or not exam.lineage.was_listed(directory):
                continue
            detail = f"the libvirt domain {printable(domain.name)} names it as {disk.target}, and it is not there"
            deleted = in_trash(as_path(disk.path))
            if deleted:
                remedy = ("cowherd", "trash", "restore", os.fspath(deleted))
                yield Finding(Kind.DOMAIN_WITHOUT_DISK, disk.path, f"{detail}: it lies in the trash", remedy)
            else:
                yield Finding(Kind.DOMAIN_WITHOUT_DISK, disk.path, f"{detail}; put it back, or undefine the domain")


def unnamed_disks(exam: Examination) -> Iterator[Finding]:
    """Yields images without overlays that no domain names, beside disks of domains."""
    for image in images_without_domain(exam.lineage, exam.domains):
        detail = "no libvirt domain names it, while domains have other disks in its directory"
        yield Finding(Kind.UNNAMED_DISK, image.filename, detail)
