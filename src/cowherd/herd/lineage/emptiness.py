"""Tells whether an image holds data of its own. If nothing was ever written to it, no overlay can rely on its content."""

from __future__ import annotations

from cowherd.errors import CowherdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.formats.qcow2.header import Header
    from cowherd.herd.lineage.scan import Image
    from cowherd.storage.hostfile import HostFile

_CHUNK = 1 << 20


def holds_nothing(image: Image) -> bool:
    """Returns whether an image has no data of its own, neither now nor in a snapshot; False if that is not known.

    For a qcow2 image it reads the L1 table; for a raw one it asks the host whether the file is one hole.
    """
    from cowherd.storage.hostfile import HostFile

    try:
        with HostFile.open(image.filename, lock=None) as file:
            return _is_empty_qcow2(file) if image.format == "qcow2" else _is_empty_raw(image, file)
    except CowherdError:
        return False  # it can't be read, so it may hold data


def _is_empty_raw(image: Image, file: HostFile) -> bool:
    return image.format == "raw" and not file.is_block_device and file.next_data(0) is None


def _is_empty_qcow2(file: HostFile) -> bool:
    from cowherd.formats.qcow2.header import read_header

    header = read_header(file)
    return not (header.external_data_file or header.nb_snapshots) and _has_empty_table(file, header)


def _has_empty_table(file: HostFile, header: Header) -> bool:
    end = header.l1_table_offset + header.l1_size * 8
    return not any(any(file.pread(at, min(_CHUNK, end - at))) for at in range(header.l1_table_offset, end, _CHUNK))
