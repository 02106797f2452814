"""Finds images below snapshots of running domains: libvirt will merge the snapshots back into them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.live.libvirt_records import DomainRecord


def parents_of_live_snapshots(domains: Iterable[DomainRecord], lineage: Lineage) -> set[str]:
    """Returns the paths of the images below snapshots of running domains: blockcommit writes to them to remove a snapshot.

    Backup tools leave no record of their snapshots in libvirt; so a base whose only overlay is the domain's counts too.
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
