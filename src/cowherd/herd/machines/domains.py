"""Disks that libvirt's domains name. Their records count as use, also while the domains are shut off.

This module reads libvirt's own files to tell what a change means to a domain; only `redefine` calls libvirt, on request.
"""

from __future__ import annotations

import contextlib
import os

from cowherd.errors import CowherdError, preview
from cowherd.live.kernel_holders import key_of
from cowherd.live.libvirt_records import records_naming
from cowherd.notes import say
from cowherd.text import printable, shown
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from xml.etree.ElementTree import Element

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.live.kernel_holders import Key
    from cowherd.live.libvirt_records import DomainRecord
    from cowherd.paths import PathName


_TIMEOUT_SECONDS = 60


class Naming(NamedTuple):
    """A domain that names a file: `path` as the domain spells it, `role` is "vda", "vda's backing file", "snapshot ...".

    `redefinable`: the domain's definition names it, which `redefine` can change. A snapshot's record can't be changed.
    """

    domain: DomainRecord
    path: str
    role: str
    redefinable: bool


class DiskOfDomain(CowherdError):
    """A libvirt domain names a file that was to be renamed or removed.

    Attributes: `path`, `action` (what was refused, as in "delete"), `domain`, `target` (the file's role there), `remedy`.
    """

    exit_code = 3

    def __init__(self, path: PathName, action: str, naming: Naming, remedy: str):
        self.path, self.action, self.remedy = os.fspath(path), action, remedy
        self.domain, self.target = printable(naming.domain.name), naming.role

    def __str__(self) -> str:
        named = f"the libvirt domain {self.domain} names it as {self.target}"
        return f"refusing to {self.action} {shown(self.path)}: {named}. {self.remedy}"


class DomainSaved(CowherdError):
    """The memory of a domain is saved, and a disk of it was to be changed: the domain would resume with a disk that does not fit.

    Attributes: `path`, `action`, `domain`, `target`, `saved` (the file of the memory).
    """

    exit_code = 3

    def __init__(self, path: PathName, action: str, naming: Naming):
        self.path, self.action, self.saved = os.fspath(path), action, naming.domain.managed_save
        self.domain, self.target = printable(naming.domain.name), naming.role

    def __str__(self) -> str:
        return (
            f"refusing to {self.action} {shown(self.path)}: it is {self.target} of the libvirt domain {self.domain}, whose "
            f"memory was saved and goes with the disk as it is. Start the domain and shut it down, or give the memory up with "
            f"'virsh managedsave-remove {self.domain}'"
        )


class DomainNotRedefined(CowherdError):
    """libvirt refused a new definition of a domain. Attributes: `domain`, `problem`."""

    def __init__(self, domain: str, problem: str):
        self.domain, self.problem = printable(domain), problem

    def __str__(self) -> str:
        return (
            f"the libvirt domain {self.domain} could not be redefined: {self.problem}; 'virsh edit {self.domain}' does it by hand"
        )


def named_by_domains(files: Iterable[PathName]) -> Iterator[tuple[str, Naming]]:
    """Yields (file, naming) for each place in libvirt's records that names one of `files`, under any of its names."""
    wanted: dict[Key | str, str] = {}
    for file in files:
        file = os.fspath(file)
        wanted[os.path.realpath(file)] = file
        with contextlib.suppress(OSError, ValueError):  # the file is gone, and only its name can match
            wanted[key_of(os.stat(file))] = file
    records = records_naming(lambda path: _find_wanted(path, wanted) is not None)
    if records.unreadable:
        say(f"libvirt's records can't all be read ({preview(records.unreadable)}): a domain may name these images")
    for domain in records.domains:
        for naming in _namings_of(domain):
            found = _find_wanted(naming.path, wanted)
            if found is not None:
                yield found, naming


def _namings_of(domain: DomainRecord) -> Iterator[Naming]:
    for disk in domain.disks:
        yield Naming(domain, disk.path, disk.target, redefinable=True)
        for path in disk.backing:
            yield Naming(domain, path, f"{disk.target}'s backing file", redefinable=True)
    for file in (*domain.snapshots, *domain.checkpoints):
        yield Naming(domain, file.path, file.role, redefinable=False)


def _find_wanted(path: str, wanted: dict[Key | str, str]) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return wanted.get(key_of(os.stat(path)))
    return wanted.get(os.path.realpath(path))


