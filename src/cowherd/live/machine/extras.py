"""The files that a libvirt domain names beside its disks: memory, shares, firmware, logs, and any other text with a file's name.

For known elements, the use of the file decides. Every other attribute and text is compared with the files that exist, so that an
element of a newer libvirt is reported as not understood and never ignored.

Source: libvirt's schemas/domaincommon.rng, every use of absFilePath, absDirPath and filePath.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from cowherd.live.machine.disk import source_of
from cowherd.live.machine.drive import Drive
from cowherd.live.machine.paths import local_path
from cowherd.live.machine.settings import is_disk_file
from cowherd.text import printable

Element = ElementTree.Element

_READ = ("./os/kernel", "./os/initrd", "./os/dtb", "./os/shim", "./os/acpi/table", "./devices/rng/backend")
"""Elements whose text names a file that is only read."""
_READ_ATTRIBUTES = ((".//rom", "file"), (".//sysinfo/entry", "file"), ("./os/nvram", "template"))
_WRITTEN_ATTRIBUTES = (
    ("./devices/*/log", "file"),
    ("./devices/*/source", "path"),
    ("./devices/*/backend/source", "path"),
    ("./devices/audio", "path"),
    ("./devices/interface/backend", "logFile"),
)
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0 "
"""libvirt's namespace for arguments that it passes to QEMU unchanged, in the form that the parser puts before a name."""
_NO_FILES = frozenset(
    ("metadata", "description", "title", "emulator", "binary", "script", "blkiotune", "resource", "seclabel", "config", "lease")
)
"""Elements that, with all their children, name no file that QEMU opens, even if a text looks like one."""


def others(domain: Element) -> Iterator[Drive]:
    """Yields the files that a domain names outside of its disks."""
    known: set[int] = {id(element) for disk in domain.iterfind("./devices/disk") for element in _of_disk(disk)}
    for element, drive in _known(domain):
        if id(element) not in known:
            yield drive
    known |= {id(element) for element, _ in _known(domain)}
    yield from _rest(domain, known, "")


def _of_disk(disk: Element) -> Iterator[Element]:
    """Yields the elements in which a disk names its files."""
    for store in (disk, *disk.iter("backingStore"), *disk.iter("dataStore"), *disk.iter("mirror")):
        yield from (store, *store.findall("source"))


def _known(domain: Element) -> Iterator[tuple[Element, Drive]]:
    yield from _firmware(domain)
    for path in _READ:
        yield from _plain(domain, path, None, writable=False)
    for path, attribute in _READ_ATTRIBUTES:
        yield from _plain(domain, path, attribute, writable=False)
    for path, attribute in _WRITTEN_ATTRIBUTES:
        yield from _plain(domain, path, attribute, writable=True)
    yield from _memory(domain)
    yield from _shares(domain)
    yield from _host_devices(domain)


def _plain(domain: Element, path: str, attribute: str | None, *, writable: bool) -> Iterator[tuple[Element, Drive]]:
    for element in domain.iterfind(path):
        name = (element.text or "").strip() if attribute is None else element.get(attribute)
        if name:
            where = path.rpartition("/")[2]
            yield element, Drive(where, local_path(name, "/"), "raw", writable=writable, plain=True)


def _firmware(domain: Element) -> Iterator[tuple[Element, Drive]]:
    for loader in domain.iterfind("./os/loader"):
        name = (loader.text or "").strip()
        if name:
            writable = loader.get("type") == "pflash" and loader.get("readonly") != "yes"
            yield (
                loader,
                Drive("loader", local_path(name, "/"), loader.get("format", "raw"), writable=writable, plain=not writable),
            )
    for nvram in domain.iterfind("./os/nvram"):
        name, source = (nvram.text or "").strip(), nvram.find("source")
        if name:
            yield nvram, Drive("nvram", local_path(name, "/"), nvram.get("format"), writable=True)
        elif source is not None:
            found = source_of(nvram, lambda _: None)
            image_format = nvram.get("format")
            yield source, Drive("nvram", found.path, image_format, writable=True, remote=found.remote, unknown=found.unknown)


def _memory(domain: Element) -> Iterator[tuple[Element, Drive]]:
    """Yields the files that the guest uses as memory, or as storage that outlives it (pstore)."""
    for memory in domain.iterfind("./devices/memory"):
        writable = memory.find("./target/readonly") is None
        for path in memory.iterfind("./source/path"):
            yield path, _raw(f"memory {memory.get('model', '')}".rstrip(), path, writable=writable)
    for path in domain.iterfind("./devices/pstore/path"):
        yield path, _raw("pstore", path, writable=True)


def _raw(where: str, path: Element, *, writable: bool) -> Drive:
    return Drive(printable(where), local_path((path.text or "").strip(), "/"), "raw", writable=writable)


def _shares(domain: Element) -> Iterator[tuple[Element, Drive]]:
    for share in domain.iterfind("./devices/filesystem"):
        source, target = share.find("source"), share.find("target")
        name = next(filter(None, (source.get(key) for key in ("dir", "file", "dev"))), None) if source is not None else None
        if source is not None and name:
            where = f"filesystem {target.get('dir', '') if target is not None else ''}".rstrip()
            yield source, Drive(printable(where), local_path(name, "/"), "raw", writable=share.find("readonly") is None)


def _host_devices(domain: Element) -> Iterator[tuple[Element, Drive]]:
    for device in domain.iterfind("./devices/hostdev"):
        source = device.find("source")
        if source is not None and device.get("type") in ("scsi", "scsi_host"):
            yield source, Drive("hostdev", None, remote="a SCSI device of the host")
        for block in device.iterfind("./source/block"):
            yield block, _raw("hostdev", block, writable=True)


def _rest(element: Element, known: set[int], where: str) -> Iterator[Drive]:
    """Yields a drive for each unknown element that names an existing file."""
    here = f"{where}/{printable(element.tag)}".lstrip("/")
    if element.tag in _NO_FILES or element.tag.startswith(QEMU):
        return
    if id(element) not in known:
        for name in (*element.attrib.values(), (element.text or "").strip()):
            if name.startswith("/") and is_disk_file(Path(name)):
                yield Drive(here, local_path(name, "/"), unknown="what becomes of this file is not known")
    for child in element:
        yield from _rest(child, known, here)
