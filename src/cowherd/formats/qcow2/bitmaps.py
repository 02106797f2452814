"""The directory of persistent bitmaps, read with every length bounded (specification: QEMU docs/interop/qcow2, Bitmaps)."""

from __future__ import annotations

from cowherd.errors import ImageFormatError
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.layout import Field, Structure
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cowherd.formats.qcow2.header import Header
    from cowherd.storage.blocks import BlockFile

EXTENSION = Structure(
    Field("nb_bitmaps", 0, "I", "bitmaps in the directory"),
    Field("reserved", 4, "I", "zero"),
    Field("directory_size", 8, "Q", "bytes of the directory"),
    Field("directory_offset", 16, "Q", "file offset of the directory"),
)
ENTRY = Structure(
    Field("table_offset", 0, "Q", "file offset of the bitmap's table"),
    Field("table_size", 8, "I", "entries in that table"),
    Field("flags", 12, "I", "in use, auto"),
    Field("type", 16, "B", "1: dirty tracking"),
    Field("granularity_bits", 17, "B", "log2 of the guest bytes per bit"),
    Field("name_length", 18, "H", "bytes of the bitmap's name"),
    Field("extra_length", 20, "I", "bytes of extra data"),
)
FLAG_IN_USE = 1 << 0
FLAG_AUTO = 1 << 1
_FLAGS_KNOWN = FLAG_IN_USE | FLAG_AUTO
_DIRTY_TRACKING = 1

# QEMU's implementation limits (block/qcow2.h, block/qcow2-bitmap.c)
MAX_BITMAPS = 65535
MAX_DIRECTORY_BYTES = 64 << 20
_MAX_TABLE_ENTRIES = 0x8000000
_MAX_BITMAP_BYTES = 0x20000000
_GRANULARITY_BITS = range(9, 32)
_MAX_NAME = 1023


class Bitmap(NamedTuple):
    """One persistent bitmap. `granularity` is the guest bytes that one bit stands for.

    `in_use`: the last writer did not close it, or changed the image without it, so that its content can't be trusted.
    `auto`: it records writes whenever the image is open.
    """

    name: str
    granularity: int
    in_use: bool
    auto: bool
    table_offset: int
    table_entries: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd-img info --output=json` prints them."""
        flags = ["in-use"] * self.in_use + ["auto"] * self.auto
        return {"flags": flags, "name": self.name, "granularity": self.granularity}


def bitmaps_of(file: BlockFile, header: Header) -> tuple[Bitmap, ...] | None:
    """Returns the persistent bitmaps of an image, None for one of version 2, which can't have any. Raises `ImageFormatError`."""
    return read_bitmaps(file, header) if header.version >= 3 else None


def read_bitmaps(file: BlockFile, header: Header) -> tuple[Bitmap, ...]:
    """Returns the image's persistent bitmaps in the directory's order.

    Returns none if the autoclear bit is not set: a program that knows no bitmaps has changed the image since.
    Raises `ImageFormatError` for a directory that breaks the specification or QEMU's limits.
    """
    data = header.extension(layout.EXTENSION_BITMAPS)
    if data is None or not header.autoclear & layout.AUTOCLEAR_BITMAPS:
        return ()
    extension = _check_extension(file, header, data)
    directory = file.pread(extension["directory_offset"], extension["directory_size"])
    found: list[Bitmap] = []
    position = 0
    while position < len(directory):
        if len(found) == extension["nb_bitmaps"]:
            raise ImageFormatError(file.name, "More bitmaps found than specified in header extension")
        bitmap, position = _read_entry(file, header, directory, position)
        found.append(bitmap)
    if len(found) != extension["nb_bitmaps"]:
        raise ImageFormatError(file.name, "Less bitmaps found than specified in header extension")
    return tuple(found)


def _check_extension(file: BlockFile, header: Header, data: bytes) -> dict[str, int]:
    if len(data) != EXTENSION.size:
        raise ImageFormatError(file.name, "bitmaps_ext: Invalid extension length")
    values = EXTENSION.unpack(data)
    size, offset = values["directory_size"], values["directory_offset"]
    if values["reserved"]:
        raise ImageFormatError(file.name, "bitmaps_ext: Reserved field is not zero")
    if not 1 <= values["nb_bitmaps"] <= MAX_BITMAPS:
        raise ImageFormatError(file.name, f"bitmaps_ext: {values['nb_bitmaps']} bitmaps, allowed are 1 to {MAX_BITMAPS}")
    if not offset or offset % header.cluster_size:
        raise ImageFormatError(file.name, "bitmaps_ext: Invalid bitmap directory offset")
    if not size or size > MAX_DIRECTORY_BYTES or offset + size > file.size():
        raise ImageFormatError(file.name, f"bitmaps_ext: bitmap directory size ({size}) exceeds the maximum or the file")
    return values


def _read_entry(file: BlockFile, header: Header, directory: bytes, position: int) -> tuple[Bitmap, int]:
    """Returns the bitmap at `position` of the directory, and the position of the next one."""
    if position + ENTRY.size > len(directory):
        raise ImageFormatError(file.name, "Broken bitmap directory")
    values = ENTRY.unpack(directory, position)
    start = position + ENTRY.size + values["extra_length"]
    end = start + values["name_length"]
    following = end + -end % 8  # entries are padded to 8 bytes
    if following > len(directory):
        raise ImageFormatError(file.name, "Broken bitmap directory")
    if values["extra_length"]:
        raise ImageFormatError(file.name, "Bitmap extra data is not supported")
    name = directory[start:end].decode("utf-8", "surrogateescape")
    if not _is_sound(values, header):
        raise ImageFormatError(file.name, f"Bitmap '{name}' doesn't satisfy the constraints")
    flags = values["flags"]
    granularity = 1 << values["granularity_bits"]
    bitmap = Bitmap(
        name, granularity, bool(flags & FLAG_IN_USE), bool(flags & FLAG_AUTO), values["table_offset"], values["table_size"]
    )
    return bitmap, following


def _is_sound(values: dict[str, int], header: Header) -> bool:
    stored = values["table_size"] * header.cluster_size
    covers = (stored * 8) << values["granularity_bits"] >= header.size
    return (
        0 < values["table_size"] <= _MAX_TABLE_ENTRIES
        and stored <= _MAX_BITMAP_BYTES
        and values["table_offset"] > 0
        and values["table_offset"] % header.cluster_size == 0
        and values["granularity_bits"] in _GRANULARITY_BITS
        and not values["flags"] & ~_FLAGS_KNOWN
        and values["name_length"] <= _MAX_NAME
        and values["type"] == _DIRTY_TRACKING
        # A bitmap in use may have been left behind by a resize; a clean one must cover the image.
        and (covers or bool(values["flags"] & FLAG_IN_USE))
    )