def require_unnamed(images: Iterable[Image], action: str, remedy: str, *, redefining: bool = False) -> tuple[Naming, ...]:
    """Raises `DiskOfDomain` if a domain names one of `images`; with `redefining` only if a snapshot or checkpoint names it.

    Returns the domains' names for them, for `redefine`. `remedy` says in the error what the user can do.
    """
    found = tuple(named_by_domains(image.filename for image in images))
    for path, naming in found:
        if not redefining:
            raise DiskOfDomain(path, action, naming, remedy)
        if not naming.redefinable:
            domain = printable(naming.domain.name)
            cure = f"--update-domains can't change that; 'virsh snapshot-list {domain}' and 'checkpoint-list' show what to delete"
            raise DiskOfDomain(path, action, naming, cure)
    return tuple(naming for _, naming in found)


def require_not_saved(files: Iterable[PathName], action: str) -> None:
    """Raises `DomainSaved` if one of `files`, which are to be changed or removed, is a disk of a domain whose memory is saved."""
    for path, naming in named_by_domains(files):
        if naming.domain.managed_save and naming.redefinable:
            raise DomainSaved(path, action, naming)


def images_without_domain(lineage: Lineage, domains: Sequence[DomainRecord]) -> Iterator[Image]:
    """Yields the images that no domain names and that have no overlay and no seal, in directories with writable domain disks."""
    places = {os.path.realpath(os.path.dirname(disk.path)) for domain in domains for disk in domain.disks if disk.writable}
    named = {os.path.realpath(path) for domain in domains for path in domain.paths} if places else set()
    for image in lineage.images.values() if places else ():
        alone = not lineage.has_children(image) and not lineage.seal(image)
        if alone and lineage.real_directory(image) in places and not named.intersection(image.filenames):
            yield image


def redefine(namings: Sequence[Naming], new: PathName, *, image_format: str | None = None, changes_chain: bool = False) -> None:
    """Makes libvirt redefine each domain among `namings`, so that it names the file `new` in place of the one there.

    `image_format` is the disk's new format in the definition, None to keep it. `changes_chain`: drops what the definition says of
    backing files. Raises `DomainNotRedefined`, `DomainSaved`.
    """
    for domain in {(naming.domain.name, naming.domain.session): naming.domain for naming in namings}.values():
        named = [naming for naming in namings if naming.domain is domain]
        if domain.managed_save:
            raise DomainSaved(named[0].path, "redefine the domain of", named[0])
        xml = _virsh(domain, "dumpxml", "--inactive", "--security-info", domain.name)
        _virsh(domain, "define", "/dev/stdin", xml=_rewritten(domain, xml, named, os.fspath(new), image_format, changes_chain))


def _rewritten(
    domain: DomainRecord, xml: bytes, named: Sequence[Naming], new: str, image_format: str | None, changes_chain: bool
) -> bytes:
    from xml.etree import ElementTree

    from cowherd.live.machine.domain import parse_to_rewrite

    root = parse_to_rewrite(xml)
    paths = {naming.path for naming in named}
    found = False
    for disk in root.iterfind("./devices/disk"):
        hit = _rename_sources(disk, paths, new)
        if hit and image_format:
            driver = disk.find("driver")
            if driver is not None:
                driver.set("type", image_format)
        if hit and changes_chain:
            for store in disk.findall("backingStore"):
                disk.remove(store)
        found = found or hit
    if not found:
        raise DomainNotRedefined(domain.name, "its definition names the disk as a volume of a pool, or not as a disk")
    return ElementTree.tostring(root)


def _rename_sources(disk: Element, paths: set[str], new: str) -> bool:
    found = False
    for source in disk.iter("source"):
        for attribute in ("file", "dev"):
            if os.path.abspath(source.get(attribute) or "/") in paths:
                source.set(attribute, new)
                found = True
    return found


def _virsh(domain: DomainRecord, *words: str, xml: bytes | None = None) -> bytes:
    import subprocess

    uri = os.environ.get("LIBVIRT_DEFAULT_URI") or ("qemu:///session" if domain.session else "qemu:///system")
    try:
        command = ["virsh", "-q", "-c", uri, *words]
        done = subprocess.run(command, input=xml or b"", capture_output=True, timeout=_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DomainNotRedefined(domain.name, f"virsh: {error}") from error
    if done.returncode:
        raise DomainNotRedefined(domain.name, printable(done.stderr.strip().removeprefix(b"error: ")))
    return done.stdout
