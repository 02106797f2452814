"""The images of a libvirt disk: its source, the backing files that the XML names, data files, and the target of a copy job.

Source: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms and https://libvirt.org/formatstorage.html
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from cowherd.live.machine.drive import EMPTY, Below, Drive
from cowherd.live.machine.paths import local_path
from cowherd.text import printable

PoolReader = Callable[[str], ElementTree.Element | None]
"""Returns the XML of a pool of volumes by its name, None if there is no such pool."""

_ATTRIBUTES = {"file": "file", "block": "dev", "dir": "dir"}
_REMOTE = frozenset(("network", "nvme", "vhostuser", "vhostvdpa"))
_POOLS_WITHOUT_FILES = frozenset(("rbd", "sheepdog", "gluster", "iscsi-direct"))


@dataclass(frozen=True)
class _Source:
    """The place that a <source> leads to: a path, or a description of a remote one, or why it is not understood."""

    path: Path | None = None
    remote: str = ""
    unknown: str = ""


def disks(disk: ElementTree.Element, pools: PoolReader) -> Iterator[Drive]:
    """Yields the files of one <disk>."""
    target, driver = disk.find("target"), disk.find("driver")
    where = printable(target.get("dev", "disk") if target is not None else "disk")
    writable = disk.find("readonly") is None and disk.get("device", "disk") != "cdrom" and disk.find("transient") is None
    source = source_of(disk, pools)
    drive = Drive(
        where=where,
        path=source.path,
        format=driver.get("type") if driver is not None else None,
        writable=writable,
        remote=source.remote,
        unknown=source.unknown or _unknown_slice(disk, driver),
        data_named=disk.find("./source/dataStore") is not None or disk.find("./dataStore") is not None,
    )
    yield _over(drive, disk, pools)
    yield from _data_files(disk, where, pools, writable=writable)
    mirror = disk.find("mirror")
    if mirror is not None:
        yield _mirror(mirror, where, pools)


def source_of(element: ElementTree.Element, pools: PoolReader) -> _Source:
    """Returns the place that the source of a disk, a backing store or the like leads to."""
    kind, source = element.get("type", "file"), element.find("source")
    if source is None:
        return _Source(remote=EMPTY)
    if kind == "volume":
        return _volume(source, pools)
    if kind in _ATTRIBUTES:
        name = source.get(_ATTRIBUTES[kind])
        return _Source(local_path(name, "/")) if name else _Source(remote=EMPTY)
    if kind in _REMOTE:
        protocol = f" {source.get('protocol')}:{source.get('name', '')}" if source.get("protocol") else ""
        return _Source(remote=printable(f"{kind}{protocol}"))
    return _Source(unknown=f"a source of the type {printable(kind)} is not known")


def _volume(source: ElementTree.Element, pools: PoolReader) -> _Source:
    """Looks up a volume of a pool that is a directory, or whose volumes are devices."""
    pool, volume = source.get("pool", ""), source.get("volume", "")
    what = printable(f"volume {volume} of the pool {pool}")
    described = pools(pool) if volume and pool and "/" not in pool else None
    if described is None:
        return _Source(unknown=f"{what}: no such pool is known to libvirt on this host")
    if described.get("type") in _POOLS_WITHOUT_FILES:
        return _Source(remote=what)
    target = described.findtext("./target/path")
    if not target:
        return _Source(unknown=f"{what}: it is not known where this pool lies")
    return _Source(local_path(volume, target))


def _unknown_slice(element: ElementTree.Element, driver: ElementTree.Element | None) -> str:
    """Returns why a source is not understood if it is a part of a file and not raw, otherwise an empty string."""
    part = element.find("./source/slices/slice")
    if part is None or part.get("offset", "0") == "0" or (driver is not None and driver.get("type") == "raw"):
        return ""
    return "it reads an image out of a part of a file, and the names in it are not followed"


def _over(drive: Drive, disk: ElementTree.Element, pools: PoolReader) -> Drive:
    """Returns a disk's drive over the backing files that the XML itself names, nearest first."""
    below: list[Below] = []
    store = disk.find("backingStore")
    while store is not None:
        if store.find("source") is None:
            return replace(drive, below=tuple(below), ends=True)
        source, format_ = source_of(store, pools), store.find("format")
        if source.path is None:
            remote = source.remote or source.unknown
            return replace(drive, below=tuple(below), ends=True, below_remote=remote, unknown=drive.unknown or source.unknown)
        drive = replace(drive, unknown=drive.unknown or _unknown_slice(store, format_))
        below.append(Below(source.path, format_.get("type") if format_ is not None else None))
        store = store.find("backingStore")
    return replace(drive, below=tuple(below))


def _data_files(disk: ElementTree.Element, where: str, pools: PoolReader, *, writable: bool) -> Iterator[Drive]:
    """Yields the external data files that the XML names, of the disk's image and of its backing files."""
    for store in disk.iter("dataStore"):
        own = any(child is store for child in [*disk, *disk.findall("./source/dataStore")])
        found = source_of(store, pools)
        format_ = store.find("format")
        yield Drive(
            where=f"{where} data",
            path=found.path,
            format=format_.get("type") if format_ is not None else "raw",
            writable=writable and own,
            remote=found.remote,
            unknown=found.unknown,
        )


def _mirror(mirror: ElementTree.Element, where: str, pools: PoolReader) -> Drive:
    """Returns the copy that a block job writes; an older form names its file in an attribute."""
    found = source_of(mirror, pools)
    name, format_ = mirror.get("file"), mirror.find("format")
    path = found.path or (Path(os.path.abspath(name)) if name else None)
    image_format = format_.get("type") if format_ is not None else mirror.get("format")
    return Drive(f"{where} mirror", path, image_format, remote="" if path else found.remote, unknown=found.unknown)
