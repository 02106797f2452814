"""Facts about an image file, from its header and tables only: the values that `qemu-img info` prints."""

from __future__ import annotations

import os

from cowherd.errors import CowherdError, UnsupportedFeature
from cowherd.formats import probe, registry
from cowherd.formats.reference import BackingReference
from cowherd.image.backing import has_protocol
from cowherd.sizes import whole_sectors
from cowherd.storage.opening import open_file
from cowherd.tuples import NamedTuple
from cowherd.urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from typing import Any

    from cowherd.formats.facts import Qcow2Info
    from cowherd.formats.qcow2.snapshots import Snapshot
    from cowherd.storage.blocks import BlockFile
    from cowherd.urls import ImageName


class FileInfo(NamedTuple):
    """The file under an image: `length` in bytes, rounded up to whole 512-byte sectors, and the bytes it occupies.

    `protocol` is QEMU's name for how to reach it: "file", "host_device", "http" or "https". `allocated` is None if it is unknown.
    """

    filename: str
    is_block_device: bool
    length: int
    allocated: int | None
    protocol: str

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd-img info --output=json` prints them."""
        document: dict[str, Any] = {
            "children": [],
            "virtual-size": self.length,
            "filename": self.filename,
            "format": self.protocol,
        }
        if self.allocated is None:
            return document
        return document | {
            "actual-size": self.allocated,
            "format-specific": {"type": "file", "data": {}},
            "dirty-flag": False,
        }


class ImageInfo(NamedTuple):
    """The facts of one image. Sizes are in bytes; `filename` is as the caller gave it.

    `backing_name` is the stored name; `backing_filename` is the same file named as seen from the caller's directory.
    `cluster_size` and `qcow2` are None for raw images, whose `virtual_size` is rounded up to whole 512-byte sectors.
    """

    filename: str
    format: str
    virtual_size: int
    file: FileInfo
    cluster_size: int | None = None
    dirty: bool = False
    backing_name: str | None = None
    backing_filename: str | None = None
    backing_format: str | None = None
    snapshots: tuple[Snapshot, ...] = ()
    qcow2: Qcow2Info | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd-img info --output=json` prints them.

        The order of keys is that in which QEMU prints them: of the buckets of its hash table of names.
        """
        document: dict[str, Any] = {"children": [{"name": "file", "info": self.file.to_json()}]}
        if self.backing_name is not None and self.backing_format is not None:
            document["backing-filename-format"] = self.backing_format
        if self.snapshots:
            document["snapshots"] = [snapshot.to_json() for snapshot in self.snapshots]
        document |= {"virtual-size": self.virtual_size, "filename": self.filename}
        if self.cluster_size is not None:
            document["cluster-size"] = self.cluster_size
        document["format"] = self.format
        if self.file.allocated is not None:
            document["actual-size"] = self.file.allocated
        if self.qcow2 is not None:
            document["format-specific"] = {"type": self.format, "data": self.qcow2.to_json()}
        if self.backing_filename is not None:
            document["full-backing-filename"] = self.backing_filename
        if self.qcow2 is not None and self.qcow2.encryption:
            document["encrypted"] = True
        if self.backing_name is not None:
            document["backing-filename"] = self.backing_name
        if self.qcow2 is None and self.file.allocated is None:
            return document  # as QEMU, to which neither of both is known to be clean
        return document | {"dirty-flag": self.dirty}


class BackingLoop(CowherdError):
    """A chain comes back to an image that is already in it. Attribute: `backing` (the file name)."""

    def __init__(self, backing: str):
        self.backing = backing

    def __str__(self) -> str:
        return f"Backing file '{self.backing}' creates an infinite loop."


def image_info(path: ImageName, *, format: str | None = None, force_share: bool = False) -> ImageInfo:
    """Returns the facts of one image; its backing file is named but not opened.

    `format` None guesses it from the file's first bytes; `force_share` reads an image that another process may be writing.
    Raises `HostFileError`, `ImageInUse`, `ImageFormatError`, or `UnsupportedFeature` for a format other than qcow2 and raw.
    """
    return _info_and_key(path, format, force_share=force_share)[0]


def _info_and_key(path: ImageName, format: str | None, *, force_share: bool) -> tuple[ImageInfo, Hashable]:
    file = open_file(path)  # once, so that the facts and the key are of the same file
    try:
        return _info_of(file, format, force_share=force_share), file.key
    finally:
        file.close()


def _info_of(file: BlockFile, format: str | None, *, force_share: bool) -> ImageInfo:
    found = registry.named(format or probe.probe(file))
    if found.lock_to_inspect is not None and not force_share:
        file.lock(found.lock_to_inspect)
    filename = str(file.name)
    protocol = file.name.scheme if isinstance(file.name, Url) else "host_device" if file.is_block_device else "file"
    host = FileInfo(filename, file.is_block_device, whole_sectors(file.size()), file.allocated_bytes(), protocol)
    if not found.is_known:
        raise UnsupportedFeature(filename, f"image format '{found.name}'")
    facts = found.facts(file)
    backing = facts.backing
    return ImageInfo(
        filename=filename,
        format=found.name,
        virtual_size=facts.virtual_size,
        file=host,
        cluster_size=facts.cluster_size,
        dirty=facts.dirty,
        backing_name=backing.name if backing else None,
        backing_filename=full_backing_name(filename, backing.name) if backing else None,
        backing_format=backing.format if backing else None,
        snapshots=facts.snapshots,
        qcow2=facts.qcow2,
    )


def chain_info(path: ImageName, *, format: str | None = None, force_share: bool = False) -> list[ImageInfo]:
    """Returns the facts of an image and of every image under it, the top one first.

    Raises what `image_info` raises, `BackingLoop`, and `BackingFileError` for a backing file that can't be followed.
    """
    return list(iter_chain(path, format=format, force_share=force_share))


def iter_chain(path: ImageName, *, format: str | None = None, force_share: bool = False) -> Iterator[ImageInfo]:
    """Yields what `chain_info` returns, one by one, so that a caller knows which image an error is about."""
    seen: set[Hashable] = set()
    name: ImageName | None = path
    while name is not None:
        info, key = _info_and_key(name, format, force_share=force_share)
        if key in seen:
            raise BackingLoop(info.filename)
        seen.add(key)
        yield info
        name, format = _backing_file_of(name, info)


def full_backing_name(overlay: str, backing: str) -> str:
    """Returns the stored name `backing` as seen by a caller who names the overlay `overlay`: a relative one lies beside it."""
    if os.path.isabs(backing) or has_protocol(backing):
        return backing
    return overlay[: overlay.rfind("/") + 1] + backing


def _backing_file_of(name: ImageName, info: ImageInfo) -> tuple[str | None, str | None]:
    """Returns the file name and the format of the backing file, (None, None) for a root."""
    if info.backing_name is None or info.backing_filename is None:
        return None, None
    if not has_protocol(info.backing_filename) and not isinstance(name, Url):
        return info.backing_filename, info.backing_format
    from cowherd.image.backing import resolve

    found = resolve(name, BackingReference(info.backing_name, info.backing_format))
    return _as_seen_beside(info.filename, found.name), found.format


def _as_seen_beside(overlay: str, path: str) -> str:
    """Returns `path`, which is absolute, in the form of the caller's name `overlay` if both lie in the same directory."""
    directory = os.path.dirname(os.path.realpath(overlay)) + "/"
    if os.path.isabs(overlay) or not path.startswith(directory):
        return path
    return overlay[: overlay.rfind("/") + 1] + path.removeprefix(directory)
