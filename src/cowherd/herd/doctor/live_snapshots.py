"""Snapshots that running domains stand on, which are going to be taken back."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.live.libvirt_records import DomainRecord


def parents_of_live_snapshots(domains: Iterable[DomainRecord], lineage: Lineage) -> set[str]:
    """Returns the paths of images that a running domain has put a snapshot on: to take it back, blockcommit writes to them.

    Tools that make backups leave no record of a snapshot in libvirt; then a base that nothing else stands on counts.
    """
    found = set()
    for domain in domains:
        recorded = {os.path.realpath(file.path) for file in domain.snapshots}
        for disk in domain.disks if domain.active else ():
            for path in map(os.path.realpath, disk.backing if disk.running else ()):
                image = lineage.known(path)
                if path in recorded or (image and len(lineage.children(image)) == 1):
                    found.add(path)
    return found
