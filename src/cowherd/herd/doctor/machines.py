"""Checks of the users of images: machines that run on deleted files, and disks in libvirt's records."""

from __future__ import annotations

import os
from pathlib import Path

from cowherd.herd.doctor.finding import Finding, Kind
from cowherd.herd.doctor.links import in_trash
from cowherd.herd.machines.domains import images_without_domain
from cowherd.live.gone import gone_disks
from cowherd.live.holders import describe
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.herd.doctor.examination import Examination
    from cowherd.live.gone import GoneDisk


def running_on_gone(exam: Examination) -> Iterator[Finding]:
    """Yields machines whose disk was deleted, or replaced under its name: its content is lost when they stop."""
    for disk in gone_disks():
        if exam.lineage.was_listed(os.path.dirname(disk.path)):
            yield _gone(disk)


def _gone(disk: GoneDisk) -> Finding:
    kind = Kind.RUNNING_ON_REPLACED if disk.replaced else Kind.RUNNING_ON_DELETED
    what = "another file has its name, while the one that it was" if disk.replaced else "it was deleted, while it"
    detail = (
        f"{what} is still open in {describe(disk.holder)}: when that stops, it is gone. Keep it from stopping, "
        f"pause it ('virsh suspend', or 'stop' in QEMU's monitor), and copy the file"
    )
    saved = next(name for name in _names_for(disk.path) if not os.path.lexists(name))
    return Finding(kind, Path(disk.path), detail, ("cp", "--sparse=always", disk.descriptor, saved))


def _names_for(path: str) -> Iterator[str]:
    yield f"{path}.rescued"
    for number in range(2, 1 << 20):
        yield f"{path}.rescued{number}"


def domains_without_disks(exam: Examination) -> Iterator[Finding]:
    """Yields disks that libvirt domains name and that do not exist."""
    for domain in exam.domains:
        for disk in domain.disks:
            directory = os.path.realpath(os.path.dirname(disk.path))
            if os.path.lexists(disk.path) or not exam.lineage.was_listed(directory):
                continue
            detail = f"the libvirt domain {printable(domain.name)} names it as {disk.target}, and it is not there"
            deleted = in_trash(Path(disk.path))
            if deleted:
                remedy = ("cowherd", "trash", "restore", os.fspath(deleted))
                yield Finding(Kind.DOMAIN_WITHOUT_DISK, Path(disk.path), f"{detail}: it lies in the trash", remedy)
            else:
                yield Finding(Kind.DOMAIN_WITHOUT_DISK, Path(disk.path), f"{detail}; put it back, or undefine the domain")


def unnamed_disks(exam: Examination) -> Iterator[Finding]:
    """Yields images without overlays that no domain names, beside disks of domains."""
    for image in images_without_domain(exam.lineage, exam.domains):
        detail = "no libvirt domain names it, while domains have other disks in its directory"
        yield Finding(Kind.UNNAMED_DISK, image.path, detail)
