"""Asks libvirt's daemon about its domains if its files may not be read: they are root's, but its socket is open to everybody.

Needs libvirt-python. A user who may read the files never calls the daemon, because the daemon waits for us in its hook.
Source: https://libvirt.org/html/libvirt-libvirt-domain.html, -domain-snapshot.html, -domain-checkpoint.html, -storage.html
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

SYSTEM = "qemu:///system"
LONGEST_SECONDS = 5.0


class DomainTold(NamedTuple):
    """One domain as its daemon describes it. `defined` is its XML for the next start, `running` that of the running machine, each
    None if there is none; `snapshots` and `checkpoints` have the XML of each. `saved` says that its memory was saved."""

    name: str
    uuid: str
    defined: str | None
    running: str | None
    saved: bool
    snapshots: tuple[str, ...]
    checkpoints: tuple[str, ...]


class Told(NamedTuple):
    """All domains, and the XML of the storage pools."""

    domains: tuple[DomainTold, ...]
    pools: tuple[str, ...]


def ask(uri: str = SYSTEM) -> Told | None:
    """Returns the daemon's answer, None if libvirt-python is not installed or the daemon does not answer in time."""
    try:
        import libvirt
    except ImportError:
        return None
    import threading

    answers: list[Told] = []

    def call() -> None:
        libvirt.registerErrorHandler(lambda *_: None, None)  # otherwise libvirt prints errors itself
        with contextlib.suppress(libvirt.libvirtError):  # an error means no answer, which is all that the caller needs
            answers.append(_told(libvirt, uri))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(LONGEST_SECONDS)
    return answers[0] if answers else None


def _told(libvirt: Any, uri: str) -> Told:
    connection = libvirt.openReadOnly(uri)
    try:
        domains = (_one(libvirt, domain) for domain in connection.listAllDomains(0))
        pools = [pool.XMLDesc(0) for pool in connection.listAllStoragePools(0)]
        return Told(tuple(domain for domain in domains if domain), tuple(pools))
    finally:
        connection.close()


def _one(libvirt: Any, domain: Any) -> DomainTold | None:
    try:
        return DomainTold(
            name=domain.name(),
            uuid=domain.UUIDString(),
            defined=domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if domain.isPersistent() else None,
            running=domain.XMLDesc(0) if domain.isActive() else None,
            saved=bool(domain.hasManagedSaveImage(0)),
            snapshots=tuple(snapshot.getXMLDesc(0) for snapshot in domain.listAllSnapshots(0)),
            checkpoints=tuple(checkpoint.getXMLDesc(0) for checkpoint in domain.listAllCheckpoints(0)),
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None  # it was undefined meanwhile
        raise
