"""The images of a libvirt domain, from its XML.

The XML comes from libvirt, which wrote it itself; still no entity is expanded and nothing outside of it is fetched.
Source: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms and https://libvirt.org/formatstorage.html
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

from cowherd.live.machine.drive import EMPTY, Below, Drive, MachineUnclear
from cowherd.text import printable

MAX_BYTES = 16 << 20
_DEEPEST = 256
_POOLS = ("/run/libvirt/storage", "/etc/libvirt/storage")
"""Where libvirt keeps the XML of the pools that run, and of those that are defined."""


def drives_of(xml: bytes, root: str | os.PathLike[str] = "/") -> tuple[Drive, ...]:
    """Returns the images of a domain's disks, CD-ROMs and floppies, and its firmware's variables, in their order.

    `root` is where the pools of volumes are looked up. Raises `MachineUnclear` for XML that is none, that declares entities, or
    is larger than `MAX_BYTES`.
    """
    domain = _parsed(xml)
    if domain.tag != "domain":
        raise MachineUnclear(f"<{printable(domain.tag)}> is no domain", "the domain's XML")
    return drives_in(domain, root)


def parse(xml: bytes) -> ElementTree.Element:
    """Returns the root of any XML that libvirt wrote. Raises as `drives_of`."""
    return _parsed(xml)


def drives_in(domain: ElementTree.Element, root: str | os.PathLike[str] = "/") -> tuple[Drive, ...]:
    """Returns what `drives_of` does, of a domain that was parsed already, or that stands in other XML."""
    disks = [_disk(disk, Path(root)) for disk in domain.iterfind("./devices/disk")]
    return tuple(disks + [_firmware(nvram) for nvram in domain.iterfind("./os/nvram") if (nvram.text or "").strip()])


def name_of(xml: bytes) -> str:
    """Returns the domain's name, "" if it has none. Raises as `drives_of`."""
    return _parsed(xml).findtext("name", "")


def _parsed(xml: bytes) -> ElementTree.Element:
    """Parses XML in which nothing stands for anything else: a document type, where entities are declared, is refused."""
    if len(xml) > MAX_BYTES:
        raise MachineUnclear(f"more than {MAX_BYTES} bytes", "the domain's XML")
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise MachineUnclear("its elements are nested too deeply", "the domain's XML")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise MachineUnclear(f"not valid XML: {error}", "the domain's XML") from error
    return builder.close()


def _refuse_doctype(*_: object) -> NoReturn:
    raise MachineUnclear("it declares a document type, which libvirt never does", "the domain's XML")


def _disk(disk: ElementTree.Element, root: Path) -> Drive:
    target, driver = disk.find("target"), disk.find("driver")
    where = printable(target.get("dev", "disk") if target is not None else "disk")
    writable = disk.find("readonly") is None and disk.get("device", "disk") != "cdrom" and disk.find("transient") is None
    path, remote = _source(disk, root)
    below, ends = _backing(disk, root)
    return Drive(
        where=where,
        path=path,
        format=driver.get("type") if driver is not None else None,
        writable=writable,
        remote=remote,
        below=below,
        ends=ends,
    )


def _source(element: ElementTree.Element, root: Path) -> tuple[Path | None, str]:
    """Returns the path of a disk's or a backing store's source, or None and what it is instead."""
    kind, source = element.get("type", "file"), element.find("source")
    if source is None:
        return None, EMPTY
    if kind == "volume":
        return _volume(source, root)
    name = source.get({"file": "file", "block": "dev"}.get(kind, ""))
    if name:
        return Path(os.path.abspath(name)), ""
    protocol = f" {source.get('protocol')}:{source.get('name', '')}" if source.get("protocol") else ""
    return None, printable(f"{kind}{protocol}")


def _volume(source: ElementTree.Element, root: Path) -> tuple[Path | None, str]:
    """Looks up a volume of a pool that is a directory (or a disk's partitions), without asking libvirt, which waits for us."""
    pool, volume = source.get("pool", ""), source.get("volume", "")
    what = printable(f"volume {volume} of the pool {pool}")
    if not volume or "/" in pool:
        return None, what
    for place in _POOLS:
        file = root / place.lstrip("/") / f"{pool}.xml"
        try:
            described = _parsed(file.read_bytes())
        except OSError:
            continue
        target = described.findtext("./target/path") or described.findtext("./pool/target/path")
        if target:
            return Path(os.path.abspath(os.path.join(target, volume))), ""
    return None, what


def _backing(disk: ElementTree.Element, root: Path) -> tuple[tuple[Below, ...], bool]:
    """Returns the backing files that the XML itself names, nearest first, and whether it says that there are no more."""
    below: list[Below] = []
    store = disk.find("backingStore")
    while store is not None:
        if store.find("source") is None:
            return tuple(below), True
        path, _ = _source(store, root)
        if path is None:
            return tuple(below), False
        format_ = store.find("format")
        below.append(Below(path, format_.get("type") if format_ is not None else None))
        store = store.find("backingStore")
    return tuple(below), False


def _firmware(nvram: ElementTree.Element) -> Drive:
    return Drive("nvram", Path(os.path.abspath((nvram.text or "").strip())), nvram.get("format"), writable=True)
