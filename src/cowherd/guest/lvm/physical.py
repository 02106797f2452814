"""LVM2's physical volumes: the label, and the areas with copies of the volume group's metadata.

Source: LVM2, lib/format_text/layout.h, lib/label/label.h and format-text.c; checksums: lib/misc/crc.c.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.lvm.text import LONGEST, Section, number_of, parse, sections_of, text_of
from cowherd.guest.source import Malformed, Volume

SECTOR = 512
LABEL_SECTORS = 4
"""The label is in one of the first four sectors."""
LABEL, KIND = b"LABELONE", b"LVM2 001"
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
_FIRST_SUM = 0xF597A6CF
_IGNORED = 1  # RAW_LOCN_IGNORED: pvchange --metadataignore switched this copy off
_MOST_AREAS = 16
_LABEL = struct.Struct("<8sQII8s")  # label_header: id, sector_xl, crc_xl, offset_xl, type
_PLACE = struct.Struct("<QQ")
_AREA = struct.Struct("<I16sIQQ")  # mda_header: checksum, magic, version, start, size
_COPY = struct.Struct("<QQII")  # raw_locn: offset and size of the text in its area, checksum, flags


@dataclass(frozen=True)
class Group:
    """One copy of a volume group's metadata."""

    name: str
    identity: str
    sequence: int
    section: Section


@dataclass(frozen=True, eq=False)
class Physical:
    """One physical volume: `volume` is all of it, `own` its bytes with the label and the metadata in use.

    `groups` are the copies of metadata that it holds, `has_areas` says whether it has room for any, `boot` are the bytes that it
    keeps for a boot loader.
    """

    volume: Volume
    identity: str
    own: Ranges
    boot: Ranges
    groups: tuple[Group, ...]
    has_areas: bool


def checksum(data: bytes) -> int:
    """Returns LVM's checksum: CRC-32 with a start value of LVM's own, and without the inversions that zlib does at both ends."""
    return zlib.crc32(data, _FIRST_SUM ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def read_physical(volume: Volume) -> Physical:
    """Reads the label and metadata of a volume. Raises `Malformed` if they are damaged."""
    # pv_header: identity (32 bytes), size of the device, then three lists: data areas, metadata areas, and after a version and
    # flags those of a boot loader.
    sector, start = _label(volume)
    identity = sector[start : start + 32].decode("ascii", "replace")
    _, at = _places(sector, start + 40)
    areas, at = _places(sector, at)
    own, groups = [(0, LABEL_SECTORS * SECTOR)], []
    for offset, size in areas:
        group, used = _read_area(volume, offset, size)
        own += used
        groups += [group] if group else []
    boot = _boot_areas(sector, at)
    return Physical(volume, identity, extents.ranges(own), boot, tuple(groups), bool(areas))


def _label(volume: Volume) -> tuple[bytes, int]:
    """Returns the sector of the label, and the byte in it at which the header of the physical volume begins."""
    for number in range(LABEL_SECTORS):
        sector = volume.read(number * SECTOR, SECTOR)
        magic, at, stored, offset, kind = _LABEL.unpack_from(sector)
        if magic == LABEL and kind == KIND:
            if at != number or stored != checksum(sector[20:]):
                raise Malformed("the checksum of its LVM label is wrong")
            if not _LABEL.size <= offset <= SECTOR - 40 - 2 * _PLACE.size:
                raise Malformed("its LVM label makes no sense")
            return sector, offset
    raise Malformed("it has no LVM label")


def _places(sector: bytes, at: int) -> tuple[list[tuple[int, int]], int]:
    """Returns the (offset, size) pairs up to the pair of zeros that ends them, and the byte after that pair."""
    found: list[tuple[int, int]] = []
    while at + _PLACE.size <= len(sector) and len(found) <= _MOST_AREAS:
        offset, size = _PLACE.unpack_from(sector, at)
        at += _PLACE.size
        if not offset:
            return found, at
        found.append((offset, size))
    raise Malformed("its LVM label makes no sense")


def _boot_areas(sector: bytes, at: int) -> Ranges:
    # A version of 0 means that the header has no extension, as before LVM 2.02.99.
    if at + 8 > len(sector) or not int.from_bytes(sector[at : at + 4], "little"):
        return extents.ranges([])
    places, _ = _places(sector, at + 8)
    return extents.ranges((offset, offset + size) for offset, size in places if offset + size < 1 << 62)


def _read_area(volume: Volume, offset: int, size: int) -> tuple[Group | None, list[tuple[int, int]]]:
    """Returns the copy of metadata in an area, None if it has none, and the (start, end) bytes of the volume that it occupies."""
    header = volume.read(offset, SECTOR)
    stored, magic, version, at, said = _AREA.unpack_from(header)
    if stored != checksum(header[4:]) or (magic, version) != (_AREA_MAGIC, 1):
        raise Malformed("the header of its LVM metadata is damaged")
    if at != offset or said != size or size <= SECTOR:
        raise Malformed("the header of its LVM metadata makes no sense")
    own = [(offset, offset + SECTOR)]
    start, length, text_sum, flags = _COPY.unpack_from(header, _AREA.size)
    if not start or flags & _IGNORED:
        return None, own
    if not SECTOR <= start < size or not 0 < length <= min(size - SECTOR, LONGEST):
        raise Malformed("its LVM metadata lie outside of their area")
    # An area is a ring: a text that reaches its end goes on right behind the header.
    first = min(length, size - start)
    data = volume.read(offset + start, first) + volume.read(offset + SECTOR, length - first)
    if checksum(data) != text_sum:
        raise Malformed("the checksum of its LVM metadata is wrong")
    own += [(offset + start, offset + start + first), (offset + SECTOR, offset + SECTOR + length - first)]
    return _group(parse(data)), own


def _group(document: Section) -> Group:
    if text_of(document, "contents") != "Text Format Volume Group" or number_of(document, "version") != 1:
        raise Malformed("its LVM metadata are of a kind that is not known here")
    found = [(name, section) for name, section in document.items() if isinstance(section, dict)]
    if len(found) != 1:
        raise Malformed("its LVM metadata do not tell of one volume group")
    ((name, section),) = found
    sections_of(section, "physical_volumes")
    return Group(name, text_of(section, "id"), number_of(section, "seqno"), section)
