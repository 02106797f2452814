"""Tells by its header and its L1 table whether a qcow2 image holds anything of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.formats.qcow2.header import Header, read_header

if TYPE_CHECKING:
    from cowherd.storage.blocks import BlockFile

_CHUNK = 1 << 20


def holds_nothing(file: BlockFile) -> bool:
    """Returns whether an image has no data of its own, neither now nor in a snapshot. Raises what reading the header raises."""
    header = read_header(file)
    return not (header.external_data_file or header.nb_snapshots) and _has_empty_table(file, header)


def _has_empty_table(file: BlockFile, header: Header) -> bool:
    end = header.l1_table_offset + header.l1_size * 8
    return not any(any(file.pread(at, min(_CHUNK, end - at))) for at in range(header.l1_table_offset, end, _CHUNK))
