"""Reads the facts of a qcow2 image, for callers that only look at it."""

from __future__ import annotations

from cowherd.formats.facts import Facts, Qcow2Info
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import Header, read_header
from cowherd.formats.reference import BackingReference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.formats.qcow2.bitmaps import Bitmap
    from cowherd.formats.qcow2.snapshots import Snapshot
    from cowherd.storage.blocks import BlockFile

_ENCRYPTION_METHODS = ("", "aes", "luks")


def read_facts(file: BlockFile) -> Facts:
    """Reads the facts of an image. Raises `HostFileError`, `ImageFormatError`, `UnsupportedFeature`."""
    header = read_header(file)
    name = header.backing_name or None
    return Facts(
        virtual_size=header.disk_size,
        cluster_size=header.cluster_size,
        dirty=header.dirty,
        backing=BackingReference(name, header.backing_format) if name else None,
        snapshots=_snapshots(file, header),
        qcow2=_only_of_qcow2(file, header),
    )


def _snapshots(file: BlockFile, header: Header) -> tuple[Snapshot, ...]:
    if not header.nb_snapshots or header.external_data_file:  # QEMU neither lists nor takes snapshots of one with such a file
        return ()
    from cowherd.formats.qcow2.snapshots import read_snapshots

    return read_snapshots(file, header)


def _bitmaps(file: BlockFile, header: Header) -> tuple[Bitmap, ...]:
    if header.extension(layout.EXTENSION_BITMAPS) is None:
        return ()
    from cowherd.formats.qcow2.bitmaps import read_bitmaps

    return read_bitmaps(file, header)


def _only_of_qcow2(file: BlockFile, header: Header) -> Qcow2Info:
    data_file = header.extension(layout.EXTENSION_DATA_FILE) if header.external_data_file else None
    return Qcow2Info(
        version=header.version,
        compression=header.compression,
        lazy_refcounts=header.lazy_refcounts,
        refcount_bits=header.refcount_bits,
        corrupt=header.corrupt,
        extended_l2=header.extended_l2,
        bitmaps=_bitmaps(file, header),
        data_file=None if data_file is None else data_file.decode("utf-8", "surrogateescape"),
        data_file_raw=bool(header.autoclear & layout.AUTOCLEAR_DATA_FILE_RAW) if header.external_data_file else None,
        encryption=_ENCRYPTION_METHODS[header.crypt_method] or None,
    )
